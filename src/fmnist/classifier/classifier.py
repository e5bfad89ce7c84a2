"""Load an exported network and ask it, on numpy and ONNX Runtime alone."""

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from fmnist.classifier.onnx_file import read_facts
from fmnist.environment import physical_cores
from fmnist.errors import ModelError

LIMIT_BYTES = 64 * 2**20  # no network of this project comes near
CHUNK = 256  # images at once, so that memory stays flat however many are asked about
INPUT, OUTPUT = "images", "logits"
FATAL = 4  # ONNX Runtime's log level; its errors come as exceptions, not on stderr too


class Classifier:
    """A trained network of ten classes; threads may share it.

    `class_names` are in the order of the logits, `temperature` is what divides these to make
    probabilities that can be believed, `facts` is all that the exporter wrote into the file.
    """

    def __init__(self, session: onnxruntime.InferenceSession, facts: Mapping[str, Any]) -> None:
        """Take a session of images (n, 28, 28) uint8 to logits (n, 10) float32."""
        self.facts = MappingProxyType(dict(facts))
        self.class_names: tuple[str, ...] = tuple(facts["class_names"])
        self.temperature = float(facts["temperature"])
        self._session = session

    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return logits (n, 10) of images (n, 28, 28), or of one (28, 28), uint8 0..255.

        0 is background, as in Fashion-MNIST. Raises ModelError for arrays of other shapes or types.
        """
        batch = _batch(images)
        if 0 < len(batch) <= CHUNK:
            return self._run(batch)
        parts = [self._run(batch[at : at + CHUNK]) for at in range(0, len(batch), CHUNK)]
        return np.concatenate(parts) if parts else np.empty((0, 10), np.float32)

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Return probabilities (n, 10) of images as `logits` takes them; rows sum to 1.

        They are the softmax of logits / temperature (Guo et al., arXiv 1706.04599, section 4.2).
        """
        scores = self.logits(images).astype(np.float64) / self.temperature
        likelihoods = np.exp(scores - scores.max(axis=1, keepdims=True))
        result: NDArray[np.float64] = likelihoods / likelihoods.sum(axis=1, keepdims=True)
        return result

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the likeliest classes (n,), 0..9, of images as `logits` takes them."""
        classes: NDArray[np.uint8] = self.logits(images).argmax(axis=1).astype(np.uint8)
        return classes

    def _run(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        logits: NDArray[np.float32] = self._session.run((OUTPUT,), {INPUT: batch})[0]
        return logits


def load_classifier(path: str | os.PathLike[str], *, threads: int | None = None) -> Classifier:
    """Return the classifier in a file that `fmnist export RUN --format onnx` made.

    `threads` is how many processors one call may use, by default each physical core. The file is
    read once and nothing else is opened. Raises ModelError where it is missing, damaged, over 64
    MiB, refers to other files or code, or does not map images to logits.
    """
    content = _read(Path(path))
    try:
        return open_classifier(content, threads=threads)
    except ModelError as error:
        raise ModelError(f"{path} cannot be loaded: {error}") from error


def open_classifier(content: bytes, *, threads: int | None = None) -> Classifier:
    """Return the classifier that the bytes of a file hold; see `load_classifier`."""
    facts = read_facts(content)
    return _checked(_open(content, threads or physical_cores()), facts)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(LIMIT_BYTES + 1)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error
    if len(content) > LIMIT_BYTES:
        raise ModelError(f"{path} is over {LIMIT_BYTES // 2**20} MiB, so it is no classifier")
    return content


def _open(content: bytes, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = FATAL
    try:
        return onnxruntime.InferenceSession(
            content, options, providers=["CPUExecutionProvider"], enable_fallback=False
        )
    except Exception as error:  # ONNX Runtime raises a dozen kinds without a common base
        raise ModelError(f"ONNX Runtime refuses it: {_say(error)}") from error


def _checked(session: onnxruntime.InferenceSession, facts: Mapping[str, Any]) -> Classifier:
    """Return the classifier of a session that really maps images to finite logits."""
    ends = [(end.name, end.type, end.shape[1:]) for end in session.get_inputs()]
    if ends != [(INPUT, "tensor(uint8)", [28, 28])]:
        raise ModelError(f"its input must be images (n, 28, 28) uint8 and is {ends}")
    ends = [(end.name, end.type, end.shape[1:]) for end in session.get_outputs()]
    if ends != [(OUTPUT, "tensor(float)", [10])]:
        raise ModelError(f"its output must be logits (n, 10) float32 and is {ends}")
    classifier = Classifier(session, facts)
    for n in (1, 3):
        try:
            logits = classifier.logits(np.zeros((n, 28, 28), np.uint8))
        except Exception as error:  # ONNX Runtime's again: a graph may load and still not run
            raise ModelError(f"it fails on black images: {_say(error)}") from error
        if logits.shape != (n, 10) or not np.isfinite(logits).all():
            raise ModelError("it does not answer black images with finite logits (n, 10)")
    return classifier


def _batch(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if not isinstance(images, np.ndarray):
        raise ModelError(f"images must be a numpy array, not {type(images).__name__}")
    if images.dtype != np.uint8 or images.shape[-2:] != (28, 28) or images.ndim not in (2, 3):
        raise ModelError(
            f"images must be (28, 28) or (n, 28, 28) uint8, not {images.shape} {images.dtype}"
        )
    return images.reshape(-1, 28, 28)


def _say(error: Exception) -> str:
    return " ".join(str(error).split())
