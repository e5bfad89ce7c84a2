"""How far chance goes: over the seeds of a training, and over images that two models share.

All intervals are of 95 % confidence, all tests two-sided; shares are 0..1. The distributions are
those of scipy.special, which takes a fraction of the time of scipy.stats to import.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

CONFIDENCE = 0.95
Z = 1.959963984540054  # the standard normal's 97.5 % point
SPANS = ("train", "to_predictions", "total")  # of the seconds in run.json
SHARE = (0.0, 1.0)  # what an accuracy can be
RESAMPLES = 100_000  # bounds of a bootstrap then move by a hundredth of its width at most


class Welch(NamedTuple):
    """Mean of the first less mean of the second, where each has a variance of its own.

    Without two values each, or where nothing varies, there is no interval and no p.
    """

    difference: float
    interval: tuple[float, float] | None
    p: float | None


def describe(values: Sequence[float], possible: tuple[float, float] = SHARE) -> dict[str, Any]:
    """Return mean, standard deviation (n - 1), n, interval of the mean, least and most.

    Of one value there is no deviation and no interval, which is that of `mean_interval`.
    """
    n, mean = len(values), math.fsum(values) / len(values)
    sd = None if n == 1 else _deviation(values, mean)
    interval = None if sd is None else mean_interval(mean, sd, n, possible)
    return {
        "mean": mean,
        "sd": sd,
        "n": n,
        "interval": None if interval is None else list(interval),
        "least": min(values),
        "most": max(values),
    }


def mean_interval(
    mean: float, sd: float, n: int, possible: tuple[float, float] = SHARE
) -> tuple[float, float]:
    """Return Student's interval of the mean of n values, which takes them for normal draws.

    It knows no bounds, so where few values spread far it reaches beyond what is `possible`, and is
    cut there.
    """
    low, high = _around(mean, sd / math.sqrt(n), n - 1)
    return max(low, possible[0]), min(high, possible[1])


def spans(seconds: Sequence[Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Return median, least and most of the seconds of runs, for the spans that all of them have."""
    return {
        span: {"median": statistics.median(values), "least": min(values), "most": max(values)}
        for span in SPANS
        if (values := [spent[span] for spent in seconds if span in spent])
        and len(values) == len(seconds)
    }


def welch(first: Sequence[float], second: Sequence[float]) -> Welch:
    """Return the difference of two means with its interval and p.

    B. L. Welch, "The generalization of 'Student's' problem when several different population
    variances are involved", Biometrika 34 (1947), p. 28.
    """
    means = [math.fsum(values) / len(values) for values in (first, second)]
    difference = means[0] - means[1]
    if min(len(first), len(second)) < 2:
        return Welch(difference, None, None)
    parts = [
        _deviation(values, mean) ** 2 / len(values)
        for values, mean in zip((first, second), means, strict=True)
    ]
    error = math.sqrt(sum(parts))
    if error == 0:
        return Welch(difference, None, None)
    freedom = sum(parts) ** 2 / (
        parts[0] ** 2 / (len(first) - 1) + parts[1] ** 2 / (len(second) - 1)
    )
    from scipy.special import stdtr

    p = float(2 * stdtr(freedom, -abs(difference) / error))
    return Welch(difference, _around(difference, error, freedom), p)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values that may each be held against 5 % though there are several.

    S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of
    Statistics 6 (1979), p. 65.
    """
    adjusted, largest, count = [0.0] * len(p_values), 0.0, len(p_values)
    for rank, place in enumerate(sorted(range(count), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (count - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted


def mcnemar(only_first: int, only_second: int) -> float:
    """Return the exact p of two models being as often right, from the images that one had right.

    Q. McNemar, Psychometrika 12 (1947), p. 153, with binomial probabilities for the chi-squared.
    """
    if only_first + only_second == 0:
        return 1.0
    from scipy.special import bdtr

    return min(1.0, 2 * float(bdtr(min(only_first, only_second), only_first + only_second, 0.5)))


def paired_interval(only_first: int, only_second: int, images: int) -> tuple[float, float]:
    """Return the interval of the difference of two accuracies on the same images.

    D. G. Bonett & R. M. Price, "Adjusted Wald confidence interval for a difference of binomial
    proportions based on paired data", Journal of Educational and Behavioral Statistics 37 (2012),
    p. 479: an image more on either side, so that it holds where few differ.
    """
    first, second = (only_first + 1) / (images + 2), (only_second + 1) / (images + 2)
    half = Z * math.sqrt((first + second - (first - second) ** 2) / (images + 2))
    return max(-1.0, first - second - half), min(1.0, first - second + half)


def paired_bootstrap(
    only_first: int, only_second: int, images: int, resamples: int = RESAMPLES
) -> tuple[float, float]:
    """Return the percentile interval of the same difference over resamples of the images.

    To draw images with replacement is to draw the three counts from a multinomial. The seed is 0.
    """
    rest = images - only_first - only_second
    shares = np.array([only_first, only_second, rest]) / images
    counts = np.random.default_rng(0).multinomial(images, shares, size=resamples)
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile((counts[:, 0] - counts[:, 1]) / images, [tail, 100 - tail])
    return float(low), float(high)


def _deviation(values: Sequence[float], mean: float) -> float:
    squares = math.fsum((value - mean) ** 2 for value in values)
    return math.sqrt(squares / (len(values) - 1))


def _around(middle: float, error: float, freedom: float) -> tuple[float, float]:
    """Return Student's interval; `error` is the standard error of `middle`."""
    from scipy.special import stdtrit

    half = float(stdtrit(freedom, (1 + CONFIDENCE) / 2)) * error
    return middle - half, middle + half
