"""The verb `bench`."""

import contextlib
import math
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fmnist import console, tables
from fmnist.cli.options import DataDir, Json, Quiet, SuiteChoice, set_log_level, show
from fmnist.errors import ModelError

if TYPE_CHECKING:
    from fmnist.classifier.pixels import Layout, Levels, Wishes


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
        str | None,
        typer.Option(
            help="Then this is taken away: a number, or three as R,G,B. [default: 0]",
            show_default=False,
        ),
    ] = None,
    std: Annotated[
        str | None,
        typer.Option(
            help="Then they are divided by this: a number, or three. [default: 1]",
            show_default=False,
        ),
    ] = None,
    scores: Annotated[
        ScoresChoice,
        typer.Option(help="What the ten numbers are; auto: told from their range and sum."),
    ] = ScoresChoice.auto,
    validation_held_out: Annotated[
        bool,
        typer.Option(
            "--validation-held-out",
            help="The model did not learn from our 5,000 validation images: judge it on these too, "
            "and let them give the temperature.",
        ),
    ] = False,
    suite: Annotated[
        SuiteChoice, typer.Option(help="full: corruptions, outliers and speed too.")
    ] = SuiteChoice.basic,
    outliers: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PATH",
            help="With --suite full: images of no class, as .npz with x, IDX file or folder; "
            "may be repeated.",
            exists=True,
        ),
    ] = None,
    data_dir: DataDir = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Judge a model that was made elsewhere, by the same numbers and on the same page as a run.

    Example: `fmnist bench theirs.onnx --mean 0.286 --std 0.353`
    """
    if outliers and suite != SuiteChoice.full:
        raise typer.BadParameter("add --suite full", param_hint="--outliers")
    set_log_level(quiet)
    wishes = _wishes(layout, scale, mean, std)
    from fmnist.data import load_dataset
    from fmnist.evaluation.bench.making import bench as judge

    with contextlib.nullcontext(_silent) if quiet else console.doing() as watch:
        result = judge(
            target,
            load_dataset(data_dir),
            out=out,
            name=name,
            wishes=wishes,
            scores=scores.value,
            validation_held_out=validation_held_out,
            suite=suite.value,
            outliers=outliers or (),
            watch=watch,
        )
    show(result, tables.print_bench, as_json)


def _silent(_: str) -> None:
    """Show nothing of what is being done."""


def _wishes(
    layout: LayoutChoice | None, scale: float | None, mean: str | None, std: str | None
) -> "Wishes":
    from fmnist.classifier.pixels import Wishes

    if scale is not None and not 0 < scale < math.inf:
        raise typer.BadParameter("must be above 0 and finite", param_hint="--scale")
    chosen: Layout | None = layout.value if layout else None
    return Wishes(chosen, scale, _levels("--mean", mean), _levels("--std", std))


def _levels(option: str, text: str | None) -> "Levels | None":
    """Return a number, or three between commas; bad usage where it is neither."""
    from fmnist.classifier.pixels import Wishes, read_levels

    if text is None:
        return None
    try:
        levels = read_levels(text)
        Wishes(**{option.removeprefix("--"): levels})  # type: ignore[arg-type]
    except (ValueError, ModelError) as error:
        said = error if isinstance(error, ModelError) else f"{text!r} is no number, nor three"
        raise typer.BadParameter(str(said), param_hint=option) from error
    return levels
