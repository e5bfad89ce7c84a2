"""What every engine does between steps: progress, checkpoints, an epoch's line, refusals."""

import time
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from fmnist.data import Split
from fmnist.errors import RunError, Stopped
from fmnist.recipes import Recipe
from fmnist.runs import Run
from fmnist.training.checkpoint import Checkpoint, save_checkpoint
from fmnist.training.stop import StopRequest


@dataclass(frozen=True)
class Progress:
    """Where a training stands; `loss` and `accuracy` (0..1) are the epoch's training means."""

    epoch: int  # 1 .. epochs
    epochs: int
    step: int  # steps made in all
    steps: int
    loss: float
    accuracy: float
    images_per_second: float
    validation_accuracy: float | None  # of the last epoch that ended
    epoch_ended: bool


class Training(Protocol):
    """What changes while a network is trained, whichever engine trains it."""

    recipe: Recipe
    step: int
    steps: int
    history: list[dict[str, Any]]
    seconds: dict[str, float]
    epoch_seconds: float

    @property
    def sums(self) -> torch.Tensor:
        """Of this epoch: loss, right answers, weight of the images; images seen. (4,)."""

    @property
    def learning_rate(self) -> float:
        """The learning rate of the step last made."""

    def losses_are_finite(self) -> bool:
        """Tell whether every loss of this epoch is a number."""

    def weights_are_finite(self) -> bool:
        """Tell whether every parameter is a number."""

    def pack(self) -> Checkpoint:
        """Return the whole state."""

    def file(self) -> bytes:
        """Return the network as the file that a finished run keeps."""

    def ask(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the network's logits (n, 10) of images (n, 28, 28) as the recipe is judged."""


def progress(state: Training, epoch: int, *, epoch_ended: bool) -> Progress:
    """Return where the training stands in epoch `epoch` (1, 2, …)."""
    loss, accuracy, seen = _means(state)
    return Progress(
        epoch=epoch,
        epochs=state.recipe.epochs,
        step=state.step,
        steps=state.steps,
        loss=loss,
        accuracy=accuracy,
        images_per_second=seen / state.epoch_seconds,
        validation_accuracy=state.history[-1]["validation_accuracy"] if state.history else None,
        epoch_ended=epoch_ended,
    )


def check_finite(state: Training, *, weights: bool = False) -> None:
    """Raise RunError if a loss of this epoch, or on request a weight, is not a number."""
    broken = "the loss" if not state.losses_are_finite() else ""
    if weights and not state.weights_are_finite():
        broken = broken or "a weight"
    if broken:
        raise RunError(
            f"{broken} is not finite at step {state.step} of {state.steps} (learning rate "
            f"{state.learning_rate:.3g}); training stopped, what was saved before is kept. "
            "Lower the learning rate, or look for broken values in the network"
        )


def save_state(run: Run, state: Training, stop: StopRequest) -> float:
    """Write a checkpoint and return the seconds it took; raise Stopped if a signal asked for it."""
    check_finite(state, weights=True)
    began = time.perf_counter()
    save_checkpoint(run.checkpoints, state.step, state.pack())
    spent = time.perf_counter() - began
    state.seconds["checkpoint"] += spent
    if stop.signal is not None:
        raise Stopped(
            f"stopped at step {state.step} of {state.steps}, which is saved in {run.folder}; "
            f"go on with: {run.resume_command()}",
            stop.signal,
        )
    return spent


def end_epoch(state: Training, epoch: int, validation: Split | None) -> None:
    """Judge on validation and add the epoch's line to the history."""
    loss, accuracy, seen = _means(state)
    judged: dict[str, float | None] = {"validation_loss": None, "validation_accuracy": None}
    if validation is not None:
        began = time.perf_counter()
        judged = _judge(state.ask(validation.images), validation)
        state.seconds["validation"] += time.perf_counter() - began
    state.history.append(
        {
            "epoch": epoch,
            "train_loss": loss,
            "train_accuracy": accuracy,
            **judged,
            "learning_rate": state.learning_rate,
            "seconds": state.epoch_seconds,
            "images_per_second": seen / state.epoch_seconds,
        }
    )
    state.seconds["train"] += state.epoch_seconds


def _means(state: Training) -> tuple[float, float, float]:
    """Return loss and accuracy of this epoch, and how many images were seen.

    Both are 0 as long as only strangers were: these have no weight.
    """
    loss, right, weight, seen = state.sums.tolist()
    return loss / (weight or 1), right / (weight or 1), seen


def _judge(logits: NDArray[np.float32], split: Split) -> dict[str, float | None]:
    """Return loss and accuracy on validation; whatever they say, the last epoch is kept."""
    scores, labels = torch.from_numpy(logits), torch.from_numpy(split.labels.astype(np.int64))
    return {
        "validation_loss": F.cross_entropy(scores, labels, reduction="sum").item() / len(labels),
        "validation_accuracy": int((scores.argmax(1) == labels).sum()) / len(labels),
    }
