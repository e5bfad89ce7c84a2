"""Ways in which people get Fashion-MNIST numbers wrong, found in a model's answers and said.

Labels serve here to refuse and to warn, never to choose how a model is asked.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist.classifier.pixels import Pixels
from fmnist.data import CLASS_NAMES, Dataset
from fmnist.errors import DataError, ModelError
from fmnist.evaluation.metrics import accuracy, confusion_matrix

Logits = NDArray[np.float32]
Labels = NDArray[np.uint8]

CHANCE = 0.15  # a share of right answers that guessing does not pass on 10,000 images, or on 100
BETTER = 0.1  # by so much other labels must fit better to be the ones that were meant
MEANT = 2 / 3  # and to so many of the images
SUSPICIOUS = 0.98  # the highest single network published on today's data: 0.9691 (arXiv 2006.09042)
# How often each digit is in MNIST's test split (Y. LeCun's t10k-labels-idx1-ubyte).
MNIST = np.array([980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009])
# Ways to scale pixels that people train with: 0..1, 0..255, -1..1, by the mean and standard
# deviation of Fashion-MNIST, and by those of MNIST, which many copy.
SCALES = ((255, 0, 1), (1, 0, 1), (255, 0.5, 0.5), (255, 0.2860, 0.3530), (255, 0.1307, 0.3081))
TRIED_ON = 1000  # validation images
CLEARLY = 0.02  # a gain in accuracy on these that is no accident


def check_rows(rows: int, data: Dataset) -> None:
    """Raise DataError where predictions are not one for each test image."""
    test, train = len(data.test_labels), len(data.train_labels)
    if rows == test:
        return
    known = {
        train: "the training images",
        train + test: "the training and the test images",
        len(data.indices("train")): "the split train",
        len(data.indices("validation")): "the split validation",
    }
    what = f": they are predictions of {known[rows]}" if rows in known else ""
    if rows in (test - 1, test + 1):
        what = ": look for a header that was taken for a row, or the other way round"
    raise DataError(
        f"there are {rows:,} rows{what}; there must be one for each of the {test:,} test images, "
        "in the order of t10k-images-idx3-ubyte"
    )


def check_answers(logits: Logits, data: Dataset, hints: Sequence[str] = ()) -> None:
    """Raise ModelError where answers (n, 10) to the test split are plainly not what was meant.

    `hints` are what else was noticed, and go into the message.
    """
    predicted, labels = logits.argmax(axis=1), data.test_labels
    if (predicted == predicted[0]).all():
        name = CLASS_NAMES[int(predicted[0])]
        raise ModelError(_with(f"every test image is given the same class, {name}", hints))
    right = accuracy(logits, labels)
    _check_not_training(predicted, right, data)
    _check_order(predicted, right, labels)
    if right < CHANCE:
        said = f"{100 * right:.1f} % are right, as by guessing"
        raise ModelError(_with(said, hints or [_guesses(predicted)]))


def _with(message: str, hints: Sequence[str]) -> str:
    return "; ".join([message, *hints])


def _check_not_training(predicted: NDArray[Any], right: float, data: Dataset) -> None:
    """Raise ModelError where answers fit the first training images better than the test images."""
    fitting = float((predicted == data.train_labels[: len(predicted)]).mean())
    if fitting >= max(MEANT, right + BETTER):
        raise ModelError(
            f"the rows fit the first {len(predicted):,} training images ({100 * fitting:.1f} % "
            f"right), not the test images ({100 * right:.1f} %); predict t10k-images-idx3-ubyte"
        )


def _check_order(predicted: NDArray[Any], right: float, labels: Labels) -> None:
    """Raise ModelError where the classes are plainly in another order."""
    meant = likeliest_order(predicted, labels)
    after = float((meant[predicted] == labels).mean())
    if after < max(MEANT, right + BETTER):
        return
    raise ModelError(
        f"{_order_in_words(meant)}: {100 * after:.1f} % are right if so, {100 * right:.1f} % as "
        f"they are; what is answered as 0..9 must mean {', '.join(CLASS_NAMES)}"
    )


def likeliest_order(predicted: NDArray[Any], labels: Labels) -> NDArray[np.int64]:
    """Return the class (10,) that each answered class stands for, each once: most images first."""
    cells = confusion_matrix(predicted, labels).astype(np.float64)
    meant = np.zeros(10, np.int64)
    for _ in range(10):
        true, answered = np.unravel_index(int(cells.argmax()), cells.shape)
        meant[answered] = true
        cells[true, :] = cells[:, answered] = -1
    return meant


def _order_in_words(meant: NDArray[np.int64]) -> str:
    alphabetical = [CLASS_NAMES.index(name) for name in sorted(CLASS_NAMES)]
    moved = np.flatnonzero(meant != np.arange(10))
    if meant.tolist() == alphabetical:
        return "the classes are in alphabetical order, as folders of images are read"
    if len(moved) == 2:
        one, other = (CLASS_NAMES[index] for index in moved)
        return f"the classes {one} and {other} are swapped"
    for by in (1, 9):
        if (meant == (np.arange(10) + by) % 10).all():
            return f"the classes are shifted by one: 0 means {CLASS_NAMES[by]}"
    order = ", ".join(f"{at} means {CLASS_NAMES[meant[at]]}" for at in moved)
    return f"the classes are in another order ({order})"


def _guesses(predicted: NDArray[Any]) -> str:
    """Return what answers that are as good as guessing may be."""
    counts = np.bincount(predicted, minlength=10)
    of_mnist, even = abs(counts - MNIST).sum(), abs(counts - len(predicted) / 10).sum()
    if len(predicted) == MNIST.sum() and of_mnist < min(even, 300):
        return "each class is as frequent as its digit in MNIST: these are of MNIST's digits"
    return (
        "so do a model of other data, such as MNIST's digits, pixels in another scale, and images "
        "that were shuffled before they were predicted"
    )


def treatment_hint(
    retried: Callable[[NDArray[np.uint8], Pixels], Logits], pixels: Pixels, data: Dataset
) -> str | None:
    """Return what scale would suit a model better than `pixels`, by validation images, if any."""
    images, labels = data.split("validation").images[:TRIED_ON], data.split("validation").labels
    labels = labels[:TRIED_ON]
    if np.issubdtype(pixels.dtype, np.integer):
        return None
    ways = [dataclasses.replace(pixels, scale=s, mean=m, std=d) for s, m, d in SCALES]
    found = {way: accuracy(retried(images, way), labels) for way in (pixels, *ways)}
    best = max(found, key=lambda way: found[way])
    if found[best] < found[pixels] + CLEARLY:
        return None
    return (
        f"with {best.in_words()} it gets {100 * found[best]:.1f} % of {len(labels):,} validation "
        f"images right, with {pixels.in_words()} {100 * found[pixels]:.1f} %"
    )


def steadiness(answer: Callable[[NDArray[np.uint8]], Logits], data: Dataset) -> Iterator[str]:
    """Yield warnings where a model's answer depends on more than the image."""
    images = data.split("validation").images[:64]
    one, other = answer(images), answer(images)
    spread = float(one.std()) or 1.0
    if abs(one - other).max() > 0.01 * spread:
        yield "asked twice it answers differently: is dropout still on (model.eval())?"
        return
    alone = np.concatenate([answer(image[None]) for image in images[:8]])
    if abs(one[:8] - alone).max() > 0.01 * spread:
        yield (
            "its answer to an image depends on the images it is asked about together: is batch "
            "norm still in training mode (model.eval())?"
        )


def too_good(right: float) -> Iterator[str]:
    """Yield a warning where an accuracy (0..1) is above what anybody has reached."""
    if right > SUSPICIOUS:
        yield (
            f"{100 * right:.2f} % is above what anybody has shown to be possible here (97 %): were "
            "the test images trained on, or are these the labels themselves?"
        )
