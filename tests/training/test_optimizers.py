"""Optimizers: Muon's orthogonal updates, who gets which parameters, and schedules."""

import dataclasses
import itertools
import subprocess
import sys

import pytest
import torch
from torch import Tensor

from fmnist.models import Classic
from fmnist.recipes import RECIPES, Adam
from fmnist.training import optimizers
from fmnist.training.optimizers import Muon, make_optimizers, orthogonal, rate_at
from tiny import TINY, Tiny


@pytest.mark.parametrize("shape", [(16, 144), (64, 36), (32, 32)])
def test_orthogonal_has_singular_values_near_one(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(shape)
    values = torch.linalg.svdvals(orthogonal(matrix, steps=5))
    assert values.min() > 0.5
    assert values.max() < 1.35


def test_orthogonal_keeps_the_directions() -> None:
    torch.manual_seed(0)
    u, _ = torch.linalg.qr(torch.randn(40, 12))
    v, _ = torch.linalg.qr(torch.randn(12, 12))
    matrix = u @ torch.diag(torch.linspace(0.5, 2, 12)) @ v.T
    result = orthogonal(matrix, steps=5)
    cosine = (result * (u @ v.T)).sum() / (result.norm() * (u @ v.T).norm())
    assert cosine > 0.97


def test_orthogonal_of_nothing_is_nothing() -> None:
    assert torch.equal(orthogonal(torch.zeros(4, 9)), torch.zeros(4, 9))


def test_muon_finds_a_filter() -> None:
    torch.manual_seed(0)
    target = torch.randn(8, 4, 3, 3)
    target *= 8**0.5 / target.norm()
    filters = torch.nn.Parameter(torch.randn(8, 4, 3, 3))
    optimizer = Muon([filters], 0.1, 0.6)

    def loss() -> Tensor:
        return ((filters - target) ** 2).sum()

    before = loss().item()
    for step in range(200):
        filters.grad = None
        loss().backward()  # type: ignore[no-untyped-call]
        optimizer.step(1 - step / 200)
    assert loss().item() < 0.05 * before


def test_muon_takes_the_filters_and_adam_the_rest() -> None:
    network = Tiny()
    muon, adam = make_optimizers(network, TINY)
    assert [tuple(p.shape) for p in muon.parameters] == [(16, 8, 3, 3)]
    assert len(muon.parameters) + len(adam.parameters) == len(list(network.parameters()))


def test_classic_trains_everything_with_adam_as_keras_has_it() -> None:
    network = Classic()
    (adam,) = make_optimizers(network, RECIPES["classic"])
    assert isinstance(adam, optimizers.Adam)
    assert len(adam.parameters) == len(list(network.parameters()))
    assert (adam.learning_rate, adam.betas, adam.epsilon) == (1e-3, (0.9, 0.999), 1e-7)


def test_adam_is_pytorchs() -> None:
    torch.manual_seed(0)
    ours, theirs = (torch.nn.Parameter(torch.ones(5, 3, 2, 2)) for _ in range(2))
    idle = torch.nn.Parameter(torch.ones(2))  # has no gradient
    adam = optimizers.Adam([idle, ours], 0.1, (0.8, 0.95), 1e-6)
    reference = torch.optim.Adam([theirs], 0.1, (0.8, 0.95), 1e-6)
    for share in (1.0, 0.5, 0.1):
        ours.grad = torch.randn(5, 3, 2, 2)
        theirs.grad = ours.grad.clone()
        adam.step(share)
        reference.param_groups[0]["lr"] = 0.1 * share
        reference.step()
        torch.testing.assert_close(ours, theirs)
    assert torch.equal(idle, torch.ones(2))


def test_training_does_not_import_the_compiler() -> None:
    """It takes longer than a tenth of the shortest training."""
    program = """
import sys, torch
from fmnist.models import Classic
from fmnist.recipes import CLASSIC
from fmnist.training.batches import Batch
from fmnist.training.device import Device
from fmnist.training.state import State
state = State(Classic(), CLASSIC, 1, 2, Device("cpu", "float32"))
y = torch.zeros(2, dtype=torch.int64)
state.advance(Batch(torch.rand(2, 1, 28, 28), y, y, torch.ones(2)))
assert state.step == 1
assert "torch._dynamo" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_frozen_parameters_are_left_alone() -> None:
    network = Classic()
    network.conv1.weight.requires_grad_(False)
    (adam,) = make_optimizers(network, RECIPES["classic"])
    assert all(p is not network.conv1.weight for p in adam.parameters)


def test_a_linear_schedule_rises_and_falls_to_nothing() -> None:
    rates = [rate_at(dataclasses.replace(TINY, warmup=0.1), step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == 1.0
    assert all(a < b for a, b in itertools.pairwise(rates[:10]))
    assert all(a > b for a, b in itertools.pairwise(rates[10:]))
    assert 0 < rates[-1] < 0.02


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_the_shortest_trainings_have_a_schedule(steps: int) -> None:
    for warmup in (0.0, 0.1, 0.9, 1.0):
        recipe = dataclasses.replace(TINY, warmup=warmup)
        assert all(0 < rate_at(recipe, step, steps) <= 1 for step in range(steps))


def test_a_constant_schedule_is_constant() -> None:
    recipe = dataclasses.replace(TINY, optimizer=Adam(), schedule="constant", warmup=0.0)
    assert {rate_at(recipe, step, 50) for step in range(50)} == {1.0}
