"""Who is judged: something that answers images with scores, and what it costs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fmnist.environment import physical_cores
from fmnist.errors import ModelError
from fmnist.recipes import Recipe
from fmnist.runs import Run

if TYPE_CHECKING:
    from torch import nn

Ask: TypeAlias = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
Watch: TypeAlias = Callable[[str], None]  # told in a word or two what is being done


@dataclass(frozen=True)
class Subject:
    """What is judged; None stands for what is not known of it."""

    name: str
    ask: Ask | None  # images (n, 28, 28) uint8 to logits (n, 10) float32; None: saved ones only
    parameters: int | None = None
    multiply_adds: int | None = None  # of one image, all its views counted
    file_bytes: int | None = None
    threads: int | None = None  # how many processors a call may use
    device: str | None = "cpu"

    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the logits (n, 10) of images (n, 28, 28) uint8.

        Raises ModelError where they are of another shape or not finite.
        """
        assert self.ask is not None
        logits = self.ask(images)
        if logits.shape != (len(images), 10) or not np.isfinite(logits).all():
            raise ModelError(f"{self.name} does not answer images with finite logits (n, 10)")
        return logits


def run_subject(
    run: Run, *, recipe: Recipe | None = None, device: str = "auto", batch_size: int = 1000
) -> Subject:
    """Return a finished run as what is judged. Raises RunError and ModelError as `load_ask`."""
    from fmnist.training.device import find_device
    from fmnist.training.trained import load_ask, load_network

    facts, threads = run.read(), physical_cores()
    asked_on = "cpu" if facts["engine"] == "keras" else find_device(device).name
    return Subject(
        name=str(run.folder),
        ask=load_ask(run, recipe=recipe, device=device, batch_size=batch_size, threads=threads),
        parameters=facts["parameters"],
        multiply_adds=multiply_adds(load_network(run, recipe), facts["recipe"]["flip_at_test"]),
        file_bytes=run.weights.stat().st_size,
        threads=threads,
        device=asked_on,
    )


def multiply_adds(network: "nn.Module", flip: bool) -> int:
    """Return the multiplications of one image in matrix products and convolutions.

    Each comes with an addition, so twice as many floating-point operations. The mirror image's
    count too if `flip`; what acts on single values (norms, activations, pooling) does not count.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    was_training = network.training
    network.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 1, 28, 28))
    network.train(was_training)
    return int(counter.get_total_flops()) // 2 * (2 if flip else 1)
