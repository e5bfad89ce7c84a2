from typing import Any

import numpy as np
import pytest

from fmnist.errors import ModelError
from fmnist.evaluation.bench.scores import check_scores, read_scores, to_logits
from fmnist.evaluation.metrics import log_softmax
from foreign import softmax

LOGITS = np.random.default_rng(0).normal(0, 3, (50, 10))


@pytest.mark.parametrize(
    ("answers", "kind"),
    [
        (LOGITS, "logits"),
        (log_softmax(LOGITS), "logits"),
        (softmax(LOGITS), "probabilities"),
        (softmax(LOGITS).astype(np.float16), "probabilities"),
        (1 / (1 + np.exp(-LOGITS)), "logits"),
        (LOGITS.argmax(axis=1), "classes"),
        (LOGITS.argmax(axis=1).astype(float)[:, None], "classes"),
        (np.eye(10)[LOGITS.argmax(axis=1)], "classes"),
    ],
)
def test_kinds_are_told_apart_and_keep_the_class(answers: Any, kind: str) -> None:
    read = read_scores(answers)
    assert read.kind == kind
    assert read.logits.shape == (50, 10)
    assert read.logits.dtype == np.float32
    assert (read.logits.argmax(axis=1) == LOGITS.argmax(axis=1)).all()


def test_a_softmax_gives_probabilities_back() -> None:
    shares = softmax(LOGITS)
    np.testing.assert_allclose(softmax(read_scores(shares).logits), shares, rtol=1e-5)
    sure = np.eye(10)[[3]] * (1 - 1e-9) + 1e-10
    assert np.isfinite(read_scores(sure).logits).all()
    zero = np.array([[0.0, 0.75, 0.25, *[0.0] * 7]])
    np.testing.assert_allclose(softmax(read_scores(zero).logits), zero, atol=1e-7)


def test_two_scores_that_float32_cannot_tell_apart_keep_their_order() -> None:
    close = np.full((1, 10), -1.0)
    close[0, 2], close[0, 7] = 1000.0, 1000.0 + 1e-9
    assert to_logits(close, "logits").argmax() == 7


def test_what_the_user_says_holds() -> None:
    shares = softmax(LOGITS)
    assert read_scores(shares, "logits").kind == "logits"
    np.testing.assert_allclose(read_scores(shares, "logits").logits, shares, rtol=1e-6)


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        (LOGITS[:, :9], r"shape \(50, 9\); they must be scores \(n, 10\)"),
        (LOGITS[None], r"shape \(1, 50, 10\)"),
        (np.where(LOGITS[7, 2] == LOGITS, np.nan, LOGITS), "1 of 500 .* in row 7;"),
        (LOGITS * 1e300, "are not finite"),
        (np.arange(1, 11), "run from 1 to 10; they must be 0..9: take away 1"),
        (np.array([3, 12]), "row 1 is class 12"),
        (np.array([3, -1]), "row 1 is class -1"),
        (np.array([3, 1.5]), "row 1 is 1.5, which is no class"),
        (np.array([3, np.nan]), "row 1 is nan"),
        (softmax(LOGITS) * 100, "percentages; divide them by 100"),
        (np.array(["Bag"] * 50), "must be numbers"),
        ([[1.0], [1.0, 2.0]], "no numpy array"),
    ],
)
def test_what_no_answer_is_says_why(answers: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        read_scores(answers)


def test_checked_scores_keep_what_they_say() -> None:
    np.testing.assert_array_equal(check_scores(LOGITS.astype(np.float32)), LOGITS.astype("f4"))


def test_what_is_said_to_be_probabilities_must_be() -> None:
    shares = softmax(LOGITS)
    assert read_scores(shares.astype(np.float16), "probabilities").kind == "probabilities"
    for wrong, message in (
        (LOGITS, "in -.*, so they are no probabilities, which lie in 0..1"),
        (1 / (1 + np.exp(-LOGITS)), "row 0 sums to .* no probabilities, which sum to 1"),
        (100 * shares, "no probabilities"),
    ):
        with pytest.raises(ModelError, match=message):
            read_scores(wrong, "probabilities")
        with pytest.raises(ModelError, match=message):  # where validation images passed
            to_logits(wrong, "probabilities")
