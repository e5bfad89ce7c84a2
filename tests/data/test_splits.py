import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fmnist.data import Dataset
from fmnist.data.splits import indices_sha256, train_indices, validation_indices

# The splits are fixed for ever: a change of these two breaks every number ever reported.
REAL = "987ccdbfe91849a80b87db8afd6dfd1f80ea753f9de5e03614db370944630001"
SYNTHETIC = "0c3b1f4e7f754764ba62d4a86c1da5e15ea5d996d05b97d8771302f1cc585fe4"


def test_the_split_of_synthetic_labels_is_pinned() -> None:
    labels = np.tile(np.arange(10, dtype=np.uint8), 120)
    assert indices_sha256(validation_indices(labels)) == SYNTHETIC


@pytest.mark.real_data
def test_the_split_of_the_real_labels_is_pinned(real_data: Dataset) -> None:
    indices = validation_indices(real_data.train_labels)
    assert indices_sha256(indices) == real_data.validation_sha256 == REAL
    assert np.bincount(real_data.train_labels[indices]).tolist() == [500] * 10


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=300))
def test_train_and_validation_part_the_data(values: list[int]) -> None:
    labels = np.array(values, dtype=np.uint8)
    train, validation = train_indices(labels), validation_indices(labels)
    assert train.dtype == validation.dtype == np.int64
    assert np.array_equal(np.sort(np.concatenate([train, validation])), np.arange(len(labels)))
    assert np.all(np.diff(train) > 0)
    assert np.all(np.diff(validation) > 0)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=300))
def test_validation_is_one_in_twelve_of_each_class(values: list[int]) -> None:
    labels = np.array(values, dtype=np.uint8)
    counts = np.bincount(labels, minlength=10)
    chosen = np.bincount(labels[validation_indices(labels)], minlength=10)
    assert chosen.tolist() == (counts // 12).tolist()
