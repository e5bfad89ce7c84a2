"""Is a probability of 0.9 right nine times in ten? Calibration error and temperature."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist.evaluation.metrics import FloatArray, LabelArray, log_softmax

BINS = 15


def reliability(logits: FloatArray, labels: LabelArray, bins: int = BINS) -> list[dict[str, Any]]:
    """Return bins of equal mass by confidence: mean confidence, accuracy and images of each.

    Equal mass, since a good classifier puts nearly all images into the top bin of an equal-width
    cut (Nguyen & O'Connor, EMNLP 2015, arXiv 1508.05154, section 4.2).
    """
    confidence = np.exp(log_softmax(logits).max(axis=1))
    right = logits.argmax(axis=1) == labels
    # Images of one confidence share their accuracy: a cut between them must not tell them apart.
    _, group, sizes = np.unique(confidence, return_inverse=True, return_counts=True)
    shared = (np.bincount(group, weights=right) / sizes)[group]
    order = np.argsort(confidence)
    return [
        {
            "confidence": float(confidence[members].sum() / len(members)),
            "accuracy": float(shared[members].sum() / len(members)),
            "images": len(members),
        }
        for members in np.array_split(order, bins)
        if len(members)
    ]


def calibration_error(logits: FloatArray, labels: LabelArray, bins: int = BINS) -> float:
    """Return the expected calibration error, 0..1: mean |confidence - accuracy| over images.

    Guo, Pleiss, Sun & Weinberger, ICML 2017, arXiv 1706.04599, equation 3, on equal-mass bins.
    """
    groups = reliability(logits, labels, bins)
    gaps = (group["images"] * abs(group["confidence"] - group["accuracy"]) for group in groups)
    return float(sum(gaps)) / len(labels)


def brier_score(logits: FloatArray, labels: LabelArray) -> float:
    """Return the mean over images of the sum over classes of (probability - 1 or 0) squared, 0..2.

    G. W. Brier, "Verification of forecasts expressed in terms of probability", Monthly Weather
    Review 78 (1950), equation 2.
    """
    errors = np.exp(log_softmax(logits))
    errors[np.arange(len(labels)), labels] -= 1
    return float((errors**2).sum()) / len(labels)


def fit_temperature(logits: FloatArray, labels: LabelArray) -> float:
    """Return the T > 0 for which logits / T have the least cross-entropy (arXiv 1706.04599, 4.2).

    In beta = 1 / T the loss is convex, with slope mean(E_p[logit] - logit of the true class), so
    halving an interval of ln(beta) finds its zero. T lies in 0.01 .. 100.
    """
    scores = logits.astype(np.float64)
    true = scores[np.arange(len(labels)), labels]
    low, high = np.log(0.01), np.log(100.0)
    for _ in range(60):
        middle = (low + high) / 2
        if _slope(scores, true, np.exp(middle)) > 0:
            high = middle
        else:
            low = middle
    return float(np.exp(-(low + high) / 2))


def _slope(scores: NDArray[np.float64], true: NDArray[np.float64], beta: float) -> float:
    probabilities = np.exp(log_softmax(scores * beta))
    expected = (probabilities * scores).sum(axis=1)
    return float((expected - true).sum() / len(true))
