"""What a network's last layer sees of an image: where the image lies for the network."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fmnist.training.device import Device
from fmnist.training.inference import infer


def last_layer_inputs(
    network: nn.Module, images: NDArray[np.uint8], device: Device, *, flip: bool = False
) -> NDArray[np.float32] | None:
    """Return what the last linear layer is given for images (n, 28, 28) uint8: (n, width) float32.

    With `flip` it is the mean of the image's and its mirror image's, so that both have the same.
    None where there is no such layer, or it is not given one vector an image.
    """
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
    if not layers:
        return None
    seen: list[Tensor] = []

    def keep(layer: nn.Module, given: tuple[Tensor, ...]) -> None:
        seen.append(given[0].float().cpu())

    with layers[-1].register_forward_pre_hook(keep):
        infer(network, images, device, flip=flip)
    views = 2 if flip else 1  # a batch, then its mirror images
    if any(part.ndim != 2 for part in seen) or sum(map(len, seen)) != views * len(images):
        return None
    return torch.stack([torch.cat(seen[view::views]) for view in range(views)]).mean(0).numpy()
