import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.metrics import auc

from fmnist.evaluation.metrics import accuracy
from fmnist.evaluation.selective import answered_at, measure_selective, risk_by_coverage


def answers(n: int, seed: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
    """Logits (n, 10) of which the larger are more often right, and labels (n,)."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 10, n).astype(np.uint8)
    logits = random.normal(size=(n, 10)).astype(np.float32)
    logits[np.arange(n), labels] += random.exponential(2, n)
    return logits, labels


def brute_force(logits: Any, labels: Any) -> list[float]:
    """The share of wrong answers among the k surest, k = 1..n, image after image."""
    exponentials = np.exp(logits.astype(np.float64))
    confidence = (exponentials / exponentials.sum(axis=1, keepdims=True)).max(axis=1)
    wrong, risks = 0, []
    for k, image in enumerate(sorted(range(len(labels)), key=lambda i: -confidence[i]), start=1):
        wrong += int(logits[image].argmax() != labels[image])
        risks.append(wrong / k)
    return risks


def test_risk_and_aurc_are_those_of_a_walk_from_the_surest_image_on() -> None:
    logits, labels = answers(1234, seed=1)
    risks = brute_force(logits, labels)
    told = measure_selective(logits, labels)
    assert told["aurc"] == pytest.approx(sum(risks) / len(risks), abs=1e-9)
    assert len(told["coverage"]) == 101
    for coverage, risk in told["coverage"]:
        assert risk == pytest.approx(risks[round(coverage * 1234) - 1], abs=1e-9)
    assert told["coverage"][0][0] == 1 / 1234
    assert told["coverage"][-1] == [1, pytest.approx(1 - accuracy(logits, labels), abs=1e-12)]
    for share in (0.90, 0.95):
        expected = 1 - risks[math.ceil(share * 1234) - 1]
        assert told["accuracy_at"][f"{share:.2f}"] == pytest.approx(expected, abs=1e-9)
    assert told["accuracy_at"]["0.90"] > told["accuracy_at"]["0.95"] > accuracy(logits, labels)


def test_aurc_is_about_the_area_that_scikit_learn_finds_under_the_points() -> None:
    logits, labels = answers(5000, seed=2)
    told = measure_selective(logits, labels)
    area = auc(*np.array(told["coverage"]).T)
    assert told["aurc"] == pytest.approx(area, abs=0.002)


def test_of_equally_sure_images_none_comes_first() -> None:
    confidence = np.array([0.9, 0.5, 0.5, 0.5, 0.5])
    for right in ([1, 1, 0, 0, 1], [1, 0, 1, 1, 0], [1, 0, 0, 1, 1]):
        risks = risk_by_coverage(confidence, np.array(right, bool))
        assert risks == pytest.approx([0, 0.5 / 2, 1 / 3, 1.5 / 4, 2 / 5])


@pytest.mark.parametrize(
    ("share", "n", "k"), [(0.9, 10, 9), (0.95, 20, 19), (0.95, 21, 20), (0.9, 1, 1)]
)
def test_a_coverage_is_reached_by_as_few_images_as_can_be(share: float, n: int, k: int) -> None:
    assert answered_at(share, n) == k


def test_few_images_have_a_point_each() -> None:
    logits, labels = answers(3, seed=3)
    assert [coverage for coverage, _ in measure_selective(logits, labels)["coverage"]] == [
        1 / 3,
        2 / 3,
        1,
    ]
