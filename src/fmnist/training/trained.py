"""A finished run's network, whichever engine trained it: to be loaded, or asked for logits."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn

from fmnist.data import CLASS_NAMES
from fmnist.environment import physical_cores
from fmnist.errors import ModelError, RunError
from fmnist.models import NETWORKS, make_network
from fmnist.recipes import Recipe
from fmnist.runs import Run
from fmnist.training.device import find_device, on_device, processor_settings
from fmnist.training.inference import infer


def load_network(run: Run, recipe: Recipe | None = None) -> nn.Module:
    """Return the trained network of a run, in PyTorch also where Keras trained it.

    A network that is not ours is code: it is imported only where the caller hands over the recipe
    that names it. Raises RunError if training has not finished, ModelError if the weights do not
    fit or are not finite.
    """
    network = make_network(_network_of(run, recipe))
    try:
        network.load_state_dict(_read_state(run))
    except SafetensorError as error:
        raise ModelError(f"{run.weights} is damaged ({error}); train again") from error
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise ModelError(f"{run.weights} does not fit the network: {reason}") from error
    if not all(torch.isfinite(value).all() for value in network.parameters()):
        raise ModelError(f"{run.weights} holds values that are not finite; train again")
    return network


def load_keras_model(run: Run) -> Any:
    """Return the trained network of a run as a Keras model, also where PyTorch trained it.

    Raises RunError and ModelError as `load_network`, and ModelError for a network that Keras does
    not know.
    """
    from fmnist.training.keras_file import read_model
    from fmnist.training.keras_networks import TWINS, make_twin

    network = run.read()["recipe"]["network"]
    if network not in TWINS:
        raise ModelError(f"the network of {run.folder} is {network}; Keras has {', '.join(TWINS)}")
    if run.read()["engine"] == "keras":
        _network_of(run, None)
        return read_model(run.weights, network)
    return make_twin(network, load_network(run).state_dict())


def ask(
    run: Run,
    images: NDArray[np.uint8],
    *,
    recipe: Recipe | None = None,
    device: str = "auto",
    batch_size: int = 1000,
    flip: bool | None = None,
) -> NDArray[np.float32]:
    """Return the logits (n, 10) that a run gives images (n, 28, 28) uint8, in float32.

    The engine that trained it answers, with the mirror images too if `flip`, or where that is None
    the recipe, says so. Raises
    RunError and ModelError as `load_network`.
    """
    asked = load_ask(run, recipe=recipe, device=device, batch_size=batch_size, flip=flip)
    return asked(images)


def load_ask(
    run: Run,
    *,
    recipe: Recipe | None = None,
    device: str = "auto",
    batch_size: int = 1000,
    threads: int | None = None,
    flip: bool | None = None,
) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    """Return `ask` as a function of images alone, with the network loaded once.

    `threads` is how many processors a call may use, by default each physical core. PyTorch's
    settings are the whole process's, so one thread at a time may call it.
    """
    facts = run.read()
    flip = facts["recipe"]["flip_at_test"] if flip is None else flip
    threads = threads or physical_cores()
    if facts["engine"] == "keras":
        from fmnist.training import keras_networks
        from fmnist.training.keras_backend import check_device

        check_device(device)
        _network_of(run, recipe)
        with processor_settings(threads):
            model = keras_networks.logits_model(load_keras_model(run))
        answer = partial(keras_networks.ask, model)
    else:
        processor = find_device(device, precision="float32")
        with processor_settings(threads):
            network = on_device(load_network(run, recipe), processor)
        answer = partial(infer, network, device=processor)

    def in_settings(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        with processor_settings(threads):
            return answer(images, flip=flip, batch_size=batch_size)

    return in_settings


def network_facts(run: Run, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a classifier says of the network of a run that was judged as `metrics` say."""
    trained = run.read()
    return {
        "class_names": list(CLASS_NAMES),
        "temperature": metrics["temperature"],
        "temperature_source": metrics["temperature_source"],
        "network": trained["recipe"]["network"],
        "flip_at_test": trained["recipe"]["flip_at_test"],
        "accuracy_of_run": {name: part["accuracy"] for name, part in metrics["splits"].items()},
        **{key: trained[key] for key in ("recipe", "seed", "engine", "all_data", "git_commit")},
        "data_sha256": trained["data"]["sha256"],
        "photos": _known_of(trained.get("photos")),
    }


def _known_of(photos: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return what is known of a run's photos wherever their folder lies; older runs have none."""
    if photos is None:
        return None
    return {name: photos.get(name) for name in ("parts", "strangers", "count", "sha256")}


def _network_of(run: Run, recipe: Recipe | None) -> Any:
    """Return the run's network as `make_network` takes it; RunError if it may not be loaded."""
    named = run.read()["recipe"]["network"]
    if recipe is None and named not in NETWORKS:
        raise RunError(
            f"the network of {run.folder} is {named}, code outside fmnist; name its "
            f"recipe to allow it: {run.evaluate_command()}, or evaluate(run, recipe=…) in Python"
        )
    if recipe is not None and recipe.to_json()["network"] != named:
        network_given = recipe.to_json()["network"]
        raise RunError(f"the network of {run.folder} is {named}, not {network_given}")
    if not run.weights.is_file():
        raise RunError(
            f"{run.weights} is missing: the training has not finished; "
            f"go on with: {run.resume_command()}"
        )
    return recipe.network if recipe else named


def _read_state(run: Run) -> dict[str, Tensor]:
    """Return the weights of a run as the state of its torch network."""
    if run.read()["engine"] == "keras":
        from fmnist.training.keras_networks import torch_state

        return torch_state(run.read()["recipe"]["network"], load_keras_model(run))
    return load(run.weights.read_bytes())
