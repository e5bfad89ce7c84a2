"""State: what one step learns, and what it notes of the images."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fmnist.models import make_network
from fmnist.recipes import Recipe
from fmnist.training.batches import Batch
from fmnist.training.checkpoint import Checkpoint, portable
from fmnist.training.device import Device
from fmnist.training.state import State
from tiny import TINY, TINY_ADAM

CPU = Device("cpu", "float32")
LINEAR = dataclasses.replace(TINY, pruning=TINY.pruning, label_smoothing=0.2)


def make(recipe: Recipe = LINEAR) -> tuple[State, nn.Linear]:
    torch.manual_seed(0)
    linear = nn.Linear(784, 10)
    network = nn.Sequential(nn.Flatten(), linear)
    return State(network, recipe, steps=10, images=20, device=CPU), linear


def batch(weights: list[float]) -> Batch:
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(4, 1, 28, 28, generator=generator)
    return Batch(x, torch.tensor([3, 1, 4, 1]), torch.tensor([7, 2, 19, 0]), torch.tensor(weights))


def gradient(weights: list[float], monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """The gradient that a step hands to the optimizers."""
    state, linear = make()
    seen: list[Tensor] = []

    def look(share: float) -> None:
        assert linear.weight.grad is not None
        seen.append(linear.weight.grad.clone())

    for optimizer in state.optimizers:
        monkeypatch.setattr(optimizer, "step", look)
    state.advance(batch(weights))
    return seen[0]


def test_an_image_counts_by_its_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = [1.0, 2.5, 0.5, 1.0]
    _, linear = make()
    given = batch(weights)
    logits = linear(given.x.flatten(1))
    losses = F.cross_entropy(logits, given.y, reduction="none", label_smoothing=0.2)
    ((losses * given.weights).sum() / 4).backward()  # type: ignore[no-untyped-call]
    assert linear.weight.grad is not None
    torch.testing.assert_close(gradient(weights, monkeypatch), linear.weight.grad)
    assert not torch.allclose(gradient([1.0] * 4, monkeypatch), linear.weight.grad)


def test_a_step_notes_losses_without_smoothing_and_weighted_sums() -> None:
    state, linear = make()
    given = batch([1.0, 2.5, 0.5, 1.0])
    with torch.no_grad():
        logits = linear(given.x.flatten(1))
    losses = F.cross_entropy(logits, given.y, reduction="none")
    right = (logits.argmax(1) == given.y).float()
    state.advance(given)
    torch.testing.assert_close(state.losses[0, given.indices], losses)
    others = [index for index in range(20) if index not in given.indices.tolist()]
    assert torch.equal(state.losses[0, others], torch.zeros(16))
    assert torch.equal(state.losses[1], torch.zeros(20))  # until the epoch ends
    expected = [(losses * given.weights).sum(), (right * given.weights).sum(), 5.0, 4.0]
    torch.testing.assert_close(state.sums, torch.tensor(expected, dtype=torch.float64))
    state.begin_epoch()
    assert torch.equal(state.losses[1], state.losses[0])
    assert torch.equal(state.sums, torch.zeros(4, dtype=torch.float64))


@pytest.mark.parametrize("recipe", [TINY, TINY_ADAM], ids=lambda recipe: recipe.name)
def test_unpacking_gives_back_the_state_in_the_same_memory_order(recipe: Recipe) -> None:
    state = State(make_network(recipe.network), recipe, 10, 20, CPU)
    state.advance(batch([1.0] * 4))
    other = State(make_network(recipe.network), recipe, 10, 20, CPU)
    packed = state.pack()
    other.unpack(Checkpoint(portable(packed.tensors), packed.values))  # as a file holds it
    assert other.step == 1
    for ours, theirs in zip(state.optimizers, other.optimizers, strict=True):
        before, after = ours.moments(), theirs.moments()
        assert before.keys() == after.keys()
        for name, moment in before.items():
            assert torch.equal(after[name], moment)
            assert after[name].stride() == moment.stride()


def test_the_weights_kept_are_a_moving_average() -> None:
    state, linear = make(dataclasses.replace(LINEAR, averaging=0.7))
    kept = state.kept.get_parameter("1.weight")
    expected = torch.zeros_like(linear.weight)
    for step in range(1, 7):
        state.advance(batch([1.0] * 4))
        share = max(0.3, 1 / step)  # the plain mean of the first three
        expected = (1 - share) * expected + share * linear.weight.detach()
        torch.testing.assert_close(kept, expected)
    assert not torch.allclose(kept, linear.weight)


def test_without_averaging_the_last_weights_are_kept() -> None:
    state, linear = make(dataclasses.replace(LINEAR, averaging=0.0))
    state.advance(batch([1.0] * 4))
    assert state.kept.get_parameter("1.weight") is linear.weight
