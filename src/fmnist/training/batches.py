"""Batches: the images live on the device as one tensor, and an epoch is drawn from it.

Whatever is random in an epoch is a function of (seed, epoch) alone, drawn before its first batch:
training that stopped in the middle can take up the same epoch at any step.
"""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fmnist.recipes import Augmentation

SIDE = 28


class Batches:
    """The training images of one run, shuffled and varied epoch by epoch."""

    def __init__(
        self,
        images: NDArray[np.uint8],
        labels: NDArray[np.uint8],
        batch_size: int,
        augmentation: Augmentation,
        device: torch.device,
    ) -> None:
        """Put images (n, 28, 28) and labels (n,) on the device; the images get a zero margin."""
        margin = augmentation.shift
        padded = np.pad(images, ((0, 0), (margin, margin), (margin, margin)))
        self.pixels = torch.from_numpy(padded).to(device)  # (n, side, side) uint8
        self.labels = torch.from_numpy(labels.astype(np.int64)).to(device)  # (n,)
        self.batch_size = batch_size
        self.augmentation = augmentation
        self.windows = _windows(SIDE + 2 * margin).to(device)  # (2, 784)

    def __len__(self) -> int:
        """Return the number of batches in an epoch; the last may be smaller."""
        return -(-len(self.labels) // self.batch_size)

    def epoch(self, seed: int, epoch: int, first: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (x, y) of an epoch (0, 1, …) from batch `first` on.

        x (b, 1, 28, 28) float32 in 0..1, y (b,) int64.
        """
        order, corners, flips = self._draw(seed, epoch)
        side = self.pixels.shape[-1]
        for start in range(first * self.batch_size, len(order), self.batch_size):
            chosen = slice(start, start + self.batch_size)
            # One gather does the shuffle, the shift and the flip.
            begin = order[chosen] * side * side + corners[chosen]  # (b,)
            pixels = torch.take(self.pixels, begin[:, None] + self.windows[flips[chosen]])
            yield pixels.view(-1, 1, SIDE, SIDE).float() / 255, self.labels[order[chosen]]

    def _draw(self, seed: int, epoch: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return what is random in an epoch: order, window corners and flips, each (n,) int64."""
        n, side, device = len(self.labels), self.pixels.shape[-1], self.labels.device
        generator = _generator(seed, epoch)
        order = torch.randperm(n, generator=generator)
        reach = 2 * self.augmentation.shift + 1
        rows, columns = torch.randint(reach, (2, n), generator=generator)
        flips = torch.zeros(n, dtype=torch.int64)
        if self.augmentation.flip:
            # Whoever was shown as it is in one epoch is mirrored in the next: no image is seen
            # twice the same way before its other side (K. Jordan, arXiv 2404.00498, section 3.6).
            first = torch.randint(2, (n,), generator=_generator(seed))
            flips = (first[order] + epoch) % 2
        return order.to(device), (rows * side + columns).to(device), flips.to(device)


def _windows(side: int) -> Tensor:
    """Return where a 28x28 window lies in a flat image of this side: (2, 784), 1 = flipped."""
    rows = torch.arange(SIDE)[:, None] * side
    columns = torch.arange(SIDE)[None, :]
    return torch.stack([(rows + columns).flatten(), (rows + columns.flip(1)).flatten()])


def _generator(*entropy: int) -> torch.Generator:
    """Return a generator on the CPU, so that a GPU run sees the same images."""
    (state,) = np.random.SeedSequence(entropy).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state) >> 1)
