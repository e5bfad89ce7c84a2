"""What a classifier is worth that may decline the images it is least sure of."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist.evaluation.metrics import FloatArray, LabelArray, log_softmax

COVERAGES = (0.90, 0.95)  # shares of the images that are answered
POINTS = 101  # of the curve, at most


def measure_selective(logits: FloatArray, labels: LabelArray) -> dict[str, Any]:
    """Return AURC, points (coverage, risk) of the curve, and the accuracy at COVERAGES.

    An image's confidence is its largest probability.
    """
    risks = risk_by_coverage(log_softmax(logits).max(axis=1), logits.argmax(axis=1) == labels)
    n = len(risks)
    # The first of the points is the single surest image, the last all of them.
    answered = np.unique(np.linspace(1, n, min(n, POINTS)).round().astype(np.int64))
    return {
        "aurc": float(risks.sum()) / n,
        "coverage": [[int(k) / n, float(risks[k - 1])] for k in answered],
        "accuracy_at": {
            f"{share:.2f}": 1 - float(risks[answered_at(share, n) - 1]) for share in COVERAGES
        },
    }


def risk_by_coverage(
    confidence: NDArray[np.float64], right: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return the share of wrong answers among the k surest, for k = 1..n: (n,).

    The curve of R. El-Yaniv & Y. Wiener, JMLR 11 (2010); its mean is the AURC of Y. Geifman, G.
    Uziel & R. El-Yaniv, ICLR 2019, arXiv 1805.08206, section 3. Of images of one confidence none
    comes first: each counts as wrong as they are on average.
    """
    _, group, sizes = np.unique(-confidence, return_inverse=True, return_counts=True)
    wrong = np.bincount(group, weights=~right) / sizes  # of each confidence, the surest first
    errors = np.cumsum(np.repeat(wrong, sizes))
    return errors / np.arange(1, len(errors) + 1)


def answered_at(coverage: float, n: int) -> int:
    """Return how many of n images must be answered for a share `coverage` of them, at least."""
    return max(1, math.ceil(round(coverage * n, 9)))  # 0.95 * 20 is a little over 19 in binary
