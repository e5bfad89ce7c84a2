"""A trained network to the ONNX file that a classifier is loaded from, with proof of parity.

The only part of this room that needs torch.
"""

import contextlib
import dataclasses
import json
import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import Tensor, nn

from fmnist.classifier.classifier import INPUT, OUTPUT, Classifier, open_classifier
from fmnist.classifier.onnx_file import FACTS, SEAL, UNSEALED, sealed
from fmnist.errors import ModelError

OPSET = 18  # the oldest that torch's exporter writes without converting
IR_VERSION = 10  # the newest that ONNX Runtime 1.18 opens
LOGIT_TOLERANCE = 1e-3
LABELS_TOLERANCE = 1e-4  # share of labels that float32 may change
INT8_TOLERANCE = 0.002  # accuracy that int8 may lose
# What is done in 8 bits; all other arithmetic, such as the scaling of pixels, is a trifle in float.
IN_INT8 = ["Add", "AveragePool", "Conv", "Gemm", "MatMul", "MaxPool", "Relu"]
CALIBRATION_BATCH = 100


class Mean(nn.Module):
    """Several networks as one, whose logits are the mean of theirs: an ensemble."""

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        """Take networks of images (n, 1, 28, 28) to logits (n, 10)."""
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, x: Tensor) -> Tensor:  # (n, 1, 28, 28)
        """Return logits (n, 10)."""
        return torch.stack([network(x) for network in self.networks]).mean(0)


class Served(nn.Module):
    """A network with what comes before and after it, as the file has them inside."""

    def __init__(self, network: nn.Module, flip: bool) -> None:
        """Serve `network`; with `flip`, the mean of its logits of an image and its mirror image."""
        super().__init__()
        self.network, self.flip = network, flip

    def forward(self, images: Tensor) -> Tensor:  # (n, 28, 28) uint8
        """Return logits (n, 10)."""
        # Both views in one batch: the network stands in the file once.
        views = torch.cat([images, images.flip(2)]) if self.flip else images
        logits: Tensor = self.network(views.unsqueeze(1).float() / 255)
        return logits.reshape(2, -1, 10).mean(0) if self.flip else logits


def to_onnx(network: nn.Module, *, flip: bool) -> bytes:
    """Return a trained network as ONNX: images (n, 28, 28) uint8 to logits (n, 10) float32.

    Weights are inside, the scaling to 0..1 too. Raises ModelError for a network that torch's
    exporter cannot follow.
    """
    was_training = network.training
    example = torch.zeros(2, 28, 28, dtype=torch.uint8)
    try:
        with _quiet_exporter():
            program = torch.onnx.export(
                Served(network, flip).eval(),
                (example,),
                dynamo=True,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes={"images": {0: torch.export.Dim("n")}},
                opset_version=OPSET,
                external_data=False,
                verbose=False,
            )
    except Exception as error:  # the exporter raises what any of its steps does
        reason = str(error).strip().partition("\n")[0]
        raise ModelError(f"the network cannot be written as ONNX: {reason}") from error
    finally:
        network.train(was_training)
    assert program is not None
    return _plain(program.model_proto)


def quantize(model: bytes, images: NDArray[np.uint8]) -> bytes:
    """Return an ONNX model of `to_onnx` with weights and activations in 8 bits.

    Their ranges are measured on `images` (n, 28, 28), which should be training images. Activations
    are uint8 and weights int8 with a scale a channel, which is what x86's VNNI multiplies; the last
    layer stays float32, or logits would have 256 values. docs/log.md has what else was tried.
    """
    with tempfile.TemporaryDirectory() as folder, _quiet_exporter():
        whole, folded, small = (Path(folder, name) for name in ("whole", "folded", "small"))
        whole.write_bytes(model)
        # Batch norms go into the convolutions before these get their scales.
        quant_pre_process(whole, folded, skip_symbolic_shape=True)
        quantize_static(
            folded,
            small,
            _Calibration(images),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=IN_INT8,
            nodes_to_exclude=_last_layers(onnx.load(folded)),
        )
        return _plain(onnx.load(small))


def seal(model: bytes, facts: Mapping[str, Any]) -> bytes:
    """Return the file: an ONNX model with `facts` (JSON values) and its own hash as metadata.

    `facts` must hold class_names (10) and temperature, and say where the network is from.
    """
    proto = onnx.load_from_string(model)
    text = json.dumps(facts, allow_nan=False, ensure_ascii=False)
    onnx.helper.set_model_props(proto, {FACTS: text, SEAL: UNSEALED})
    onnx.checker.check_model(proto, full_check=True)
    return sealed(proto.SerializeToString())


@dataclass(frozen=True)
class Parity:
    """How far a file's answers are from those of the network it was made from, on `images`."""

    images: int
    differing_labels: int
    largest_difference: float
    accuracy: float  # of the file, 0..1
    accuracy_of_run: float

    def check(self, *, int8: bool) -> None:
        """Raise ModelError if the file answers worse than it may.

        float32: another label for at most 1 image in 10,000, logits within 0.001. int8: accuracy
        lower by at most 0.2 points.
        """
        lost = round(self.accuracy_of_run - self.accuracy, 9)  # 0.94 - 0.938 > 0.002 in binary
        if int8 and lost > INT8_TOLERANCE:
            raise ModelError(
                f"in 8 bits the network loses {100 * lost:.2f} points of accuracy on "
                f"{self.images:,} images, more than {100 * INT8_TOLERANCE}; export it without int8"
            )
        if not int8 and (
            self.differing_labels > LABELS_TOLERANCE * self.images
            or not self.largest_difference <= LOGIT_TOLERANCE  # nor may it be no number
        ):
            raise ModelError(
                f"the exported network answers otherwise than the run's: {self.differing_labels} "
                f"of {self.images:,} labels differ, logits by up to "
                f"{self.largest_difference:.2g}"
            )


def measure_parity(
    classifier: Classifier,
    images: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    logits: NDArray[np.float32],
) -> Parity:
    """Compare a file's answers on images (n, 28, 28) with the network's `logits` (n, 10)."""
    answers = classifier.logits(images)
    said, meant = answers.argmax(axis=1), logits.argmax(axis=1)
    return Parity(
        images=len(images),
        differing_labels=int((said != meant).sum()),
        largest_difference=float(abs(answers - logits).max()),
        accuracy=int((said == labels).sum()) / len(labels),
        accuracy_of_run=int((meant == labels).sum()) / len(labels),
    )


def make_file(
    model: bytes,
    facts: Mapping[str, Any],
    images: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    logits: NDArray[np.float32],
    *,
    int8: bool,
) -> tuple[bytes, Parity]:
    """Return the sealed file of a model, with its parity on labelled images written into it.

    `logits` (n, 10) are the network's own. Raises ModelError where the file answers worse than
    `Parity.check` allows.
    """
    parity = measure_parity(open_classifier(seal(model, facts)), images, labels, logits)
    parity.check(int8=int8)
    return seal(model, {**facts, "parity": dataclasses.asdict(parity)}), parity


def _last_layers(model: onnx.ModelProto) -> list[str]:
    """Return the layers with weights that no other such layer comes after, one a network."""
    passed: set[str] = set()  # values that go into a layer with weights, now or later
    last = []
    for node in reversed(model.graph.node):  # in ONNX sorted from inputs to outputs
        weighty = node.op_type in ("Conv", "Gemm", "MatMul")
        followed = any(value in passed for value in node.output)
        if weighty and not followed:
            last.append(node.name)
        if weighty or followed:
            passed.update(node.input)
    return last


def _plain(model: onnx.ModelProto) -> bytes:
    """Return a model without notes of the tools that made it, such as paths of this machine."""
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.initializer, *graph.value_info):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    for end in (*graph.input, *graph.output):
        end.ClearField("metadata_props")
        end.ClearField("doc_string")
    del graph.value_info[:]  # shapes in between, which ONNX Runtime finds itself
    used = {node.domain for node in graph.node}
    kept = [entry for entry in model.opset_import if entry.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)
    model.ir_version = min(model.ir_version, IR_VERSION)
    model.producer_name, model.producer_version = "fmnist", version("fmnist")
    content: bytes = model.SerializeToString()
    return content


class _Calibration(CalibrationDataReader):  # type: ignore[misc]
    """Hands images to ONNX Runtime's calibration in batches."""

    def __init__(self, images: NDArray[np.uint8]) -> None:
        starts = range(0, len(images), CALIBRATION_BATCH)
        self.batches = iter([{INPUT: images[at : at + CALIBRATION_BATCH]} for at in starts])

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        return next(self.batches, None)


@contextlib.contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Silence what the exporter says of itself: torchvision's absence, its use of old names."""
    log = logging.getLogger("torch.onnx._internal.exporter._registration")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*LeafSpec.* is deprecated", FutureWarning)
            yield
    finally:
        log.setLevel(before)
