"""Train a recipe: one loop, from a recipe and the splits to a run directory."""

import contextlib
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save

from fmnist.data import Dataset, Split, load_dataset
from fmnist.errors import RunError, Stopped
from fmnist.files import try_lock, write_whole
from fmnist.models import make_network
from fmnist.recipes import RECIPES, Recipe, find_recipe
from fmnist.runs import Run, create_run, open_run
from fmnist.training.batches import Batches
from fmnist.training.checkpoint import (
    load_checkpoint,
    portable,
    remove_leftovers,
    save_checkpoint,
)
from fmnist.training.device import find_device, processor_settings
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
    named, recipe = _name_and_recipe(recipe)
    data = data or load_dataset()
    if not 0 <= seed < 2**63:
        raise RunError(f"seed {seed} is not in 0 .. 2^63 - 1")
    if resume is None:
        facts = starting_facts(named, recipe, data, seed, all_data, find_device(device))
        run = create_run(out, recipe.name, seed)
        run.write(facts)
    else:
        run = open_run(resume)
        check_resumable(run, recipe, data, device)
    with try_lock(run.checkpoints / "lock") as is_ours, stop_on_signal() as stop:
        if not is_ours:
            raise RunError(f"another training is using {run.folder}; wait for it, or stop it")
        facts = run.read()
        if facts["state"] != "finished":
            run.write({**facts, "resumed": facts["resumed"] + (resume is not None)})
            with _how_to_go_on(run), processor_settings(facts["threads"]):
                _train(run, recipe, data, stop, watch, checkpoint_seconds)
        shutil.rmtree(run.checkpoints, ignore_errors=True)
        if stop.signal is not None:
            done = f"stopped when {run.folder} was trained; judge it with: {run.evaluate_command()}"
            raise Stopped(done, stop.signal)
    return run


def _name_and_recipe(recipe: Recipe | str) -> tuple[str, Recipe]:
    """Return how the command line would name a recipe, and the recipe."""
    if isinstance(recipe, str):
        return recipe, find_recipe(recipe)
    return recipe.name if RECIPES.get(recipe.name) == recipe else "YOUR_MODULE:RECIPE", recipe


@contextlib.contextmanager
def _how_to_go_on(run: Run) -> Iterator[None]:
    """Turn a full disk into a RunError that says what to do."""
    try:
        yield
    except OSError as error:
        raise RunError(
            f"{error.filename}: {error.strerror}; training stopped, what was saved before is kept. "
            f"Make room, then go on with: {run.resume_command()}"
        ) from error


def _train(
    run: Run,
    recipe: Recipe,
    data: Dataset,
    stop: StopRequest,
    watch: Callable[[Progress], None],
    checkpoint_seconds: float,
) -> None:
    """Bring the run from wherever it stands to its end."""
    began = time.perf_counter()
    facts = run.read()
    device = find_device(facts["device"], facts["precision"])
    learning = data.split("all" if facts["all_data"] else "train")
    validation = None if facts["all_data"] else data.split("validation")
    batches = Batches(learning.images, learning.labels, recipe, device.torch)
    torch.manual_seed(facts["seed"])
    network = make_network(recipe.network)
    state = State(network, recipe, sum(batches.lengths), len(learning), device)
    remove_leftovers(run.checkpoints)
    saved = load_checkpoint(run.checkpoints)
    if saved is not None:
        state.unpack(saved)
    elif facts["resumed"]:
        log.warning("%s holds no whole checkpoint, so training starts again", run.folder)
    state.seconds["setup"] += time.perf_counter() - began
    _fit(run, state, batches, validation, stop, watch, checkpoint_seconds)
    _finish(run, state)


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
        epoch, done = batches.locate(state.step)
        began = time.perf_counter() - state.epoch_seconds
        for batch in batches.epoch(seed, epoch, state.losses[1], first=done):
            state.advance(batch)
            done += 1
            epoch_ends = done == batches.lengths[epoch]
            state.epoch_seconds = time.perf_counter() - began
            if epoch_ends or state.step % look_every == 0:
                _check_finite(state)
                watch(_progress(state, epoch + 1, epoch_ended=False))
            is_due = time.monotonic() - saved_at >= checkpoint_seconds
            if not epoch_ends and (is_due or stop.signal is not None):
                began += _save(run, state, stop)
                saved_at = time.monotonic()
        _end_epoch(state, epoch + 1, validation)
        run.write_history(state.history)
        watch(_progress(state, epoch + 1, epoch_ended=True))
        state.begin_epoch()
        if state.step < state.steps:
            _save(run, state, stop)
            saved_at = time.monotonic()


def _check_finite(state: State, *, weights: bool = False) -> None:
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


def _save(run: Run, state: State, stop: StopRequest) -> float:
    """Write a checkpoint and return the seconds it took; raise Stopped if a signal asked for it."""
    _check_finite(state, weights=True)
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


def _end_epoch(state: State, epoch: int, validation: Split | None) -> None:
    """Judge on validation and add the epoch's line to the history."""
    loss, right, weight, seen = state.sums.tolist()
    judged: dict[str, float | None] = {"validation_loss": None, "validation_accuracy": None}
    if validation is not None:
        began = time.perf_counter()
        judged = _judge(state, validation)
        state.seconds["validation"] += time.perf_counter() - began
    state.history.append(
        {
            "epoch": epoch,
            "train_loss": loss / weight,
            "train_accuracy": right / weight,
            **judged,
            "learning_rate": state.learning_rate,
            "seconds": state.epoch_seconds,
            "images_per_second": seen / state.epoch_seconds,
        }
    )
    state.seconds["train"] += state.epoch_seconds


def _judge(state: State, split: Split) -> dict[str, float | None]:
    """Return loss and accuracy on validation; whatever they say, the last epoch is kept."""
    logits = infer(state.network, split.images, state.device, flip=state.recipe.flip_at_test)
    scores, labels = torch.from_numpy(logits), torch.from_numpy(split.labels.astype(np.int64))
    return {
        "validation_loss": F.cross_entropy(scores, labels, reduction="sum").item() / len(labels),
        "validation_accuracy": int((scores.argmax(1) == labels).sum()) / len(labels),
    }


def _finish(run: Run, state: State) -> None:
    """Write the weights, and into run.json that this is the end and what it cost."""
    _check_finite(state, weights=True)
    write_whole(run.weights, save(portable(state.network.state_dict())))
    run.finish(now(), state.seconds)


def _progress(state: State, epoch: int, *, epoch_ended: bool) -> Progress:
    loss, right, weight, seen = state.sums.tolist()
    return Progress(
        epoch=epoch,
        epochs=state.recipe.epochs,
        step=state.step,
        steps=state.steps,
        loss=loss / weight,
        accuracy=right / weight,
        images_per_second=seen / state.epoch_seconds,
        validation_accuracy=state.history[-1]["validation_accuracy"] if state.history else None,
        epoch_ended=epoch_ended,
    )
