"""Batches: which images an epoch shows, varied as the recipe says, the same for the same seed."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fmnist.recipes import Augmentation, Pruning, Recipe
from fmnist.training.batches import Batch, Batches, _generator, epoch_lengths, with_hole
from tiny import TINY

CPU = torch.device("cpu")
PLAIN = dataclasses.replace(TINY, augmentation=Augmentation(), pruning=None)


def make(n: int, batch_size: int, recipe: Recipe = PLAIN) -> Batches:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (n, 28, 28), dtype=np.uint8)
    images[:, 0, 0] = np.arange(n) % 256  # so that an image tells which one it is
    labels = (np.arange(n) % 10).astype(np.uint8)
    return Batches(images, labels, dataclasses.replace(recipe, batch_size=batch_size), CPU)


def all_of(batches: Batches, seed: int, epoch: int, losses: torch.Tensor | None = None) -> Batch:
    """An epoch as one batch."""
    known = torch.zeros(len(batches.labels)) if losses is None else losses
    parts = list(batches.epoch(seed, epoch, known))
    assert len(parts) == batches.lengths[epoch]
    return Batch(*[torch.cat(part) for part in zip(*parts, strict=True)])


@settings(deadline=None, max_examples=25)
@given(n=st.integers(1, 70), batch_size=st.integers(1, 80), seed=st.integers(0, 2**31))
def test_an_epoch_shows_every_image_once(n: int, batch_size: int, seed: int) -> None:
    batches = make(n, batch_size)
    shown = all_of(batches, seed, 0)
    assert sorted(shown.indices.tolist()) == list(range(n))
    assert torch.equal((shown.x[:, 0, 0, 0] * 255).round().long(), shown.indices)
    assert torch.equal(shown.y, shown.indices % 10)
    assert torch.equal(shown.x[:, 0], batches.pixels[shown.indices].float() / 255)
    assert torch.equal(shown.weights, torch.ones(n))


def test_the_order_follows_seed_and_epoch() -> None:
    batches = make(64, 16)

    def order(seed: int, epoch: int) -> list[int]:
        return all_of(batches, seed, epoch).indices.tolist()

    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(1, 1)
    assert order(1, 0) != order(2, 0)


@pytest.mark.parametrize("first", [0, 1, 3])
@pytest.mark.parametrize("epoch", [0, 1])
def test_an_epoch_can_be_taken_up_at_any_batch(first: int, epoch: int) -> None:
    recipe = dataclasses.replace(PLAIN, augmentation=Augmentation(flip=True, shift=2, cutout=5))
    batches = make(90, 15, dataclasses.replace(recipe, pruning=Pruning(0.5, 0.4)))
    losses = torch.rand(90, generator=torch.Generator().manual_seed(0))
    whole = list(batches.epoch(3, epoch, losses))[first:]
    rest = list(batches.epoch(3, epoch, losses, first=first))
    assert len(whole) == len(rest) == batches.lengths[epoch] - first
    for batch, other in zip(whole, rest, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(batch, other, strict=True))


def test_flips_alternate_from_epoch_to_epoch() -> None:
    n = 100
    images = np.zeros((n, 28, 28), np.uint8)
    images[:, 3, 5] = 100  # left of the middle
    recipe = dataclasses.replace(PLAIN, augmentation=Augmentation(flip=True))
    batches = Batches(images, np.zeros(n, np.uint8), recipe, CPU)

    def flipped(epoch: int) -> set[int]:
        shown = all_of(batches, 0, epoch)
        return set(shown.indices[shown.x[:, 0, 3, 22] > 0].tolist())

    first, second, third = flipped(0), flipped(1), flipped(2)
    assert 25 < len(first) < 75
    assert first == third
    assert first.isdisjoint(second)
    assert len(first | second) == n


def test_shifts_reach_every_corner_and_bring_in_zeros() -> None:
    images = np.full((400, 28, 28), 255, np.uint8)
    recipe = dataclasses.replace(PLAIN, augmentation=Augmentation(shift=1))
    batches = Batches(images, np.zeros(400, np.uint8), recipe, CPU)
    seen = set()
    for image in all_of(batches, 0, 0).x[:, 0]:
        rows, columns = image.sum(1), image.sum(0)
        down = int(rows[0] == 0) - int(rows[-1] == 0)
        right = int(columns[0] == 0) - int(columns[-1] == 0)
        assert int(image.sum()) == (28 - abs(down)) * (28 - abs(right))
        seen.add((down, right))
    assert len(seen) == 9


PRUNED = dataclasses.replace(PLAIN, epochs=4, pruning=Pruning(easy=0.7, kept=0.4))


def test_pruning_leaves_out_easy_images_and_lets_the_others_stand_for_them() -> None:
    n = 1000
    batches = make(n, 64, PRUNED)
    losses = torch.rand(n, generator=torch.Generator().manual_seed(0))
    hard = set(losses.argsort()[700:].tolist())
    shown = all_of(batches, 0, 1, losses)
    assert len(shown.indices) == len(set(shown.indices.tolist())) == 300 + 280
    assert hard <= set(shown.indices.tolist())
    is_hard = torch.tensor([index in hard for index in shown.indices.tolist()])
    assert set(shown.weights[is_hard].tolist()) == {1.0}
    assert set(shown.weights[~is_hard].tolist()) == {2.5}
    assert shown.weights.sum().item() == pytest.approx(n)
    other = all_of(batches, 0, 2, losses)
    assert set(other.indices.tolist()) != set(shown.indices.tolist())


def test_the_first_and_the_last_epoch_are_whole() -> None:
    recipe = dataclasses.replace(PRUNED, batch_size=10)
    assert epoch_lengths(recipe, 100) == make(100, 10, PRUNED).lengths == [10, 6, 6, 10]


def test_the_last_epoch_is_pruned_on_request() -> None:
    pruning = Pruning(easy=0.7, kept=0.4, whole_last=False)
    recipe = dataclasses.replace(PRUNED, pruning=pruning)
    assert make(100, 10, recipe).lengths == [10, 6, 6, 6]
    assert len(all_of(make(100, 10, recipe), 0, 3, torch.rand(100)).indices) == 30 + 28


def test_flips_and_order_are_drawn_from_streams_of_their_own() -> None:
    recipe = dataclasses.replace(PLAIN, augmentation=Augmentation(flip=True))
    _, flips = make(60, 7, recipe)._vary(5, 0, torch.arange(60))
    for entropy in ((5,), (5, 0), (5, 0, 1), (5, 0, 2)):
        assert not torch.equal(flips, torch.randint(2, (60,), generator=_generator(*entropy)))


def test_steps_are_located_in_epochs_of_different_length() -> None:
    batches = make(100, 10, PRUNED)
    located = [batches.locate(step) for step in range(32)]
    lengths = enumerate(batches.lengths)
    assert located == [(epoch, number) for epoch, length in lengths for number in range(length)]


def test_a_pruned_epoch_is_the_whole_one_in_the_mean() -> None:
    batches = make(200, 50, dataclasses.replace(PRUNED, epochs=1000))
    losses = torch.rand(200, generator=torch.Generator().manual_seed(1))
    total = torch.zeros(200)
    for epoch in range(1, 401):
        order, weights = batches._choose(0, epoch, losses)
        total[order] += weights
    assert total.mean().item() == pytest.approx(400)
    assert (total / 400 - 1).abs().max() < 0.35  # sd of an easy image's mean is 0.06


@settings(deadline=None, max_examples=40)
@given(
    n=st.integers(1, 60),
    size=st.integers(1, 20),
    epochs=st.integers(1, 4),
    easy=st.floats(0.001, 0.999),
    kept=st.floats(0.001, 0.999),
    whole_last=st.booleans(),
)
def test_lengths_are_the_batches_there_are(
    n: int, size: int, epochs: int, easy: float, kept: float, whole_last: bool
) -> None:
    pruning = Pruning(easy, kept, whole_last)
    batches = make(n, size, dataclasses.replace(PLAIN, epochs=epochs, pruning=pruning))
    for epoch, length in enumerate(batches.lengths):
        shown = list(batches.epoch(0, epoch, torch.rand(n)))
        assert len(shown) == length >= 1
        assert sum(float(batch.weights.sum()) for batch in shown) == pytest.approx(n, rel=1e-5)


@pytest.mark.parametrize("side", [1, 4, 5, 14])
def test_a_hole_is_a_square_that_may_reach_over_the_edge(side: int) -> None:
    luck = torch.Generator().manual_seed(0)
    cut = with_hole(torch.ones(2000, 1, 28, 28), side, luck)[:, 0] == 0
    rows, columns = cut.any(2).sum(1), cut.any(1).sum(1)
    assert torch.equal(cut.sum((1, 2)), rows * columns)  # a rectangle
    half = side - side // 2
    assert half <= rows.min() <= rows.max() <= side
    assert half <= columns.min() <= columns.max() <= side
    assert rows.max() == side
    # Each pixel is the middle as often: those inside are covered side^2 / 784 of the time.
    middle = cut[:, 14, 14].float().mean()
    assert float(middle) == pytest.approx(min(1.0, side**2 / 784), abs=0.03)


def test_a_cutout_differs_by_image_epoch_and_seed() -> None:
    recipe = dataclasses.replace(PLAIN, augmentation=Augmentation(cutout=8))
    images = np.full((64, 28, 28), 200, np.uint8)
    batches = Batches(images, np.zeros(64, np.uint8), recipe, CPU)

    def holes(seed: int, epoch: int) -> torch.Tensor:
        shown = all_of(batches, seed, epoch)
        return (shown.x[shown.indices.argsort(), 0] == 0).flatten(1)

    first = holes(0, 0)
    assert torch.equal(first, holes(0, 0))
    assert len({tuple(hole.tolist()) for hole in first}) > 50
    assert not torch.equal(first, holes(0, 1))
    assert not torch.equal(first, holes(1, 0))
