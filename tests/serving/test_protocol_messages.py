"""The protocol's messages taken apart and put together, whatever is in them."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from fmnist.serving.protocol import IMAGES, PHOTOS, PROBABILITIES, VERSION
from fmnist.serving.protocol_messages import (
    Asked,
    Model,
    Values,
    Wanted,
    decode_request,
    encode_response,
)
from fmnist.serving.protocol_tensors import files_from_binary, images_from_json
from fmnist.serving.refusal import Refusal

MODELS: list[Model[Any]] = [IMAGES, PHOTOS]
LOGITS = IMAGES.gives[0]


def answer(values: NDArray[np.float32], *, binary: bool) -> tuple[bytes, int | None]:
    asked: Asked[Any] = Asked([], [Wanted(LOGITS, binary)], "7")
    return encode_response(IMAGES, VERSION, asked, {"logits": values})


@given(arrays.arrays(np.float32, (3, 10), elements=st.floats(width=32, allow_nan=False)))
def test_binary_tensors_are_bit_for_bit_what_was_given(values: NDArray[np.float32]) -> None:
    body, length = answer(values, binary=True)
    assert body[length:] == values.astype("<f4").tobytes()
    assert json.loads(body[:length]) == {
        "model_name": "fmnist",
        "model_version": "1",
        "id": "7",
        "outputs": [
            {
                "name": "logits",
                "datatype": "FP32",
                "shape": [3, 10],
                "parameters": {"binary_data_size": 120},
            }
        ],
    }


FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(st.lists(FINITE, min_size=10, max_size=10))
@example([0.1, -0.0, 1e-45, 3.4028235e38, 1.1754944e-38, 16777216.0, 1 / 3, 2 / 3, 1e10, 123456.79])
def test_json_has_the_shortest_numbers_that_are_the_same_float32(values: list[float]) -> None:
    given = np.array([values], np.float32)
    body, length = answer(given, binary=False)
    assert length is None
    (output,) = json.loads(body)["outputs"]
    assert "parameters" not in output
    read = np.array(output["data"], np.float32)[None]
    np.testing.assert_array_equal(read.view(np.uint32), given.view(np.uint32))
    assert output["data"] == [float(str(value)) for value in given[0]]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_json_cannot_say_is_an_error_and_no_answer(value: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        answer(np.full((1, 10), value, np.float32), binary=False)


def test_outputs_come_in_the_order_asked_for_and_so_do_their_bytes() -> None:
    logits = np.arange(10, dtype=np.float32)[None]
    asked: Asked[Any] = Asked([], [Wanted(PROBABILITIES, True), Wanted(LOGITS, True)])
    outputs: dict[str, Values] = {"logits": logits, "probabilities": logits / 45}
    body, length = encode_response(IMAGES, VERSION, asked, outputs)
    names = [output["name"] for output in json.loads(body[:length])["outputs"]]
    assert names == ["probabilities", "logits"]
    assert body[length:] == (logits / 45).tobytes() + logits.tobytes()
    assert "id" not in json.loads(body[:length])


@given(arrays.arrays(np.uint8, st.tuples(st.integers(1, 3), st.just(28), st.just(28))))
def test_images_nested_in_any_way_are_the_same(images: NDArray[np.uint8]) -> None:
    number = len(images)
    for data in (images.tolist(), images.ravel().tolist()):
        np.testing.assert_array_equal(images_from_json(data, number), images, strict=True)
    if number > 1:  # lists of 28 rows, but not of images
        with pytest.raises(Refusal):
            images_from_json(images.reshape(-1, 28).tolist(), number)


def test_the_largest_request_fits_in_either_nesting() -> None:
    images = np.full((256, 28, 28), 255, np.uint8)
    for data in (images.tolist(), images.ravel().tolist()):
        tensor = {"name": "images", "shape": [256, 28, 28], "datatype": "UINT8", "data": data}
        body = json.dumps({"inputs": [tensor]}, indent=1).encode()
        np.testing.assert_array_equal(decode_request(body, None, IMAGES, 256).elements, images)


@given(st.lists(st.binary(max_size=300), max_size=5))
def test_files_in_binary_come_back(files: list[bytes]) -> None:
    content = b"".join(len(file).to_bytes(4, "little") + file for file in files)
    assert files_from_binary(memoryview(content), len(files)) == files
    with pytest.raises(Refusal):
        files_from_binary(content + b"\0", len(files))
    if files:
        with pytest.raises(Refusal):
            files_from_binary(content[:-1], len(files))


def check_only_refused(body: bytes, length: str | None) -> None:
    for model in MODELS:
        asked, refusal = understood(body, length, model)
        if refusal is not None:
            assert refusal.status == 400
            assert "\n" not in str(refusal)
        elif asked is not None:
            assert 1 <= len(asked.elements) <= 4
            assert asked.wanted


def understood(
    body: bytes, length: str | None, model: Model[Any]
) -> tuple[Asked[Any] | None, Refusal | None]:
    try:
        return decode_request(body, length, model, 4), None
    except Refusal as refusal:
        return None, refusal


@given(st.binary(max_size=2000), st.none() | st.text(max_size=20) | st.integers().map(str))
def test_whatever_bytes_come_are_understood_or_refused(body: bytes, length: str | None) -> None:
    check_only_refused(body, length)


@pytest.mark.parametrize("key", ["name", "datatype", "shape", "data", "parameters"])
def test_nesting_at_the_edge_of_what_is_read_is_refused_too(key: str) -> None:
    """Python reads some 990 levels, and can do little with them."""
    known = {"name": "images", "datatype": "UINT8", "shape": [1, 28, 28]}
    for levels in range(850, 1050):
        tensor = {**known, key: "deep"}
        message = json.dumps({"inputs": [tensor]}).replace('"deep"', "[" * levels + "]" * levels)
        for model in MODELS:
            assert understood(message.encode(), None, model)[1] is not None


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
ANYTHING = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner)
)


def mostly(*usual: Any) -> st.SearchStrategy[Any]:
    """What is expected, or anything else."""
    return st.sampled_from(usual) | ANYTHING


PARAMETERS = st.fixed_dictionaries(
    {},
    optional={
        "binary_data_size": mostly(784, 0, 9),
        "binary_data": mostly(True),
        "binary_data_output": mostly(True),
        "timeout": mostly(5),
        "classification": mostly(0),
    },
)
INPUT = st.fixed_dictionaries(
    {
        "name": mostly("images", "photos"),
        "datatype": mostly("UINT8", "BYTES"),
        "shape": mostly([1, 28, 28], [1], [2**62, 4, 1], [-1, 28, 28]),
    },
    optional={"data": mostly([0] * 784, ["AAAA"], [[[[0] * 28] * 28]]), "parameters": PARAMETERS},
)
MESSAGE = st.fixed_dictionaries(
    {"inputs": st.lists(INPUT, max_size=2) | ANYTHING},
    optional={
        "id": mostly("1"),
        "parameters": PARAMETERS | ANYTHING,
        "outputs": st.lists(st.fixed_dictionaries({"name": mostly("logits", "label")})) | ANYTHING,
    },
)


@given(MESSAGE | ANYTHING, st.sampled_from([b"", bytes(784), b"\5\0\0\0hello"]), st.booleans())
def test_whatever_json_comes_is_understood_or_refused(
    message: Any, rest: bytes, binary: bool
) -> None:
    head = json.dumps(message).encode()
    check_only_refused(head + rest, str(len(head)) if binary else None)
