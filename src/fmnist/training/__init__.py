"""Recipe and splits to a run: batches, optimizers, the one loop, checkpoint and resume."""

from fmnist.training.loop import train
from fmnist.training.milestones import Progress

__all__ = ["Progress", "train"]
