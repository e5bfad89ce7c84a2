"""The split of the official training images into train and validation, fixed for ever."""

import hashlib

import numpy as np
import numpy.typing as npt

VALIDATION_SEED = 20170831  # the day today's official files came out
ONE_IN = 12  # 5,000 of 60,000: 500 of each class


def validation_indices(labels: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """Sorted indices, int64, of one twelfth (rounded down) of each class of `labels` (n,) uint8.

    The stream of numpy's RandomState is frozen (NEP 19), so the same labels give the same split
    with every numpy.
    """
    random = np.random.RandomState(VALIDATION_SEED)
    chosen = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        chosen.append(members[random.permutation(len(members))[: len(members) // ONE_IN]])
    return np.sort(np.concatenate(chosen)).astype(np.int64)


def train_indices(labels: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """Sorted indices, int64, of all that `validation_indices` leaves."""
    kept = np.ones(len(labels), dtype=bool)
    kept[validation_indices(labels)] = False
    return np.flatnonzero(kept).astype(np.int64)


def indices_sha256(indices: npt.NDArray[np.int64]) -> str:
    """Hex SHA-256 of `indices` as little-endian int64."""
    return hashlib.sha256(indices.astype("<i8").tobytes()).hexdigest()
