"""Train a recipe: one loop, from a recipe and the splits to a run directory."""

import logging
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save

from fmnist.data import Dataset, Split, load_dataset
from fmnist.errors import RunError, Stopped
from fmnist.files import try_lock, write_whole
from fmnist.models import make_network
from fmnist.recipes import Recipe, find_recipe
from fmnist.runs import Run, create_run, open_run
from fmnist.training.batches import Batches
from fmnist.training.checkpoint import load_checkpoint, remove_leftovers, save_checkpoint
from fmnist.training.device import cpu_settings, find_device
from fmnist.training.inference import infer
from fmnist.training.provenance import check_resumable, now, starting_facts
from fmnist.training.state import State
from fmnist.training.stop import StopRequest, stop_on_signal

log = logging.getLogger("fmnist")

CHECKPOINT_SECONDS = 20.0  # the most work that a kill can cost
LOOK_EVERY = {"cpu": 1, "cuda": 50, "mps": 50}  # steps; a look at a GPU's loss waits for the GPU


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


def train(
    recipe: Recipe | str,
    data: Dataset | None = None,
    *,
    seed: int = 0,
    all_data: bool = False,
    out: str | os.PathLike[str] | None = None,
    device: str = "auto",
    resume: str | os.PathLike[str] | None = None,
    watch: Callable[[Progress], None] = lambda progress: None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> Run:
    """Train `recipe` on the train split (`all_data`: on all 60,000) and return its run directory.

    `out` names a new directory; `resume` names a run that was stopped, which is continued as if it
    never had been: on the same machine and versions the weights are the same bit for bit.
    The first SIGINT or SIGTERM saves the state and raises Stopped. Raises RunError when a directory
    is taken or the loss is not finite, DataError and ModelError when data or network do not fit.
    """
    recipe = find_recipe(recipe) if isinstance(recipe, str) else recipe
    data = data or load_dataset()
    if resume is None:
        processor = find_device(device)
        network = make_network(recipe.network)
        run = create_run(out, recipe.name, seed)
        facts = starting_facts(
            recipe, data, seed=seed, all_data=all_data, device=processor, network=network
        )
        run.write(facts)
    else:
        run = open_run(resume)
        check_resumable(run, recipe, data, device)
    with try_lock(run.checkpoints / "lock") as is_ours:
        if not is_ours:
            raise RunError(f"another training is using {run.folder}; wait for it, or stop it")
        if run.read()["state"] != "finished":
            if resume is not None:
                _note_resumption(run)
            _train(run, recipe, data, watch, checkpoint_seconds)
        shutil.rmtree(run.checkpoints)
    return run


def _train(
    run: Run,
    recipe: Recipe,
    data: Dataset,
    watch: Callable[[Progress], None],
    checkpoint_seconds: float,
) -> None:
    """Bring the run from wherever it stands to its end."""
    facts = run.read()
    began = time.perf_counter()
    with cpu_settings(facts["threads"]), stop_on_signal() as stop:
        device = find_device(facts["device"], facts["precision"])
        learning = data.split("all" if facts["all_data"] else "train")
        validation = None if facts["all_data"] else data.split("validation")
        batches = Batches(
            learning.images, learning.labels, recipe.batch_size, recipe.augmentation, device.torch
        )
        torch.manual_seed(facts["seed"])
        network = make_network(recipe.network)
        state = State(network, recipe, recipe.epochs * len(batches), device)
        remove_leftovers(run.checkpoints)
        saved = load_checkpoint(run.checkpoints)
        if saved is not None:
            state.unpack(saved)
        state.seconds["setup"] += time.perf_counter() - began
        _fit(run, state, batches, validation, stop, watch, checkpoint_seconds)
        _finish(run, state)


def _note_resumption(run: Run) -> None:
    """Count it in run.json; without a checkpoint to go on from, say that it starts again."""
    facts = run.read()
    run.write({**facts, "resumed": facts["resumed"] + 1})
    if load_checkpoint(run.checkpoints) is None:
        log.warning("%s holds no whole checkpoint, so training starts again", run.folder)


def _fit(
    run: Run,
    state: State,
    batches: Batches,
    validation: Split | None,
    stop: StopRequest,
    watch: Callable[[Progress], None],
    checkpoint_seconds: float,
) -> None:
    """The loop: batch, step, look at the loss, now and then a checkpoint; then the epoch's line."""
    seed, look_every, saved_at = run.read()["seed"], LOOK_EVERY[state.device.name], time.monotonic()
    while state.step < state.steps:
        epoch, done = divmod(state.step, len(batches))
        began = time.perf_counter() - state.epoch_seconds
        for x, y in batches.epoch(seed, epoch, first=done):
            state.advance(x, y)
            epoch_ends = state.step % len(batches) == 0
            if epoch_ends or state.step % look_every == 0:
                _check_finite(state)
                state.epoch_seconds = time.perf_counter() - began
                watch(_progress(state, len(batches)))
            is_due = time.monotonic() - saved_at >= checkpoint_seconds
            if not epoch_ends and (is_due or stop.signal is not None):
                _save(run, state, stop)
                saved_at = time.monotonic()
        _end_epoch(state, validation, len(batches))
        run.write_history(state.history)
        watch(_progress(state, len(batches)))
        _save(run, state, stop)
        saved_at = time.monotonic()


def _check_finite(state: State, *, weights: bool = False) -> None:
    """Raise RunError if the loss of a step of this epoch was infinite or not a number."""
    if not state.is_finite(weights=weights):
        what = "a weight" if state.is_finite(weights=False) else "the loss"
        raise RunError(
            f"{what} is not finite at step {state.step} of {state.steps} (learning rate "
            f"{state.learning_rate:.3g}); training stopped and the last good checkpoint is kept. "
            "Lower the learning rate, or look for broken values in the network"
        )


def _save(run: Run, state: State, stop: StopRequest) -> None:
    """Write a checkpoint; raise Stopped if a signal asked for it."""
    _check_finite(state, weights=True)
    save_checkpoint(run.checkpoints, state.step, state.pack())
    if stop.signal is not None and state.step < state.steps:
        raise Stopped(
            f"stopped at step {state.step} of {state.steps}, which is saved in {run.folder}",
            stop.signal,
            str(run.folder),
        )


def _end_epoch(state: State, validation: Split | None, steps_per_epoch: int) -> None:
    """Judge on validation, add the epoch's line to the history and start new sums."""
    loss, right, seen = state.sums.tolist()
    judged: dict[str, float | None] = {"validation_loss": None, "validation_accuracy": None}
    if validation is not None:
        began = time.perf_counter()
        judged = _judge(state, validation)
        state.seconds["validation"] += time.perf_counter() - began
    state.history.append(
        {
            "epoch": state.step // steps_per_epoch,
            "train_loss": loss / seen,
            "train_accuracy": right / seen,
            **judged,
            "learning_rate": state.learning_rate,
            "seconds": state.epoch_seconds,
            "images_per_second": seen / state.epoch_seconds,
        }
    )
    state.seconds["train"] += state.epoch_seconds
    state.epoch_seconds = 0.0
    state.sums.zero_()


def _judge(state: State, split: Split) -> dict[str, float | None]:
    """Return loss and accuracy on validation; whatever they say, the last epoch is kept."""
    logits = infer(state.result, split.images, state.device, flip=state.recipe.flip_at_test)
    scores, labels = torch.from_numpy(logits), torch.from_numpy(split.labels.astype(np.int64))
    return {
        "validation_loss": F.cross_entropy(scores, labels, reduction="sum").item() / len(labels),
        "validation_accuracy": int((scores.argmax(1) == labels).sum()) / len(labels),
    }


def _finish(run: Run, state: State) -> None:
    """Write the weights and what the training cost."""
    weights = {
        name: value.detach().cpu().contiguous() for name, value in state.result.state_dict().items()
    }
    write_whole(run.weights, save(weights))
    run.write({**run.read(), "state": "finished", "finished": now()})
    run.add_seconds(**state.seconds)


def _progress(state: State, steps_per_epoch: int) -> Progress:
    loss, right, seen = state.sums.tolist()
    ended = seen == 0
    line = state.history[-1] if state.history else {}
    return Progress(
        epoch=-(-state.step // steps_per_epoch),
        epochs=state.recipe.epochs,
        step=state.step,
        steps=state.steps,
        loss=line["train_loss"] if ended else loss / seen,
        accuracy=line["train_accuracy"] if ended else right / seen,
        images_per_second=line["images_per_second"] if ended else seen / state.epoch_seconds,
        validation_accuracy=line.get("validation_accuracy"),
        epoch_ended=ended,
    )
