from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.special import softmax
from sklearn.metrics import brier_score_loss, log_loss

from fmnist.evaluation.calibration import (
    BINS,
    brier_score,
    calibration_error,
    fit_temperature,
    reliability,
)
from fmnist.evaluation.metrics import accuracy, cross_entropy

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.uint8]


def honest(n: int, seed: int) -> tuple[Floats, Labels]:
    """Logits (n, 10), and labels (n,) drawn from their very softmax (by the Gumbel trick)."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 2, (n, 10))
    labels = (logits + random.gumbel(size=(n, 10))).argmax(axis=1)
    return logits, labels.astype(np.uint8)


def constant(confidence: float, right: int, n: int) -> tuple[Floats, Labels]:
    """Class 0 with one confidence in all of n images, `right` of which are of it."""
    probabilities = np.full((n, 10), (1 - confidence) / 9)
    probabilities[:, 0] = confidence
    labels = np.where(np.arange(n) < right, 0, 1)
    return np.log(probabilities), labels.astype(np.uint8)


@st.composite
def answers(draw: st.DrawFn) -> tuple[Floats, Labels]:
    """Logits (n, 10) whose confidences are often equal, and labels (n,)."""
    n = draw(st.integers(1, 40))
    # Logits are float32: none is as near to 0 as the denormals of the float64 that these are in.
    numbers = st.integers(-3, 3).map(float) | st.floats(-30, 30, width=32, allow_subnormal=False)
    logits = draw(hnp.arrays(np.float64, (n, 10), elements=numbers, fill=st.just(0.0)))
    return logits, draw(hnp.arrays(np.uint8, n, elements=st.integers(0, 9)))


def test_an_honest_classifier_has_almost_no_calibration_error() -> None:
    assert calibration_error(*honest(100_000, seed=1)) < 0.006


@pytest.mark.parametrize("factor", [2.0, 0.5])
def test_a_dishonest_classifier_has_its_gap(factor: float) -> None:
    logits, labels = honest(100_000, seed=2)
    # Over- or under-confident everywhere, so the mean gap is the gap of the means.
    scaled = logits * factor
    exponentials = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    confidence = (1 / exponentials.sum(axis=1)).mean()
    gap = abs(confidence - accuracy(logits, labels))
    assert gap > 0.1
    assert calibration_error(scaled, labels) == pytest.approx(gap, abs=0.003)


@pytest.mark.parametrize(("right", "gap"), [(900, 0.0), (600, 0.3), (1000, 0.1), (0, 0.9)])
def test_images_of_one_confidence_are_judged_together(right: int, gap: float) -> None:
    logits, labels = constant(0.9, right, 1000)
    assert calibration_error(logits, labels) == pytest.approx(gap, abs=1e-12)


def test_calibration_error_is_the_mean_gap_of_the_bins() -> None:
    sure, doubtful = constant(0.95, 3, 4), constant(0.3, 1, 2)
    logits = np.concatenate([sure[0], doubtful[0]])
    labels = np.concatenate([sure[1], doubtful[1]])
    expected = (4 * (0.95 - 3 / 4) + 2 * (1 / 2 - 0.3)) / 6
    assert calibration_error(logits, labels, bins=3) == pytest.approx(expected, abs=1e-12)


@settings(deadline=None)
@given(answers())
def test_bins_have_equal_mass_rise_in_confidence_and_hold_every_image(
    answer: tuple[Floats, Labels],
) -> None:
    logits, labels = answer
    bins = reliability(logits, labels)
    sizes = [bin["images"] for bin in bins]
    confidences = [bin["confidence"] for bin in bins]
    assert len(bins) == min(BINS, len(labels))
    assert sum(sizes) == len(labels)
    assert max(sizes) - min(sizes) <= 1
    assert all(before <= after + 1e-12 for before, after in zip(confidences, confidences[1:]))  # noqa: B905, RUF007
    assert all(0.1 - 1e-12 <= confidence <= 1 + 1e-12 for confidence in confidences)
    right = sum(bin["images"] * bin["accuracy"] for bin in bins)
    assert right == pytest.approx(accuracy(logits, labels) * len(labels))


@settings(deadline=None)
@given(answers(), st.randoms(use_true_random=False))
def test_the_order_of_the_images_does_not_matter(
    answer: tuple[Floats, Labels], random: Any
) -> None:
    logits, labels = answer
    order = list(range(len(labels)))
    random.shuffle(order)
    shuffled = reliability(logits[order], labels[order])
    for ours, theirs in zip(reliability(logits, labels), shuffled, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-12)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 3.0])
def test_fit_temperature_finds_the_temperature_that_was_hidden(temperature: float) -> None:
    logits, labels = honest(20_000, seed=3)
    assert fit_temperature(logits * temperature, labels) == pytest.approx(temperature, rel=0.03)


def test_fit_temperature_mends_the_calibration_error() -> None:
    logits, labels = honest(20_000, seed=4)
    scaled = logits * 2.5
    mended = scaled / fit_temperature(scaled, labels)
    assert calibration_error(mended, labels) < 0.015 < 0.1 < calibration_error(scaled, labels)


@settings(deadline=None, max_examples=50)
@given(answers())
def test_fit_temperature_never_worsens_the_loss_and_no_other_is_better(
    answer: tuple[Floats, Labels],
) -> None:
    logits, labels = answer
    temperature = fit_temperature(logits, labels)
    assert 0.0099999 <= temperature <= 100.0001
    loss = cross_entropy(logits / temperature, labels)
    assert loss <= cross_entropy(logits, labels) + 1e-9
    for other in np.geomspace(0.011, 99, 15):
        assert loss <= cross_entropy(logits / other, labels) + 1e-9
    assert accuracy(logits / temperature, labels) == accuracy(logits, labels)


@pytest.mark.parametrize(("right", "bound"), [(4, 0.01), (0, 100.0)])
def test_temperature_stays_in_its_range_where_the_best_is_infinite(
    right: int, bound: float
) -> None:
    assert fit_temperature(*constant(0.9, right, 4)) == pytest.approx(bound)


@settings(deadline=None)
@given(answers())
def test_brier_score_and_loss_are_scikit_learns(answer: tuple[Floats, Labels]) -> None:
    logits, labels = answer
    probabilities = softmax(logits, axis=1)
    classes = list(range(10))
    expected = brier_score_loss(labels, probabilities, labels=classes, scale_by_half=False)
    assert brier_score(logits, labels) == pytest.approx(expected, abs=1e-9)
    # scikit-learn clips probabilities, so extreme logits are left to `cross_entropy`'s own tests.
    mild = logits / 3
    expected = log_loss(labels, softmax(mild, axis=1), labels=classes)
    assert cross_entropy(mild, labels) == pytest.approx(expected, abs=1e-9)


def test_brier_score_lies_between_a_right_and_a_wrong_certainty() -> None:
    certain = np.eye(10)[[3, 3]] * 1000
    assert brier_score(certain, np.array([3, 3])) == 0
    assert brier_score(certain, np.array([4, 3])) == 1
    assert brier_score(np.zeros((1, 10)), np.array([0])) == pytest.approx(0.9)
