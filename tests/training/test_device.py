"""Devices, precision and threads."""

import contextlib
import os

import numpy as np
import pytest
import torch

from fmnist.errors import RunError
from fmnist.models import NETWORKS, make_network
from fmnist.training.device import Device, find_device, physical_cores, processor_settings
from fmnist.training.inference import infer


def test_the_cpu_is_always_there() -> None:
    assert find_device("cpu").name == "cpu"
    assert find_device("auto").name in ("cpu", "cuda", "mps")


def test_a_missing_device_is_named() -> None:
    with pytest.raises(RunError, match="no device 'tpu'; use one of auto, cpu, cuda, mps"):
        find_device("tpu")
    for name, there in (
        ("cuda", torch.cuda.is_available()),
        ("mps", torch.backends.mps.is_available()),
    ):
        if not there:
            with pytest.raises(RunError, match=f"offers PyTorch no {name}"):
                find_device(name)


@pytest.mark.parametrize("name", NETWORKS)
def test_bfloat16_logits_are_near_float32_ones(name: str) -> None:
    torch.manual_seed(0)
    network = make_network(name)
    images = np.random.default_rng(0).integers(0, 256, (64, 28, 28), dtype=np.uint8)
    exact = infer(network, images, Device("cpu", "float32"))
    rounded = infer(network, images, Device("cpu", "bfloat16"))
    assert rounded.dtype == np.float32
    assert not np.array_equal(exact, rounded)
    # 8 bits of mantissa: 0.4 % a value, over a few layers.
    assert np.abs(exact - rounded).max() <= 0.03 * np.abs(exact).max()


def test_threads_are_as_many_as_physical_cores() -> None:
    assert 1 <= physical_cores() <= (os.cpu_count() or 1)


def test_processor_settings_hold_inside_and_are_restored() -> None:
    before = torch.get_num_threads()
    with contextlib.suppress(ZeroDivisionError), processor_settings(before + 1):
        assert torch.get_num_threads() == before + 1
        assert (torch.tensor([1e-40]) * 1.0).item() == 0.0  # denormals are flushed inside
        raise ZeroDivisionError
    assert torch.get_num_threads() == before
