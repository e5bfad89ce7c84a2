"""How fast a model answers, and what it weighs."""

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist.evaluation.subject import Subject, Watch

BATCH = 1000  # images at once for images per second
SECONDS = 2.0  # that each of the two is measured for, at least
ROUNDS = 5  # and so many times, at least


def measure_speed(subject: Subject, images: NDArray[np.uint8], watch: Watch) -> dict[str, Any]:
    """Return images per second, milliseconds of a single image, and what is known of the cost.

    Both are medians over calls, the first of which is not counted: it pays for what is only made
    once. The time is that of the answer alone, from uint8 images to logits in memory.
    """
    watch("speed")
    batch = images[np.arange(BATCH) % len(images)]
    return {
        "images_per_second": BATCH / _seconds(subject, batch),
        "batch_size": BATCH,
        "milliseconds_one_image": 1000 * _seconds(subject, images[:1]),
        "threads": subject.threads,
        "device": subject.device,
        "parameters": subject.parameters,
        "multiply_adds": subject.multiply_adds,
        "file_bytes": subject.file_bytes,
    }


def _seconds(subject: Subject, images: NDArray[np.uint8]) -> float:
    """Return the median seconds of an answer to `images`."""
    subject.logits(images)
    spent: list[float] = []
    while len(spent) < ROUNDS or sum(spent) < SECONDS:
        began = time.perf_counter()
        subject.logits(images)
        spent.append(time.perf_counter() - began)
    return float(np.median(spent))
