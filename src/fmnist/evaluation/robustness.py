"""How a classifier bears test images with one thing wrong with them."""

import json
import math
from collections.abc import Mapping, Sequence
from importlib import resources
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist.data import Split
from fmnist.evaluation.corruptions import KINDS, SEED, corrupt
from fmnist.evaluation.metrics import accuracy
from fmnist.evaluation.subject import Subject, Watch

SAMPLE = 2000  # images, as many of each class, for severities other than Fashion-MNIST-C's
SOURCE = "Fashion-MNIST-C's fifteen corruptions at its strengths, MNIST-C's severities of ten"
CLASSIC = "classic_corruptions.json"  # what the recipe `classic` gets wrong


def measure_corruptions(
    subject: Subject, test: Split, clean: NDArray[np.float32], watch: Watch
) -> dict[str, Any]:
    """Return the accuracy for every kind and severity, their mean, and their error as a ratio.

    `clean` are the logits of the uncorrupted images.
    """
    rows = corrupted_accuracies(subject, test, watch)
    reference = json.loads(resources.files(__package__).joinpath(CLASSIC).read_text("utf-8"))
    return {
        "images": len(test),
        "seed": SEED,
        "source": SOURCE,
        "clean_error": 1 - accuracy(clean, test.labels),
        "kinds": rows,
        "mean_accuracy": mean_accuracy(rows),
        "mean_corruption_error": mean_corruption_error(rows, reference["kinds"]),
        "relative_to": reference["relative_to"],
    }


def corrupted_accuracies(
    subject: Subject, test: Split, watch: Watch = lambda doing: None
) -> list[dict[str, Any]]:
    """Return a row for every kind and severity.

    As Fashion-MNIST-C has them they are asked of all images, other severities of SAMPLE of them.
    """
    sample = stratified(test.labels, SAMPLE)
    rows = []
    for name, kind in KINDS.items():
        watch(name.replace("_", " "))
        for severity in kind.severities:
            chosen = np.arange(len(test)) if severity == kind.usual else sample
            logits = subject.logits(corrupt(test.images[chosen], name, severity))
            rows.append(_row(name, severity, accuracy(logits, test.labels[chosen]), len(chosen)))
    return rows


def _row(name: str, severity: int | None, share: float, images: int) -> dict[str, Any]:
    return {
        "kind": name,
        "severity": severity,
        "fashion_mnist_c": severity == KINDS[name].usual,
        "accuracy": share,
        "images": images,
    }


def mean_accuracy(rows: Sequence[Mapping[str, Any]]) -> float:
    """Return the mean over kinds at Fashion-MNIST-C's strength, which draws each as often."""
    return fmean(row["accuracy"] for row in rows if row["fashion_mnist_c"])


def mean_corruption_error(
    rows: Sequence[Mapping[str, Any]], reference: Sequence[Mapping[str, Any]]
) -> float:
    """Return the mean over kinds of a network's error divided by that of another; 1: as bad.

    An error is summed over severities first: D. Hendrycks & T. Dietterich, ICLR 2019, arXiv
    1903.12261, section 4, where the other one is AlexNet.
    """
    return fmean(_error(rows, kind) / _error(reference, kind) for kind in KINDS)


def _error(rows: Sequence[Mapping[str, Any]], kind: str) -> float:
    return math.fsum(1 - row["accuracy"] for row in rows if row["kind"] == kind)


def stratified(labels: NDArray[np.uint8], count: int) -> NDArray[np.int64]:
    """Return sorted indices of the first images of each class, `count` in all or all there are."""
    each = count // 10
    firsts = [np.flatnonzero(labels == label)[:each] for label in range(10)]
    return np.sort(np.concatenate(firsts))
