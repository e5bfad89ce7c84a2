"""Which pixels a run's answer rests on, by the gradients of its network."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fmnist.environment import physical_cores
from fmnist.errors import MissingExtra
from fmnist.recipes import Recipe
from fmnist.runs import Run
from fmnist.training.device import processor_settings
from fmnist.training.trained import load_network

STEPS = 32  # from black to the image: the sums are then right to 1 %
CHUNK = 16  # images at once, so 512 passes


def integrated_gradients(
    run: Run,
    images: NDArray[np.uint8],
    classes: NDArray[np.integer[Any]],
    recipe: Recipe | None = None,
) -> NDArray[np.float32]:
    """Return (n, 28, 28) float32: how much each pixel of an image speaks for a class.

    `images` is (n, 28, 28) uint8, `classes` (n,) has an index 0..9 for each. A map sums to what its
    image has over black in log-odds log(p / (1 - p)) of the class, natural logarithm, without
    temperature; positive supports the class. A black pixel has 0: what is absent is not credited.
    Runs of Keras are asked through PyTorch. Raises MissingExtra without captum, RunError and
    ModelError as `load_network`.

    Source: Sundararajan et al., arXiv 1703.01365, section 3, with black for a baseline.
    """
    return load_gradients(run, recipe)(images, classes)


def load_gradients(
    run: Run, recipe: Recipe | None = None
) -> Callable[[NDArray[np.uint8], NDArray[np.integer[Any]]], NDArray[np.float32]]:
    """Return `integrated_gradients` as a function of images and classes, the network loaded once.

    Raises as it does. PyTorch's settings are the whole process's, so one thread at a time may call
    the function.
    """
    try:
        from captum.attr import IntegratedGradients
    except ImportError as error:
        raise MissingExtra("captum", "explain") from error
    network = load_network(run, recipe).eval()
    method = IntegratedGradients(_log_odds(network, run.read()["recipe"]["flip_at_test"]))

    def explain(
        images: NDArray[np.uint8], classes: NDArray[np.integer[Any]]
    ) -> NDArray[np.float32]:
        parts = [np.empty((0, 28, 28), np.float32)]
        with processor_settings(physical_cores()):
            for at in range(0, len(images), CHUNK):
                x = torch.tensor(images[at : at + CHUNK]).unsqueeze(1).float() / 255
                asked = torch.tensor(classes[at : at + CHUNK].astype(np.int64))
                maps = method.attribute(x, additional_forward_args=(asked,), n_steps=STEPS)
                parts.append(maps.squeeze(1).numpy())
        return np.concatenate(parts)

    return explain


def _log_odds(network: nn.Module, flip: bool) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the function that is explained; with `flip` of the mean over both mirror images."""

    def log_odds(x: Tensor, asked: Tensor) -> Tensor:  # (b, 1, 28, 28), (b,)
        logits = (network(x) + network(x.flip(3))) / 2 if flip else network(x)
        others = logits.masked_fill(nn.functional.one_hot(asked, 10).bool(), -torch.inf)
        odds: Tensor = logits.gather(1, asked[:, None])[:, 0] - others.logsumexp(1)
        return odds

    return log_odds
