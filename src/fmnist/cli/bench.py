"""The verb `bench`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from fmnist import tables
from fmnist.cli.options import DataDir, Json, Quiet, set_log_level, show


class LayoutChoice(StrEnum):
    """How a network has its images in memory: n images, c channels, h by w pixels."""

    nchw = "nchw"
    nhwc = "nhwc"
    nhw = "nhw"
    flat = "flat"


class ScoresChoice(StrEnum):
    """What a model's ten numbers are."""

    auto = "auto"
    logits = "logits"
    probabilities = "probabilities"


class SuiteChoice(StrEnum):
    """How much is measured."""

    basic = "basic"
    full = "full"


def bench(
    target: Annotated[
        str | None,
        typer.Argument(
            help="An .onnx or .keras file, module:function (images (n, 28, 28) uint8 to scores "
            "(n, 10); naming it allows its code), or predictions of the test images as .npz or "
            ".csv. [default: the classifier that comes with fmnist]",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Directory of the results. [default: runs/bench-NAME-TIME]",
            show_default=False,
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(help="What to call the model. [default: TARGET's]", show_default=False),
    ] = None,
    layout: Annotated[
        LayoutChoice | None,
        typer.Option(help="Of the network's input, where its shape leaves it open."),
    ] = None,
    scale: Annotated[
        float | None,
        typer.Option(
            help="Pixels 0..255 are divided by this. [default: 255, or what the file says]",
            show_default=False,
        ),
    ] = None,
    mean: Annotated[
        float | None,
        typer.Option(help="Then this is taken away. [default: 0]", show_default=False),
    ] = None,
    std: Annotated[
        float | None,
        typer.Option(help="Then they are divided by this. [default: 1]", show_default=False),
    ] = None,
    scores: Annotated[
        ScoresChoice,
        typer.Option(help="What the ten numbers are; auto: told from their range and sum."),
    ] = ScoresChoice.auto,
    suite: Annotated[
        SuiteChoice, typer.Option(help="full: corruptions, outliers and speed too.")
    ] = SuiteChoice.basic,
    outliers: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PATH",
            help="With --suite full: images of no class, as .npz with x, IDX file or folder; "
            "may be repeated.",
        ),
    ] = None,
    data_dir: DataDir = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Judge a model that was made elsewhere, by the same numbers and on the same page as a run.

    Example: `fmnist bench theirs.onnx --mean 0.286 --std 0.353`
    """
    for option, value in (("--scale", scale), ("--std", std)):
        if value is not None and not value > 0:
            raise typer.BadParameter("must be above 0", param_hint=option)
    set_log_level(quiet)
    from fmnist.classifier.pixels import Wishes
    from fmnist.data import load_dataset
    from fmnist.evaluation.bench import bench as judge

    result = judge(
        target,
        load_dataset(data_dir),
        out=out,
        name=name,
        wishes=Wishes(layout.value if layout else None, scale, mean, std),
        scores=scores.value,
        suite=suite.value,
        outliers=outliers or (),
    )
    show(result, tables.print_bench, as_json)
