"""All that changes while a network is trained, and how it goes into a checkpoint and comes back."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor, nn

from fmnist.data import STRANGER
from fmnist.errors import ModelError
from fmnist.recipes import Recipe
from fmnist.training.batches import Batch
from fmnist.training.capture import CapturedStep
from fmnist.training.checkpoint import Checkpoint, portable
from fmnist.training.device import Device, on_device
from fmnist.training.inference import infer
from fmnist.training.optimizers import make_optimizers, rate_at


class State:
    """The network, its optimizers, and where in the recipe they stand."""

    def __init__(
        self, network: nn.Module, recipe: Recipe, steps: int, images: int, device: Device
    ) -> None:
        """Start at step 0 of `steps` on `images` images; the network is moved to the device."""
        self.recipe, self.steps, self.device = recipe, steps, device
        self.network = on_device(network, device).train()
        self.optimizers = make_optimizers(self.network, recipe, device.precision)
        # What is validated and kept: the network itself, or a moving average of its weights.
        self.kept = copy.deepcopy(self.network) if recipe.averaging else self.network
        self.rate_share: float | Tensor = 0.0  # of the learning rates, at the step last made
        self.step = 0
        # What each image cost when last seen, without label smoothing: now, and before this epoch.
        self.losses = torch.zeros(2, images, device=device.torch)
        # Of this epoch, each image by its weight: loss, right answers, weight; then images seen.
        self.sums = torch.zeros(4, dtype=_sum_dtype(device), device=device.torch)
        self.history: list[dict[str, Any]] = []
        self.seconds = dict.fromkeys(("setup", "train", "checkpoint", "validation"), 0.0)
        self.epoch_seconds = 0.0
        self._make_step: Callable[[Batch], None] = self._learn
        # A person's own network may do in Python what a recording would do once and never again.
        if device.name == "cuda" and isinstance(recipe.network, str):
            self.rate_share = torch.zeros((), device=device.torch)
            forget = self.network.zero_grad
            self._make_step = CapturedStep(self._learn, recipe.batch_size, forget)

    @property
    def learning_rate(self) -> float:
        """The first optimizer's learning rate at the step last made."""
        return self.optimizers[0].learning_rate * float(self.rate_share)

    def advance(self, batch: Batch) -> None:
        """Make one step."""
        share = rate_at(self.recipe, self.step, self.steps)
        if isinstance(self.rate_share, Tensor):
            self.rate_share.fill_(share)
        else:
            self.rate_share = share
        self._make_step(batch)
        self.step += 1
        if self.recipe.averaging:
            self._average()

    @torch.no_grad()
    def _average(self) -> None:
        """Move the kept weights, and the statistics of norms, towards those of this step.

        At first the average is the plain mean, so that it does not remember how it began.
        """
        share = max(1 - self.recipe.averaging, 1 / self.step)
        kept, now = (_floats(network) for network in (self.kept, self.network))
        torch._foreach_lerp_(kept, now, share)

    def _learn(self, batch: Batch) -> None:
        """Forward, backward, update; nothing in it depends on the number of the step."""
        with self.device.autocast():
            logits = self.network(batch.x.contiguous(memory_format=torch.channels_last))
        # The loss of each image once as validation counts it, and with its label smoothed.
        log_probabilities = F.log_softmax(logits.float(), dim=1)
        classes = batch.y.clamp(max=STRANGER - 1)
        losses = -log_probabilities.gather(1, classes[:, None]).squeeze(1)
        # Of a stranger all of the label is smoothed away: every class is to be as likely.
        smoothing = torch.where(batch.y == STRANGER, 1.0, self.recipe.label_smoothing)
        smoothed = (1 - smoothing) * losses - smoothing * log_probabilities.mean(1)
        (smoothed * batch.weights).mean().backward()  # type: ignore[no-untyped-call]
        for optimizer in self.optimizers:
            optimizer.step(self.rate_share)
        self.network.zero_grad()
        self._note(batch, losses.detach(), logits.detach())

    def _note(self, batch: Batch, losses: Tensor, logits: Tensor) -> None:
        """Add a step to the epoch's sums, and its images' losses to what is known of them."""
        self.losses[0, batch.indices] = losses
        right = (logits.argmax(1) == batch.y).float()
        weights = batch.weights * (batch.y != STRANGER)  # these have no right answer
        weighted = torch.stack([losses, right, torch.ones_like(right)]) @ weights  # (3,)
        self.sums[:3] += weighted
        self.sums[3] += len(right)

    def begin_epoch(self) -> None:
        """Start new sums, and hold fast what is known of the images until the epoch ends."""
        self.sums.zero_()
        self.losses[1] = self.losses[0]
        self.epoch_seconds = 0.0

    def losses_are_finite(self) -> bool:
        """Tell whether every loss of this epoch is a number."""
        return bool(torch.isfinite(self.sums).all())

    def weights_are_finite(self) -> bool:
        """Tell whether every parameter is a number."""
        return all(bool(torch.isfinite(value).all()) for value in self.kept.parameters())

    def ask(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the network's logits (n, 10) of images (n, 28, 28) as the recipe is judged."""
        return infer(self.kept, images, self.device, flip=self.recipe.flip_at_test)

    def file(self) -> bytes:
        """Return the network as safetensors."""
        return save(portable(self.kept.state_dict()))

    def pack(self) -> Checkpoint:
        """Return the whole state."""
        tensors = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        tensors.update(self._moments())
        if self.recipe.averaging:
            tensors |= {f"kept.{name}": value for name, value in self.kept.state_dict().items()}
        tensors["sums"] = self.sums
        if self.recipe.pruning is not None:
            tensors["losses"] = self.losses
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

    def _moments(self) -> dict[str, Tensor]:
        return {
            f"optimizer.{number}.{name}": moment
            for number, optimizer in enumerate(self.optimizers)
            for name, moment in optimizer.moments().items()
        }

    def unpack(self, checkpoint: Checkpoint) -> None:
        """Become the state that was packed. Raises ModelError if it is another network's."""
        tensors = checkpoint.tensors
        try:
            self.network.load_state_dict(_below(tensors, "network."))
            if self.recipe.averaging:
                self.kept.load_state_dict(_below(tensors, "kept."))
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise ModelError(f"the checkpoint is not of this recipe's network: {reason}") from error
        for name, moment in self._moments().items():
            moment.copy_(tensors[name])
        self.sums.copy_(tensors["sums"])
        if self.recipe.pruning is not None:
            self.losses.copy_(tensors["losses"])
        torch.set_rng_state(tensors["random.cpu"])
        if "random.cuda" in tensors and self.device.name == "cuda":
            torch.cuda.set_rng_state(tensors["random.cuda"])
        values = checkpoint.values
        self.step, self.history = values["step"], values["history"]
        self.seconds, self.epoch_seconds = values["seconds"], values["epoch_seconds"]


def _floats(network: nn.Module) -> list[Tensor]:
    return [value for value in network.state_dict().values() if value.is_floating_point()]


def _sum_dtype(device: Device) -> torch.dtype:
    return torch.float32 if device.name == "mps" else torch.float64  # MPS has no float64


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
