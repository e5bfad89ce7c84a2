"""All that an epoch is drawn from: a split, drawings of no class, and photos that a user adds."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fmnist.data import STRANGER, Split
from fmnist.recipes import Recipe

if TYPE_CHECKING:
    from fmnist.photos.folder import PreparedPhotos


class TrainingSet(NamedTuple):
    """Images to learn from: Fashion-MNIST's, then drawings, then photos."""

    images: NDArray[np.uint8]  # (n, 28, 28)
    labels: NDArray[np.uint8]  # (n,), 0..9, or STRANGER: none of the classes
    drawings: int
    photos: int


def training_set(
    split: Split, recipe: Recipe, photos: "PreparedPhotos | None", seed: int
) -> TrainingSet:
    """Return what a recipe learns from; the split's own arrays where nothing joins them."""
    images, labels = [split.images], [split.labels]
    if recipe.strangers:
        from fmnist.training.strangers import draw_strangers  # with Pillow

        images.append(draw_strangers(recipe.strangers, split.images, seed))
        labels.append(np.full(recipe.strangers, STRANGER, np.uint8))
    if photos is not None:
        images.append(photos.images)
        labels.append(photos.labels)
    return TrainingSet(
        np.concatenate(images) if len(images) > 1 else split.images,
        np.concatenate(labels) if len(labels) > 1 else split.labels,
        recipe.strangers,
        0 if photos is None else len(photos.labels),
    )
