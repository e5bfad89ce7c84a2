"""One small network, its classifier files, and the images they are asked about."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

import garments as synthetic
from exported import TOLD
from fmnist.classifier.export import quantize, seal, to_onnx
from tiny import Tiny


@pytest.fixture(scope="session")
def images() -> NDArray[np.uint8]:
    """120 garments (120, 28, 28)."""
    return synthetic.make(synthetic.TEST_PER_CLASS, seed=2)[0]


@pytest.fixture(scope="session")
def labels() -> NDArray[np.uint8]:
    """Their classes (120,)."""
    return synthetic.make(synthetic.TEST_PER_CLASS, seed=2)[1]


@pytest.fixture(scope="session")
def network() -> nn.Module:
    """Tiny after some steps on other garments: it is right about most."""
    drawn, classes = synthetic.make(synthetic.TRAIN_PER_CLASS, seed=1)
    x = torch.from_numpy(drawn).unsqueeze(1).float() / 255
    y = torch.from_numpy(classes.astype(np.int64))
    torch.manual_seed(0)
    network = Tiny()
    optimizer = torch.optim.Adam(network.parameters(), 5e-3)
    for _ in range(30):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(x), y).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return network.eval()


@pytest.fixture(scope="session")
def model(network: nn.Module) -> bytes:
    """The network as ONNX, not sealed."""
    return to_onnx(network, flip=False)


@pytest.fixture(scope="session")
def flipping(network: nn.Module) -> bytes:
    """The network averaged over both views as ONNX, not sealed."""
    return to_onnx(network, flip=True)


@pytest.fixture(scope="session")
def int8(model: bytes) -> bytes:
    """The network in 8 bits, calibrated on other garments."""
    return quantize(model, synthetic.make(20, seed=3)[0])


@pytest.fixture(scope="session")
def file(model: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The network as a classifier's file; not to be changed."""
    path = tmp_path_factory.mktemp("classifier") / "tiny.onnx"
    path.write_bytes(seal(model, TOLD))
    return path
