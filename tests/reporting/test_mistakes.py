import base64
import io
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fmnist.reporting import confused, worst_mistakes
from fmnist.reporting.mistakes import data_uri

NAMES = [f"class {i}" for i in range(10)]


def _sure(row: list[float], temperature: float) -> list[float]:
    weights = [math.exp((logit - max(row)) / temperature) for logit in row]
    return [weight / sum(weights) for weight in weights]


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(0, 60), temperature=st.floats(0.3, 5.0))
def test_worst_mistakes_agree_with_brute_force(seed: int, n: int, temperature: float) -> None:
    random = np.random.default_rng(seed)
    images = random.integers(0, 256, (n, 28, 28), dtype=np.uint8)
    labels = random.integers(0, 10, n, dtype=np.uint8)
    logits = (3 * random.standard_normal((n, 10))).astype(np.float32)
    expected = []
    for i, row in enumerate(logits.astype(float).tolist()):
        said, sure = row.index(max(row)), _sure(row, temperature)
        if said != labels[i]:
            expected.append((-sure[said], i, said, sure[labels[i]]))
    expected.sort()

    found = worst_mistakes(images, labels, logits, NAMES, temperature, count=7)

    assert [m.index for m in found] == [index for _, index, _, _ in expected[:7]]
    for mistake, (sure_of_it, index, said, of_true) in zip(found, expected, strict=False):
        assert (mistake.predicted, mistake.true) == (NAMES[said], NAMES[labels[index]])
        assert mistake.probability == pytest.approx(-sure_of_it)
        assert mistake.probability_true == pytest.approx(of_true)
        assert np.array_equal(mistake.image, images[index])


def test_equally_sure_mistakes_come_by_index() -> None:
    logits = np.tile(np.array([0, 4] + [0] * 8, np.float32), (50, 1))
    found = worst_mistakes(
        np.zeros((50, 28, 28), np.uint8), np.zeros(50, np.uint8), logits, NAMES, count=40
    )
    assert [mistake.index for mistake in found] == list(range(40))


def test_no_mistakes_give_an_empty_list() -> None:
    logits = np.eye(10, dtype=np.float32)
    labels = np.arange(10, dtype=np.uint8)
    assert worst_mistakes(np.zeros((10, 28, 28), np.uint8), labels, logits, NAMES) == []


def test_huge_logits_do_not_overflow() -> None:
    logits = np.array([[0, 3e38] + [0] * 8], np.float32)
    (only,) = worst_mistakes(
        np.zeros((1, 28, 28), np.uint8), np.zeros(1, np.uint8), logits, NAMES, temperature=0.1
    )
    assert (only.probability, only.probability_true) == (1.0, 0.0)


def test_data_uri_holds_the_very_pixels() -> None:
    image = np.random.default_rng(0).integers(0, 256, (28, 28), dtype=np.uint8)
    head, _, body = data_uri(image).partition(",")
    assert head == "data:image/png;base64"
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(body)))), image)


def test_examples_of_a_pair_run_from_the_surest_to_the_least_sure() -> None:
    """Twenty images of class 0 that are ever more surely said to be of class 1, one of class 2."""
    logits = np.zeros((21, 10), np.float32)
    logits[:20, 1] = np.arange(1, 21)
    logits[20, 2] = 5
    images = np.arange(21, dtype=np.uint8).repeat(784).reshape(21, 28, 28)
    labels = np.zeros(21, np.uint8)
    pairs = [("class 0", "class 1"), ("class 0", "class 2"), ("class 3", "class 4")]
    found = confused(images, labels, logits, NAMES, pairs, temperature=4.0, count=3)
    assert list(found) == pairs
    many, one, none = found.values()
    assert [mistake.index for mistake in many] == [19, 9, 0]
    assert [int(mistake.image[0, 0]) for mistake in many] == [19, 9, 0]
    assert many[0].probability == pytest.approx(math.exp(5) / (math.exp(5) + 9))
    assert [mistake.index for mistake in one] == [20]
    assert none == []
