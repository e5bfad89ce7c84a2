"""The verb `predict`."""

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fmnist import console, tables
from fmnist.errors import PhotoError

if TYPE_CHECKING:
    from rich.console import Console

    from fmnist.answers import Taker


def _html(path: Path | None) -> Path | None:
    """Refuse to write a page over `--gallery *.jpg`, of which a shell makes the first picture."""
    if path is not None and path.suffix.lower() not in (".html", ".htm"):
        raise typer.BadParameter(f"{path} must end in .html")
    return path


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
