"""The verb `train`."""

import signal
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fmnist import console, tables
from fmnist.cli.options import DataDir, DeviceChoice, DeviceOption, Json, Quiet, set_log_level, show
from fmnist.errors import RunError, Stopped

if TYPE_CHECKING:
    from fmnist.data import Dataset
    from fmnist.photos.folder import PhotoFolder
    from fmnist.recipes import Recipe
    from fmnist.runs import Run


class Engine(StrEnum):
    """What trains a network."""

    torch = "torch"
    keras = "keras"


def train(
    recipe: Annotated[
        str | None,
        typer.Argument(
            help="A name that `fmnist recipes` lists, or your own as module:RECIPE. "
            "[default: standard, or the resumed run's]",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=2**63 - 1,
            help="Of weights, order and augmentation. [default: 0]",
            show_default=False,
        ),
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Train N seeds, from --seed on, into one directory with a summary.json.",
            show_default=False,
        ),
    ] = None,
    engine: Annotated[
        Engine | None,
        typer.Option(
            help="What trains. [default: torch, or the resumed run's]", show_default=False
        ),
    ] = None,
    all_data: Annotated[
        bool, typer.Option("--all-data", help="Train on all 60,000, validation included.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            help="New directory of the run. [default: runs/RECIPE-sSEED-TIME, or "
            "runs/RECIPE-seeds-TIME]",
            show_default=False,
        ),
    ] = None,
    photos: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Learn from photos too: a folder with labels.csv (path, class_index, sender_id).",
            show_default=False,
        ),
    ] = None,
    senders: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.csv", help="Which senders' photos (sender_id, part); with --part."
        ),
    ] = None,
    part: Annotated[
        list[str] | None,
        typer.Option(help="A part of --senders to learn from; may be repeated.", metavar="PART"),
    ] = None,
    stranger: Annotated[
        list[str] | None,
        typer.Option(
            help="A source_label without a class to be unsure about; may be repeated.",
            metavar="KIND",
        ),
    ] = None,
    device: DeviceOption = DeviceChoice.auto,
    resume: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN", help="Go on with a stopped run, or with seeds.", show_default=False
        ),
    ] = None,
    evaluate: Annotated[
        bool | None,
        typer.Option(
            "--evaluate/--no-evaluate",
            help="Judge it and write the report, or leave the test split unread; of --seeds "
            "validation is judged then. [default: --evaluate, or as the resumed seeds]",
            show_default=False,
        ),
    ] = None,
    data_dir: DataDir = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train a recipe, judge it on validation and test, and write the report.

    Ctrl-C saves the state and says how to go on.

    Example: `fmnist train classic --seed 1 --out runs/mine`

    Example: `fmnist train sprint --all-data --seeds 10 --out runs/sprint-10`
    """
    if resume is not None and (out is not None or seed is not None or all_data):
        raise typer.BadParameter("--resume goes on as it began: no --out, --seed or --all-data")
    if photos is not None and resume is not None:
        raise typer.BadParameter("--resume goes on as it began: no --photos")
    chosen_photos = _chosen_photos(photos, senders, part or [], stranger or [])
    has_seeds = _has_seeds(seeds, resume)
    set_log_level(quiet)
    from fmnist.data import load_dataset
    from fmnist.recipes import find_recipe
    from fmnist.training import train as train_recipe  # before the data: it may not be installed

    if recipe is None:
        recipe = "standard" if resume is None else _recipe_of(resume)
    chosen = find_recipe(recipe)
    began = time.perf_counter()
    dataset = load_dataset(data_dir)
    data_seconds = time.perf_counter() - began
    how: dict[str, Any] = {
        "all_data": all_data,
        "out": out,
        "photos": chosen_photos,
        "device": device,
        "engine": engine,
        "resume": resume,
    }
    if has_seeds:
        from fmnist.evaluation.seeds import train_seeds

        summary = train_seeds(
            recipe,
            dataset,
            seeds=seeds,
            first=seed or 0,
            judge=evaluate,
            data_seconds=data_seconds,
            lend=lambda: console.training_progress(quiet),
            **how,
        )
        show(summary, tables.print_seeds, as_json)
        return
    with console.training_progress(quiet) as watch:
        run = train_recipe(recipe, dataset, seed=seed or 0, watch=watch, **how)
    run.set_seconds(data=data_seconds)
    if evaluate is not False:
        _judge_and_report(run, dataset, chosen, device)
    show(run.summary(), tables.print_training, as_json)


def _has_seeds(seeds: int | None, resume: Path | None) -> bool:
    """Tell whether many seeds are meant; bad usage where one run is to become many."""
    from fmnist.runs import is_seed_runs

    if resume is None:
        return seeds is not None
    if seeds is not None and not is_seed_runs(resume):
        raise typer.BadParameter(f"--seeds goes on with a directory of seeds; {resume} is not one")
    return is_seed_runs(resume)


def _chosen_photos(
    photos: Path | None, senders: Path | None, parts: list[str], strangers: list[str]
) -> "PhotoFolder | None":
    """Return the photos to learn from; bad usage where what chooses among them does not fit."""
    if photos is None and (senders or parts or strangers):
        raise typer.BadParameter("--senders, --part and --stranger choose from --photos DIR")
    if (senders is None) != (not parts):
        raise typer.BadParameter("--senders FILE and --part PART belong together")
    if photos is None:
        return None
    from fmnist.photos.folder import PhotoFolder

    return PhotoFolder(photos, senders, tuple(parts), tuple(strangers))


def _recipe_of(folder: Path) -> str:
    """Return the recipe that was begun in `folder`; code outside fmnist has to be named again."""
    from fmnist.recipes import RECIPES
    from fmnist.runs import SeedRuns, is_seed_runs, open_run

    begun = SeedRuns(folder) if is_seed_runs(folder) else open_run(folder)
    named = str(begun.read()["named"])
    if named not in RECIPES:
        raise RunError(f"its recipe is not part of fmnist; name it: {begun.resume_command()}")
    return named


def _judge_and_report(run: "Run", dataset: "Dataset", recipe: "Recipe", device: str) -> None:
    """Evaluate a run that was just trained and write its page."""
    from fmnist.evaluation import evaluate, report

    try:
        evaluate(run, dataset, recipe=recipe, device=device)
        report(run, dataset)
    except KeyboardInterrupt:
        message = f"interrupted when trained; judge it with: {run.evaluate_command()}"
        raise Stopped(message, signal.SIGINT) from None
