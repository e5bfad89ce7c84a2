"""The verb `evaluate`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from fmnist import tables
from fmnist.cli.options import DataDir, DeviceChoice, DeviceOption, Json, RunDirectory, show


class SplitChoice(StrEnum):
    """What a run can be judged on."""

    validation = "validation"
    test = "test"


def evaluate(
    run: RunDirectory,
    split: Annotated[
        list[SplitChoice] | None,
        typer.Option(help="Judge on this one only. [default: both]", show_default=False),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="MODULE:RECIPE", help="Needed if the network is your own: allows its code."
        ),
    ] = None,
    temperature_from: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help="For a run on all data: take the temperature of this run of the same recipe.",
        ),
    ] = None,
    device: DeviceOption = DeviceChoice.auto,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Judge a run: logits, accuracy with its interval, loss, classes, confusions, calibration.

    Example: `fmnist evaluate runs/mine --split test`
    """
    from fmnist.data import load_dataset
    from fmnist.evaluation import evaluate as judge
    from fmnist.recipes import find_recipe

    metrics = judge(
        run,
        load_dataset(data_dir),
        splits=[choice.value for choice in split] if split else ("validation", "test"),
        recipe=find_recipe(recipe) if recipe else None,
        temperature_from=temperature_from,
        device=device,
    )
    show({"run": str(run), **metrics}, tables.print_evaluation, as_json)
