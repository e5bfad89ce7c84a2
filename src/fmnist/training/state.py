"""All that changes while a network is trained, and how it goes into a checkpoint and comes back."""

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fmnist.errors import ModelError
from fmnist.recipes import Recipe
from fmnist.training.checkpoint import Checkpoint
from fmnist.training.device import Device, on_device
from fmnist.training.optimizers import make_optimizers, rate_at, set_rates


class State:
    """The network, its optimizers and moving average, and where in the recipe they stand."""

    def __init__(self, network: nn.Module, recipe: Recipe, steps: int, device: Device) -> None:
        """Start at step 0 of `steps`; the network is moved to the device."""
        self.recipe, self.steps, self.device = recipe, steps, device
        self.network = on_device(network, device).train()
        self.average = copy.deepcopy(self.network) if recipe.average else None
        self.optimizers = make_optimizers(self.network, recipe)
        self.base_rates = [optimizer.param_groups[0]["lr"] for optimizer in self.optimizers]
        self.step = 0
        self.sums = torch.zeros(3, dtype=_sum_dtype(device), device=device.torch)
        self.history: list[dict[str, Any]] = []
        self.seconds = {"setup": 0.0, "train": 0.0, "validation": 0.0}
        self.epoch_seconds = 0.0

    @property
    def result(self) -> nn.Module:
        """The network that is kept: the moving average if the recipe has one."""
        return self.network if self.average is None else self.average

    @property
    def learning_rate(self) -> float:
        """The first optimizer's learning rate at the step last made."""
        return float(self.optimizers[0].param_groups[0]["lr"])

    def advance(self, x: Tensor, y: Tensor) -> None:
        """Make one step on x (b, 1, 28, 28) float32 and y (b,) int64."""
        set_rates(self.optimizers, self.base_rates, rate_at(self.recipe, self.step, self.steps))
        with self.device.autocast():
            logits = self.network(x.contiguous(memory_format=torch.channels_last))
        loss = F.cross_entropy(logits.float(), y, label_smoothing=self.recipe.label_smoothing)
        loss.backward()  # type: ignore[no-untyped-call]
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        if self.average is not None:
            self._move_average()
        self.step += 1
        with torch.no_grad():
            right = (logits.argmax(1) == y).sum()
            seen = torch.full_like(loss, len(y))
            self.sums += torch.stack([loss.detach() * len(y), right.to(loss.dtype), seen])

    def is_finite(self, *, weights: bool) -> bool:
        """Tell whether every loss of this epoch is a number, and on request every weight too."""
        values = [self.sums]
        if weights:
            values += [*self.network.state_dict().values(), *self.result.state_dict().values()]
        return all(bool(torch.isfinite(value).all()) for value in values)

    @torch.no_grad()
    def _move_average(self) -> None:
        # A young average follows faster, or it would remember the random start:
        # the warm-up (1 + t) / (10 + t) is TensorFlow's ExponentialMovingAverage's.
        decay = min(self.recipe.average, (1 + self.step) / (10 + self.step))
        assert self.average is not None
        pairs = zip(
            self.average.state_dict().values(), self.network.state_dict().values(), strict=True
        )
        for kept, new in pairs:
            if kept.is_floating_point():
                kept.lerp_(new, 1 - decay)
            else:
                kept.copy_(new)

    def pack(self) -> Checkpoint:
        """Return the whole state."""
        tensors = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        if self.average is not None:
            averages = self.average.state_dict().items()
            tensors |= {f"average.{name}": value for name, value in averages}
        for number, optimizer in enumerate(self.optimizers):
            for index, entries in optimizer.state_dict()["state"].items():
                for key, value in entries.items():
                    tensors[f"optimizer.{number}.{index}.{key}"] = value
        tensors["sums"] = self.sums
        tensors["random.cpu"] = torch.get_rng_state()
        if self.device.name == "cuda":
            tensors["random.cuda"] = torch.cuda.get_rng_state()
        values = {
            "step": self.step,
            "history": self.history,
            "seconds": self.seconds,
            "epoch_seconds": self.epoch_seconds,
        }
        return Checkpoint(tensors, values)

    def unpack(self, checkpoint: Checkpoint) -> None:
        """Become the state that was packed. Raises ModelError if it is another network's."""
        tensors = checkpoint.tensors
        _load(self.network, tensors, "network.")
        if self.average is not None:
            _load(self.average, tensors, "average.")
        for number, optimizer in enumerate(self.optimizers):
            entries: dict[int, dict[str, Tensor]] = {}
            for name, tensor in _below(tensors, f"optimizer.{number}.").items():
                index, _, key = name.partition(".")
                entries.setdefault(int(index), {})[key] = tensor
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": entries, "param_groups": groups})
        self.sums.copy_(tensors["sums"])
        torch.set_rng_state(tensors["random.cpu"])
        if "random.cuda" in tensors and self.device.name == "cuda":
            torch.cuda.set_rng_state(tensors["random.cuda"])
        values = checkpoint.values
        self.step, self.history = values["step"], values["history"]
        self.seconds, self.epoch_seconds = values["seconds"], values["epoch_seconds"]


def _sum_dtype(device: Device) -> torch.dtype:
    return torch.float32 if device.name == "mps" else torch.float64  # MPS has no float64


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def _load(network: nn.Module, tensors: dict[str, Tensor], prefix: str) -> None:
    try:
        network.load_state_dict(_below(tensors, prefix))
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise ModelError(f"the checkpoint is not of this recipe's network: {reason}") from error
