"""Recipe and splits to a run: batches, optimizers, the one loop, checkpoint and resume."""

from fmnist.training.loop import Progress, train

__all__ = ["Progress", "train"]
