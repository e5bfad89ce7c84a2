"""Logits and labels to numbers: pure functions that do not change with the batch size.

Shapes throughout: logits (n, 10) float, labels (n,) integer 0..9; fractions are 0..1,
never percent. Sums run over all images in float64 and are divided once.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating[Any]]
LabelArray = NDArray[np.integer[Any]]


def log_softmax(logits: FloatArray) -> NDArray[np.float64]:
    """Return log probabilities (n, 10)."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    result: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return result


def cross_entropy(logits: FloatArray, labels: LabelArray) -> float:
    """Return the mean over images of -ln p(true class)."""
    log_probabilities = log_softmax(logits)
    return float(-log_probabilities[np.arange(len(labels)), labels].sum() / len(labels))


def accuracy(logits: FloatArray, labels: LabelArray) -> float:
    """Return the share of images whose largest logit is the true class."""
    return int((logits.argmax(axis=1) == labels).sum()) / len(labels)


def top_k_accuracy(logits: FloatArray, labels: LabelArray, k: int) -> float:
    """Return the share of images whose true class is among the k largest logits.

    A tie counts against the true class's rank only where the other class has the lower index, as
    argmax breaks it; so k = 1 is `accuracy`.
    """
    true = logits[np.arange(len(labels)), labels][:, None]
    earlier = np.arange(logits.shape[1])[None, :] < labels[:, None]
    rank = ((logits > true) | ((logits == true) & earlier)).sum(axis=1)
    return int((rank < k).sum()) / len(labels)


def wilson_interval(successes: int, n: int, z: float = 1.959963984540054) -> tuple[float, float]:
    """Return the score interval of a proportion; z = 1.96 gives 95 % confidence.

    E. B. Wilson, "Probable inference, the law of succession, and statistical inference", Journal
    of the American Statistical Association 22 (1927), p. 209. It stays inside 0..1.
    """
    share = successes / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def confusion_matrix(
    predicted: LabelArray, labels: LabelArray, classes: int = 10
) -> NDArray[np.int64]:
    """Return counts (classes, classes): row = true class, column = predicted class."""
    cells = labels.astype(np.int64) * classes + predicted
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes)


def precision_recall_f1(
    confusion: NDArray[np.int64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return precision, recall and F1 of each class (classes,); 0 where a ratio has no cases."""
    right = np.diag(confusion).astype(np.float64)
    precision = _ratio(right, confusion.sum(axis=0))
    recall = _ratio(right, confusion.sum(axis=1))
    # F1 = 2 P R / (P + R) = 2 TP / (predicted + actual), which is defined where P or R is not.
    return precision, recall, _ratio(2 * right, confusion.sum(axis=0) + confusion.sum(axis=1))


def _ratio(numerator: NDArray[np.float64], denominator: NDArray[np.int64]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = np.divide(
        numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0
    )
    return result


def most_confused(
    confusion: NDArray[np.int64], names: Sequence[str], count: int = 10
) -> list[dict[str, Any]]:
    """Return the ordered pairs (true, predicted) with the most images, most first."""
    pairs: list[dict[str, Any]] = [
        {"true": names[true], "predicted": names[predicted], "images": int(images)}
        for (true, predicted), images in np.ndenumerate(confusion)
        if true != predicted and images > 0
    ]
    return sorted(pairs, key=lambda pair: -int(pair["images"]))[:count]


def score(logits: FloatArray, labels: LabelArray, names: Sequence[str]) -> dict[str, Any]:
    """Return accuracy (with its 95 % Wilson interval), loss, top-2, classes, confusions."""
    confusion = confusion_matrix(logits.argmax(axis=1), labels, len(names))
    precision, recall, f1 = precision_recall_f1(confusion)
    right, n = int(np.trace(confusion)), len(labels)
    return {
        "images": n,
        "accuracy": right / n,
        "accuracy_interval": list(wilson_interval(right, n)),
        "loss": cross_entropy(logits, labels),
        "top2_accuracy": top_k_accuracy(logits, labels, 2),
        "macro": {
            "precision": float(precision.mean()),
            "recall": float(recall.mean()),
            "f1": float(f1.mean()),
        },
        "classes": [
            {
                "index": index,
                "name": name,
                "precision": float(precision[index]),
                "recall": float(recall[index]),
                "f1": float(f1[index]),
                "images": int(confusion[index].sum()),
            }
            for index, name in enumerate(names)
        ],
        "confusion": confusion.tolist(),
        "most_confused": most_confused(confusion, names),
    }
