"""Intervals and tests: against scipy, against counting by hand, and by simulation."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fmnist.evaluation.comparison.intervals import (
    describe,
    holm,
    mcnemar,
    paired_bootstrap,
    paired_interval,
    spans,
    welch,
)

values = st.lists(st.floats(0, 1), min_size=2, max_size=12).filter(lambda v: np.std(v) > 1e-6)


@settings(max_examples=50, deadline=None)
@given(values)
def test_a_mean_and_its_interval_are_scipys(sample: list[float]) -> None:
    said = describe(sample)
    test = stats.ttest_1samp(sample, 0.0)
    low, high = test.confidence_interval(0.95)
    assert said["mean"] == pytest.approx(np.mean(sample), abs=1e-9)
    assert said["sd"] == pytest.approx(np.std(sample, ddof=1), abs=1e-9)
    assert said["interval"] == pytest.approx([max(low, 0), min(high, 1)], abs=1e-9)
    unbounded = describe(sample, (-math.inf, math.inf))
    assert unbounded["interval"] == pytest.approx([low, high], abs=1e-9)
    assert (said["n"], said["least"], said["most"]) == (len(sample), min(sample), max(sample))


def test_no_interval_holds_what_cannot_be() -> None:
    assert describe([0.5, 0.99])["interval"] == [0.0, 1.0]  # Student's: -2.37 to 3.86
    low, high = describe([0.5, 0.99], (0.0, math.inf))["interval"]
    assert (low, high) == (0.0, pytest.approx(3.858, abs=1e-3))


def test_one_value_has_no_spread() -> None:
    said = describe([0.9])
    assert (said["mean"], said["sd"], said["n"], said["interval"]) == (0.9, None, 1, None)
    assert describe([0.9, 0.9])["interval"] == [0.9, 0.9]


@settings(max_examples=50, deadline=None)
@given(values, values)
def test_welch_is_scipys(first: list[float], second: list[float]) -> None:
    said, theirs = welch(first, second), stats.ttest_ind(first, second, equal_var=False)
    assert said.difference == pytest.approx(np.mean(first) - np.mean(second), abs=1e-9)
    assert said.interval == pytest.approx(tuple(theirs.confidence_interval(0.95)), abs=1e-9)
    assert said.p == pytest.approx(theirs.pvalue, abs=1e-9)


@pytest.mark.parametrize(
    ("first", "second"), [([0.9], [0.8, 0.81]), ([0.9, 0.9], [0.8, 0.8]), ([0.9], [0.8])]
)
def test_without_a_spread_welch_says_nothing(first: list[float], second: list[float]) -> None:
    said = welch(first, second)
    assert said.difference == pytest.approx(0.1, abs=0.01)
    assert (said.interval, said.p) == (None, None)


def test_mcnemar_counts_the_coins_that_fall_as_far_apart() -> None:
    for first, second in itertools.product(range(9), range(9)):
        n = first + second
        fewer = min(first, second)
        tail = sum(math.comb(n, k) for k in range(fewer + 1)) / 2**n
        assert mcnemar(first, second) == pytest.approx(min(1.0, 2 * tail), abs=1e-9)
    assert mcnemar(337, 266) == pytest.approx(stats.binomtest(337, 603).pvalue, abs=1e-12)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([0.02]) == [0.02]
    assert holm([]) == []


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_rejects_what_its_steps_reject(p_values: list[float]) -> None:
    adjusted, left = holm(p_values), len(p_values)
    for place in sorted(range(left), key=lambda i: p_values[i]):
        if p_values[place] * left >= 0.05:
            break
        assert adjusted[place] < 0.05
        left -= 1
    assert sum(p < 0.05 for p in adjusted) == len(p_values) - left


def test_a_paired_interval_by_hand() -> None:
    # 337 and 266 of 10,000: b = 338 / 10002, c = 267 / 10002.
    b, c = 338 / 10002, 267 / 10002
    half = stats.norm.ppf(0.975) * math.sqrt((b + c - (b - c) ** 2) / 10002)
    assert paired_interval(337, 266, 10000) == pytest.approx(
        (b - c - half, b - c + half), abs=1e-12
    )
    low, high = paired_interval(0, 0, 100)
    assert low == -high < 0  # nothing differs, which is no proof that nothing would
    assert paired_interval(3, 0, 3)[1] == 1.0


def test_the_bootstrap_is_that_of_resampled_images() -> None:
    rng = np.random.default_rng(1)
    images = np.repeat([1, -1, 0], [40, 25, 435])
    means = [rng.choice(images, images.size).mean() for _ in range(20_000)]
    expected = np.percentile(means, [2.5, 97.5])
    assert paired_bootstrap(40, 25, 500) == pytest.approx(tuple(expected), abs=0.0021)
    assert paired_bootstrap(40, 25, 500) == paired_bootstrap(40, 25, 500)
    assert paired_bootstrap(337, 266, 10000) == pytest.approx(
        paired_interval(337, 266, 10000), abs=2e-4
    )


@pytest.mark.parametrize(("first", "second"), [(0.03, 0.02), (0.005, 0.005), (0.04, 0.01)])
def test_the_paired_interval_holds_the_truth_95_times_in_100(first: float, second: float) -> None:
    rng, n, rounds = np.random.default_rng(2), 1000, 4000
    counts = rng.multinomial(n, [first, second, 1 - first - second], size=rounds)
    bounds = [paired_interval(int(b), int(c), n) for b, c, _ in counts]
    held = np.mean([low <= first - second <= high for low, high in bounds])
    assert 0.94 <= held <= 0.98


def test_welch_holds_the_truth_95_times_in_100() -> None:
    rng, rounds = np.random.default_rng(3), 4000
    first = rng.normal(0.943, 0.0005, size=(rounds, 5))
    second = rng.normal(0.929, 0.0013, size=(rounds, 8))
    found = [welch(list(a), list(b)).interval for a, b in zip(first, second, strict=True)]
    held = np.mean([bounds is not None and bounds[0] <= 0.014 <= bounds[1] for bounds in found])
    assert 0.94 <= held <= 0.96


def test_mcnemar_errs_less_than_five_times_in_100() -> None:
    rng = np.random.default_rng(4)
    differing = rng.binomial(600, 0.5, size=4000)
    wrong = np.mean([mcnemar(int(b), 600 - int(b)) < 0.05 for b in differing])
    assert 0.03 <= wrong <= 0.05


def test_spans_are_of_what_every_run_was_timed_for() -> None:
    said = spans([{"train": 3.0, "total": 4.0}, {"train": 1.0}, {"train": 2.0, "other": 9.0}])
    assert said == {"train": {"median": 2.0, "least": 1.0, "most": 3.0}}
    assert spans([]) == {}
