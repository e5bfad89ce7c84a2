"""The verb `export`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from fmnist import tables
from fmnist.cli.options import DataDir, Json, RunDirectory, show


class Format(StrEnum):
    """What a trained network can be written as."""

    onnx = "onnx"
    keras = "keras"
    safetensors = "safetensors"


def export(
    run: RunDirectory,
    format: Annotated[
        Format,
        typer.Option(
            help="onnx: what a classifier is loaded from. keras: opens in stock Keras. "
            "safetensors: our torch network's weights."
        ),
    ],
    out: Annotated[Path, typer.Option(help="New file, ending in .onnx, .keras or .safetensors.")],
    int8: Annotated[
        bool, typer.Option("--int8", help="onnx only: in 8 bits, smaller and faster.")
    ] = False,
    mirror: Annotated[
        bool,
        typer.Option(
            "--mirror/--no-mirror",
            help="onnx only: ask about the mirror image too, where the recipe does, or not: "
            "half the time.",
        ),
    ] = True,
    ensemble_with: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="RUN", help="onnx only: the mean with this run's answers; may be repeated."
        ),
    ] = None,
    least_probability: Annotated[
        float,
        typer.Option(
            min=0, max=1, metavar="P", help="onnx only: answers less probable are not accepted."
        ),
    ] = 0.0,
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="MODULE:RECIPE", help="Needed if the network is your own: allows its code."
        ),
    ] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Write a run's network as one file, after a check that it answers as the run does.

    Example: `fmnist export runs/mine --format onnx --out mine.onnx`
    """
    for name, given in (
        ("--int8", int8),
        ("--least-probability", bool(least_probability)),
        ("--no-mirror", not mirror),
        ("--ensemble-with", bool(ensemble_with)),
    ):
        if given and format != Format.onnx:
            raise typer.BadParameter("only --format onnx has it", param_hint=name)
    from fmnist.data import load_dataset
    from fmnist.recipes import find_recipe
    from fmnist.training.export import export as write_export

    chosen = find_recipe(recipe) if recipe else None
    result = write_export(
        run,
        format,
        out,
        load_dataset(data_dir),
        recipe=chosen,
        int8=int8,
        mirror=mirror,
        ensemble_with=ensemble_with or (),
        least_probability=least_probability,
    )
    show(result, tables.print_export, as_json)
