"""What a model answers, of whatever kind, to logits: probabilities and bare classes told apart."""

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fmnist.errors import ModelError

Kind: TypeAlias = Literal["logits", "probabilities", "classes"]
Wished: TypeAlias = Literal["auto", "logits", "probabilities"]
CLASSES = 10
# Softmax in float16 leaves sums that are off by a thousandth.
SUM_TOLERANCE = 2e-3
# What a probability of 0 counts as, since its logarithm is no number: ln gives -87.3.
LEAST = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Scores:
    """Answers as logits (n, 10) float32, what they were, and in words how that was told."""

    logits: NDArray[np.float32]
    kind: Kind
    because: str


def read_scores(answers: Any, wished: Wished = "auto") -> Scores:
    """Return the answers to n images, scores (n, 10) or classes (n,), as logits.

    A softmax of the logits of probabilities gives these back. Those of bare classes are 1 and 0, of
    which nothing but the largest means anything. Raises ModelError for other shapes and types, for
    what is not finite, for classes outside 0..9, and where the user says probabilities of others.
    """
    values = check_scores(answers)
    if values.ndim == 1:
        return Scores(_one_hot(values), "classes", "there is one number an image")
    if _is_one_hot(values) and wished == "auto":
        return Scores(_one_hot(values.argmax(axis=1)), "classes", "each row has a 1 and nine 0")
    kind, because = tell_kind(values) if wished == "auto" else (wished, "as you say")
    return Scores(to_logits(values, kind), kind, because)


def check_scores(answers: Any) -> NDArray[Any]:
    """Return answers as an array (n, 10) float64, or as classes (n,) int64; see `read_scores`."""
    values = _numbers(answers)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim == 1:
        return _classes(values)
    if values.ndim != 2 or values.shape[1] != CLASSES:
        raise ModelError(
            f"the answers have the shape {values.shape}; they must be scores (n, {CLASSES}) or "
            "classes (n,)"
        )
    with np.errstate(over="ignore"):
        bad = ~np.isfinite(values.astype(np.float32))
    if bad.any():
        row = int(np.flatnonzero(bad.any(axis=1))[0])
        raise ModelError(
            f"{int(bad.sum()):,} of {values.size:,} scores are not finite numbers, the first in "
            f"row {row}; look for a division by 0, a logarithm of 0 or a training that diverged"
        )
    return values.astype(np.float64)


def tell_kind(values: NDArray[np.float64]) -> tuple[Kind, str]:
    """Return what finite scores (n, 10) are, and in words how that is told."""
    least, most, sums = values.min(), values.max(), values.sum(axis=1)
    if least >= 0 and most <= 1 + SUM_TOLERANCE:
        if abs(sums - 1).max() <= SUM_TOLERANCE:
            return "probabilities", "they lie in 0..1 and sum to 1"
        return "logits", "they lie in 0..1 but do not sum to 1"
    if least >= 0 and abs(sums - 100).max() <= 100 * SUM_TOLERANCE:
        raise ModelError("the scores sum to 100, so they are percentages; divide them by 100")
    return "logits", "they do not lie in 0..1"


def to_logits(values: NDArray[np.float64], kind: Kind) -> NDArray[np.float32]:
    """Return scores (n, 10) of a kind, or classes (n,), as logits (n, 10) of the same classes.

    Raises ModelError where probabilities do not lie in 0..1 or do not sum to 1.
    """
    if values.ndim == 1:
        return _one_hot(values)
    if kind == "classes":
        return _one_hot(values.argmax(axis=1))
    if kind == "probabilities":
        _check_probabilities(values)
    best = values.argmax(axis=1)
    scores = np.log(np.maximum(values, LEAST)) if kind == "probabilities" else values
    logits = scores.astype(np.float32)
    tied = np.flatnonzero(logits.argmax(axis=1) != best)  # two that float32 cannot tell apart
    logits[tied, best[tied]] = np.nextafter(logits[tied].max(axis=1), np.float32(np.inf))
    return logits


def _check_probabilities(values: NDArray[np.float64]) -> None:
    least, most = float(values.min(initial=0)), float(values.max(initial=0))
    if least < -SUM_TOLERANCE or most > 1 + SUM_TOLERANCE:
        raise ModelError(
            f"the scores lie in {least:.4g}..{most:.4g}, so they are no probabilities, which lie "
            "in 0..1"
        )
    sums = values.sum(axis=1)
    off = np.flatnonzero(abs(sums - 1) > SUM_TOLERANCE)
    if len(off):
        row = int(off[0])
        raise ModelError(
            f"row {row} sums to {sums[row]:.4g}, so the scores are no probabilities, which sum to 1"
        )


def _numbers(answers: Any) -> NDArray[Any]:
    try:
        values = np.asarray(answers)
    except Exception as error:  # a tensor on a GPU, unequal rows: each library raises its own
        reason = str(error).strip().partition("\n")[0]
        raise ModelError(
            f"the answers, {type(answers).__name__}, are no numpy array: {reason}"
        ) from error
    if values.dtype.kind not in "fiu":
        raise ModelError(f"the answers are {values.dtype}; they must be numbers")
    return values


def _classes(values: NDArray[Any]) -> NDArray[np.int64]:
    if not np.isfinite(values).all() or (values != np.floor(values)).any():
        row = int(np.flatnonzero(~np.isfinite(values) | (values != np.floor(values)))[0])
        raise ModelError(f"row {row} is {values[row]}, which is no class 0..9")
    classes = values.astype(np.int64)
    if len(classes) and classes.min() == 1 and classes.max() == CLASSES:
        raise ModelError("the classes run from 1 to 10; they must be 0..9: take away 1")
    outside = np.flatnonzero((classes < 0) | (classes >= CLASSES))
    if len(outside):
        row = int(outside[0])
        raise ModelError(f"row {row} is class {classes[row]}; there are 0..9")
    return classes


def _is_one_hot(values: NDArray[np.float64]) -> bool:
    return bool(((values == 0) | (values == 1)).all() and (values.sum(axis=1) == 1).all())


def _one_hot(classes: NDArray[Any]) -> NDArray[np.float32]:
    rows: NDArray[np.float32] = np.eye(CLASSES, dtype=np.float32)[classes]
    return rows
