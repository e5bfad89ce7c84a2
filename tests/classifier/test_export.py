"""From a trained network to the file: parity, 8 bits, and what the file says of itself."""

import dataclasses
import json
from importlib.metadata import version

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto
from torch import Tensor, nn

from exported import TOLD
from fmnist.classifier.classifier import open_classifier
from fmnist.classifier.export import Parity, make_file, measure_parity, seal, to_onnx
from fmnist.errors import ModelError
from fmnist.models import NETWORKS
from fmnist.training.device import Device
from fmnist.training.inference import infer

Images = NDArray[np.uint8]
CPU = Device("cpu", "float32")


@pytest.mark.parametrize("flip", [False, True])
def test_the_file_answers_as_the_network(
    flip: bool, network: nn.Module, model: bytes, flipping: bytes, images: Images
) -> None:
    classifier = open_classifier(seal(flipping if flip else model, TOLD))
    expected = infer(network, images, CPU, flip=flip)
    np.testing.assert_allclose(classifier.logits(images), expected, atol=1e-4)
    np.testing.assert_allclose(classifier.logits(images[5]), expected[5:6], atol=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_of_ours_can_be_exported(name: str, images: Images) -> None:
    from finished import random_network

    network = random_network(name)
    classifier = open_classifier(seal(to_onnx(network, flip=True), TOLD))
    expected = infer(network, images, CPU, flip=True)
    np.testing.assert_allclose(classifier.logits(images), expected, atol=1e-3, rtol=1e-4)


def test_the_network_is_left_as_it_was(network: nn.Module) -> None:
    copy = nn.Sequential(network, nn.Dropout(0.5)).train()
    to_onnx(copy, flip=False)
    assert copy.training


def test_the_exporter_says_nothing(network: nn.Module, capfd: pytest.CaptureFixture[str]) -> None:
    to_onnx(network, flip=False)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_the_file_is_one_plain_standard_model(precision: str, model: bytes, int8: bytes) -> None:
    content = seal(model if precision == "float32" else int8, TOLD)
    proto = onnx.load_from_string(content)
    onnx.checker.check_model(proto, full_check=True)
    assert [(entry.domain, entry.version) for entry in proto.opset_import] == [("", 18)]
    assert proto.ir_version <= 10  # ONNX Runtime 1.18 opens no newer one
    assert proto.producer_version == version("fmnist")
    assert b".py" not in content  # no path of the machine that made it
    props = {entry.key: entry.value for entry in proto.metadata_props}
    assert props.keys() == {"fmnist", "sha256"}
    assert json.loads(props["fmnist"]) == TOLD


def test_batch_norms_stand_inside_convolutions_in_8_bits(int8: bytes) -> None:
    kinds = [node.op_type for node in onnx.load_from_string(int8).graph.node]
    assert "BatchNormalization" not in kinds
    assert kinds.count("Conv") == 2
    assert "QuantizeLinear" in kinds
    assert kinds[-1] == "Gemm"  # the logits are not rounded


def test_8_bits_are_8_bits_and_nearly_as_right(
    model: bytes, int8: bytes, images: Images, labels: NDArray[np.uint8]
) -> None:
    weights = onnx.load_from_string(int8).graph.initializer
    filters = [weight for weight in weights if len(weight.dims) == 4]
    assert [tuple(weight.dims) for weight in filters] == [(8, 1, 3, 3), (16, 8, 3, 3)]
    assert all(weight.data_type == TensorProto.INT8 for weight in filters)
    logits = open_classifier(seal(model, TOLD)).logits(images)
    parity = measure_parity(open_classifier(seal(int8, TOLD)), images, labels, logits)
    assert 0 < parity.largest_difference < 1
    assert parity.accuracy > parity.accuracy_of_run - 0.03


def test_the_figures_of_parity_go_into_the_file(
    network: nn.Module, model: bytes, images: Images, labels: NDArray[np.uint8]
) -> None:
    expected = infer(network, images, CPU)
    content, parity = make_file(model, TOLD, images, labels, expected, int8=False)
    assert (parity.images, parity.differing_labels) == (120, 0)
    assert 0 < parity.largest_difference < 1e-4
    assert parity.accuracy == parity.accuracy_of_run > 0.8
    assert open_classifier(content).facts == {**TOLD, "parity": dataclasses.asdict(parity)}


def test_parity_counts_what_differs(
    model: bytes, images: Images, labels: NDArray[np.uint8]
) -> None:
    classifier = open_classifier(seal(model, TOLD))
    other = classifier.logits(images)
    other[:3] = np.roll(other[:3], 1, axis=1)
    other[5] += 0.25
    parity = measure_parity(classifier, images, labels, other)
    assert parity.differing_labels == 3
    assert parity.largest_difference >= 0.25
    assert parity.accuracy == (classifier.classes(images) == labels).mean()
    assert parity.accuracy_of_run == (other.argmax(axis=1) == labels).mean()
    with pytest.raises(ModelError, match="3 of 120 labels differ"):
        make_file(model, TOLD, images, labels, other, int8=False)


@pytest.mark.parametrize(
    ("parity", "int8", "reason"),
    [
        (Parity(10_000, 1, 1e-4, 0.9, 0.9), False, None),
        (Parity(10_000, 2, 1e-4, 0.9, 0.9), False, "2 of 10,000 labels differ"),
        (Parity(5_000, 1, 1e-4, 0.9, 0.9), False, "1 of 5,000 labels differ"),
        (Parity(10_000, 0, 2e-3, 0.9, 0.9), False, "logits by up to 0.002"),
        (Parity(10_000, 0, float("nan"), 0.9, 0.9), False, "logits by up to nan"),
        (Parity(10_000, 80, 0.5, 0.9380, 0.94), True, None),
        (Parity(10_000, 80, 0.5, 0.9450, 0.94), True, None),
        (Parity(10_000, 80, 0.5, 0.9379, 0.94), True, "loses 0.21 points"),
    ],
)
def test_parity_has_a_limit(parity: Parity, int8: bool, reason: str | None) -> None:
    if reason is None:
        parity.check(int8=int8)
        return
    with pytest.raises(ModelError, match=reason):
        parity.check(int8=int8)


class Undecided(nn.Module):
    """What it does depends on the pixels, which no ONNX file of ours can hold."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, :10] if x.sum() > 0 else x.flatten(1)[:, 10:20]


def test_a_network_that_cannot_be_followed_is_refused_in_a_line() -> None:
    with pytest.raises(ModelError, match="cannot be written as ONNX") as error:
        to_onnx(Undecided(), flip=False)
    assert "\n" not in str(error.value)
    assert torch.is_grad_enabled()
