"""Labels that are probably wrong, by confident learning.

C. Northcutt, L. Jiang & I. Chuang, "Confident learning: estimating uncertainty in dataset labels",
Journal of Artificial Intelligence Research 70 (2021), arXiv 1911.00068; cleanlab is its authors'
own code, and its defaults are used.
"""

from typing import Any, NamedTuple

import numpy as np
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores
from numpy.typing import NDArray


class Suspects(NamedTuple):
    """What confident learning says of the labels of n images."""

    scores: NDArray[np.float64]  # (n,), 0..1: one less the probability of the label that is given
    flagged: NDArray[np.bool_]  # (n,): among as many as are estimated to be wrong
    suggested: NDArray[np.int64]  # (n,): the likeliest class

    def ranked(self) -> NDArray[np.int64]:
        """Return the indices of the flagged, the most suspicious first."""
        flagged = np.flatnonzero(self.flagged)
        return flagged[np.argsort(-self.scores[flagged], kind="stable")]

    def ranks(self) -> NDArray[np.int64]:
        """Return the place of each image (n,) by its score, from 1: the most suspicious."""
        order = np.argsort(-self.scores, kind="stable")
        places = np.empty(len(order), np.int64)
        places[order] = np.arange(1, len(order) + 1)
        return places


def find_suspects(labels: NDArray[np.integer[Any]], probabilities: NDArray[np.float64]) -> Suspects:
    """Judge labels (n,) by probabilities (n, 10) of networks that did not learn from them."""
    given = labels.astype(np.int64)
    return Suspects(
        1 - get_label_quality_scores(given, probabilities),
        find_label_issues(given, probabilities, n_jobs=1),
        probabilities.argmax(axis=1),
    )
