"""The data set in memory: four arrays, where they came from, and their named splits."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from fmnist.data.official import CLASS_NAMES
from fmnist.data.splits import indices_sha256, train_indices, validation_indices
from fmnist.errors import DataError

SplitName: TypeAlias = Literal["train", "validation", "test", "all"]


@dataclass(frozen=True)
class Split:
    """A named part of the data set.

    images (n, 28, 28) uint8, labels (n,) uint8 0..9, indices (n,) int64 into the official file.
    """

    name: SplitName
    images: npt.NDArray[np.uint8] = field(repr=False)
    labels: npt.NDArray[np.uint8] = field(repr=False)
    indices: npt.NDArray[np.int64] = field(repr=False)

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Dataset:
    """Fashion-MNIST, read-only: images (n, 28, 28) uint8 0..255 (0: background), labels (n,) uint8.

    `source` says in one line where it was found, `folder` where the files lie, `sha256` maps each
    file name to the hash of its unpacked content.
    """

    train_images: npt.NDArray[np.uint8] = field(repr=False)
    train_labels: npt.NDArray[np.uint8] = field(repr=False)
    test_images: npt.NDArray[np.uint8] = field(repr=False)
    test_labels: npt.NDArray[np.uint8] = field(repr=False)
    source: str
    folder: Path
    sha256: dict[str, str] = field(repr=False)

    def split(self, name: SplitName) -> Split:
        """The part `name`, read-only: "train", "validation", "test" or "all" (the first two).

        Raises DataError where there is no such split.
        """
        indices = self.indices(name)
        if name == "test":
            images, labels = self.test_images, self.test_labels
        elif name == "all":
            images, labels = self.train_images, self.train_labels
        else:
            images, labels = self.train_images[indices], self.train_labels[indices]
        for array in (images, labels, indices):
            array.flags.writeable = False
        return Split(name, images, labels, indices)

    def indices(self, name: SplitName) -> npt.NDArray[np.int64]:
        """Indices (n,) int64 of the part `name` into its official file; DataError as in `split`."""
        if name == "train":
            return train_indices(self.train_labels)
        if name == "validation":
            return validation_indices(self.train_labels)
        if name == "all":
            return np.arange(len(self.train_labels), dtype=np.int64)
        if name == "test":
            return np.arange(len(self.test_labels), dtype=np.int64)
        raise DataError(f"no split {name!r}; there are {', '.join(get_args(SplitName))}")

    @cached_property
    def validation_sha256(self) -> str:
        """Hex SHA-256 of the indices of the validation split as little-endian int64."""
        return indices_sha256(validation_indices(self.train_labels))


def facts(dataset: Dataset) -> dict[str, Any]:
    """Folder, source, hashes and images per split and class, as plain JSON."""
    return {
        "folder": str(dataset.folder),
        "source": dataset.source,
        "sha256": dict(dataset.sha256),
        "validation_sha256": dataset.validation_sha256,
        "splits": {name: _counts(dataset, name) for name in get_args(SplitName)},
    }


def _counts(dataset: Dataset, name: SplitName) -> dict[str, Any]:
    official = dataset.test_labels if name == "test" else dataset.train_labels
    labels = official[dataset.indices(name)]
    counts = np.bincount(labels, minlength=len(CLASS_NAMES)).tolist()
    return {"images": len(labels), "classes": dict(zip(CLASS_NAMES, counts, strict=True))}
