"""The verb `data`."""

from pathlib import Path
from typing import Annotated

import typer

from fmnist import tables
from fmnist.cli.options import DataDir, Json, show


def data(
    data_dir: DataDir = None,
    samples: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Write a sheet of sample images.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Find or fetch the data set, verify it, and say where it is and what is in it.

    Example: `fmnist data --samples sheet.png`
    """
    if samples is not None and samples.suffix.lower() != ".png":
        raise typer.BadParameter(f"{samples} must end in .png", param_hint="--samples")
    from fmnist.data import facts, load_dataset

    dataset = load_dataset(data_dir)
    found = facts(dataset)
    if samples is not None:
        from fmnist.data.sheet import write_sheet

        write_sheet(dataset, samples)
        found["samples"] = str(samples)
    show(found, tables.print_data, as_json)
