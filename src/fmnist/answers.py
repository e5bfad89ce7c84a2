"""Answers for many pictures: files found, prepared on all cores, and asked about in batches.

Order is kept and memory stays flat: at most AHEAD pictures for each worker are held at a time.
"""

import glob
import os
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fmnist.environment import physical_cores
from fmnist.errors import PhotoError, RunError, missing_extra

if TYPE_CHECKING:
    from fmnist.classifier import Classifier, Prediction
    from fmnist.photos import Prepared
    from fmnist.photos.steps import StepsFolder
    from fmnist.reporting.gallery import Answered, Unread

STDIN = "-"
# What is taken from a folder. Those that Pillow cannot read (HEIC) are named as errors: a photo
# that was passed over in silence would be missed too late.
SUFFIXES = (
    *(".avif", ".bmp", ".gif", ".heic", ".heif", ".jfif", ".jpe", ".jpeg", ".jpg"),
    *(".png", ".tif", ".tiff", ".webp"),
)
AHEAD = 8  # pictures for each worker; one that is prepared holds about 3 MB

# From an image (28, 28) uint8 and a class to what speaks for it (28, 28).
Heat: TypeAlias = Callable[[NDArray[np.uint8], int], NDArray[np.float32]]
# Takes a path, what is said of its picture, and what `draw_heat` made of it.
Taker: TypeAlias = "Callable[[str, Prediction | PhotoError, NDArray[np.uint8] | None], None]"
_Waiting: TypeAlias = "deque[tuple[str, Future[Prepared | PhotoError]]]"


def load_classifier(
    path: str | os.PathLike[str] | None = None, *, threads: int | None = None
) -> "Classifier":
    """Return the classifier that comes with fmnist, or the one in a file or run directory.

    A file is one that `fmnist export RUN --format onnx` made. A run needs the extra that trained it
    and answers as it did when it was judged, with that temperature (1 if it never was); one thread
    at a time may ask it. `threads` is how many processors one call may use, by default each
    physical core. Raises ModelError where the file or the weights cannot be used, RunError where
    the run cannot, MissingExtra.
    """
    from fmnist.classifier import load_classifier as load_file

    if path is None or not os.path.isdir(path):
        return load_file(path, threads=threads)
    try:
        return _load_run(Path(path), threads)
    except ModuleNotFoundError as error:
        raise missing_extra(error) or error from error


def _load_run(folder: Path, threads: int | None) -> "Classifier":
    from fmnist.classifier import Classifier
    from fmnist.runs import open_run

    run = open_run(folder)
    named = run.read()["named"]
    if ":" in named:
        raise RunError(
            f"the network of {folder} is code outside fmnist; export it and name the file: "
            f"fmnist export {run.argument} --recipe {named} --format onnx --out mine.onnx"
        )
    from fmnist.training.trained import load_ask, network_facts

    judged = (folder / "metrics.json").exists()
    metrics = run.read_metrics() if judged else _UNJUDGED
    return Classifier(load_ask(run, threads=threads), network_facts(run, metrics))


_UNJUDGED = {"temperature": 1.0, "temperature_source": "none: not judged", "splits": {}}


def expand(paths: Iterable[str | os.PathLike[str]]) -> list[str]:
    """Return the files that `paths` stand for, in their order.

    A folder stands for the pictures in it and below, by their suffixes, sorted, hidden ones left
    out; a pattern that is no file's name (`photos/*.jpg`, `photos/**`) for what it matches, sorted.
    Whatever stands for no file is returned as it is, and `predict_files` says what is wrong.
    """
    return [file for path in paths for file in _files(os.fspath(path))]


def _files(path: str) -> list[str]:
    if path == STDIN:
        return [path]
    if os.path.isdir(path):
        return list(_pictures(path)) or [path]
    if os.path.lexists(path) or not glob.has_magic(path):
        return [path]
    matches = sorted(glob.glob(path, recursive=True))
    # A folder that ** matches gives its pictures, which ** matches too.
    found = (file for match in matches for file in _files_of_match(match))
    return list(dict.fromkeys(found)) or [path]


def _files_of_match(match: str) -> Iterable[str]:
    return _pictures(match) if os.path.isdir(match) else [match]


def _pictures(folder: str) -> Iterator[str]:
    """Yield the pictures in a folder and below; a folder that cannot be read as itself."""
    try:
        with os.scandir(folder) as scanned:
            entries = sorted(scanned, key=lambda entry: entry.name)
    except OSError:
        yield folder
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):  # a link may lead round in a circle
            yield from _pictures(entry.path)
        elif entry.name.lower().endswith(SUFFIXES) and entry.is_file():  # no pipe, which would wait
            yield entry.path


def predict_files(
    paths: Iterable[str], classifier: "Classifier", *, workers: int | None = None
) -> "Generator[tuple[str, Prediction | PhotoError], None, None]":
    """Yield each path with what is to be said of its picture, or why it cannot be read, in order.

    "-" is one picture on stdin. Pictures are prepared by `workers` threads, by default one for each
    physical core. Close the iterator to stop early: no more files are opened then.
    """
    from fmnist.photos.pool import photo_threads

    workers = workers or physical_cores()
    remaining = iter(paths)
    waiting: _Waiting = deque()
    with photo_threads(workers) as pool:
        while True:
            for path in islice(remaining, AHEAD * workers - len(waiting)):
                waiting.append((path, pool.submit(_prepare, path, _source(path))))
            if not waiting:
                return
            yield from _answers(_ready(waiting), classifier)


def _source(path: str) -> str | bytes:
    """Return what a picture is read from.

    Stdin is read here, in the caller's thread: Ctrl-C could not end a worker that waits for it.
    """
    if path != STDIN:
        return path
    from fmnist.photos import Limits

    return sys.stdin.buffer.read(Limits().file_bytes + 1)


def _prepare(path: str, source: str | bytes) -> "Prepared | PhotoError":
    from fmnist.photos import prepare

    try:
        if source == path:
            _check_there(path)
        return prepare(source)
    except PhotoError as error:  # anew: its traceback holds the picture
        return PhotoError(_reason(path, str(error)))


def _reason(path: str, message: str) -> str:
    """Return a message without the path before it, in which characters may have been replaced."""
    end = len(path) + len(": ")
    return message[end:] if message[len(path) : end] == ": " else message


def _check_there(path: str) -> None:
    """Raise PhotoError for what `expand` found no file for."""
    if os.path.isdir(path):
        try:
            os.listdir(path)
        except OSError as error:
            raise PhotoError(f"{path}: the folder cannot be read ({error.strerror})") from error
        raise PhotoError(f"{path}: the folder holds no picture ({', '.join(SUFFIXES)})")
    if glob.has_magic(path) and not os.path.lexists(path):
        raise PhotoError(f"{path}: no file matches")


def _ready(waiting: _Waiting) -> "list[tuple[str, Prepared | PhotoError]]":
    """Take the first picture, waiting for it, and those next to it that are prepared too."""
    taken = [waiting.popleft()]
    taken[0][1].result()
    while waiting and waiting[0][1].done():
        taken.append(waiting.popleft())
    return [(path, future.result()) for path, future in taken]


def _answers(
    batch: "list[tuple[str, Prepared | PhotoError]]", classifier: "Classifier"
) -> "Iterator[tuple[str, Prediction | PhotoError]]":
    photos = [photo for _, photo in batch if not isinstance(photo, PhotoError)]
    answers = iter(classifier.judge(photos))
    for path, photo in batch:
        yield path, photo if isinstance(photo, PhotoError) else next(answers)


def to_json(path: str, answer: "Prediction | PhotoError", top: int = 3) -> dict[str, Any]:
    """Return a picture's line of `fmnist predict --json` (docs/json.md)."""
    if isinstance(answer, PhotoError):
        return {"path": path, "error": str(answer)}
    return {"path": path, **answer.to_json(top)}


def load_heat(classifier: "Classifier", path: str | os.PathLike[str] | None = None) -> Heat:
    """Return what says which pixels of an image (28, 28) speak for a class: a map (28, 28) float32.

    `path` is what the classifier was loaded from. A run is asked by integrated gradients, which
    need the extra `explain`; else places are covered one after the other. Raises MissingExtra, and
    RunError and ModelError where the run's network cannot be loaded.
    """
    from fmnist.classifier.explain import occlusion_map

    if path is None or not os.path.isdir(path):
        return partial(occlusion_map, classifier)
    from fmnist.runs import open_run
    from fmnist.training.attribution import load_gradients

    gradients = load_gradients(open_run(path))
    return lambda image, index: gradients(image[None], np.array([index]))[0]


def draw_heat(answer: "Prediction | PhotoError", heat: Heat) -> NDArray[np.uint8] | None:
    """Return a photo (h, w, 3) with what its answer rests on drawn over it; None without answer."""
    if isinstance(answer, PhotoError) or answer.prepared is None:
        return None
    from fmnist.photos.overlay import overlay

    photo = answer.prepared
    return overlay(photo.original, heat(answer.image, answer.class_index), photo.to_original)


def to_gallery(
    path: str,
    answer: "Prediction | PhotoError",
    drawn: NDArray[np.uint8] | None = None,
    top: int = 3,
) -> "Answered | Unread":
    """Return a picture as the gallery takes it; `drawn` is what `draw_heat` made of it."""
    from fmnist.reporting.gallery import Answered, Unread

    if isinstance(answer, PhotoError):
        return Unread(path, str(answer))
    photo = answer.prepared
    return Answered(
        name=path,
        top=tuple((guess.label, guess.probability) for guess in answer.top[:top]),
        accepted=answer.accepted,
        image=answer.image,
        original=None if photo is None else photo.original,
        cutout=None if photo is None else photo.cutout,
        heat=drawn,
        warnings=answer.warnings,
    )


def save_steps(
    folder: "StepsFolder",
    path: str,
    answer: "Prediction | PhotoError",
    drawn: NDArray[np.uint8] | None = None,
) -> None:
    """Write the steps of a picture, if it could be read, and what `draw_heat` made of it."""
    if not isinstance(answer, PhotoError) and answer.prepared is not None:
        folder.write(path, answer.prepared, drawn)


COLUMNS = ("path", "label", "class_index", "probability", "accepted", "warnings", "error")


def to_row(path: str, answer: "Prediction | PhotoError") -> list[str]:
    """Return a picture's row of `fmnist predict --csv`, by COLUMNS."""
    if isinstance(answer, PhotoError):
        return [path, *[""] * (len(COLUMNS) - 2), str(answer)]
    accepted = "true" if answer.accepted else "false"
    figures = [answer.label, str(answer.class_index), str(answer.probability), accepted]
    return [path, *figures, "; ".join(answer.warnings), ""]
