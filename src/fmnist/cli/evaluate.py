"""The verb `evaluate`."""

from pathlib import Path
from typing import Annotated

import typer

from fmnist import console, tables
from fmnist.cli.options import (
    DataDir,
    DeviceChoice,
    DeviceOption,
    Json,
    RunDirectory,
    SplitChoice,
    SuiteChoice,
    show,
)


def evaluate(
    run: RunDirectory,
    split: Annotated[
        list[SplitChoice] | None,
        typer.Option(help="Judge on this one only. [default: both]", show_default=False),
    ] = None,
    suite: Annotated[
        SuiteChoice,
        typer.Option(
            help="full: corrupted images, outliers and speed too; a minute and more.",
        ),
    ] = SuiteChoice.basic,
    outliers: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PATH",
            help="With --suite full: tell clothes from these too: a .npz file with x, an IDX file "
            "or a folder of pictures. May be repeated.",
            exists=True,
        ),
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
    """Judge a run: accuracy with its interval, classes, calibration, what it is worth when unsure.

    With the full suite the run's report.html is written anew, to show it.

    Example: `fmnist evaluate runs/mine --suite full --outliers mnist_test.npz`
    """
    if outliers and suite != "full":
        raise typer.BadParameter("add --suite full", param_hint="--outliers")
    if suite == "full" and split == [SplitChoice.validation]:
        raise typer.BadParameter("the full suite is of the test split", param_hint="--suite")
    from fmnist.data import load_dataset
    from fmnist.evaluation import evaluate as judge
    from fmnist.evaluation import report
    from fmnist.recipes import find_recipe

    data = load_dataset(data_dir)
    with console.doing() as watch:
        metrics = judge(
            run,
            data,
            splits=[choice.value for choice in split] if split else ("validation", "test"),
            suite=suite.value,
            outliers=outliers or (),
            recipe=find_recipe(recipe) if recipe else None,
            temperature_from=temperature_from,
            device=device,
            watch=watch,
        )
    page = str(report(run, data)) if suite == SuiteChoice.full else None
    show({"run": str(run), **metrics, "report": page}, tables.print_evaluation, as_json)
