"""Can a classifier tell clothes from what is none? Images of no class, and how well they are told.

Clothes are the positive class, and a higher score says more surely that an image is one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fmnist.data.idx import parse_idx, read_content
from fmnist.errors import DataError, PhotoError
from fmnist.evaluation.arrays import unpack_arrays
from fmnist.evaluation.metrics import FloatArray, log_softmax
from fmnist.evaluation.subject import Subject, Watch

Scores: TypeAlias = NDArray[np.float64]  # (n,)

SIDE = 28
DRAWN = 2000  # images in each of the sets that are always there
SEED = 0
BINS = 40  # of a histogram
FLAT = 1e-2  # energies that differ by less are those of probabilities, rounded ones too
LIMIT_BYTES = 2**30  # of a file of outliers: over a million images
PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")


@dataclass(frozen=True, eq=False)
class Outliers:
    """Images (n, 28, 28) uint8 of which none is of the ten classes."""

    name: str
    images: NDArray[np.uint8]


def measure_outliers(
    subject: Subject, clean: NDArray[np.float32], sets: Sequence[Outliers], watch: Watch
) -> dict[str, Any]:
    """Return how well each of SCORES tells the test images from each set of outliers.

    `clean` are the logits of the test images. Noise and shapes are always among the sets.
    """
    rows = []
    for outliers in (Outliers("noise", draw_noise()), Outliers("shapes", draw_shapes()), *sets):
        watch(f"outliers: {outliers.name}")
        rows.append(_measure_set(outliers.name, clean, subject.logits(outliers.images)))
    return {"inliers": len(clean), "sets": rows}


def _measure_set(name: str, clean: FloatArray, strange: FloatArray) -> dict[str, Any]:
    scores = {key: (of(clean), of(strange)) for key, of in SCORES.items()}
    return {
        "name": name,
        "images": len(strange),
        "scores": {key: _separation(key, *both) for key, both in scores.items()},
        "histogram": {key: _histogram(*both) for key, both in scores.items()},
    }


def _separation(name: str, clothes: Scores, others: Scores) -> dict[str, float] | None:
    """Return AUROC, AUPR and FPR at 95 % TPR; None for the energy of a model of probabilities.

    Their logarithms have the energy 0 whatever the image.
    """
    if name == "energy" and np.ptp(np.concatenate([clothes, others])) < FLAT:
        return None
    right, wrong = counts_by_threshold(clothes, others)
    return {
        "auroc": auroc(right, wrong),
        "aupr": average_precision(right, wrong),
        "fpr_at_95_tpr": false_positives_at(right, wrong, 0.95),
    }


def _histogram(clothes: Scores, others: Scores) -> dict[str, list[float]]:
    """Return the edges of BINS bins, and how many images of each kind are in each."""
    edges = np.histogram_bin_edges(np.concatenate([clothes, others]), BINS)
    return {
        "edges": edges.tolist(),
        "inliers": np.histogram(clothes, edges)[0].tolist(),
        "outliers": np.histogram(others, edges)[0].tolist(),
    }


def max_probability(logits: FloatArray) -> Scores:
    """Return the largest probability: D. Hendrycks & K. Gimpel, ICLR 2017, arXiv 1610.02136."""
    result: Scores = np.exp(log_softmax(logits).max(axis=1))
    return result


def energy(logits: FloatArray) -> Scores:
    """Return T log(sum(exp(logits / T))) at T = 1, the negative of an energy.

    W. Liu, X. Wang, J. Owens & Y. Li, NeurIPS 2020, arXiv 2010.03759, equation 4.
    """
    result: Scores = logits.max(axis=1).astype(np.float64) - log_softmax(logits).max(axis=1)
    return result


def negative_entropy(logits: FloatArray) -> Scores:
    """Return the sum of p ln p over classes, nats, -2.3..0."""
    log_probabilities = log_softmax(logits)
    result: Scores = (np.exp(log_probabilities) * log_probabilities).sum(axis=1)
    return result


SCORES: dict[str, Callable[[FloatArray], Scores]] = {
    "max_probability": max_probability,
    "energy": energy,
    "entropy": negative_entropy,
}


def counts_by_threshold(
    clothes: Scores, others: Scores
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return how many of each score at least as high as each score there is, highest first."""
    _, group = np.unique(-np.concatenate([clothes, others]), return_inverse=True)
    right = np.bincount(group[: len(clothes)], minlength=group.max() + 1)
    wrong = np.bincount(group[len(clothes) :], minlength=group.max() + 1)
    return right.cumsum(), wrong.cumsum()


def auroc(right: NDArray[np.int64], wrong: NDArray[np.int64]) -> float:
    """Return the area under the ROC curve: how likely clothes score higher, a tie being half."""
    heights = np.concatenate([[0], right]) / right[-1]
    return float(np.trapezoid(heights, np.concatenate([[0], wrong]) / wrong[-1]))


def average_precision(right: NDArray[np.int64], wrong: NDArray[np.int64]) -> float:
    """Return the area under precision and recall as steps: the mean precision at each image found.

    It depends on how many clothes there are for an outlier: chance alone gives their share.
    """
    gained = np.diff(right, prepend=0) / right[-1]
    return float((gained * right / (right + wrong)).sum())


def false_positives_at(right: NDArray[np.int64], wrong: NDArray[np.int64], share: float) -> float:
    """Return the share of outliers taken for clothes where `share` of the clothes are, at least."""
    enough = int(np.argmax(right >= share * right[-1]))
    return int(wrong[enough]) / int(wrong[-1])


def draw_noise() -> NDArray[np.uint8]:
    """Return DRAWN images of independent pixels, each any grey with the same chance."""
    chance = np.random.default_rng((SEED, 1))
    return chance.integers(0, 256, (DRAWN, SIDE, SIDE), dtype=np.uint8)


def draw_shapes() -> NDArray[np.uint8]:
    """Return DRAWN images of one grey ellipse, box, ring or cross each, turned, on black.

    They are not those that a recipe with `strangers` is trained on.
    """
    chance = np.random.default_rng((SEED, 2))
    middle, angle, half, grey, kind = (
        chance.uniform(10, 17, (2, DRAWN, 1, 1)),
        chance.uniform(0, np.pi, (DRAWN, 1, 1)),
        chance.uniform(4, 10, (2, DRAWN, 1, 1)),  # px
        chance.uniform(80, 255, (DRAWN, 1, 1)),
        chance.integers(0, 4, (DRAWN, 1, 1)),
    )
    rows, columns = np.indices((SIDE, SIDE))
    y, x = rows - middle[0], columns - middle[1]  # (n, 28, 28)
    across = (x * np.cos(angle) + y * np.sin(angle)) / half[0]
    along = (y * np.cos(angle) - x * np.sin(angle)) / half[1]
    radius = np.hypot(across, along)
    box = np.maximum(abs(across), abs(along)) < 1
    bars = box & (np.minimum(abs(across), abs(along)) < 0.35)
    inside = np.choose(kind, [radius < 1, box, (radius < 1) & (radius > 0.6), bars])
    return (inside * grey).astype(np.uint8)


def read_outliers(path: Path) -> Outliers:
    """Return the images of a .npz file with `x`, an IDX file (.gz or not) or a folder of pictures.

    Of a folder every picture in it and below counts; a grey one of 28x28 is taken as it is, others
    are prepared as `fmnist predict` does. Raises DataError where it cannot be used.
    """
    name = path.name.removesuffix(".gz")
    if path.is_dir():
        images = _read_pictures(path)
    elif path.suffix == ".npz":
        images = _read_npz(path)
    else:
        images = _read_idx(path)
    if images.dtype != np.uint8 or images.ndim != 3 or images.shape[1:] != (SIDE, SIDE):
        raise DataError(
            f"{path} must hold images (n, 28, 28) uint8, not {images.shape} {images.dtype}"
        )
    if not len(images):
        raise DataError(f"{path} holds no image")
    return Outliers(name, images)


def _read_npz(path: Path) -> NDArray[np.uint8]:
    try:
        with path.open("rb") as file:
            content = file.read(LIMIT_BYTES + 1)
        images: NDArray[np.uint8] = unpack_arrays(content, LIMIT_BYTES)["x"]
    except KeyError as error:
        raise DataError(f"{path} has no array x, which must be images (n, 28, 28) uint8") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    return images


def _read_idx(path: Path) -> NDArray[np.uint8]:
    try:
        return parse_idx(read_content(path, LIMIT_BYTES))
    except DataError as error:
        raise DataError(
            f"{path}: {error}; outliers are .npz with x, IDX files or folders of pictures"
        ) from error


def _read_pictures(folder: Path) -> NDArray[np.uint8]:
    from fmnist.photos import prepare

    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURES)
    if not paths:
        raise DataError(f"{folder} holds no picture ({', '.join(PICTURES)})")
    try:
        return np.stack([prepare(path).image for path in paths])
    except PhotoError as error:
        raise DataError(f"{error}; mend it, or take it out of {folder}") from error
