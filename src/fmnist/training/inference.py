"""Images in, logits out: the one way a torch network of this project is asked."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fmnist.training.device import Device


@torch.inference_mode()
def infer(
    network: nn.Module,
    images: NDArray[np.uint8],
    device: Device,
    *,
    flip: bool = False,
    batch_size: int = 1000,
) -> NDArray[np.float32]:
    """Return logits (n, 10) of images (n, 28, 28) uint8.

    With `flip` they are the mean of the image's and its mirror image's. The network is left in the
    mode (training or not) it came in.
    """
    was_training = network.training
    network.eval()
    parts = []
    for start in range(0, len(images), batch_size):
        pixels = torch.from_numpy(np.array(images[start : start + batch_size])).to(device.torch)
        x = pixels.unsqueeze(1).float() / 255  # (b, 1, 28, 28)
        with device.autocast():
            logits = network(x)
            if flip:
                logits = (logits + network(x.flip(3))) / 2
        parts.append(logits.float().cpu())
    network.train(was_training)
    return torch.cat(parts).numpy() if parts else np.empty((0, 10), np.float32)
