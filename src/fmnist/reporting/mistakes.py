"""Wrong answers and their pictures: those a classifier was surest of, and some of each pair."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image


@dataclass(frozen=True, eq=False)
class Mistake:
    """One image that was given the wrong class.

    `index` counts within the split, `image` is (28, 28) uint8, `true` and `predicted` are class
    names; `probability` is what the predicted class was given, `probability_true` what the true
    one was, both in [0, 1].
    """

    index: int
    image: npt.NDArray[np.uint8]
    true: str
    predicted: str
    probability: float
    probability_true: float


def worst_mistakes(
    images: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.uint8],
    logits: npt.NDArray[np.float32],
    class_names: Sequence[str],
    temperature: float = 1.0,
    count: int = 40,
) -> list[Mistake]:
    """Return at most `count` wrong answers, the surest first; equally sure ones by index.

    `images` is (n, 28, 28) uint8, `labels` (n,) uint8, `logits` (n, 10) float32; probabilities
    are softmax(logits / temperature), computed in float64.
    """
    assert len(images) == len(labels) == len(logits), "images, labels and logits differ in length"
    wrong = np.flatnonzero(logits.argmax(axis=1) != labels)
    told = _told(wrong, images, labels, logits, class_names, temperature)
    return sorted(told, key=lambda mistake: -mistake.probability)[:count]


def confused(
    images: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.uint8],
    logits: npt.NDArray[np.float32],
    class_names: Sequence[str],
    pairs: Sequence[tuple[str, str]],
    temperature: float = 1.0,
    count: int = 8,
) -> dict[tuple[str, str], list[Mistake]]:
    """Return wrong answers of each of `pairs`, which are names (true, predicted).

    Of each at most `count`, spread evenly from the surest to the least sure. The other arguments
    are those of `worst_mistakes`.
    """
    told = worst_mistakes(images, labels, logits, class_names, temperature, count=len(labels))
    examples = {}
    for pair in pairs:
        members = [mistake for mistake in told if (mistake.true, mistake.predicted) == pair]
        places = np.linspace(0, len(members) - 1, min(count, len(members))).round().astype(int)
        examples[pair] = [members[place] for place in places]
    return examples


def _told(
    wrong: npt.NDArray[np.int64],
    images: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.uint8],
    logits: npt.NDArray[np.float32],
    class_names: Sequence[str],
    temperature: float,
) -> list[Mistake]:
    """Return the answers at the places `wrong`, in their order."""
    predicted = logits.argmax(axis=1)
    probabilities = _softmax(logits[wrong].astype(np.float64) / temperature)
    return [
        Mistake(
            index=int(place),
            image=images[place],
            true=class_names[labels[place]],
            predicted=class_names[predicted[place]],
            probability=float(shares.max()),
            probability_true=float(shares[labels[place]]),
        )
        for place, shares in zip(wrong, probabilities, strict=True)
    ]


def data_uri(image: npt.NDArray[np.uint8]) -> str:
    """Return a (28, 28) uint8 image as a PNG in a `data:` address, about 0.7 kB."""
    png = io.BytesIO()
    Image.fromarray(image).save(png, format="png", optimize=True)
    return "data:image/png;base64," + base64.b64encode(png.getvalue()).decode("ascii")


def _softmax(logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: npt.NDArray[np.float64] = exponentials / exponentials.sum(axis=1, keepdims=True)
    return shares
