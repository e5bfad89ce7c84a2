"""A run's network and a split's images to saved logits."""

import numpy as np

from fmnist.data import Split
from fmnist.errors import ModelError
from fmnist.recipes import Recipe
from fmnist.runs import Run, SplitLogits
from fmnist.training.trained import ask


def save_logits(
    run: Run,
    split: Split,
    *,
    recipe: Recipe | None = None,
    device: str = "auto",
    batch_size: int = 1000,
) -> SplitLogits:
    """Ask the run's network for the logits of a split, in float32, and save them in the run.

    Raises RunError and ModelError as `ask`, and ModelError if a logit is not finite.
    """
    logits = ask(run, split.images, recipe=recipe, device=device, batch_size=batch_size)
    if not np.isfinite(logits).all():
        raise ModelError(f"the logits of {run.weights} are not all finite; train again")
    result = SplitLogits(logits, split.labels, split.indices)
    run.write_logits(split.name, result)
    return result
