"""The networks: images (n, 1, 28, 28) float in 0..1 to logits (n, 10).

A network that its recipe wants to see pixels on another scale does the scaling itself, so weights
and scale cannot be mixed up.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fmnist.errors import ModelError

PIXEL_MEAN, PIXEL_SD = 0.2860, 0.3530  # of the training images in 0..1
# Share of a batch in the running statistics: short trainings must forget their first steps.
STATISTICS_MOMENTUM = 0.3


class Classic(nn.Module):
    """The network of github.com/eugenekuloba/Fashion-MNIST: 467,626 parameters.

    Two pairs of 3x3 convolutions without bias, a dense layer of 128. Weights start Glorot-uniform
    (Glorot & Bengio, AISTATS 2010, equation 16) and biases at zero, as Keras has it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, padding="same", bias=False)
        self.conv2 = nn.Conv2d(32, 32, 3, padding="same", bias=False)
        self.conv3 = nn.Conv2d(32, 64, 3, padding="same", bias=False)
        self.conv4 = nn.Conv2d(64, 64, 3, padding="same", bias=False)
        self.dense1 = nn.Linear(64 * 7 * 7, 128)
        self.dense2 = nn.Linear(128, 10)
        for layer in self.children():
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(self.dense1.bias)
        nn.init.zeros_(self.dense2.bias)

    def forward(self, x: Tensor) -> Tensor:  # (n, 1, 28, 28)
        """Return logits."""
        x = F.relu(self.conv1(x))  # (n, 32, 28, 28)
        x = F.relu(self.conv2(x))  # (n, 32, 28, 28)
        x = F.max_pool2d(x, 2)  # (n, 32, 14, 14)
        x = F.relu(self.conv3(x))  # (n, 64, 14, 14)
        x = F.relu(self.conv4(x))  # (n, 64, 14, 14)
        x = F.max_pool2d(x, 2).flatten(1)  # (n, 3136)
        x = F.relu(self.dense1(x))  # (n, 128)
        logits: Tensor = self.dense2(x)  # (n, 10)
        return logits


class ConvNormReLU(nn.Sequential):
    """3x3 convolution, batch norm, ReLU."""

    def __init__(self, channels_in: int, channels_out: int, padding: int = 1) -> None:
        super().__init__(
            nn.Conv2d(channels_in, channels_out, 3, padding=padding, bias=False),
            nn.BatchNorm2d(channels_out, momentum=STATISTICS_MOMENTUM),
            nn.ReLU(),
        )


class Whitening(nn.Module):
    """A first layer that is computed from images instead of being trained: (n, 1, 28, 28) to 16.

    Its filters are the principal axes of 3x3 patches, scaled so that each answers with variance 1
    on patches, each once as it is and once negated; their answers are pooled to 14x14. Nothing is
    differentiated where the images are largest, and what follows sees decorrelated inputs from the
    first step on (K. Jordan, arXiv 2404.00498, section 3.2, after D. Page, "How to train your
    ResNet", 2018).
    """

    AXES = 8  # the ninth axis of a 3x3 patch is little but noise
    EPSILON = 1e-2  # added to variances, so that faint axes are not blown up

    filters: Tensor

    def __init__(self) -> None:
        super().__init__()
        filters = torch.empty(self.AXES, 1, 3, 3)
        self.register_buffer("filters", nn.init.orthogonal_(filters))

    def start_from(self, images: Tensor) -> None:
        """Compute the filters from normalised images (n, 1, 28, 28), n in the hundreds or more."""
        patches = F.unfold(images.double(), 3).transpose(1, 2).reshape(-1, 9)
        variances, axes = torch.linalg.eigh(patches.T.cov())  # in ascending order
        whitening = (axes / (variances + self.EPSILON).sqrt()).flip(1).T
        self.filters.copy_(whitening[: self.AXES].view(-1, 1, 3, 3))

    def forward(self, x: Tensor) -> Tensor:  # (n, 1, 28, 28)
        """Return (n, 16, 14, 14): relu(max_pool2d(conv2d(x, [filters, -filters], padding=1), 2)).

        A convolution over one channel is slow, and so is pooling, so the four pixels of a pool
        become channels: the filters are shifted to each of the four and cut up like the images.
        """
        x = F.pixel_unshuffle(x, 2)  # (n, 4, 14, 14)
        shifted = [
            F.pixel_unshuffle(F.pad(self.filters, (1 + column, 2 - column, 1 + row, 2 - row)), 2)
            for row in (0, 1)
            for column in (0, 1)
        ]  # four of (8, 4, 3, 3)
        x = F.conv2d(x.contiguous(memory_format=torch.channels_last), torch.cat(shifted), padding=1)
        left, right = x.chunk(2, dim=1)  # (n, 16, 14, 14) each
        most, least = torch.maximum(left, right), torch.minimum(left, right)
        most, least = torch.maximum(*most.chunk(2, dim=1)), torch.minimum(*least.chunk(2, dim=1))
        return F.relu(torch.cat([most, -least], dim=1))  # (n, 16, 14, 14)


class Whitened(nn.Module):
    """Whitening, then convolutions at 12, 6 and 1 pixels.

    The first has no margin, so that 12 halves to 6 and 3 without a remainder; the last looks at all
    3x3 positions at once. docs/log.md tells what was tried on the way. Whitening, the width in
    depth and logits scaled down are cifar10-airbench's (K. Jordan, arXiv 2404.00498).
    """

    def __init__(self, channels: tuple[int, int, int], *, residual: bool) -> None:
        """Make convolutions of so many channels; `residual` adds one at 6 pixels."""
        super().__init__()
        first, second, last = channels
        self.whitening = Whitening()
        self.conv1 = nn.Conv2d(16, first, 3, bias=False)
        self.norm1 = nn.BatchNorm2d(first, momentum=STATISTICS_MOMENTUM)
        self.conv2 = nn.Conv2d(first, second, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(second, momentum=STATISTICS_MOMENTUM)
        self.residual = ConvNormReLU(second, second) if residual else None
        self.conv3 = nn.Conv2d(second, last, 3, bias=False)
        self.norm3 = nn.BatchNorm1d(last, momentum=STATISTICS_MOMENTUM)
        self.head = nn.Linear(last, 10)

    def start_from(self, images: Tensor) -> None:
        """Compute the whitening from training images (n, 1, 28, 28) in 0..1."""
        self.whitening.start_from((images - PIXEL_MEAN) / PIXEL_SD)

    def forward(self, x: Tensor) -> Tensor:  # (n, 1, 28, 28)
        """Return logits."""
        x = self.whitening((x - PIXEL_MEAN) / PIXEL_SD)  # (n, 16, 14, 14)
        x = F.relu(self.norm1(F.max_pool2d(self.conv1(x), 2)))  # (n, first, 6, 6)
        if self.residual is None:
            x = F.relu(self.norm2(F.max_pool2d(self.conv2(x), 2)))  # (n, second, 3, 3)
        else:
            x = F.relu(self.norm2(self.conv2(x)))  # (n, second, 6, 6)
            x = F.max_pool2d(x + self.residual(x), 2)  # (n, second, 3, 3)
        # At a single position a convolution is a matrix product, and four times faster as one.
        x, weight = (part.permute(0, 2, 3, 1).flatten(1) for part in (x, self.conv3.weight))
        x = F.relu(self.norm3(F.linear(x, weight)))  # (n, last)
        logits: Tensor = self.head(x) / 4  # (n, 10)
        return logits


def sprinter() -> Whitened:
    """Return the network of the recipe `sprint`: 173,770 parameters."""
    return Whitened((32, 64, 256), residual=False)


def runner() -> Whitened:
    """Return the network of the recipe `photo`: 827,018 parameters."""
    return Whitened((64, 128, 512), residual=True)


class Stage(nn.Module):
    """A convolution to more channels, residual ones, then half the side."""

    def __init__(self, channels_in: int, channels: int, blocks: int, padding: int = 1) -> None:
        super().__init__()
        self.channels = channels
        self.widen = ConvNormReLU(channels_in, channels, padding)
        self.blocks = nn.ModuleList(ConvNormReLU(channels, channels) for _ in range(blocks))

    def forward(self, x: Tensor) -> Tensor:  # (n, channels_in, h, w)
        """Return (n, channels, h // 2, w // 2); without padding both lose 2 before they halve."""
        x = self.widen(x)  # (n, channels, h, w)
        for block in self.blocks:
            x = x + block(x)  # (n, channels, h, w)
        return F.max_pool2d(x, 2)  # (n, channels, h // 2, w // 2)


class Residual(nn.Module):
    """A stem, stages of residual convolutions down to 3x3 pixels, and one look at all of those.

    The identity in `x + block(x)` is He et al.'s (arXiv 1512.03385, section 3.1); stages widen and
    halve by turns as there. Blocks are single convolutions: twice as many of those taught more in
    the same time than pairs (docs/log.md).
    """

    def __init__(self, stem: nn.Module, stages: Sequence[Stage], last: int) -> None:
        super().__init__()
        self.stem = stem
        self.stages = nn.Sequential(*stages)
        self.look = nn.Conv2d(stages[-1].channels, last, 3, bias=False)
        self.norm = nn.BatchNorm1d(last, momentum=STATISTICS_MOMENTUM)
        self.head = nn.Linear(last, 10)

    def start_from(self, images: Tensor) -> None:
        """Compute the whitening, where that is the stem, from images (n, 1, 28, 28) in 0..1."""
        if isinstance(self.stem, Whitening):
            self.stem.start_from((images - PIXEL_MEAN) / PIXEL_SD)

    def forward(self, x: Tensor) -> Tensor:  # (n, 1, 28, 28)
        """Return logits."""
        x = self.stages(self.stem((x - PIXEL_MEAN) / PIXEL_SD))  # (n, channels, 3, 3)
        x, weight = (part.permute(0, 2, 3, 1).flatten(1) for part in (x, self.look.weight))
        x = F.relu(self.norm(F.linear(x, weight)))  # (n, last)
        logits: Tensor = self.head(x) / 4  # (n, 10)
        return logits


def standard() -> Residual:
    """Return the network of the recipe `standard`: 713,738 parameters."""
    return Residual(Whitening(), [Stage(16, 64, 1, padding=0), Stage(64, 128, 2)], 256)


def strong() -> Residual:
    """Return the network of the recipe `strong`: 898,442 parameters."""
    return Residual(Whitening(), [Stage(16, 64, 2, padding=0), Stage(64, 128, 3)], 256)


def wide() -> Residual:
    """Return the network of the recipe `best`, for GPUs: 15,429,066 parameters."""
    stages = [Stage(64, 128, 2), Stage(128, 256, 3), Stage(256, 512, 3)]
    return Residual(ConvNormReLU(1, 64), stages, 1024)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "classic": Classic,
    "runner": runner,
    "sprinter": sprinter,
    "standard": standard,
    "strong": strong,
    "wide": wide,
}


@runtime_checkable
class StartsFromImages(Protocol):
    """A network that wants to see training images before its first step."""

    def start_from(self, images: Tensor) -> None:
        """Take from images (n, 1, 28, 28) in 0..1 what is not trained but computed."""


def make_network(network: str | Callable[[], Any]) -> nn.Module:
    """Return a new network by its name in NETWORKS, or from a callable that makes one.

    Raises ModelError if it cannot be made, or does not map two images to logits (2, 10).
    """
    if isinstance(network, str):
        if network not in NETWORKS:
            raise ModelError(f"there is no network {network!r}; there are {', '.join(NETWORKS)}")
        network = NETWORKS[network]
    try:
        made = network()
    except Exception as error:  # anything may go wrong in a person's own code
        raise ModelError(f"the network cannot be made: {_say(error)}") from error
    if not isinstance(made, nn.Module):
        raise ModelError(f"{network} made a {type(made).__name__}, not a torch.nn.Module")
    _check_shapes(made)
    strange = [name for name, value in made.state_dict().items() if not isinstance(value, Tensor)]
    if strange:
        raise ModelError(f"the network's state {strange[0]} is no tensor and cannot be saved")
    return made


@torch.no_grad()
def _check_shapes(network: nn.Module) -> None:
    """Try the network on two black images, in evaluation mode so that nothing in it moves."""
    network.eval()
    try:
        logits = network(torch.zeros(2, 1, 28, 28))
    except Exception as error:  # a person's own code again
        raise ModelError(f"the network fails on images (n, 1, 28, 28): {_say(error)}") from error
    if not isinstance(logits, Tensor) or tuple(logits.shape) != (2, 10):
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ModelError(f"the network must answer logits (n, 10) and answers {shape} for n = 2")
    network.train()


def _say(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
