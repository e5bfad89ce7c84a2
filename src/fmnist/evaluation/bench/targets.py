"""What `fmnist bench` is pointed at: a file, or a function that the user names, to what answers."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fmnist.classifier.classifier import SHIPPED, open_classifier
from fmnist.classifier.foreign import Foreign, count_parameters, is_ours, open_foreign
from fmnist.classifier.pixels import Assumption, Pixels, Wishes
from fmnist.errors import FmnistError, MissingExtra, ModelError
from fmnist.evaluation.bench.prediction_file import read_predictions
from fmnist.evaluation.onnx_cost import onnx_multiply_adds
from fmnist.files import read_at_most
from fmnist.imports import FAILURES, current_directory_first, import_named, in_one_line

Answer: TypeAlias = Callable[[NDArray[np.uint8]], Any]
Kind: TypeAlias = Literal["fmnist", "onnx", "keras", "callable", "predictions"]

LIMIT_BYTES = 1024 * 2**20
KINDS = "an .onnx or .keras file, module:function, or predictions as .npz or .csv"
# What people have, and what to do with it.
OTHERS = {
    **dict.fromkeys(
        (".pt", ".pth", ".pkl", ".pickle", ".joblib", ".ckpt", ".bin"),
        "may run code when it is loaded",
    ),
    **dict.fromkeys((".h5", ".hdf5"), "is Keras' old format; save it as .keras"),
    ".safetensors": "holds weights without a network",
    ".tflite": "is of TensorFlow Lite",
    ".npy": "is one bare array; np.savez(file, scores=array) makes an .npz",
}


@dataclass(frozen=True)
class Target:
    """Who is judged: `answer` is asked about images, or `saved` are its answers to the test split.

    `retried` answers images that were treated otherwise, for hints about the treatment `pixels`.
    """

    name: str
    kind: Kind
    answer: Answer | None = None  # images (n, 28, 28) uint8 to what `read_scores` takes
    saved: NDArray[Any] | None = None
    assumed: tuple[Assumption, ...] = ()
    pixels: Pixels | None = None
    retried: Callable[[NDArray[np.uint8], Pixels], Any] | None = None
    parameters: int | None = None
    file_bytes: int | None = None
    sha256: str | None = None  # of the file
    facts: dict[str, Any] | None = None  # what a file of ours says of itself
    onnx: bytes | None = None  # the file

    def multiply_adds(self) -> int | None:
        """Return those of one image; None where they cannot be counted or onnx is not installed."""
        if self.onnx is None:
            return None
        try:
            return onnx_multiply_adds(self.onnx)
        except ModuleNotFoundError:
            return None


def open_target(target: str | Path | Answer | None, wishes: Wishes, *, threads: int) -> Target:
    """Return what `target` is or names; None is the classifier that comes with fmnist.

    Code is imported only where `target` is "module:function". Raises ModelError where it cannot be
    used, MissingExtra for a `.keras` file without Keras.
    """
    if target is None:
        return _onnx(SHIPPED, wishes, threads)
    if not isinstance(target, (str, Path)):
        _check_no_wishes(wishes, name_of(target), "is asked about images (n, 28, 28) uint8")
        return Target(name_of(target), "callable", answer=_guarded(target))
    path, text = Path(target), str(target)
    suffix = path.suffix.lower()
    if suffix == ".onnx":
        return _onnx(path, wishes, threads)
    if suffix == ".keras":
        return _keras(path, wishes)
    if suffix in (".npz", ".csv"):
        _check_no_wishes(wishes, text, "is answered already")
    elif ":" in text:
        _check_no_wishes(wishes, text, "is asked about images (n, 28, 28) uint8")
    if suffix in (".npz", ".csv"):
        array, assumed = read_predictions(path)
        kept = path.read_bytes()
        digest = hashlib.sha256(kept).hexdigest()
        return Target(path.stem, "predictions", saved=array, assumed=tuple(assumed), sha256=digest)
    if ":" in text and not path.exists():
        return Target(text, "callable", answer=_imported(text))
    raise ModelError(_refusal(path, suffix))


def name_of(function: Answer) -> str:
    """Return a function as the command line would name it."""
    name = getattr(function, "__qualname__", type(function).__name__)
    return f"{getattr(function, '__module__', type(function).__module__)}:{name}"


def _check_no_wishes(wishes: Wishes, text: str, reason: str) -> None:
    if wishes:
        raise ModelError(
            f"layout, scale, mean and std are of .onnx and .keras files; {text} {reason}"
        )


def _refusal(path: Path, suffix: str) -> str:
    if path.is_dir():
        what = (
            "is a run, which fmnist evaluate judges"
            if (path / "run.json").exists()
            else "is a folder"
        )
        return f"{path} {what}; bench takes {KINDS}"
    if suffix in OTHERS:
        return (
            f"{path} {OTHERS[suffix]}; export it as .onnx, or write a function of images "
            "(n, 28, 28) uint8 that returns scores (n, 10) and name that as module:function"
        )
    return f"{path} is not known; bench takes {KINDS}"


def _onnx(path: Path, wishes: Wishes, threads: int) -> Target:
    content = read_at_most(path, LIMIT_BYTES)
    try:
        if is_ours(content):
            return _ours(path, content, wishes, threads)
        network = open_foreign(content, wishes, threads=threads)
    except ModelError as error:
        raise ModelError(f"{path} cannot be used: {error}") from error
    return _network(path, content, "onnx", network)


def _ours(path: Path, content: bytes, wishes: Wishes, threads: int) -> Target:
    if wishes:
        raise ModelError("it is fmnist's own and knows its layout and scale: leave those out")
    classifier = open_classifier(content, threads=threads)
    facts = dict(classifier.facts)
    return Target(
        name="fmnist" if path == SHIPPED else path.stem,
        kind="fmnist",
        answer=classifier.logits,
        assumed=(Assumption("everything", "known", "the file is fmnist's own"),),
        parameters=count_parameters(content),
        file_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        facts=facts,
        onnx=content,
    )


def _keras(path: Path, wishes: Wishes) -> Target:
    content = read_at_most(path, LIMIT_BYTES)
    try:
        from fmnist.training.keras_foreign import open_keras
    except ModuleNotFoundError as error:  # of torch first, which this extra brings too
        raise MissingExtra("keras", "keras") from error
    try:
        network = open_keras(content, wishes)
    except ModelError as error:
        raise ModelError(f"{path} cannot be used: {error}") from error
    return _network(path, content, "keras", network)


def _network(path: Path, content: bytes, kind: Kind, network: Foreign) -> Target:
    return Target(
        name=path.stem,
        kind=kind,
        answer=lambda images: network.answer(images, network.pixels),
        assumed=network.assumed,
        pixels=network.pixels,
        retried=network.answer,
        parameters=network.parameters,
        file_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        onnx=content if kind == "onnx" else None,
    )


def _imported(text: str) -> Answer:
    """Return the function that "module:function" names, looked up from the current directory."""
    here = Path.cwd()
    try:
        found = import_named(text)
    except ImportError as error:
        raise ModelError(f"{text} cannot be imported from {here}: {error}") from error
    if not callable(found) or isinstance(found, type):
        raise ModelError(f"{text} is {type(found).__name__}, not a function of images")
    answer = _guarded(found)

    def looking_here(images: NDArray[np.uint8]) -> Any:
        with current_directory_first(here):  # where it imports only when it is asked
            return answer(images)

    return looking_here


def _guarded(function: Callable[[Any], Any]) -> Answer:
    """Return a person's function as one whose failures are ModelErrors; it is given copies."""

    def answer(images: NDArray[np.uint8]) -> Any:
        try:
            return function(images.copy())
        except FmnistError:
            raise
        except FAILURES as error:
            reason = in_one_line(error)
            raise ModelError(f"it fails on images {images.shape} uint8: {reason}") from error

    return answer
