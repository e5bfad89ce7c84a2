import json
from typing import cast

import numpy as np
import pytest

from fmnist.data import CLASS_NAMES, Dataset, SplitName, facts
from fmnist.errors import DataError

NAMES: tuple[SplitName, ...] = ("train", "validation", "test", "all")


@pytest.mark.parametrize(
    ("name", "size"), [("train", 440), ("validation", 40), ("test", 120), ("all", 480)]
)
def test_a_split_holds_its_images(garments: Dataset, name: SplitName, size: int) -> None:
    split = garments.split(name)
    images, labels = (
        (garments.test_images, garments.test_labels)
        if name == "test"
        else (garments.train_images, garments.train_labels)
    )
    assert len(split) == size
    assert split.images.shape == (size, 28, 28)
    assert split.images.dtype == split.labels.dtype == np.uint8
    assert np.array_equal(split.images, images[split.indices])
    assert np.array_equal(split.labels, labels[split.indices])


@pytest.mark.parametrize("name", NAMES)
def test_a_split_is_read_only(garments: Dataset, name: SplitName) -> None:
    split = garments.split(name)
    for array in (split.images, split.labels, split.indices):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_all_and_test_copy_no_images(garments: Dataset) -> None:
    assert np.shares_memory(garments.split("all").images, garments.train_images)
    assert np.shares_memory(garments.split("test").images, garments.test_images)


def test_an_unknown_split_is_refused_with_the_known_ones(garments: Dataset) -> None:
    with pytest.raises(DataError, match="no split 'val'; there are train, validation, test, all"):
        garments.split(cast(SplitName, "val"))


def test_facts_are_json_and_count_each_class(garments: Dataset) -> None:
    told = json.loads(json.dumps(facts(garments)))
    assert told["folder"] == str(garments.folder)
    assert told["source"] == garments.source
    assert told["sha256"] == garments.sha256
    assert told["validation_sha256"] == garments.validation_sha256
    assert {name: split["images"] for name, split in told["splits"].items()} == {
        "train": 440,
        "validation": 40,
        "test": 120,
        "all": 480,
    }
    assert told["splits"]["train"]["classes"] == dict.fromkeys(CLASS_NAMES, 44)
    assert told["splits"]["test"]["classes"] == dict.fromkeys(CLASS_NAMES, 12)


@pytest.mark.real_data
def test_the_real_data_has_the_counts_and_the_mean_of_the_paper(real_data: Dataset) -> None:
    assert {name: len(real_data.split(name)) for name in NAMES} == {
        "train": 55_000,
        "validation": 5_000,
        "test": 10_000,
        "all": 60_000,
    }
    assert np.bincount(real_data.train_labels).tolist() == [6000] * 10
    assert np.bincount(real_data.test_labels).tolist() == [1000] * 10
    assert real_data.train_images.mean() / 255 == pytest.approx(0.2860, abs=5e-5)
