"""Requests that are not of the protocol: each is refused with what is wrong, and no harm done."""

import json
import pickle
from collections.abc import Iterator
from typing import Any

import pytest

from fmnist.serving.protocol import HEADER_LENGTH
from servers import Client, Server, client
from v2 import INFER, ONE, binary, check_refused, image_of, nested, told


@pytest.fixture(scope="module")
def fake() -> Iterator[Client]:
    """A server whose classifier tells the class by an image's first pixel."""
    with client() as asking:
        yield asking


# What is refused: 14 requests of which Triton's own tests and its faults have most

DEPTH = 250_000
MALFORMED: dict[str, dict[str, Any]] = {
    "too few bytes without JSON": {"data": bytes(783), "headers": {HEADER_LENGTH: "0"}},
    "a length of the JSON over all integers": {
        "data": b"{}",
        "headers": {HEADER_LENGTH: "99999999999"},
    },
    "a negative length of the JSON": {"data": b"{}", "headers": {HEADER_LENGTH: "-1"}},
    "a length of the JSON that is no number": {"data": b"{}", "headers": {HEADER_LENGTH: "ten"}},
    "JSON that is longer than the body": {"data": b"{}", "headers": {HEADER_LENGTH: "3"}},
    "a shape whose product is 32 modulo 2**64": binary(ONE, shape=[2**4, 2**60 + 2, 28]),
    "a shape whose product is 8 modulo 2**64": binary(ONE, shape=[2**2, 2**60 + 2]),
    "a negative dimension": binary(ONE, shape=[-1, 28, 28]),
    "JSON of 120 levels": {"data": b'{"inputs": ' + b"[" * 119 + b"]" * 119 + b"}"},
    "JSON of 250,000 levels": {"data": b"[" * DEPTH + b"]" * DEPTH},
    "an output twice": {
        "json": {"inputs": [told(ONE)], "outputs": [{"name": "logits"}, {"name": "logits"}]}
    },
    "an empty body": {"data": b""},
    "what is no JSON": {"data": b"images=1&shape=2"},
    "NaN and Infinity": {
        "data": json.dumps({"inputs": [told(ONE, data=[float("nan"), float("inf")] * 392)]})
    },
}


@pytest.mark.parametrize("request_", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_request_is_refused_and_the_server_lives(
    server: Server, request_: dict[str, Any]
) -> None:
    check_refused(server.post(INFER, **request_))
    assert server.get("/v2/health/live").json() == {"live": True}


def test_they_are_14() -> None:
    assert len(MALFORMED) == 14


def replaced(**other: Any) -> dict[str, Any]:
    return {"inputs": [told(ONE, **other)]}


WHOLE = json.dumps(replaced()).encode()
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no object": ({"json": [1]}, "JSON object"),
    "no inputs": ({"json": {"id": "1"}}, "inputs"),
    "no input": ({"json": {"inputs": []}}, "once, not 0"),
    "two inputs": ({"json": {"inputs": [told(ONE), told(ONE)]}}, "once, not 2"),
    "another input too": ({"json": {"inputs": [told(ONE), told(ONE, name="b")]}}, "unknown input"),
    "an input that is text": ({"json": {"inputs": ["images"]}}, "an input must be"),
    "an unknown input": ({"json": replaced(name="picture")}, "unknown input 'picture'"),
    "an input without a name": ({"json": replaced(name=None)}, "unknown input"),
    "another type": ({"json": replaced(datatype="FP32")}, "UINT8"),
    "a type that is none": ({"json": replaced(datatype=["UINT8"])}, "UINT8"),
    "two axes": ({"json": replaced(shape=[28, 28])}, "shape"),
    "another side": ({"json": replaced(shape=[1, 28, 29])}, "shape"),
    "no shape": ({"json": replaced(shape=None)}, "shape"),
    "a shape of true": ({"json": replaced(shape=[True, 28, 28])}, "shape"),
    "a shape of fractions": ({"json": replaced(shape=[1.0, 28, 28])}, "shape"),
    "a shape of text": ({"json": replaced(shape="1,28,28")}, "shape"),
    "no images": ({"json": replaced(shape=[0, 28, 28], data=[])}, "1..256"),
    "too many images": (binary(image_of(0, 257)), "1..256"),
    "too many images without JSON": (
        {"data": bytes(257 * 784), "headers": {HEADER_LENGTH: "0"}},
        "1..256",
    ),
    "no bytes without JSON": ({"data": b"", "headers": {HEADER_LENGTH: "0"}}, "784"),
    "too few numbers": ({"json": replaced(data=[0] * 783)}, "783"),
    "no data": ({"json": replaced(data=None)}, "needs data"),
    "data that are text": ({"json": replaced(data="0" * 784)}, "needs data"),
    "numbers over 255": ({"json": replaced(data=[256] * 784)}, "0..255"),
    "numbers below 0": ({"json": replaced(data=[-1] * 784)}, "0..255"),
    "fractions": ({"json": replaced(data=[0.5] * 784)}, "0..255"),
    "numbers in quotes": ({"json": replaced(data=["1"] * 784)}, "0..255"),
    "true and false": ({"json": replaced(data=[True] * 784)}, "0..255"),
    "rows of other lengths": ({"json": replaced(data=[[[0] * 27] * 28])}, "nested"),
    "data of 120 levels": ({"json": replaced(data=nested(120))}, "nested"),
    "parameters of 120 levels": (
        {"json": {**replaced(), "parameters": {"a": nested(120)}}},
        "strings, numbers or booleans",
    ),
    "parameters that are a list": ({"json": {**replaced(), "parameters": [1]}}, "JSON object"),
    "fewer bytes than named": (binary(ONE, parameters={"binary_data_size": 785}), "784 bytes"),
    "a negative number of bytes": (binary(ONE, parameters={"binary_data_size": -1}), "is -1"),
    "a number of bytes in quotes": (binary(ONE, parameters={"binary_data_size": "784"}), "'784'"),
    "bytes of no input": (binary(ONE, parameters={}), "no input has"),
    "bytes for more images": (binary(ONE, shape=[2, 28, 28]), "1568 bytes"),
    "data and bytes": (binary(ONE, data=[0] * 784), "both"),
    "shared memory for the input": (
        {"json": replaced(parameters={"shared_memory_region": "a"})},
        "shared memory",
    ),
    "shared memory for an output": (
        {
            "json": {
                **replaced(),
                "outputs": [{"name": "logits", "parameters": {"shared_memory_region": "a"}}],
            }
        },
        "shared memory",
    ),
    "an unknown output": ({"json": {**replaced(), "outputs": [{"name": "x"}]}}, "unknown output"),
    "an output that is text": ({"json": {**replaced(), "outputs": ["logits"]}}, "an output must"),
    "outputs that are text": ({"json": {**replaced(), "outputs": "logits"}}, "a list"),
    "classification": (
        {
            "json": {
                **replaced(),
                "outputs": [{"name": "logits", "parameters": {"classification": 3}}],
            }
        },
        "classification",
    ),
    "binary_data that is text": (
        {
            "json": {
                **replaced(),
                "outputs": [{"name": "logits", "parameters": {"binary_data": "yes"}}],
            }
        },
        "true or false",
    ),
    "an id that is too long": ({"json": {**replaced(), "id": "x" * 1025}}, "1,024"),
    "a type of megabytes": ({"json": replaced(datatype="x" * 10**6)}, "not 'xxx"),
    "an id that is a number": ({"json": {**replaced(), "id": 42}}, "id must be"),
    "a negative timeout": ({"json": {**replaced(), "parameters": {"timeout": -1}}}, "timeout"),
    "a priority of text": ({"json": {**replaced(), "parameters": {"priority": "a"}}}, "priority"),
    "a number of 5,000 digits": ({"data": b'{"inputs": ' + b"9" * 5000 + b"}"}, "not JSON"),
    "latin-1": ({"data": '{"id": "é"}'.encode("latin-1")}, "not JSON"),
    "JSON with something behind": ({"data": b'{"inputs": []} x'}, "not JSON"),
    "JSON of 50,000 levels": ({"data": b"[" * 50_000 + b"]" * 50_000}, "too deeply"),
    "NaN where nobody looks": ({"data": WHOLE.replace(b"}]}", b'}], "a": NaN}')}, "NaN"),
    "-Infinity where nobody looks": (
        {"data": WHOLE.replace(b"}]}", b'}], "a": -Infinity}')},
        "-Infinity",
    ),
    "JSON that ends before its length": (
        {"data": WHOLE, "headers": {HEADER_LENGTH: str(len(WHOLE) + 1)}},
        HEADER_LENGTH,
    ),
    "a pickle": (
        {
            "data": pickle.dumps(replaced()),
            "headers": {"Content-Type": "application/vnd.bentoml+pickle"},
        },
        "not JSON",
    ),
    "millions of values": ({"data": b'{"inputs": [' + b"[]," * 400_000 + b"[]]}"}, "values"),
    "a length of superscripts": (
        {"data": b"{}", "headers": {HEADER_LENGTH: "\u00b2".encode("latin-1")}},
        HEADER_LENGTH,
    ),
    "a length with a plus": ({"data": b"{}", "headers": {HEADER_LENGTH: "+2"}}, HEADER_LENGTH),
}


@pytest.mark.parametrize(("request_", "said"), WRONG.values(), ids=WRONG)
def test_other_wrong_requests_are_refused_with_what_is_wrong(
    fake: Client, request_: dict[str, Any], said: str
) -> None:
    assert said in check_refused(fake.post(INFER, **request_))
