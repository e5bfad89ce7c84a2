"""A run's weights and a split's images to saved logits."""

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import nn

from fmnist.data import Split
from fmnist.errors import ModelError, RunError
from fmnist.models import NETWORKS, make_network
from fmnist.recipes import Recipe
from fmnist.runs import Run, SplitLogits
from fmnist.training.device import (
    find_device,
    on_device,
    physical_cores,
    processor_settings,
)
from fmnist.training.inference import infer


def load_network(run: Run, recipe: Recipe | None = None) -> nn.Module:
    """Return the trained network of a run.

    A network that is not ours is code: it is imported only where the caller hands over the recipe
    that names it. Raises RunError if training has not finished, ModelError if the weights do not
    fit or are not finite.
    """
    facts = run.read()["recipe"]
    if recipe is None and facts["network"] not in NETWORKS:
        raise RunError(
            f"the network of {run.folder} is {facts['network']}, code outside fmnist; name its "
            f"recipe to allow it: {run.evaluate_command()}, or evaluate(run, recipe=…) in Python"
        )
    if recipe is not None and recipe.to_json()["network"] != facts["network"]:
        network_given = recipe.to_json()["network"]
        raise RunError(f"the network of {run.folder} is {facts['network']}, not {network_given}")
    if not run.weights.is_file():
        raise RunError(
            f"{run.weights} is missing: the training has not finished; "
            f"go on with: {run.resume_command()}"
        )
    network = make_network(recipe.network if recipe else facts["network"])
    try:
        weights = load(run.weights.read_bytes())
        network.load_state_dict(weights)
    except SafetensorError as error:
        raise ModelError(f"{run.weights} is damaged ({error}); train again") from error
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise ModelError(f"{run.weights} does not fit the network: {reason}") from error
    if not all(torch.isfinite(value).all() for value in network.parameters()):
        raise ModelError(f"{run.weights} holds values that are not finite; train again")
    return network


def save_logits(
    run: Run,
    split: Split,
    *,
    recipe: Recipe | None = None,
    device: str = "auto",
    batch_size: int = 1000,
) -> SplitLogits:
    """Ask the run's network for the logits of a split, in float32, and save them in the run.

    Raises RunError and ModelError as `load_network`, and ModelError if a logit is not finite.
    """
    facts = run.read()
    processor = find_device(device, precision="float32")
    with processor_settings(physical_cores()):
        network = on_device(load_network(run, recipe), processor)
        logits = infer(
            network,
            split.images,
            processor,
            flip=facts["recipe"]["flip_at_test"],
            batch_size=batch_size,
        )
    if not np.isfinite(logits).all():
        raise ModelError(f"the logits of {run.weights} are not all finite; train again")
    result = SplitLogits(logits, split.labels, split.indices)
    run.write_logits(split.name, result)
    return result
