"""The same answer through every door: what the server says is what the network says here."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import requests
from numpy.typing import NDArray

from fmnist.classifier import Classifier, load_classifier
from garments import make
from servers import Server
from v2 import INFER, Pixels, binary, outputs_of, told

NUMBER = 1000  # images
SAME = 250  # images asked about at once, here and there: more than the server would put together
CLOSE = (
    1e-4  # between logits of the same image in batches of other sizes; MLPerf allows their order
)

Logits = NDArray[np.float32]


@pytest.fixture(scope="module")
def images() -> Pixels:
    return make(NUMBER // 10, seed=5)[0]


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return load_classifier(threads=1)


@pytest.fixture(scope="module")
def right(images: Pixels, classifier: Classifier) -> Logits:
    return np.concatenate([classifier.logits(batch) for batch in batches(images, SAME)])


def batches(images: Pixels, size: int) -> list[Pixels]:
    return [images[at : at + size] for at in range(0, len(images), size)]


def in_json(images: Pixels) -> dict[str, Any]:
    return {"json": {"inputs": [told(images)]}}


def in_binary(images: Pixels) -> dict[str, Any]:
    return binary(images, {"parameters": {"binary_data_output": True}})


def served(
    server: Server, images: Pixels, size: int, door: Callable[[Pixels], dict[str, Any]]
) -> Logits:
    with requests.Session() as session:
        asked = [session.post(server.url + INFER, **door(each)) for each in batches(images, size)]
    return np.concatenate([outputs_of(answer)["logits"] for answer in asked])


@pytest.mark.parametrize("door", [in_binary, in_json])
def test_both_doors_give_the_networks_own_bits(
    server: Server, images: Pixels, right: Logits, door: Callable[[Pixels], dict[str, Any]]
) -> None:
    got = served(server, images, SAME, door)
    np.testing.assert_array_equal(got.astype(np.float32).view(np.uint32), right.view(np.uint32))


@pytest.mark.parametrize("size", [1, 7, 128])
def test_batches_of_other_sizes_give_the_same_labels(
    server: Server, images: Pixels, right: Logits, size: int
) -> None:
    got = served(server, images, size, in_binary)
    assert np.abs(got - right).max() <= CLOSE
    flipped = got.argmax(axis=1) != right.argmax(axis=1)
    assert flipped.sum() <= NUMBER / 10_000
