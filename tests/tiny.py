"""A network and a recipe that use everything training has, and take a second on the garments."""

import dataclasses

import torch
from torch import Tensor, nn

from fmnist.recipes import Adam, Augmentation, Muon, Pruning, Recipe


class Tiny(nn.Module):
    """Two convolutions with batch norm, and dropout so that the global random state counts."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1, stride=2),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 16, 3, padding=1, stride=2),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(0.2),
            nn.Linear(16 * 7 * 7, 10),
        )

    def forward(self, x: Tensor) -> Tensor:  # (n, 1, 28, 28)
        logits: Tensor = self.layers(x)  # (n, 10)
        return logits


class Broken(nn.Module):
    """Gives a logit that is not a number from its `after`-th training batch on."""

    after = 3

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(784, 10)
        self.batches = 0

    def forward(self, x: Tensor) -> Tensor:  # (n, 1, 28, 28)
        self.batches += self.training
        logits: Tensor = self.dense(x.flatten(1))  # (n, 10)
        return logits * torch.nan if self.batches > self.after else logits


TINY = Recipe(
    name="tiny",
    network=Tiny,
    epochs=3,
    batch_size=32,
    optimizer=Muon(0.05, 0.85, other_learning_rate=0.02),
    source="tests",
    schedule="linear",
    warmup=0.1,
    label_smoothing=0.1,
    augmentation=Augmentation(flip=True, shift=1, cutout=3),
    averaging=0.8,
    pruning=Pruning(easy=0.5, kept=0.5),
    flip_at_test=True,
)

# Adam on filters of several channels: its moments lie in memory as the weights do.
TINY_ADAM = dataclasses.replace(
    TINY, name="tiny-adam", optimizer=Adam(), averaging=0.0, pruning=None
)
