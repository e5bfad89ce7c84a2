"""What an ONNX file costs to ask: the multiplications of its convolutions and matrix products."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx

Shapes = Mapping[str, tuple[int, ...]]

# By operator, which two inputs are multiplied; of a convolution the second is its filters.
CONVOLUTIONS = {"Conv": (0, 1), "ConvInteger": (0, 1), "QLinearConv": (0, 3)}
PRODUCTS = {"Gemm": (0, 1), "MatMul": (0, 1), "MatMulInteger": (0, 1), "QLinearMatMul": (0, 3)}
MULTIPLIED = {**CONVOLUTIONS, **PRODUCTS}


def onnx_multiply_adds(content: bytes) -> int | None:
    """Return the multiplications of one image, each of which comes with an addition.

    None where the file does not say the shapes that it takes to count them. `content` has been
    opened as a classifier before. Needs the package onnx, of the extra `train`.
    """
    import onnx

    model = onnx.load_model_from_string(content)
    _ask_about_one_image(model.graph)
    shapes = _shapes(onnx.shape_inference.infer_shapes(model, data_prop=True).graph)
    images = _images(shapes.get(model.graph.input[-1].name))
    if images is None or any(_has_body(node) for node in model.graph.node):
        return None
    costly = [node for node in model.graph.node if node.op_type in MULTIPLIED]
    counts = [_multiplications(node, shapes) for node in costly]
    known = [count for count in counts if count is not None]
    return sum(known) // images if len(known) == len(counts) else None


def _ask_about_one_image(graph: "onnx.GraphProto") -> None:
    """Make the first dimension one where the file leaves it open: it is that of images."""
    for value in (*graph.input, *graph.output):
        dimensions = value.type.tensor_type.shape.dim
        if len(dimensions) and not dimensions[0].HasField("dim_value"):
            dimensions[0].dim_value = 1
    del graph.value_info[:]  # shapes inferred for an open number of images


def _images(shape: tuple[int, ...] | None) -> int | None:
    """Return how many images an input of this shape holds, of one channel or three."""
    if shape is None or math.prod(shape) % (28 * 28):
        return None
    return math.prod(shape) // (28 * 28) // (3 if 3 in shape else 1) or None


def _has_body(node: Any) -> bool:
    """Tell whether a node is a loop or a branch: how often that runs is not in the file."""
    return any(attribute.HasField("g") for attribute in node.attribute)


def _shapes(graph: "onnx.GraphProto") -> Shapes:
    """Return the shapes of weights and of all that is computed, as far as they are known."""
    shapes = {weight.name: tuple(weight.dims) for weight in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        dimensions = value.type.tensor_type.shape.dim
        if all(dimension.HasField("dim_value") for dimension in dimensions):
            shapes[value.name] = tuple(dimension.dim_value for dimension in dimensions)
    return shapes


def _multiplications(node: Any, shapes: Shapes) -> int | None:
    """Return those of a convolution or a product: for each number of its output, what it sums."""
    left, right = (shapes.get(node.input[place]) for place in MULTIPLIED[node.op_type])
    output = shapes.get(node.output[0])
    if output is None or left is None or right is None:
        return None
    if node.op_type in CONVOLUTIONS:
        return math.prod(output) * math.prod(right[1:])
    turned = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
    return math.prod(output) * (left[0] if turned else left[-1])
