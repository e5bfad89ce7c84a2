"""The occlusion map says what a classifier rests on, where that is known."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from exported import TOLD
from fmnist.classifier import load_classifier
from fmnist.classifier.classifier import Classifier
from fmnist.classifier.explain import PATCH, occlusion_map
from fmnist.errors import ModelError

NECK = (slice(4, 8), slice(11, 17))


def scale(weights: NDArray[np.float64], seen: list[int] | None = None) -> Classifier:
    """A classifier whose logit of class 3 is the sum of weights times pixels, all others 0."""

    def ask(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        if seen is not None:
            seen.append(len(images))
        logits = np.zeros((len(images), 10), np.float32)
        logits[:, 3] = (images * weights).sum(axis=(1, 2))
        return logits

    return Classifier(ask, TOLD)


def test_what_a_patch_adds_to_the_log_odds_is_the_heat() -> None:
    """On even grey the patch's own mean changes nothing, so the two covers average to a half."""
    heat = occlusion_map(scale(np.full((28, 28), 0.5)), np.full((28, 28), 200, np.uint8), 3)
    assert heat.shape == (28, 28)
    assert heat.dtype == np.float32
    patch = PATCH * PATCH * 200 * 0.5 / TOLD["temperature"]
    # The probability is 1 as float64 has it, before and after covering: log-odds still tell.
    np.testing.assert_allclose(heat[PATCH:-PATCH, PATCH:-PATCH], patch / 2, rtol=1e-4)


def test_only_what_counts_is_warm() -> None:
    weights = np.zeros((28, 28))
    weights[NECK] = 0.01
    image = np.random.default_rng(0).integers(1, 255, (28, 28), dtype=np.uint8)
    heat = occlusion_map(scale(weights), image, 3)
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    assert 4 <= row < 8
    assert 11 <= column < 17
    assert (heat[NECK] > 0).all()
    assert (heat[8 + PATCH :] == 0).all()


def test_what_speaks_against_a_class_is_below_nought() -> None:
    weights = np.zeros((28, 28))
    weights[NECK] = 0.01
    image = np.full((28, 28), 90, np.uint8)
    assert (occlusion_map(scale(-weights), image, 3)[NECK] < 0).all()
    assert (occlusion_map(scale(weights), image, 7)[NECK] < 0).all()


def test_gaps_count_although_background_covers_background() -> None:
    """Between the legs of trousers there is nothing to take away, only something to fill in."""
    weights = np.zeros((28, 28))
    weights[14:, 13:15] = -0.01
    image = np.zeros((28, 28), np.uint8)
    image[4:, 8:20] = 150
    image[14:, 13:15] = 0
    assert occlusion_map(scale(weights), image, 3)[16:26, 13:15].min() > 0.1


def test_a_mirrored_image_has_the_mirrored_map() -> None:
    image = np.random.default_rng(0).integers(0, 255, (28, 28), dtype=np.uint8)
    judge = scale(np.full((28, 28), 0.01))
    ours, mirrored = (occlusion_map(judge, each, 3) for each in (image, image[::-1, ::-1]))
    np.testing.assert_allclose(mirrored[::-1, ::-1], ours, rtol=1e-4)


def test_covering_what_is_covered_is_not_asked_about() -> None:
    seen: list[int] = []
    heat = occlusion_map(scale(np.ones((28, 28)), seen), np.zeros((28, 28), np.uint8), 3)
    assert seen == [1]
    assert (heat == 0).all()


def test_a_networks_answer_falls_with_what_it_rests_on(
    file: Path, images: NDArray[np.uint8], labels: NDArray[np.uint8]
) -> None:
    """Without the warmest fifth an image loses its class much sooner than without the coldest."""
    classifier = load_classifier(file)
    right = np.flatnonzero(classifier.classes(images) == labels)[:30]
    assert len(right) == 30
    warm, cold = images[right].copy(), images[right].copy()
    for at, i in enumerate(right):
        order = np.argsort(occlusion_map(classifier, images[i], int(labels[i])).ravel())
        cold[at].ravel()[order[: 784 // 5]] = 0
        warm[at].ravel()[order[-784 // 5 :]] = 0
    kept_warm = (classifier.classes(warm) == labels[right]).mean()
    kept_cold = (classifier.classes(cold) == labels[right]).mean()
    assert kept_warm < 0.4 < 0.8 < kept_cold


def test_several_images_at_once_are_refused() -> None:
    with pytest.raises(ModelError, match=r"must be \(28, 28\) uint8, not \(2, 28, 28\)"):
        occlusion_map(scale(np.ones((28, 28))), np.zeros((2, 28, 28), np.uint8), 3)
