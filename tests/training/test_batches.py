"""Batches: every image once an epoch, varied as the recipe says, the same for the same seed."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fmnist.recipes import Augmentation
from fmnist.training.batches import Batches

CPU = torch.device("cpu")


def make(n: int, batch_size: int, augmentation: Augmentation | None = None) -> Batches:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (n, 28, 28), dtype=np.uint8)
    images[:, 0, 0] = np.arange(n) % 256  # so that an image tells which one it is
    labels = (np.arange(n) % 10).astype(np.uint8)
    return Batches(images, labels, batch_size, augmentation or Augmentation(), CPU)


@settings(deadline=None, max_examples=25)
@given(n=st.integers(1, 70), batch_size=st.integers(1, 80), seed=st.integers(0, 2**31))
def test_an_epoch_shows_every_image_once(n: int, batch_size: int, seed: int) -> None:
    batches = make(n, batch_size)
    shown = list(batches.epoch(seed, 0))
    assert len(shown) == len(batches)
    x = torch.cat([x for x, _ in shown])
    y = torch.cat([y for _, y in shown])
    which = (x[:, 0, 0, 0] * 255).round().long()
    assert sorted(which.tolist()) == list(range(n))
    assert torch.equal(y, which % 10)
    original = batches.pixels[which].float() / 255
    assert torch.equal(x[:, 0], original)


def test_the_order_follows_seed_and_epoch() -> None:
    batches = make(64, 64)

    def labels(seed: int, epoch: int) -> list[int]:
        ((_, y),) = batches.epoch(seed, epoch)
        return y.tolist()

    assert labels(1, 0) == labels(1, 0)
    assert labels(1, 0) != labels(1, 1)
    assert labels(1, 0) != labels(2, 0)


@pytest.mark.parametrize("first", [0, 1, 4])
def test_an_epoch_can_be_taken_up_at_any_batch(first: int) -> None:
    batches = make(90, 20, Augmentation(flip=True, shift=2))
    whole = list(batches.epoch(3, 5))[first:]
    rest = list(batches.epoch(3, 5, first=first))
    assert len(whole) == len(rest) == 5 - first
    for (x, y), (other_x, other_y) in zip(whole, rest, strict=True):
        assert torch.equal(x, other_x)
        assert torch.equal(y, other_y)


def test_flips_alternate_from_epoch_to_epoch() -> None:
    n = 100
    images = np.zeros((n, 28, 28), np.uint8)
    images[:, 3, 5] = np.arange(n) + 1  # left: the image's number, right: 200
    images[:, 3, 22] = 200
    batches = Batches(images, np.zeros(n, np.uint8), n, Augmentation(flip=True), CPU)

    def flipped(epoch: int) -> set[int]:
        ((x, _),) = batches.epoch(0, epoch)
        left, right = ((x[:, 0, 3, column] * 255).round().long() for column in (5, 22))
        return set(right[left == 200].tolist())

    first, second, third = flipped(0), flipped(1), flipped(2)
    assert 25 < len(first) < 75
    assert first == third
    assert first.isdisjoint(second)
    assert len(first | second) == n


def test_shifts_reach_every_corner_and_bring_in_zeros() -> None:
    images = np.full((400, 28, 28), 255, np.uint8)
    batches = Batches(images, np.zeros(400, np.uint8), 400, Augmentation(shift=1), CPU)
    ((x, _),) = batches.epoch(0, 0)
    seen = set()
    for image in x[:, 0]:
        rows, columns = image.sum(1), image.sum(0)
        down = int(rows[0] == 0) - int(rows[-1] == 0)
        right = int(columns[0] == 0) - int(columns[-1] == 0)
        assert int(image.sum()) == (28 - abs(down)) * (28 - abs(right))
        seen.add((down, right))
    assert len(seen) == 9
