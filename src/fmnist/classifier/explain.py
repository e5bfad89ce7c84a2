"""Which parts of an image an answer rests on, by covering them one after the other."""

import numpy as np
from numpy.typing import NDArray

from fmnist.classifier.classifier import Classifier
from fmnist.errors import ModelError

# Pixels. Smaller steps tell no more and take longer (docs/log.md).
PATCH, STEP = 6, 3


def occlusion_map(
    classifier: Classifier, image: NDArray[np.uint8], class_index: int
) -> NDArray[np.float32]:
    """Return (28, 28) float32: how much each place of `image` (28, 28) speaks for a class.

    The unit is what covering lowers the log-odds log(p / (1 - p)) of the class by, natural
    logarithm: positive where the image supports the class, negative where it speaks against it, 0
    where covering changes nothing. A pixel has the mean over all patches that cover it. A patch is
    covered once with background (0), which asks what is there, and once with its own mean grey,
    which asks for its outlines and texture; the two are averaged. Log-odds, because those do not
    saturate where a network is sure. Raises ModelError for an image of another shape or type.

    Source: Zeiler and Fergus, arXiv 1311.2901, section 4.2, which covers with grey.
    """
    if image.shape != (28, 28):
        raise ModelError(f"an image to explain must be (28, 28) uint8, not {image.shape}")
    drops = np.zeros((2, len(_PATCHES)))
    covered = np.stack([_with_background(image), _with_own_mean(image)])
    changed = (covered != image).any(axis=(2, 3))  # the others need not be asked about
    odds = _log_odds(classifier, np.concatenate([image[None], covered[changed]]), class_index)
    drops[changed] = odds[0] - odds[1:]
    total = np.tensordot(drops.mean(axis=0), _PATCHES, axes=1)
    heat: NDArray[np.float32] = (total / _PATCHES.sum(axis=0)).astype(np.float32)
    return heat


def _patches() -> NDArray[np.bool_]:
    """Return the places (p, 28, 28) that are covered.

    They go over the edges, so that every pixel is covered as often, and start so that a mirrored
    image has the mirrored map.
    """
    starts, at = np.arange(2 - PATCH, 28, STEP)[:, None], np.arange(28)
    lines = (at >= starts) & (at < starts + PATCH)
    patches: NDArray[np.bool_] = lines[:, None, :, None] & lines[None, :, None, :]
    return patches.reshape(-1, 28, 28)


_PATCHES = _patches()


def _with_background(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the image (p, 28, 28) with each patch in turn made background."""
    return np.where(_PATCHES, np.uint8(0), image)


def _with_own_mean(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the image (p, 28, 28) with each patch in turn made the mean of its pixels."""
    sums = np.where(_PATCHES, image, 0).sum(axis=(1, 2), keepdims=True)
    means = np.rint(sums / _PATCHES.sum(axis=(1, 2), keepdims=True)).astype(np.uint8)
    return np.where(_PATCHES, means, image)


def _log_odds(
    classifier: Classifier, images: NDArray[np.uint8], class_index: int
) -> NDArray[np.float64]:
    """Return log(p / (1 - p)) of a class for each image (n,), from logits so as not to round."""
    logits = classifier.logits(images).astype(np.float64) / classifier.temperature
    others = np.delete(logits, class_index, axis=1)
    odds: NDArray[np.float64] = logits[:, class_index] - np.logaddexp.reduce(others, axis=1)
    return odds
