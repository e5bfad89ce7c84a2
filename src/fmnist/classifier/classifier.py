"""Load an exported network and ask it about images and photos, without torch."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias, overload

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from fmnist.classifier.onnx_file import read_facts
from fmnist.classifier.prediction import Prediction, prediction_of
from fmnist.environment import physical_cores
from fmnist.errors import ModelError
from fmnist.files import read_at_most

if TYPE_CHECKING:
    from PIL.Image import Image

    from fmnist.photos import Prepared

SHIPPED = Path(__file__).with_name("fmnist.onnx")
LIMIT_BYTES = 64 * 2**20  # no network of this project comes near
CHUNK = 256  # images at once, so that memory stays flat however many are asked about
INPUT, OUTPUT = "images", "logits"
MOVES = ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1))  # down, right: px
FATAL = 4  # ONNX Runtime's log level; its errors come as exceptions, not on stderr too

Ask: TypeAlias = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
Picture: TypeAlias = "NDArray[np.uint8] | str | os.PathLike[str] | bytes | Image"


class Classifier:
    """A trained network of ten classes; threads may share one that was loaded from a file.

    `class_names` are in the order of the logits, `temperature`, fitted on images of Fashion-MNIST,
    is what divides these to make probabilities, an answer less probable than `least_probability` is
    not accepted, `facts` is all that is known of the network.
    """

    def __init__(self, ask: Ask, facts: Mapping[str, Any]) -> None:
        """Take a function of images (n, 28, 28) uint8, n > 0, to logits (n, 10) float32."""
        self.facts = MappingProxyType(dict(facts))
        self.class_names: tuple[str, ...] = tuple(facts["class_names"])
        self.temperature = float(facts["temperature"])
        self.least_probability = float(facts.get("least_probability", 0.0))
        self._ask = ask

    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return logits (n, 10) of images (n, 28, 28), or of one (28, 28), uint8 0..255.

        0 is background, as in Fashion-MNIST. Raises ModelError for arrays of other shapes or types.
        """
        batch = _batch(images)
        if 0 < len(batch) <= CHUNK:
            return self._ask(batch)
        parts = [self._ask(batch[at : at + CHUNK]) for at in range(0, len(batch), CHUNK)]
        return np.concatenate(parts) if parts else np.empty((0, 10), np.float32)

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Return probabilities (n, 10) of images as `logits` takes them; rows sum to 1.

        They are the softmax of logits / temperature (Guo et al., arXiv 1706.04599, section 4.2).
        """
        return self.tempered(self.logits(images))

    def photo_probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Return probabilities (n, 10) of photos as prepared: images (n, 28, 28).

        Where a cut-out ends is uncertain by a pixel, so the logits are the mean of those of each
        image and of it moved by one pixel each way.
        """
        views = _views(_batch(images))
        logits = self.logits(views.reshape(-1, 28, 28)).reshape(len(MOVES), -1, 10)
        return self.tempered(logits.mean(axis=0))

    def tempered(self, logits: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return probabilities (n, 10) of logits (n, 10): what `probabilities` makes of them."""
        scores = logits.astype(np.float64) / self.temperature
        likelihoods = np.exp(scores - scores.max(axis=1, keepdims=True))
        result: NDArray[np.float64] = likelihoods / likelihoods.sum(axis=1, keepdims=True)
        return result

    def classes(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the likeliest classes (n,), 0..9, of images as `logits` takes them."""
        classes: NDArray[np.uint8] = self.logits(images).argmax(axis=1).astype(np.uint8)
        return classes

    @overload
    def predict(self, source: "str | os.PathLike[str] | bytes | Image") -> Prediction: ...
    @overload
    def predict(self, source: list[Any] | tuple[Any, ...]) -> list[Prediction]: ...
    @overload
    def predict(self, source: NDArray[np.uint8]) -> Any: ...
    def predict(self, source: "Picture | list[Any] | tuple[Any, ...]") -> Any:
        """Return what is to be said of a picture, or a list of that for several.

        A photo is a path, the bytes of a file or a PIL image, and is prepared first
        (`fmnist.photos.prepare`). An array is taken as it is: (28, 28) is an image as Fashion-MNIST
        has it, (n, 28, 28) are n of them, uint8, background 0. A list may hold both kinds, and its
        answers keep all photos; `fmnist.answers.predict_files` keeps none. Raises PhotoError for
        what cannot be read as a picture, ModelError for other arrays.
        """
        if isinstance(source, np.ndarray):
            batch = _batch(source)
            answers = self._answers(batch, [None] * len(batch))
            return answers[0] if source.ndim == 2 else answers
        if isinstance(source, (list, tuple)):
            return self._predict_several(source)
        return self.judge([_prepared(source)])[0]

    def judge(self, photos: "Sequence[Prepared]") -> list[Prediction]:
        """Return what is to be said of photos that are prepared already."""
        if not photos:
            return []
        return self._answers(np.stack([photo.image for photo in photos]), photos)

    def views(self, photo: "Prepared") -> NDArray[np.uint8]:
        """Return the images (m, 28, 28) that a prepared photo is judged by: `answer` takes them."""
        if not photo.was_photo:
            return photo.image[None]
        return _views(photo.image[None])[:, 0]

    def answer(self, photo: "Prepared", logits: NDArray[np.float32]) -> Prediction:
        """Return what `judge` says of a photo, from the logits (m, 10) of its `views`.

        For callers that ask about the views of several photos, or other images, at once.
        """
        (probabilities,) = self.tempered(logits.mean(axis=0, keepdims=True))
        return prediction_of(
            photo.image, photo, probabilities, self.class_names, self.least_probability
        )

    def _predict_several(self, sources: "Sequence[Picture]") -> list[Prediction]:
        if not sources:
            return []
        ready = [None if isinstance(each, np.ndarray) else _prepared(each) for each in sources]
        images = [
            _image(each) if photo is None else photo.image
            for each, photo in zip(sources, ready, strict=True)
        ]
        return self._answers(np.stack(images), ready)

    def _answers(
        self, images: NDArray[np.uint8], photos: "Sequence[Prepared | None]"
    ) -> list[Prediction]:
        moved = np.array([photo is not None and photo.was_photo for photo in photos], bool)
        probabilities = np.empty((len(images), len(self.class_names)))
        probabilities[~moved] = self.probabilities(images[~moved])
        probabilities[moved] = self.photo_probabilities(images[moved])
        rows = zip(images, photos, probabilities, strict=True)
        return [prediction_of(*row, self.class_names, self.least_probability) for row in rows]


def load_classifier(
    path: str | os.PathLike[str] | None = None, *, threads: int | None = None
) -> Classifier:
    """Return the classifier that comes with fmnist, or the one in the file `path`.

    Such a file is made by `fmnist export RUN --format onnx`. `threads` is how many processors one
    call may use, by default each physical core. The file is read once and nothing else is opened.
    Raises ModelError where it is missing, damaged, over 64 MiB, refers to other files or code, or
    does not map images to logits.
    """
    file = SHIPPED if path is None else Path(path)
    content = read_at_most(file, LIMIT_BYTES)
    try:
        return open_classifier(content, threads=threads)
    except ModelError as error:
        raise ModelError(f"{file} cannot be loaded: {error}") from error


def open_classifier(content: bytes, *, threads: int | None = None) -> Classifier:
    """Return the classifier that the bytes of a file hold; see `load_classifier`."""
    facts = read_facts(content)
    return _checked(open_session(content, threads or physical_cores()), facts)


def open_session(content: bytes, threads: int) -> onnxruntime.InferenceSession:
    """Return ONNX Runtime's session of a model, on the CPU alone; ModelError where it refuses."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = FATAL
    # Else it tells by the bytes, and its own format has not been checked by `onnx_file`.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    try:
        return onnxruntime.InferenceSession(
            content, options, providers=["CPUExecutionProvider"], enable_fallback=False
        )
    except Exception as error:  # ONNX Runtime raises a dozen kinds without a common base
        raise ModelError(f"ONNX Runtime refuses it: {one_line(error)}") from error


def _checked(session: onnxruntime.InferenceSession, facts: Mapping[str, Any]) -> Classifier:
    """Return the classifier of a session that really maps images to finite logits."""
    ends = [(end.name, end.type, end.shape[1:]) for end in session.get_inputs()]
    if ends != [(INPUT, "tensor(uint8)", [28, 28])]:
        raise ModelError(f"its input must be images (n, 28, 28) uint8 and is {ends}")
    ends = [(end.name, end.type, end.shape[1:]) for end in session.get_outputs()]
    if ends != [(OUTPUT, "tensor(float)", [10])]:
        raise ModelError(f"its output must be logits (n, 10) float32 and is {ends}")

    def ask(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        logits: NDArray[np.float32] = session.run((OUTPUT,), {INPUT: images})[0]
        return logits

    classifier = Classifier(ask, facts)
    for n in (1, 3):
        try:
            logits = classifier.logits(np.zeros((n, 28, 28), np.uint8))
        except Exception as error:  # ONNX Runtime's again: a graph may load and still not run
            raise ModelError(f"it fails on black images: {one_line(error)}") from error
        if logits.shape != (n, 10) or not np.isfinite(logits).all():
            raise ModelError("it does not answer black images with finite logits (n, 10)")
    return classifier


def _batch(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if not isinstance(images, np.ndarray):
        raise ModelError(f"images must be a numpy array, not {type(images).__name__}")
    if images.dtype != np.uint8 or images.shape[-2:] != (28, 28) or images.ndim not in (2, 3):
        raise ModelError(
            f"images must be (28, 28) or (n, 28, 28) uint8, not {images.shape} {images.dtype}; "
            "for the pixels of a photo, hand over PIL.Image.fromarray(pixels)"
        )
    return images.reshape(-1, 28, 28)


def _image(array: Any) -> NDArray[np.uint8]:
    """Return one image of a list of pictures as (28, 28)."""
    if array.ndim != 2:
        raise ModelError(f"an array in a list must be (28, 28) uint8, not {array.shape}")
    image: NDArray[np.uint8] = _batch(array)[0]
    return image


def _prepared(source: Any) -> "Prepared":
    from fmnist.photos import prepare  # which imports OpenCV: arrays need none

    return prepare(source)


def _views(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return images (n, 28, 28) and their moved copies, as (5, n, 28, 28)."""
    return np.stack([_moved(images, *by) for by in MOVES])


def _moved(images: NDArray[np.uint8], down: int, right: int) -> NDArray[np.uint8]:
    """Return images (n, 28, 28) moved by up to one pixel, background coming in."""
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    return np.ascontiguousarray(padded[:, 1 - down : 29 - down, 1 - right : 29 - right])


def one_line(error: Exception) -> str:
    """Return what an error says, without line breaks."""
    return " ".join(str(error).split())
