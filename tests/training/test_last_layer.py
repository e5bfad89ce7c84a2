import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fmnist.training.device import find_device
from fmnist.training.last_layer import last_layer_inputs

PROCESSOR = find_device("cpu")


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (1003, 28, 28), dtype=np.uint8)


class Twice(nn.Module):
    """A network that asks its last layer twice."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(784, 784)

    def forward(self, x: Tensor) -> Tensor:
        twice: Tensor = self.last(self.last(x.flatten(1)))[:, :10]
        return twice


def test_it_is_what_the_layer_is_given_and_with_flip_the_mean(images: np.ndarray) -> None:
    network = nn.Sequential(nn.Flatten(), nn.ReLU(), nn.Linear(784, 10))
    seen = last_layer_inputs(network, images, PROCESSOR)
    pixels = (images.astype(np.float32) / np.float32(255)).reshape(-1, 784)
    both = last_layer_inputs(network, images, PROCESSOR, flip=True)
    assert seen is not None
    assert both is not None
    np.testing.assert_array_equal(seen, pixels)
    mirrored = pixels.reshape(-1, 28, 28)[:, :, ::-1].reshape(-1, 784)
    mean = (pixels + mirrored) / 2
    np.testing.assert_allclose(both, mean, rtol=1e-6)


def test_the_network_is_left_as_it_was(images: np.ndarray) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    last_layer_inputs(network, images[:3], PROCESSOR)
    assert network.training
    assert not network[1]._forward_pre_hooks


@pytest.mark.parametrize("network", [nn.Sequential(nn.Conv2d(1, 10, 28), nn.Flatten()), Twice()])
def test_without_one_vector_an_image_there_is_none(network: nn.Module, images: np.ndarray) -> None:
    torch.manual_seed(0)
    assert last_layer_inputs(network, images[:5], PROCESSOR) is None
