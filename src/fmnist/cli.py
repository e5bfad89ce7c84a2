"""The verbs of the command line: each parses, calls the room that does the work, and prints.

Data goes to stdout, progress and logs to stderr. Exit status: 0 done, 1 the work failed (one line
says what and what to do), 2 bad usage, 128 + n stopped by signal n. Heavy imports stand inside the
verbs, so that help answers at once.
"""

import atexit
import contextlib
import gc
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fmnist import console, tables
from fmnist.errors import FmnistError, PhotoError, RunError, Stopped, missing_extra

if TYPE_CHECKING:
    from rich.console import Console

    from fmnist.answers import Taker
    from fmnist.data import Dataset
    from fmnist.photos.folder import PhotoFolder
    from fmnist.recipes import Recipe
    from fmnist.runs import Run

app = typer.Typer(
    name="fmnist",
    help="Fashion-MNIST: get the data, train a classifier, judge it, show it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


class Engine(StrEnum):
    """What trains a network."""

    torch = "torch"
    keras = "keras"


class Format(StrEnum):
    """What a trained network can be written as."""

    onnx = "onnx"
    keras = "keras"
    safetensors = "safetensors"


class SplitChoice(StrEnum):
    """What a run can be judged on."""

    validation = "validation"
    test = "test"


class DeviceChoice(StrEnum):
    """Where a network runs."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
    mps = "mps"


DataDir = Annotated[
    Path | None,
    typer.Option(help="Folder with the four files of Fashion-MNIST.", show_default=False),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on one line of stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Nothing but the result and errors.")]
DeviceOption = Annotated[DeviceChoice, typer.Option(help="auto: CUDA, then MPS, then the CPU.")]
RunDirectory = Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"fmnist {version('fmnist')}")
        raise typer.Exit


@app.callback()
def root(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    """Set what holds for every verb."""
    logging.getLogger("fmnist").setLevel(logging.INFO)
    if debug:
        os.environ["FMNIST_DEBUG"] = "1"


@app.command()
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
    _show(found, tables.print_data, as_json)


@app.command()
def recipes(as_json: Json = False) -> None:
    """List the recipes with what they cost and what they were measured at.

    Example: `fmnist recipes`
    """
    import dataclasses

    from fmnist.recipes import RECIPES

    listing = [
        {**recipe.to_json(), "score": recipe.score and dataclasses.asdict(recipe.score)}
        for recipe in RECIPES.values()
    ]
    _show({"recipes": listing}, tables.print_recipes, as_json)


@app.command()
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
            help="New directory of the run. [default: runs/RECIPE-sSEED-TIME]", show_default=False
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
        typer.Option(metavar="RUN", help="Go on with a stopped run.", show_default=False),
    ] = None,
    evaluate: Annotated[
        bool, typer.Option("--evaluate/--no-evaluate", help="Judge it and write the report.")
    ] = True,
    data_dir: DataDir = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train a recipe, judge it on validation and test, and write the report.

    Ctrl-C saves the state and says how to go on.

    Example: `fmnist train classic --seed 1 --out runs/mine`
    """
    if resume is not None and (out is not None or seed is not None or all_data):
        raise typer.BadParameter("--resume goes on as it began: no --out, --seed or --all-data")
    if photos is not None and resume is not None:
        raise typer.BadParameter("--resume goes on as it began: no --photos")
    chosen_photos = _chosen_photos(photos, senders, part or [], stranger or [])
    _set_log_level(quiet)
    from fmnist.data import load_dataset
    from fmnist.recipes import find_recipe
    from fmnist.runs import open_run
    from fmnist.training import train as train_recipe

    if recipe is None:
        recipe = "standard" if resume is None else _recipe_of(open_run(resume))
    chosen = find_recipe(recipe)
    began = time.perf_counter()
    dataset = load_dataset(data_dir)
    data_seconds = time.perf_counter() - began
    with console.training_progress(quiet) as watch:
        run = train_recipe(
            recipe,
            dataset,
            seed=seed or 0,
            all_data=all_data,
            out=out,
            photos=chosen_photos,
            device=device,
            engine=engine,
            resume=resume,
            watch=watch,
        )
    run.set_seconds(data=data_seconds)
    if evaluate:
        _judge_and_report(run, dataset, chosen, device)
    _show(run.summary(), tables.print_training, as_json)


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


def _recipe_of(run: "Run") -> str:
    """Return the recipe that a run was started with; code outside fmnist has to be named again."""
    from fmnist.recipes import RECIPES

    named = str(run.read()["named"])
    if named not in RECIPES:
        raise RunError(f"its recipe is not part of fmnist; name it: {run.resume_command()}")
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


@app.command()
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
    _show({"run": str(run), **metrics}, tables.print_evaluation, as_json)


@app.command()
def report(run: RunDirectory, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Write a run's report.html from what the run directory holds.

    Example: `fmnist report runs/mine`
    """
    from fmnist.data import load_dataset
    from fmnist.evaluation import report as write_report

    path = write_report(run, load_dataset(data_dir))
    result = {"run": str(run), "report": str(path)}
    _show(result, lambda result: print(result["report"]), as_json)


@app.command()
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
    _show(result, tables.print_export, as_json)


def _html(path: Path | None) -> Path | None:
    """Refuse to write a page over `--gallery *.jpg`, of which a shell makes the first picture."""
    if path is not None and path.suffix.lower() not in (".html", ".htm"):
        raise typer.BadParameter(f"{path} must end in .html")
    return path


@app.command()
def predict(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH",
            help="Pictures, folders of them, patterns such as 'photos/*.jpg', or - for one on "
            "stdin.",
            show_default=False,
        ),
    ],
    model: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN|FILE.onnx", help="Ask this, not the classifier that comes with fmnist."
        ),
    ] = None,
    top: Annotated[
        int | None,
        typer.Option(
            min=1, max=10, help="Show so many guesses of each. [default: 3]", show_default=False
        ),
    ] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV with a header.")] = False,
    gallery: Annotated[
        Path | None,
        typer.Option(metavar="FILE.html", help="Write a page that shows it all.", callback=_html),
    ] = None,
    save_steps: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write what was cut out and what the network saw as PNG."),
    ] = None,
    explain: Annotated[
        bool,
        typer.Option("--explain", help="Draw over each picture what the answer rests on."),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object a line for each picture.")
    ] = False,
) -> None:
    """Say what is on pictures of clothes: which of the ten classes, and how sure that is.

    What cannot be read is named on stderr, the rest goes on, and the exit status is 1.

    Example: `fmnist predict shoe.jpg photos/ --gallery answers.html`
    """
    for_people = not (as_csv or as_json)
    if as_csv and top is not None:
        raise typer.BadParameter("CSV has the best guess only", param_hint="--top")
    if as_csv and as_json:
        raise typer.BadParameter("print either CSV or JSON", param_hint="--csv")
    if explain and not (gallery or save_steps or (for_people and sys.stdout.isatty())):
        raise typer.BadParameter(
            "it draws on a terminal, or with --gallery or --save-steps", param_hint="--explain"
        )
    from fmnist import answers

    classifier = answers.load_classifier(model, threads=1)  # the photos take the other cores
    heat = answers.load_heat(classifier, model) if explain else None
    files = answers.expand(paths)
    many, failed = len(files) > tables.PORTRAITS, False
    with contextlib.ExitStack() as stack:
        takers = _takers_of_files(gallery, save_steps, model, top, stack)
        progress = stack.enter_context(
            console.picture_progress(len(files) * many, lines_for_people=for_people)
        )
        told = stack.enter_context(contextlib.closing(answers.predict_files(files, classifier)))
        takers.insert(0, _answer_printer(as_json, as_csv, many, top, progress.out))
        for path, answer in told:
            drawn = None if heat is None else answers.draw_heat(answer, heat)
            for take in takers:
                take(path, answer, drawn)
            failed |= isinstance(answer, PhotoError)
            progress.advance()
    if failed:
        raise typer.Exit(1)


def _takers_of_files(
    gallery: Path | None,
    save_steps: Path | None,
    model: Path | None,
    top: int | None,
    stack: contextlib.ExitStack,
) -> "list[Taker]":
    """Return what writes each answer into the files asked for; `stack` ends those."""
    from fmnist import answers

    takers: list[Taker] = []
    if gallery is not None:
        from fmnist.reporting.gallery import open_gallery

        who = f"Model: {model or 'the one that comes with fmnist'}"
        page = stack.enter_context(open_gallery(gallery, who))
        takers.append(
            lambda path, answer, drawn: page.add(answers.to_gallery(path, answer, drawn, top or 3))
        )
    if save_steps is not None:
        from fmnist.photos.steps import StepsFolder

        steps = StepsFolder(save_steps)
        takers.append(lambda *told: answers.save_steps(steps, *told))
    return takers


def _answer_printer(
    as_json: bool, as_csv: bool, many: bool, top: int | None, out: "Console"
) -> "Taker":
    """Return what prints the answer to a picture: JSON, CSV, or for people in two sizes."""
    from fmnist import answers

    if as_json:
        return lambda path, answer, _: console.print_json(answers.to_json(path, answer, top or 3))
    if as_csv:
        console.print_csv(answers.COLUMNS)
        return lambda path, answer, _: console.print_csv(answers.to_row(path, answer))
    if many or not out.is_terminal:
        return lambda path, answer, _: tables.print_answer(path, answer, top, out)
    return lambda path, answer, drawn: tables.print_portrait(path, answer, top, out, drawn)


@app.command()
def doctor(as_json: Json = False) -> None:
    """Check versions, data, cache, device, threads and extras, and say what to do.

    Example: `fmnist doctor`
    """
    from fmnist.doctor import examine

    findings = examine()
    healthy = all(finding.ok for finding in findings)
    checks = [finding.to_json() for finding in findings]
    _show({"healthy": healthy, "checks": checks}, tables.print_findings, as_json)
    if not healthy:
        raise typer.Exit(1)


def _show(
    result: dict[str, Any], for_people: Callable[[dict[str, Any]], None], as_json: bool
) -> None:
    """Print a verb's result on stdout."""
    if as_json:
        console.print_json(result)
    else:
        for_people(result)


def _set_log_level(quiet: bool) -> None:
    logging.getLogger("fmnist").setLevel(logging.ERROR if quiet else logging.INFO)


def main() -> None:
    """Run the command line; a user's error is one line on stderr."""
    atexit.register(gc.freeze)  # what is left goes with the process; to collect it takes 0.05 s
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("fmnist: %(message)s"))
    logging.getLogger("fmnist").addHandler(handler)
    try:
        app()
    except (FmnistError, OSError, ModuleNotFoundError) as error:
        if os.environ.get("FMNIST_DEBUG"):
            raise
        sys.exit(_explain(error))
    except SystemExit as end:
        if end.code == 130:  # what Typer makes of Ctrl-C
            print("fmnist: interrupted", file=sys.stderr)
        raise


def _explain(error: Exception) -> int:
    """Print a user's error as one line and return the exit status; re-raise what is our own."""
    if isinstance(error, ModuleNotFoundError):
        missing = missing_extra(error)
        if missing is None:
            raise error
        error = missing
    if isinstance(error, OSError):
        error = FmnistError(f"{error.filename or 'a file'}: {error.strerror or error}")
    print(f"fmnist: {error}", file=sys.stderr)
    return 128 + error.signal if isinstance(error, Stopped) else 1
