"""Models as other people make them: one linear classifier of garments, in many shapes of file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from fmnist.data import Dataset

FLOAT = TensorProto.FLOAT
# Three steps that every linear classifier ends with.
SCORES = ["flat", "weights", "bias"]


def linear(data: Dataset) -> NDArray[np.float32]:
    """Weights (785, 10) of a ridge regression on the train split, pixels 0..1, and a bias."""
    split = data.split("train")
    inputs = np.c_[split.images.reshape(-1, 784) / 255.0, np.ones(len(split))]
    square = inputs.T @ inputs + 5 * np.eye(785)
    weights = 8 * np.linalg.solve(square, inputs.T @ np.eye(10)[split.labels])
    return weights.astype(np.float32)


def answers(weights: NDArray[np.float32], images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What the classifier says: scores (n, 10)."""
    flat = images.reshape(-1, 784).astype(np.float32) / 255
    scores: NDArray[np.float32] = flat @ weights[:784] + weights[784]
    return scores


def softmax(scores: NDArray[Any]) -> NDArray[np.float64]:
    """Probabilities (n, 10) of scores."""
    likely = np.exp(scores.astype(np.float64) - scores.max(axis=1, keepdims=True))
    shares: NDArray[np.float64] = likely / likely.sum(axis=1, keepdims=True)
    return shares


def write_onnx(
    path: Path,
    weights: NDArray[np.float32],
    shape: Sequence[int | str] = ("n", 1, 28, 28),
    *,
    kind: int = FLOAT,
    before: Sequence[tuple[Any, ...]] = (),
    after: Sequence[tuple[Any, ...]] = (),
    ends: Sequence[tuple[str, int, Sequence[int | str]]] | None = None,
    more_inputs: Sequence[str] = (),
    constants: dict[str, NDArray[Any]] | None = None,
    metadata: dict[str, str] | None = None,
    domains: Sequence[str] = (),
) -> Path:
    """Write the classifier: `before` takes "input" to "ready", `after` takes "scores" on.

    Each step is (operator, inputs, outputs, attributes or nothing).
    """
    first = "ready" if before else "input"
    flatten = helper.make_node("Flatten", [first], ["flat"])
    nodes = [_node(step) for step in before]
    nodes += [flatten, helper.make_node("Gemm", SCORES, ["scores"])]
    nodes += [_node(step) for step in after]
    ends = ends or [("scores", FLOAT, [shape[0], weights.shape[1]])]
    inputs = {"input": (kind, shape), **dict.fromkeys(more_inputs, (FLOAT, shape))}
    tensors = {"weights": weights[:784], "bias": weights[784], **(constants or {})}
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info(name, *value) for name, value in inputs.items()],
        [helper.make_tensor_value_info(*end) for end in ends],
        [numpy_helper.from_array(np.ascontiguousarray(v), name) for name, v in tensors.items()],
    )
    opsets = [helper.make_opsetid("", 18), *[helper.make_opsetid(name, 1) for name in domains]]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    if metadata:
        helper.set_model_props(model, metadata)
    onnx.save(model, path)
    return path


def _node(step: tuple[Any, ...]) -> Any:
    operator, inputs, outputs, *attributes = step
    return helper.make_node(operator, inputs, outputs, **(attributes[0] if attributes else {}))
