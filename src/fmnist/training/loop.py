"""Train a recipe: one loop, from a recipe and the splits to a run directory."""

import contextlib
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fmnist.data import Dataset, Split, load_dataset
from fmnist.errors import DataError, RunError, Stopped
from fmnist.files import try_lock, write_whole
from fmnist.models import StartsFromImages, make_network
from fmnist.recipes import RECIPES, Recipe, find_recipe
from fmnist.runs import Run, create_run, open_run
from fmnist.training.batches import Batches
from fmnist.training.checkpoint import load_checkpoint, remove_leftovers
from fmnist.training.device import Device, find_device, processor_settings
from fmnist.training.milestones import (
    Progress,
    Training,
    check_finite,
    end_epoch,
    progress,
    save_state,
)
from fmnist.training.provenance import check_resumable, now, starting_facts
from fmnist.training.state import State
from fmnist.training.stop import StopRequest, stop_on_signal
from fmnist.training.training_set import training_set

if TYPE_CHECKING:
    from fmnist.photos.folder import PhotoFolder, PreparedPhotos

log = logging.getLogger("fmnist")

CHECKPOINT_SECONDS = 20.0  # the most work that a kill can cost
SAMPLE = 500  # images shown to a network that starts from some
LOOK_EVERY = {"cpu": 1, "cuda": 50, "mps": 50}  # steps; a look at a GPU's loss waits for the GPU

Watch: TypeAlias = Callable[[Progress], None]


class Engine(NamedTuple):
    """What trains: where it runs, the state of a training, and the loop over it."""

    place: Callable[[Recipe, str], Device]  # RunError where recipe or device cannot be had
    begin: Callable[[nn.Module, Recipe, int, int, Device], Any]
    fit: Callable[[Run, Any, Batches, Split | None, StopRequest, Watch, float], None]


def train(
    recipe: Recipe | str,
    data: Dataset | None = None,
    *,
    seed: int = 0,
    all_data: bool = False,
    out: str | os.PathLike[str] | None = None,
    photos: "PhotoFolder | None" = None,
    device: str = "auto",
    engine: str | None = None,
    resume: str | os.PathLike[str] | None = None,
    watch: Watch = lambda progress: None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> Run:
    """Train `recipe` on the train split (`all_data`: on all 60,000) and return its run directory.

    `photos` are prepared and learned from too. `engine` is "torch" or "keras"; None: the resumed
    run's, or else torch.
    `out` names a new directory; `resume` names a run that was stopped, which is continued as if it
    never had been: on the same machine and versions the weights are the same bit for bit.
    The first SIGINT or SIGTERM saves the state and raises Stopped. Raises RunError when a directory
    is taken or the loss is not finite, DataError and ModelError when data or network do not fit.
    """
    named, recipe = name_and_recipe(recipe)
    data = data or load_dataset()
    began = time.perf_counter()
    if not 0 <= seed < 2**63:
        raise RunError(f"seed {seed} is not in 0 .. 2^63 - 1")
    if resume is None:
        engine = engine or "torch"
        place = _find_engine(engine).place(recipe, device)
        facts = starting_facts(named, recipe, data, seed, all_data, engine, place, photos)
        prepared = _prepare(facts)  # before there is a directory: a bad photo leaves none
        run = create_run(out, recipe.name, seed)
        run.write(facts)
    else:
        run = open_run(resume)
        check_resumable(run, recipe, data, device, engine)
        facts = run.read()
        _find_engine(facts["engine"]).place(recipe, facts["device"])  # or say that it is not here
    with try_lock(run.checkpoints / "lock") as is_ours, stop_on_signal() as stop:
        if not is_ours:
            raise RunError(f"another training is using {run.folder}; wait for it, or stop it")
        facts = run.read()
        if facts["state"] != "finished":
            if resume is not None:
                prepared = _prepare(facts)
            run.write({**facts, "resumed": facts["resumed"] + (resume is not None)})
            with _how_to_go_on(run), processor_settings(facts["threads"]):
                _train(run, recipe, data, prepared, began, stop, watch, checkpoint_seconds)
        shutil.rmtree(run.checkpoints, ignore_errors=True)
        if stop.signal is not None:
            done = f"stopped when {run.folder} was trained; judge it with: {run.evaluate_command()}"
            raise Stopped(done, stop.signal)
    return run


def name_and_recipe(recipe: Recipe | str) -> tuple[str, Recipe]:
    """Return how the command line would name a recipe, and the recipe."""
    if isinstance(recipe, str):
        return recipe, find_recipe(recipe)
    return recipe.name if RECIPES.get(recipe.name) == recipe else "YOUR_MODULE:RECIPE", recipe


def _find_engine(name: str) -> Engine:
    if name == "torch":
        return Engine(lambda recipe, device: find_device(device), State, _fit)
    if name == "keras":
        from fmnist.training import keras_engine

        return Engine(keras_engine.place, keras_engine.KerasState, keras_engine.fit)
    raise RunError(f"there is no engine {name!r}; use torch or keras")


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


def _prepare(facts: dict[str, Any]) -> "PreparedPhotos | None":
    """Prepare the photos that a run's facts name, and note in the facts which they are.

    Raises DataError where one cannot be read, or they are not those that the run began with.
    """
    named = facts.get("photos")  # older runs have no such fact
    if named is None:
        return None
    from fmnist.photos.folder import PhotoFolder, prepare_photos

    photos = prepare_photos(PhotoFolder.from_json(named).read())
    if named.get("sha256", photos.sha256) != photos.sha256:
        raise DataError(
            f"the run was started on other photos than {named['folder']} has now, "
            "or prepared them otherwise; start anew, or bring those back"
        )
    facts["photos"] = {**named, "count": len(photos.labels), "sha256": photos.sha256}
    return photos


def _train(
    run: Run,
    recipe: Recipe,
    data: Dataset,
    photos: "PreparedPhotos | None",
    began: float,
    stop: StopRequest,
    watch: Watch,
    checkpoint_seconds: float,
) -> None:
    """Bring the run from wherever it stands to its end; setting it up began at `began`."""
    facts = run.read()
    engine, place = _find_engine(facts["engine"]), Device(facts["device"], facts["precision"])
    learning = training_set(
        data.split("all" if facts["all_data"] else "train"), recipe, photos, facts["seed"]
    )
    validation = None if facts["all_data"] else data.split("validation")
    # Keras has a memory of its own, and is fed from the processor's.
    memory = place.torch if facts["engine"] == "torch" else torch.device("cpu")
    batches = Batches(
        learning.images,
        learning.labels,
        recipe,
        memory,
        drawings=learning.drawings,
        photos=learning.photos,
    )
    network = first_network(recipe, learning.images, facts["seed"])
    state = engine.begin(network, recipe, sum(batches.lengths), len(learning.labels), place)
    remove_leftovers(run.checkpoints)
    saved = load_checkpoint(run.checkpoints)
    if saved is not None:
        state.unpack(saved)
    elif facts["resumed"]:
        log.warning("%s holds no whole checkpoint, so training starts again", run.folder)
    state.seconds["setup"] += time.perf_counter() - began
    engine.fit(run, state, batches, validation, stop, watch, checkpoint_seconds)
    _finish(run, state)


def first_network(recipe: Recipe, images: NDArray[np.uint8], seed: int) -> nn.Module:
    """Seed PyTorch, and return the network before its first step on images (n, 28, 28)."""
    torch.manual_seed(seed)
    network = make_network(recipe.network)
    if isinstance(network, StartsFromImages):
        network.start_from(torch.tensor(images[:SAMPLE]).unsqueeze(1) / 255)
    return network


def _fit(
    run: Run,
    state: State,
    batches: Batches,
    validation: Split | None,
    stop: StopRequest,
    watch: Watch,
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
                check_finite(state)
                watch(progress(state, epoch + 1, epoch_ended=False))
            is_due = time.monotonic() - saved_at >= checkpoint_seconds or stop.signal is not None
            if not epoch_ends and is_due:
                began += save_state(run, state, stop)
                saved_at = time.monotonic()
        end_epoch(state, epoch + 1, validation)
        state.seconds["checkpoint"] += _timed(run.write_history, state.history)
        watch(progress(state, epoch + 1, epoch_ended=True))
        state.begin_epoch()
        if state.step < state.steps and is_due:
            save_state(run, state, stop)
            saved_at = time.monotonic()


def _finish(run: Run, state: Training) -> None:
    """Write the weights, and into run.json that this is the end and what it cost."""
    check_finite(state, weights=True)
    state.seconds["checkpoint"] += _timed(write_whole, run.weights, state.file())
    run.finish(now(), state.seconds)


def _timed(function: Callable[..., object], *arguments: object) -> float:
    """Call a function and return the seconds it took."""
    began = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - began
