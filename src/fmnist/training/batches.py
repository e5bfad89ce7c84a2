"""Batches: the images live on the device as one tensor, and an epoch is drawn from it.

Whatever is random in an epoch is a function of (seed, epoch), and which images are shown of their
losses before it: training that stopped in the middle can take up the same epoch at any step.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fmnist.recipes import Pruning, Recipe
from fmnist.training.defects import with_defects

SIDE = 28


class Batch(NamedTuple):
    """What one step learns from, on the device."""

    x: Tensor  # (b, 1, 28, 28) float32 in 0..1
    y: Tensor  # (b,) int64; STRANGER: of no class
    indices: Tensor  # (b,) int64 into the training images
    weights: Tensor  # (b,) float32: how many images each stands for


class Batches:
    """The training images of one run, drawn epoch by epoch as its recipe says."""

    def __init__(
        self,
        images: NDArray[np.uint8],
        labels: NDArray[np.uint8],
        recipe: Recipe,
        device: torch.device,
        *,
        drawings: int = 0,
        photos: int = 0,
    ) -> None:
        """Put images (n, 28, 28) and labels (n,) on the device; the images get a zero margin.

        The last of them are `photos` prepared, before these stand `drawings`; the others are
        Fashion-MNIST's.
        """
        margin = recipe.augmentation.shift
        padded = np.pad(images, ((0, 0), (margin, margin), (margin, margin)))
        self.pixels = torch.from_numpy(padded).to(device)  # (n, side, side) uint8
        self.labels = torch.from_numpy(labels.astype(np.int64)).to(device)  # (n,)
        self.photos = photos
        self.real = torch.arange(len(labels), device=device) >= len(labels) - photos - drawings
        self.windows = _windows(SIDE + 2 * margin).to(device)  # (2, 784)
        self.recipe = recipe
        self.lengths = epoch_lengths(recipe, len(labels) - photos, photos)

    def locate(self, step: int) -> tuple[int, int]:
        """Return the epoch (0, 1, …) that step `step` is in, and its number in that epoch."""
        epoch = 0
        while epoch < len(self.lengths) - 1 and step >= self.lengths[epoch]:
            step -= self.lengths[epoch]
            epoch += 1
        return epoch, step

    def epoch(self, seed: int, epoch: int, losses: Tensor, first: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch from number `first` on.

        `losses` (n,) is what each image cost when it was last seen before this epoch.
        """
        order, weights = self._choose(seed, epoch, losses)
        corners, flips = self._vary(seed, epoch, order)
        side, size = self.pixels.shape[-1], self.recipe.batch_size
        for start in range(first * size, len(order), size):
            some = slice(start, start + size)
            shown = order[some]
            # One gather does the shuffle, the shift and the flip.
            begin = shown * side * side + corners[some]  # (b,)
            pixels = torch.take(self.pixels, begin[:, None] + self.windows[flips[some]])
            x = pixels.view(-1, 1, SIDE, SIDE).float() / 255
            if self.recipe.augmentation.cutout:
                luck = _generator(seed, epoch, 5, start // size)
                x = with_hole(x, self.recipe.augmentation.cutout, luck)
            if self.recipe.augmentation.photo_defects:
                luck = _generator(seed, epoch, 4, start // size)
                x = with_defects(x, self.labels[shown], self.real[shown], luck)
            yield Batch(x, self.labels[shown], shown, weights[some])

    def _choose(self, seed: int, epoch: int, losses: Tensor) -> tuple[Tensor, Tensor]:
        """Return which images an epoch shows, in order, and how many images each stands for."""
        n, device = len(self.labels), self.labels.device
        pool = torch.arange(n - self.photos)
        if _shows_photos(self.recipe, epoch):
            photos = torch.arange(n - self.photos, n)
            pool = torch.cat([pool, photos.repeat(self.recipe.photo_repeats)])
        order = pool[torch.randperm(len(pool), generator=_generator(seed, epoch))].to(device)
        weights = torch.ones(n, device=device)
        pruning = self.recipe.pruning
        if pruning is None or not _is_pruned(self.recipe, epoch):
            return order, weights[order]
        # Stable, so that equal losses are in the order drawn and a draw can be repeated.
        by_loss = order[losses[order].argsort(stable=True)]  # the easiest first
        count, kept = _easy_and_kept(pruning, n)
        easy = by_loss[:count]
        luck = torch.randperm(count, generator=_generator(seed, epoch, 1)).to(device)
        weights[easy[luck[kept:]]] = 0
        weights[easy[luck[:kept]]] = count / kept
        order = order[weights[order] > 0]
        return order, weights[order]

    def _vary(self, seed: int, epoch: int, order: Tensor) -> tuple[Tensor, Tensor]:
        """Return each shown image's window corner and flip, (m,) int64, for `order` (m,)."""
        n, side = len(self.labels), self.pixels.shape[-1]
        generator = _generator(seed, epoch, 2)
        reach = 2 * self.recipe.augmentation.shift + 1
        rows, columns = torch.randint(reach, (2, n), generator=generator).to(order.device)
        flips = torch.zeros_like(rows)
        if self.recipe.augmentation.flip:
            # Whoever is shown as it is in one epoch is mirrored in the next, so that an image's two
            # sides take turns (K. Jordan, arXiv 2404.00498, section 3.6).
            first = torch.randint(2, (n,), generator=_generator(seed, 0, 3)).to(order.device)
            flips = (first + epoch) % 2
        return (rows * side + columns)[order], flips[order]


def with_hole(images: Tensor, side: int, luck: torch.Generator) -> Tensor:
    """Return images (n, 1, 28, 28) with a square of `side` px made 0 in each.

    Its middle is a random pixel, so that some squares reach over the edge (T. DeVries & G. Taylor,
    arXiv 1708.04552, section 3.2).
    """
    top, left = (torch.randint(SIDE, (2, len(images)), generator=luck) - side // 2).to(
        images.device
    )
    pixels = torch.arange(SIDE, device=images.device)
    in_rows, in_columns = (
        (pixels >= first[:, None]) & (pixels < first[:, None] + side) for first in (top, left)
    )  # (n, 28)
    hole = in_rows[:, None, :, None] & in_columns[:, None, None, :]  # (n, 1, 28, 28)
    return images.masked_fill(hole, 0.0)


def epoch_lengths(recipe: Recipe, images: int, photos: int = 0) -> list[int]:
    """Return the number of batches of each epoch; the last of an epoch may be smaller.

    `photos` come on top of `images`.
    """
    shown = [images] * recipe.epochs
    for epoch in range(recipe.epochs):
        if recipe.pruning is not None and _is_pruned(recipe, epoch):
            easy, kept = _easy_and_kept(recipe.pruning, images)
            shown[epoch] = images - easy + kept
        if _shows_photos(recipe, epoch):
            shown[epoch] += photos * recipe.photo_repeats
    return [-(-count // recipe.batch_size) for count in shown]


def _shows_photos(recipe: Recipe, epoch: int) -> bool:
    """Tell whether an epoch shows photos, where there are some."""
    return epoch >= recipe.epochs - recipe.photo_epochs


def _easy_and_kept(pruning: Pruning, images: int) -> tuple[int, int]:
    """Return how many images count as easy, and how many of those an epoch shows (at least 1)."""
    easy = max(1, round(images * pruning.easy))
    return easy, max(1, round(easy * pruning.kept))


def _is_pruned(recipe: Recipe, epoch: int) -> bool:
    """Tell whether an epoch leaves images out; never the first, which has no losses yet."""
    pruning = recipe.pruning
    if pruning is None or epoch == 0:
        return False
    return not (pruning.whole_last and epoch == recipe.epochs - 1)


def _windows(side: int) -> Tensor:
    """Return where a 28x28 window lies in a flat image of this side: (2, 784), 1 = flipped."""
    rows = torch.arange(SIDE)[:, None] * side
    columns = torch.arange(SIDE)[None, :]
    return torch.stack([(rows + columns).flatten(), (rows + columns.flip(1)).flatten()])


def _generator(*entropy: int) -> torch.Generator:
    """Return a generator on the CPU, so that a GPU run sees the same images."""
    (state,) = np.random.SeedSequence(entropy).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state) >> 1)
