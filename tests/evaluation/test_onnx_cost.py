"""Multiplications of an ONNX file: those of the network that it was exported from."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from fmnist.classifier.classifier import SHIPPED
from fmnist.evaluation.onnx_cost import onnx_multiply_adds
from fmnist.evaluation.subject import multiply_adds
from fmnist.models import make_network


def product(shape: list[int | str], rows: int = 784) -> bytes:
    """A file whose only operator is a product with weights (rows, 10)."""
    weights = numpy_helper.from_array(np.zeros((rows, 10), np.float32), "w")
    ends = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, shape),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, [shape[0], 10]),
    ]
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    graph = helper.make_graph([node], "g", ends[:1], ends[1:], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    return bytes(model.SerializeToString())


@pytest.mark.parametrize("images", ["n", 1, 64])
def test_they_are_of_one_image_however_many_the_file_takes(images: int | str) -> None:
    assert onnx_multiply_adds(product([images, 784])) == 7840


def test_they_are_none_where_shapes_are_open() -> None:
    assert onnx_multiply_adds(product(["n", "pixels"])) is None


def test_they_are_none_where_a_branch_decides() -> None:
    model = onnx.load_model_from_string(product(["n", 784]))
    empty = helper.make_graph([], "branch", [], [])
    node = helper.make_node("If", ["c"], [], then_branch=empty, else_branch=empty)
    model.graph.node.append(node)
    assert onnx_multiply_adds(model.SerializeToString()) is None


def test_the_shipped_classifier_has_those_of_its_three_networks() -> None:
    # `photo`'s network, three times, without mirror images; in eight bits it is the same sum.
    assert onnx_multiply_adds(SHIPPED.read_bytes()) == 3 * multiply_adds(
        make_network("runner"), flip=False
    )
