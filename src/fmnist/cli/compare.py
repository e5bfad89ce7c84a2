"""The verb `compare`."""

from pathlib import Path
from typing import Annotated

import typer

from fmnist import tables
from fmnist.cli.options import DataDir, Json, SplitChoice, show


def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...", help="Runs, directories of seeds, or of what bench left; two or more."
        ),
    ],
    split: Annotated[SplitChoice, typer.Option(help="On which images.")] = SplitChoice.test,
    page: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.html",
            help="Write a page too, with the images of which two differ.",
            show_default=False,
        ),
    ] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Say which of several models is better, on the same images, and how sure that is.

    Example: `fmnist compare runs/sprint-10 runs/classic-10 --page compare.html`
    """
    from fmnist.evaluation.comparison.compare import compare as judge
    from fmnist.evaluation.comparison.compare import write_page

    result = judge(runs, split.value)
    if page is not None:
        from fmnist.data import load_dataset

        write_page(page, result, load_dataset(data_dir))
    show({**result, "page": None if page is None else str(page)}, tables.print_comparison, as_json)
