"""All that an epoch is drawn from: a split, photos that a user adds, and drawings of no class."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fmnist.data import Split
from fmnist.photos.folder import STRANGER, PreparedPhotos
from fmnist.recipes import Recipe
from fmnist.training.strangers import draw_strangers


class TrainingSet(NamedTuple):
    """Images to learn from."""

    images: NDArray[np.uint8]  # (n, 28, 28)
    labels: NDArray[np.uint8]  # (n,), 0..9, or 10: none of the classes
    real: NDArray[np.bool_]  # (n,): photos and drawings, not images of Fashion-MNIST


def count_shown(images: int, recipe: Recipe, photos: int) -> int:
    """Return how many images the training set of so many images and photos has."""
    return images + photos * recipe.photo_repeats + recipe.strangers


def training_set(
    split: Split, recipe: Recipe, photos: PreparedPhotos | None, seed: int
) -> TrainingSet:
    """Return a split's images, then each photo as often as the recipe says, then the drawings."""
    images, labels = [split.images], [split.labels]
    if photos is not None:
        images += [photos.images] * recipe.photo_repeats
        labels += [photos.labels] * recipe.photo_repeats
    if recipe.strangers:
        images.append(draw_strangers(recipe.strangers, split.images, seed))
        labels.append(np.full(recipe.strangers, STRANGER, np.uint8))
    everything = np.concatenate(images)
    return TrainingSet(
        everything, np.concatenate(labels), np.arange(len(everything)) >= len(split.images)
    )
