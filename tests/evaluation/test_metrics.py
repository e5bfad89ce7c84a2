from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn import metrics as sk

from fmnist.data import CLASS_NAMES
from fmnist.evaluation.metrics import (
    accuracy,
    confusion_matrix,
    cross_entropy,
    log_softmax,
    most_confused,
    precision_recall_f1,
    score,
    top_k_accuracy,
    wilson_interval,
)

Logits = npt.NDArray[np.float32]
Labels = npt.NDArray[np.uint8]
CLASSES = list(range(10))
EXACT = 1e-9
HUGE = 2.0**126


@st.composite
def answers(draw: st.DrawFn, largest: float = 12.0) -> tuple[Logits, Labels]:
    """Logits (n, 10) with many ties and labels (n,) that leave most classes empty."""
    n = draw(st.integers(1, 12))
    numbers = st.sampled_from([-1.0, 0.0, 0.5, 1.0]) | st.floats(-largest, largest, width=32)
    logits = draw(hnp.arrays(np.float32, (n, 10), elements=numbers, fill=st.just(0.0)))
    labels = draw(hnp.arrays(np.uint8, n, elements=st.integers(0, 9)))
    return logits, labels


@settings(deadline=None)
@given(answers(largest=HUGE))
def test_accuracy_and_confusions_are_scikit_learns(answer: tuple[Logits, Labels]) -> None:
    logits, labels = answer
    predicted = logits.argmax(axis=1)
    expected = sk.confusion_matrix(labels, predicted, labels=CLASSES)
    assert accuracy(logits, labels) == pytest.approx(
        sk.accuracy_score(labels, predicted), abs=EXACT
    )
    assert confusion_matrix(predicted, labels).tolist() == expected.tolist()


@settings(deadline=None)
@given(answers())
def test_cross_entropy_is_scikit_learns_log_loss(answer: tuple[Logits, Labels]) -> None:
    logits, labels = answer
    exponentials = np.exp(logits.astype(np.float64))
    probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
    expected = sk.log_loss(labels, probabilities, labels=CLASSES)
    assert cross_entropy(logits, labels) == pytest.approx(expected, abs=EXACT)


@settings(deadline=None)
@given(answers(largest=HUGE))
def test_precision_recall_and_f1_are_scikit_learns(answer: tuple[Logits, Labels]) -> None:
    logits, labels = answer
    predicted = logits.argmax(axis=1)
    ours = precision_recall_f1(confusion_matrix(predicted, labels))
    theirs = sk.precision_recall_fscore_support(labels, predicted, labels=CLASSES, zero_division=0)
    np.testing.assert_allclose(ours, theirs[:3], atol=EXACT)


@settings(deadline=None)
@given(answers(largest=HUGE), st.integers(1, 9))
def test_top_k_accuracy_is_scikit_learns(answer: tuple[Logits, Labels], k: int) -> None:
    logits, labels = answer
    # Of equal logits scikit-learn puts the highest class first, and argmax and we the lowest.
    expected = sk.top_k_accuracy_score(9 - labels, logits[:, ::-1], k=k, labels=CLASSES)
    assert top_k_accuracy(logits, labels, k) == pytest.approx(expected, abs=EXACT)
    assert top_k_accuracy(logits, labels, 1) == accuracy(logits, labels)
    assert top_k_accuracy(logits, labels, 10) == 1


@settings(deadline=None)
@given(answers(largest=HUGE))
def test_log_softmax_of_huge_logits_is_finite_and_sums_to_one(
    answer: tuple[Logits, Labels],
) -> None:
    logits, _ = answer
    result = log_softmax(logits)
    assert np.isfinite(result).all()
    np.testing.assert_allclose(np.exp(result).sum(axis=1), 1, atol=EXACT)


def test_cross_entropy_of_a_sure_and_wrong_answer_is_the_gap_of_its_logits() -> None:
    logits = np.zeros((1, 10), np.float32)
    logits[0, 3] = 1e30
    assert cross_entropy(logits, np.array([3], np.uint8)) == 0
    assert cross_entropy(logits, np.array([4], np.uint8)) == pytest.approx(1e30)


@settings(deadline=None)
@given(answers(largest=HUGE))
def test_score_is_made_of_the_same_numbers(answer: tuple[Logits, Labels]) -> None:
    logits, labels = answer
    told = score(logits, labels, CLASS_NAMES)
    predicted = logits.argmax(axis=1)
    macro = sk.precision_recall_fscore_support(
        labels, predicted, labels=CLASSES, average="macro", zero_division=0
    )
    assert told["images"] == len(labels)
    assert told["accuracy"] == accuracy(logits, labels)
    low, high = told["accuracy_interval"]
    assert 0 <= low <= told["accuracy"] + EXACT
    assert told["accuracy"] - EXACT <= high <= 1
    assert told["loss"] == cross_entropy(logits, labels)
    assert told["top2_accuracy"] == top_k_accuracy(logits, labels, 2)
    assert list(told["macro"].values()) == pytest.approx(macro[:3], abs=EXACT)
    assert [c["name"] for c in told["classes"]] == list(CLASS_NAMES)
    assert [c["images"] for c in told["classes"]] == np.bincount(labels, minlength=10).tolist()
    assert np.array(told["confusion"]).sum() == len(labels)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        # R. G. Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
        # By hand: (9432 + 1.9207) / 10003.8415 -+ 0.0045377.
        (9432, 10_000, 0.93849, 0.94757),
        (20, 20, 0.8389, 1.0000),
    ],
)
def test_wilson_interval_is_that_of_the_literature(
    successes: int, n: int, low: float, high: float
) -> None:
    assert wilson_interval(successes, n) == pytest.approx((low, high), abs=5.1e-5)


@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(1, n - 1 or 1), st.just(n))))
def test_wilson_bounds_lie_z_standard_errors_from_the_share(counts: tuple[int, int]) -> None:
    successes, n = counts
    share = successes / n
    for bound in wilson_interval(successes, n, z=2.0):
        squared_errors = (share - bound) ** 2
        assert squared_errors == pytest.approx(4.0 * bound * (1 - bound) / n, abs=1e-12)


@pytest.mark.parametrize("share", [0.5, 0.9, 0.943])
def test_wilson_interval_covers_the_true_share_nineteen_times_in_twenty(share: float) -> None:
    n, repeats = 1000, 20_000
    drawn, times = np.unique(
        np.random.default_rng(5).binomial(n, share, repeats), return_counts=True
    )
    bounds = [wilson_interval(int(successes), n) for successes in drawn]
    covered = [low <= share <= high for low, high in bounds]
    assert float(times[covered].sum() / repeats) == pytest.approx(0.95, abs=0.01)


def test_most_confused_pairs_come_most_first_and_ties_in_class_order() -> None:
    confusion = np.array([[9, 1, 5], [5, 9, 0], [7, 1, 9]], np.int64)
    assert most_confused(confusion, ["coat", "dress", "bag"], 4) == [
        {"true": "bag", "predicted": "coat", "images": 7},
        {"true": "coat", "predicted": "bag", "images": 5},
        {"true": "dress", "predicted": "coat", "images": 5},
        {"true": "coat", "predicted": "dress", "images": 1},
    ]


@settings(deadline=None)
@given(hnp.arrays(np.int64, (10, 10), elements=st.integers(0, 3)))
def test_most_confused_holds_only_mistakes_and_at_most_ten(confusion: npt.NDArray[Any]) -> None:
    pairs = most_confused(confusion, CLASS_NAMES)
    mistakes = confusion - np.diag(np.diag(confusion))
    counts = [pair["images"] for pair in pairs]
    assert counts == sorted(mistakes[mistakes > 0].tolist(), reverse=True)[:10]
    assert all(pair["true"] != pair["predicted"] for pair in pairs)
