"""Runs as a finished training leaves them, made in a moment: their weights are drawn at random."""

from pathlib import Path

import torch
from safetensors.torch import save
from torch import nn

from fmnist.data import Dataset
from fmnist.models import make_network
from fmnist.recipes import Recipe
from fmnist.runs import Run
from fmnist.training.device import Device
from fmnist.training.provenance import now, starting_facts


def random_network(name: str) -> nn.Module:
    """A network of ours in which every number matters, statistics of batch norm included."""
    torch.manual_seed(7)
    network = make_network(name)
    for key, value in network.state_dict().items():
        if key.endswith(("bias", "running_mean")):
            value.uniform_(-0.2, 0.2)
        if key.endswith("running_var"):
            value.uniform_(0.05, 0.15)
    return network.eval()


def finished_run(folder: Path, recipe: Recipe, engine: str, data: Dataset) -> Run:
    """A run of `recipe` in `folder`, as if `engine` had trained it on `data`."""
    assert isinstance(recipe.network, str)
    run = Run(folder)
    place = Device("cpu", "float32")
    run.write(starting_facts(recipe.name, recipe, data, 0, False, engine, place))
    state = random_network(recipe.network).state_dict()
    if engine == "torch":
        run.weights.write_bytes(save(state))
    else:
        from fmnist.training.keras_file import keras_bytes
        from fmnist.training.keras_networks import make_twin

        run.weights.write_bytes(keras_bytes(make_twin(recipe.network, state)))
    run.finish(now(), {})
    return run
