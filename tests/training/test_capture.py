"""The recording of a step, with a graph of our own in the place of CUDA's."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator

import pytest
import torch

from fmnist.models import make_network
from fmnist.recipes import RECIPES
from fmnist.training.batches import Batch
from fmnist.training.capture import WARM_UP, CapturedStep
from fmnist.training.device import Device
from fmnist.training.state import State


class Stream:
    """Stands for a CUDA stream."""

    def wait_stream(self, other: object) -> None:
        """Wait for nothing."""


recordings: list["Graph"] = []  # the one that is being made, if any


class Graph:
    """Stands for a CUDA graph: remembers what was recorded, and does it when replayed."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], None]] = []
        self.replays = 0

    def replay(self) -> None:
        """Do again what was recorded."""
        self.replays += 1
        for call in self.calls:
            call()


@pytest.fixture(autouse=True)
def cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextlib.contextmanager
    def recording(graph: Graph) -> Iterator[None]:
        recordings.append(graph)
        try:
            yield
        finally:
            recordings.clear()

    for name, stand_in in {
        "Stream": Stream,
        "current_stream": Stream,
        "stream": lambda stream: contextlib.nullcontext(),
        "CUDAGraph": Graph,
        "graph": recording,
    }.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)


def batch(number: int, size: int = 4) -> Batch:
    y = torch.full((size,), number)
    return Batch(torch.full((size, 1, 28, 28), float(number)), y, y.clone(), torch.ones(size))


def listener(seen: list[int]) -> Callable[[Batch], None]:
    """A step that notes which batch it learned from, at once or when replayed."""

    def step(given: Batch) -> None:
        def note() -> None:
            assert {int(part[0].flatten()[0]) for part in given[:3]} == {int(given.y[0])}
            seen.append(int(given.y[0]))

        if recordings:
            recordings[0].calls.append(note)
        else:
            note()

    return step


def test_every_batch_is_learned_from_once_and_in_order() -> None:
    seen: list[int] = []
    captured = CapturedStep(listener(seen), 4, forget=lambda: None)
    for number in range(10):
        captured(batch(number, size=3 if number == 7 else 4))
    assert seen == list(range(10))
    # Without the warm-up and the smaller batch.
    assert getattr(captured.graph, "replays", None) == 10 - WARM_UP - 1


def test_what_cannot_be_recorded_goes_on_without(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[int] = []
    step = listener(seen)
    gradients: list[str] = []
    streams: list[object] = []

    def fail_in_the_middle(given: Batch) -> None:
        if recordings:
            gradients.append("of the dead graph")
            raise RuntimeError("operation not permitted when stream is capturing\nmore")
        assert gradients == []
        step(given)

    monkeypatch.setattr(torch.cuda, "set_stream", streams.append)
    captured = CapturedStep(fail_in_the_middle, 4, forget=gradients.clear)
    for number in range(8):
        captured(batch(number))
    assert seen == list(range(8))
    assert len(streams) == 1
    told = [record.message for record in caplog.records]
    assert len(told) == 1
    assert "(operation not permitted when stream is capturing); going on without" in told[0]


def test_a_step_with_its_rate_in_a_tensor_is_the_same_step() -> None:
    recipe = dataclasses.replace(RECIPES["sprint"], batch_size=8)
    given = Batch(torch.rand(8, 1, 28, 28), torch.arange(8), torch.arange(8), torch.full((8,), 1.5))
    states = []
    for share in (0.0, torch.zeros(())):
        torch.manual_seed(0)
        state = State(make_network(recipe.network), recipe, 20, 8, Device("cpu", "float32"))
        state.rate_share = share
        for _ in range(4):
            state.advance(given)
        states.append(state)
    plain, recorded = states
    assert isinstance(recorded.rate_share, torch.Tensor)
    assert recorded.learning_rate == pytest.approx(plain.learning_rate)
    for name, value in plain.network.state_dict().items():
        torch.testing.assert_close(recorded.network.state_dict()[name], value)
