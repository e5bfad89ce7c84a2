"""The Keras engine: a recipe through `model.fit`, on the batches that the torch engine sees.

It starts from the torch network's first weights and is fed with the same images in the same order,
so the two engines differ in arithmetic only: Keras adds Adam's epsilon before it corrects the
second moment's bias, and its batch norm keeps the biased variance.
"""

import dataclasses
import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fmnist.data import Split
from fmnist.errors import ModelError, RunError
from fmnist.recipes import Adam, Recipe
from fmnist.runs import Run
from fmnist.training.batches import Batch, Batches
from fmnist.training.checkpoint import Checkpoint
from fmnist.training.device import Device
from fmnist.training.keras_backend import check_device, keras, make_repeatable
from fmnist.training.keras_file import keras_bytes
from fmnist.training.keras_networks import TWINS, ask, logits_model, make_twin
from fmnist.training.milestones import Progress, check_finite, end_epoch, progress, save_state
from fmnist.training.optimizers import rate_at
from fmnist.training.stop import StopRequest


def place(recipe: Recipe, device: str) -> Device:
    """Return where Keras will train; RunError for a recipe or a device that it cannot follow."""
    unknown = list(_not_followed(recipe))
    if unknown:
        raise RunError(
            f"the Keras engine cannot follow recipe {recipe.name}: {'; '.join(unknown)}. "
            "Train it with --engine torch, or change that with dataclasses.replace(recipe, …)"
        )
    return Device(check_device(device), "float32")


def _not_followed(recipe: Recipe) -> Iterator[str]:
    network = recipe.to_json()["network"]
    if network not in TWINS:
        yield f"its network {network} is not one of {', '.join(TWINS)}"
    if not isinstance(recipe.optimizer, Adam):
        yield f"its optimizer is {type(recipe.optimizer).__name__}, not Adam"
    if recipe.pruning is not None:
        yield "its pruning is not None"
    if recipe.averaging:
        yield f"its averaging is {recipe.averaging}, not 0"
    if recipe.strangers:
        yield f"its strangers are {recipe.strangers}, not 0"
    if recipe.augmentation.photo_defects:
        yield "its augmentation has photo_defects"


class KerasState:
    """A Keras model in training, its optimizer, and where in the recipe they stand."""

    def __init__(
        self, network: nn.Module, recipe: Recipe, steps: int, images: int, device: Device
    ) -> None:
        """Start at step 0 of `steps` on `images` images, from the weights of a torch network."""
        assert isinstance(recipe.optimizer, Adam)
        assert isinstance(recipe.network, str)
        make_repeatable()
        self.recipe, self.steps, self.step = recipe, steps, 0
        self.model = make_twin(recipe.network, network.state_dict())
        self.learner = logits_model(self.model)  # the same weights
        self.optimizer = _make_adam(recipe.optimizer)
        self.rate = recipe.optimizer.learning_rate  # what the optimizer holds now
        # Without label smoothing, as validation counts it; their sums are this epoch's.
        self.metrics = [
            keras.metrics.CategoricalCrossentropy(from_logits=True, name="cross_entropy"),
            keras.metrics.CategoricalAccuracy(name="accuracy"),
        ]
        self.learner.compile(
            optimizer=self.optimizer,
            loss=keras.losses.CategoricalCrossentropy(
                from_logits=True, label_smoothing=recipe.label_smoothing
            ),
            metrics=self.metrics,
        )
        self.optimizer.build(self.learner.trainable_variables)
        self.means = (0.0, 0.0)  # this epoch's loss and share of right answers
        self.seen = 0  # images of this epoch
        self.restored: dict[str, Tensor] = {}  # the metrics' state when an epoch is taken up again
        self.history: list[dict[str, Any]] = []
        self.seconds = dict.fromkeys(("setup", "train", "checkpoint", "validation"), 0.0)
        self.epoch_seconds = 0.0

    @property
    def sums(self) -> Tensor:
        """Of this epoch: loss, right answers, weight of the images; images seen. (4,)."""
        loss, accuracy = self.means
        right = round(accuracy * self.seen)  # whole again: Keras' means are float32
        return torch.tensor([loss * self.seen, right, self.seen, self.seen], dtype=torch.float64)

    @property
    def learning_rate(self) -> float:
        """The learning rate of the step last made."""
        return self.rate

    @property
    def next_rate(self) -> float:
        """The learning rate of the next step."""
        assert isinstance(self.recipe.optimizer, Adam)
        share = rate_at(self.recipe, self.step, self.steps)
        return self.recipe.optimizer.learning_rate * share

    def set_rate(self) -> None:
        """Give the optimizer the learning rate of the next step."""
        self.rate = self.optimizer.learning_rate = self.next_rate

    def begin_epoch(self) -> None:
        """Start new sums."""
        self.means, self.seen, self.epoch_seconds = (0.0, 0.0), 0, 0.0

    def losses_are_finite(self) -> bool:
        """Tell whether every loss of this epoch is a number."""
        return bool(np.isfinite(self.means).all())

    def weights_are_finite(self) -> bool:
        """Tell whether every weight is a number."""
        return all(np.isfinite(_array(weight)).all() for weight in self.model.weights)

    def ask(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the network's logits (n, 10) of images (n, 28, 28) as the recipe is judged."""
        return ask(self.learner, images, flip=self.recipe.flip_at_test)

    def file(self) -> bytes:
        """Return the network as a `.keras` file."""
        return keras_bytes(self.model)

    def pack(self) -> Checkpoint:
        """Return the whole state."""
        tensors = {name: torch.from_numpy(_array(v)) for name, v in self._variables().items()}
        values = {
            "step": self.step,
            "rate": self.rate,
            "means": self.means,
            "seen": self.seen,
            "history": self.history,
            "seconds": self.seconds,
            "epoch_seconds": self.epoch_seconds,
        }
        return Checkpoint(tensors, values)

    def unpack(self, checkpoint: Checkpoint) -> None:
        """Become the state that was packed. Raises ModelError if it is another network's."""
        shapes = {name: tuple(value.shape) for name, value in checkpoint.tensors.items()}
        variables = self._variables()
        if shapes != {name: tuple(variable.shape) for name, variable in variables.items()}:
            raise ModelError("the checkpoint is not of this recipe's network in Keras")
        values = checkpoint.values
        self.step, self.rate, self.seen = values["step"], values["rate"], values["seen"]
        for name, variable in variables.items():
            value = checkpoint.tensors[name]
            if not name.startswith("metric."):
                variable.assign(value.numpy())
            elif self.seen:  # in the middle of an epoch
                self.restored[name] = value
        self.means = (values["means"][0], values["means"][1])
        self.history, self.seconds = values["history"], values["seconds"]
        self.epoch_seconds = values["epoch_seconds"]

    def restore_metrics(self) -> None:
        """Set the metrics as they stood in the checkpoint: `fit` begins with empty ones."""
        variables = self._variables()
        for name, value in self.restored.items():
            variables[name].assign(value.numpy())
        self.restored = {}

    def _variables(self) -> dict[str, Any]:
        """Return all that changes in a step, by a name of its own."""
        metrics = itertools.chain.from_iterable(metric.variables for metric in self.metrics)
        kinds = {
            "network": self.model.weights,
            "optimizer": self.optimizer.variables,
            "metric": metrics,
        }
        return {
            f"{kind}.{number}": variable
            for kind, variables in kinds.items()
            for number, variable in enumerate(variables)
        }


def _make_adam(adam: Adam) -> Any:
    fields = dataclasses.asdict(adam)
    rates = {"beta_1": fields.pop("beta1"), "beta_2": fields.pop("beta2")}
    return keras.optimizers.Adam(**fields, **rates)


def _array(variable: Any) -> NDArray[Any]:
    return np.array(keras.ops.convert_to_numpy(variable))


class _Feed(keras.utils.PyDataset):  # type: ignore[misc]
    """One epoch's batches from number `first` on, as `fit` takes them: images and one-hot labels.

    Keras reads them in order, after a look at the first two.
    """

    def __init__(self, batches: Batches, seed: int, epoch: int, first: int) -> None:
        super().__init__(workers=1, use_multiprocessing=False)
        self.length = batches.lengths[epoch] - first
        self.from_number: Callable[[int], Iterator[Batch]] = lambda number: batches.epoch(
            seed, epoch, torch.zeros(len(batches.labels)), first=first + number
        )
        self.next, self.rest = 0, self.from_number(0)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, number: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        if number != self.next:
            self.rest = self.from_number(number)
        self.next = number + 1
        batch = next(self.rest)
        x = batch.x.permute(0, 2, 3, 1).contiguous().numpy()  # (b, 28, 28, 1)
        return x, np.eye(10, dtype=np.float32)[batch.y.numpy()]


class _BetweenSteps(keras.callbacks.Callback):  # type: ignore[misc]
    """What happens around each step of `fit`: the learning rate, looks, checkpoints."""

    def __init__(
        self,
        run: Run,
        state: KerasState,
        batches: Batches,
        stop: StopRequest,
        watch: Callable[[Progress], None],
        checkpoint_seconds: float,
    ) -> None:
        super().__init__()
        self.run, self.state, self.batches = run, state, batches
        self.stop, self.watch, self.checkpoint_seconds = stop, watch, checkpoint_seconds
        self.saved_at = time.monotonic()

    def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
        """`fit` is called anew for each epoch, and has just emptied the metrics."""
        self.began = time.perf_counter() - self.state.epoch_seconds
        self.state.restore_metrics()

    def on_train_batch_begin(self, batch: int, logs: object = None) -> None:
        """Set the learning rate where it changes."""
        if self.state.rate != self.state.next_rate:
            self.bring_up_to_date()
            self.state.set_rate()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Count the step, look at its loss, and save if it is time or a signal asks for it."""
        assert logs is not None
        state, batches = self.state, self.batches
        epoch, done = batches.locate(state.step)
        state.step += 1
        state.means = (float(logs["cross_entropy"]), float(logs["accuracy"]))
        state.seen = min((done + 1) * state.recipe.batch_size, len(batches.labels))
        state.epoch_seconds = time.perf_counter() - self.began
        check_finite(state)
        self.watch(progress(state, epoch + 1, epoch_ended=False))
        is_due = time.monotonic() - self.saved_at >= self.checkpoint_seconds
        if done + 1 < batches.lengths[epoch] and (is_due or self.stop.signal is not None):
            self.began += self.save()

    def save(self) -> float:
        """Write a checkpoint and return the seconds it took; Stopped if a signal asked for it."""
        self.bring_up_to_date()
        spent = save_state(self.run, self.state, self.stop)
        self.saved_at = time.monotonic()
        return spent

    def bring_up_to_date(self) -> None:
        """Have the variables hold what they hold: within an epoch JAX keeps it elsewhere."""
        assert self.model is self.state.learner  # Keras synchronises whoever asks for the model


def fit(
    run: Run,
    state: KerasState,
    batches: Batches,
    validation: Split | None,
    stop: StopRequest,
    watch: Callable[[Progress], None],
    checkpoint_seconds: float,
) -> None:
    """The loop: `model.fit` for an epoch or what is left of it; then the epoch's line."""
    seed = run.read()["seed"]
    between_steps = _BetweenSteps(run, state, batches, stop, watch, checkpoint_seconds)
    while state.step < state.steps:
        epoch, done = batches.locate(state.step)
        feed = _Feed(batches, seed, epoch, done)
        state.learner.fit(feed, shuffle=False, verbose=0, callbacks=[between_steps])
        end_epoch(state, epoch + 1, validation)
        run.write_history(state.history)
        watch(progress(state, epoch + 1, epoch_ended=True))
        state.begin_epoch()
        if state.step < state.steps:
            between_steps.save()
