"""FashionClassifier: a recipe as a scikit-learn classifier, trained in memory.

Its steps are those of `fmnist.train`, so the same images, labels and seed give the same weights;
what it lacks is the run directory, and with it checkpoints, validation and provenance.
"""

import contextlib
import copy
import dataclasses
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.extmath import softmax
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, check_non_negative, validate_data
from torch import nn

from fmnist.environment import physical_cores
from fmnist.errors import RunError
from fmnist.recipes import Recipe, find_recipe
from fmnist.training.batches import SIDE, Batches, epoch_lengths
from fmnist.training.device import Device, find_device, on_device, processor_settings
from fmnist.training.inference import infer
from fmnist.training.loop import first_network
from fmnist.training.state import State

PIXELS = SIDE * SIDE
CLASSES = 10  # the outputs of every network here

_TURN = threading.Lock()


class FashionClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A network for 28x28 images, with scikit-learn's conventions.

    Images are (n, 784) or (n, 28, 28), pixels 0..255 with the garment light on black, as integers
    or as floats that are then rounded. Labels are of any kind, and of at most 10 classes.

    `recipe` is a name as `fmnist train` takes it, or a recipe of your own; `epochs` and
    `batch_size`, where given, go in the place of its own, because few images want more epochs and
    smaller batches. Where an epoch would end in a batch of one image, from which batch norm cannot
    learn, batches are made a little smaller. `random_state` is the seed: the same number gives the
    same weights on the same machine, threads and versions, and None draws one for each fit.
    `device` is "auto", "cpu", "cuda" or "mps", for training and predicting.

    After `fit`, `classes_` (k,) are the labels, sorted, in the order of the columns of
    `predict_proba`; `n_features_in_` is 784 also for images (n, 28, 28); `network_` is the trained
    network on the CPU, whose first k outputs are those of `classes_`; `recipe_` is the recipe as it
    was trained.
    """

    def __init__(
        self,
        recipe: Recipe | str = "sprint",
        *,
        epochs: int | None = None,
        batch_size: int | None = None,
        random_state: int | np.random.RandomState | None = 0,
        device: str = "auto",
    ) -> None:
        self.recipe = recipe
        self.epochs = epochs
        self.batch_size = batch_size
        self.random_state = random_state
        self.device = device

    def fit(self, X: ArrayLike, y: ArrayLike) -> "FashionClassifier":
        """Train a new network on images X and labels y (n,), and return self.

        Raises ValueError for other images or labels than the class describes, RunError for a
        recipe or device that cannot be had or a training that breaks, ModelError for a bad network.
        """
        flat, y = validate_data(self, _flat(X), y, ensure_min_samples=2)
        check_classification_targets(y)
        images = _images(flat)
        self.classes_, labels = np.unique(y, return_inverse=True)
        if len(self.classes_) > CLASSES:
            raise ValueError(f"y has {len(self.classes_)} classes; the networks have {CLASSES}")
        recipe = _without_single(self._wanted_recipe(), len(images))
        device = find_device(self.device)
        with _alone(device):
            network = _learn(recipe, images, labels.astype(np.uint8), self._seed(), device)
        self.network_, self.recipe_ = network.cpu().eval(), recipe
        return self

    def _wanted_recipe(self) -> Recipe:
        recipe = find_recipe(self.recipe) if isinstance(self.recipe, str) else self.recipe
        if recipe.strangers or recipe.augmentation.photo_defects:
            # Their images are drawn for Fashion-MNIST's own ten classes; labels here may be others.
            raise RunError(f"recipe {recipe.name} is made for photos; train it with fmnist.train")
        return dataclasses.replace(
            recipe,
            epochs=_count(self.epochs, recipe.epochs),
            batch_size=_count(self.batch_size, recipe.batch_size),
        )

    def _seed(self) -> int:
        random = check_random_state(self.random_state)
        if isinstance(self.random_state, (int, np.integer)):
            return int(self.random_state)
        return int(random.randint(2**31))

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float32]:
        """Return the probability of each of `classes_` for images X: (n, k) in 0..1.

        Raises NotFittedError before `fit`, ValueError for other images than the class describes,
        RunError for a device that cannot be had.
        """
        check_is_fitted(self)
        images = _images(validate_data(self, _flat(X), reset=False))
        device = find_device(self.device, precision="float32")
        with _alone(device):
            # A copy, so that the estimator itself stays on the CPU and opens on any machine.
            network = on_device(copy.deepcopy(self.network_), device)
            logits = infer(network, images, device, flip=self.recipe_.flip_at_test)
        probabilities: NDArray[np.float32] = softmax(logits[:, : len(self.classes_)])
        return probabilities

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the likeliest of `classes_` for each image: (n,); raises as `predict_proba`."""
        probabilities = self.predict_proba(X)
        chosen: NDArray[Any] = self.classes_[probabilities.argmax(axis=1)]
        return chosen

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.input_tags.positive_only = True
        return tags


def _flat(X: ArrayLike) -> Any:
    """Return images (n, 28, 28) as (n, 784), and anything else for scikit-learn to judge."""
    array: Any = X if hasattr(X, "shape") else np.asarray(X)
    return array.reshape(-1, PIXELS) if array.shape[1:] == (SIDE, SIDE) else array


def _images(flat: NDArray[Any]) -> NDArray[np.uint8]:
    """Return finite numbers (n, 784) as images (n, 28, 28); ValueError where they are none."""
    pixels = flat if flat.dtype.kind in "iu" else np.rint(flat)
    check_non_negative(pixels, "FashionClassifier")
    if flat.shape[1] != PIXELS:
        raise ValueError(f"X has {flat.shape[1]} feature(s), but 28x28 pixels are {PIXELS}")
    if pixels.max() > 255:
        raise ValueError(f"X goes up to {flat.max():.4g}; pixels are wanted in 0..255")
    if flat.dtype.kind not in "iu" and 0 < flat.max() <= 1:
        raise ValueError("X is on a scale of 0..1; pixels are wanted in 0..255: multiply X by 255")
    return pixels.astype(np.uint8, copy=False).reshape(-1, SIDE, SIDE)


def _count(wanted: Any, own: int) -> Any:
    """Return the number wanted, or where that is None the recipe's own."""
    if wanted is None:
        return own
    # A search over np.arange(…) brings numpy's integers, which a recipe does not take.
    return int(wanted) if isinstance(wanted, np.integer) else wanted


def _without_single(recipe: Recipe, images: int) -> Recipe:
    """Return the recipe with the largest batches, up to its own, that leave no image alone."""
    shown = epoch_lengths(dataclasses.replace(recipe, batch_size=1), images)
    sizes = range(recipe.batch_size, 1, -1)
    fitting = (size for size in sizes if all(count % size != 1 for count in shown))
    return dataclasses.replace(recipe, batch_size=next(fitting, recipe.batch_size))


@contextlib.contextmanager
def _alone(device: Device) -> Iterator[None]:
    """Use PyTorch by turns and leave it as it was: its seed and threads are the whole process's.

    No more threads are taken than PyTorch was given, by joblib to its workers for one.
    """
    cards = [torch.cuda.current_device()] if device.name == "cuda" else []
    with (
        _TURN,
        torch.random.fork_rng(cards),
        processor_settings(min(torch.get_num_threads(), physical_cores())),
    ):
        yield


def _learn(
    recipe: Recipe,
    images: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    seed: int,
    device: Device,
) -> nn.Module:
    """Return the network trained on images (n, 28, 28) and labels (n,) in 0..9.

    The loop of `train` without what needs a run: checkpoints, validation, a history.
    """
    batches = Batches(images, labels, recipe, device.torch)
    network = first_network(recipe, images, seed)
    state = State(network, recipe, sum(batches.lengths), len(images), device)
    for epoch in range(recipe.epochs):
        for batch in batches.epoch(seed, epoch, state.losses[1]):
            state.advance(batch)
        state.begin_epoch()
    if not state.weights_are_finite():
        raise RunError(
            f"a weight is not finite after {state.steps} steps of recipe {recipe.name}; lower its "
            "learning rate, or look for broken values in the network"
        )
    return state.kept
