import dataclasses
from typing import Any

import numpy as np
import pytest

from fmnist.classifier.pixels import Pixels
from fmnist.data import CLASS_NAMES, Dataset
from fmnist.errors import DataError, ModelError
from fmnist.evaluation.bench import doubts

RANDOM = np.random.default_rng(0)


@pytest.fixture
def large(data: Dataset) -> Dataset:
    """As many labels as the real data set has, in a random order."""
    test = RANDOM.permutation(np.repeat(np.arange(10, dtype=np.uint8), 1000))
    train = RANDOM.permutation(np.repeat(np.arange(10, dtype=np.uint8), 6000))
    return dataclasses.replace(data, test_labels=test, train_labels=train)


def mostly(labels: Any, right: float = 0.9) -> Any:
    """Classes of which a share is right, as logits."""
    wrong = RANDOM.random(len(labels)) > right
    said = np.where(wrong, RANDOM.integers(0, 10, len(labels)), labels)
    return np.eye(10, dtype=np.float32)[said]


def said(logits: Any, data: Dataset, hints: Any = ()) -> str:
    with pytest.raises(ModelError) as error:
        doubts.check_answers(logits, data, hints)
    return str(error.value)


@pytest.mark.parametrize("right", [0.2, 0.5, 0.9, 1.0])
def test_honest_answers_pass(right: float, large: Dataset) -> None:
    doubts.check_answers(mostly(large.test_labels, right), large)


def test_a_network_that_knows_few_classes_passes(large: Dataset) -> None:
    few = np.where(large.test_labels < 5, 4, 6)
    doubts.check_answers(np.eye(10, dtype=np.float32)[few], large)


def test_the_orders_of_classes_are_named(large: Dataset) -> None:
    good = mostly(large.test_labels)
    alphabet = sorted(range(10), key=lambda index: CLASS_NAMES[index])
    swapped = [0, 1, 2, 3, 6, 5, 4, 7, 8, 9]
    assert said(good[:, alphabet], large).startswith("the classes are in alphabetical order")
    assert "Coat and Shirt are swapped" in said(good[:, swapped], large)
    assert "shifted by one: 0 means Trouser" in said(np.roll(good, -1, axis=1), large)
    assert "shifted by one: 0 means Ankle boot" in said(np.roll(good, 1, axis=1), large)
    assert "another order (0 means Bag, " in said(good[:, [8, 3, 0, 1, 2, 4, 5, 9, 6, 7]], large)


def test_answers_to_other_images_are_named(large: Dataset) -> None:
    assert "fit the first 10,000 training images" in said(mostly(large.train_labels[:10000]), large)
    digits = RANDOM.permutation(np.repeat(np.arange(10), doubts.MNIST))
    assert "these are of MNIST's digits" in said(np.eye(10, dtype=np.float32)[digits], large)
    shuffled = RANDOM.permutation(mostly(large.test_labels))
    assert "shuffled" in said(shuffled, large)
    assert said(shuffled, large, ["try --scale 1"]).endswith("by guessing; try --scale 1")
    assert "the same class, T-shirt/top" in said(np.ones((10000, 10), np.float32), large)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (60000, "60,000 rows: they are predictions of the training images"),
        (70000, "the training and the test images"),
        (55000, "the split train"),
        (5000, "the split validation"),
        (9999, "look for a header"),
        (10001, "look for a header"),
        (17, "there are 17 rows; there must be one for each of the 10,000 test images"),
    ],
)
def test_other_numbers_of_rows_are_named(rows: int, message: str, large: Dataset) -> None:
    with pytest.raises(DataError, match=message):
        doubts.check_rows(rows, large)
    doubts.check_rows(10000, large)


def test_another_scale_is_hinted_at_by_validation_images_alone(data: Dataset) -> None:
    labels = data.split("validation").labels
    meant = Pixels("nchw", np.dtype(np.float32), scale=1.0)

    def answer(images: Any, pixels: Pixels) -> Any:
        good = np.eye(10, dtype=np.float32)[labels]
        return good if pixels == meant else good[::-1]

    blind = dataclasses.replace(data, test_labels=data.test_labels[:0])
    wrong = Pixels("nchw", np.dtype(np.float32))
    hint = doubts.treatment_hint(answer, wrong, blind)
    assert hint is not None
    assert hint.startswith("with --scale 1 it gets 100.0 % of 40 validation images right, with")
    assert doubts.treatment_hint(answer, meant, blind) is None


def test_unsteady_models_are_noticed(data: Dataset) -> None:
    def flat(images: Any) -> Any:
        return images.reshape(len(images), -1)[:, 300:310].astype(np.float32)

    assert list(doubts.steadiness(flat, data)) == []
    (dropout,) = doubts.steadiness(lambda x: flat(x) * RANDOM.random((len(x), 10)), data)
    assert "dropout" in dropout
    (together,) = doubts.steadiness(lambda x: flat(x) - flat(x).mean(axis=0), data)
    assert "batch norm" in together


def test_what_nobody_reached_is_doubted() -> None:
    assert list(doubts.too_good(0.9691)) == []
    assert "were the test images trained on" in next(doubts.too_good(0.999))
