"""The Open Inference Protocol over HTTP: what is answered, what is refused, and what bears load."""

import asyncio
import base64
import gzip
import http.client
import io
import json
import pickle
import signal
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import requests
from numpy.typing import NDArray
from PIL import Image
from starlette.requests import Request

from fmnist.classifier import Classifier, load_classifier
from fmnist.data import CLASS_NAMES
from fmnist.serving import protocol
from fmnist.serving.protocol import HEADER_LENGTH, IMAGES, PHOTOS, ROUTES, best_coding
from fmnist.serving.protocol_openapi import openapi_paths
from fmnist.serving.settings import Settings
from servers import FACTS, Client, Server, client, fake_classifier, running

Pixels = NDArray[np.uint8]

INFER = "/v2/models/fmnist/infer"
INFER_PHOTOS = "/v2/models/fmnist_photo/infer"


@pytest.fixture(scope="module")
def fake() -> Iterator[Client]:
    """A server whose classifier tells the class by an image's first pixel."""
    with client() as asking:
        yield asking


def image_of(class_index: int, number: int = 1) -> Pixels:
    return np.full((number, 28, 28), 10 * class_index, np.uint8)


def told(images: Pixels, **other: Any) -> dict[str, Any]:
    """The input of a request in JSON; `other` replaces or adds."""
    return {
        "name": "images",
        "shape": list(images.shape),
        "datatype": "UINT8",
        "data": images.ravel().tolist(),
        **other,
    }


def binary(images: Pixels, message: dict[str, Any] | None = None, **other: Any) -> dict[str, Any]:
    """A request with its tensor in binary, as `requests` takes it; `other` is of the input."""
    tensor = told(images, parameters={"binary_data_size": images.nbytes})
    del tensor["data"]
    tensor |= other
    head = json.dumps({"inputs": [tensor], **(message or {})}).encode()
    return {"data": head + images.tobytes(), "headers": {HEADER_LENGTH: str(len(head))}}


def check_refused(response: requests.Response, status: int = 400) -> str:
    """The refusal is as every client can read it; returns what it says."""
    assert response.status_code == status, response.text
    assert response.headers["Content-Type"] == "application/json"
    assert list(response.json()) == ["error"]
    message = response.json()["error"]
    assert isinstance(message, str)
    assert message
    assert "\n" not in message
    assert "Traceback" not in message
    assert len(message) < 300
    return message


def outputs_of(response: requests.Response) -> dict[str, Any]:
    """The outputs of an answer by name, each as an array; strings as a list."""
    assert response.status_code == 200, response.text
    length = response.headers.get(HEADER_LENGTH)
    head = response.content if length is None else response.content[: int(length)]
    rest = b"" if length is None else response.content[int(length) :]
    dtypes: dict[str, Any] = {"FP32": "<f4", "UINT8": "u1", "BOOL": "?", "BYTES": object}
    outputs = {}
    for output in json.loads(head)["outputs"]:
        size = output.get("parameters", {}).get("binary_data_size")
        if size is None:
            values = np.array(output["data"], dtypes[output["datatype"]])
        elif output["datatype"] == "BYTES":
            values, rest = np.array(strings(rest[:size]), object), rest[size:]
        else:
            values, rest = np.frombuffer(rest[:size], dtypes[output["datatype"]]), rest[size:]
        outputs[output["name"]] = values.reshape(output["shape"])
    assert not rest
    return outputs


def strings(content: bytes) -> list[str]:
    texts = []
    while content:
        end = 4 + int.from_bytes(content[:4], "little")
        texts.append(content[4:end].decode())
        content = content[end:]
    return texts


# What there is


@pytest.mark.parametrize("version", ["", "/versions/1"])
@pytest.mark.parametrize("model", ["fmnist", "fmnist_photo"])
def test_a_model_answers_with_and_without_its_version(
    fake: Client, model: str, version: str
) -> None:
    path = f"/v2/models/{model}{version}"
    assert fake.get(path).json()["name"] == model
    assert fake.get(f"{path}/ready").json() == {"name": model, "ready": True}
    check_refused(fake.post(f"{path}/infer"))


@pytest.mark.parametrize("end", ["", "/ready", "/infer"])
@pytest.mark.parametrize(
    "model",
    ["nope", "fmnist/versions/2", "fmnist/versions/01", "fmnist_photo/versions/x", "Fmnist"],
)
def test_other_models_and_versions_are_not_there(fake: Client, model: str, end: str) -> None:
    ask = fake.post if end == "/infer" else fake.get
    check_refused(ask(f"/v2/models/{model}{end}"), 404)


def test_health_and_metadata_with_and_without_the_slash(fake: Client) -> None:
    assert fake.get("/v2/health/live").json() == {"live": True}
    assert fake.get("/v2/health/ready").json() == {"live": True, "ready": True}
    for path in ("/v2", "/v2/", "/v2?test_1=1"):
        response = fake.get(path, allow_redirects=False)
        assert response.status_code == 200
        assert response.json()["name"] == "fmnist"
        assert response.json()["extensions"] == ["binary_tensor_data"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", INFER, {"POST"}),
        ("PUT", INFER, {"POST"}),
        ("POST", "/v2/health/live", {"GET", "HEAD"}),
        ("DELETE", "/v2/models/fmnist", {"GET", "HEAD"}),
    ],
)
def test_other_methods_are_refused(fake: Client, method: str, path: str, allowed: set[str]) -> None:
    response = fake.request(method, path)
    check_refused(response, 405)
    assert set(response.headers["Allow"].split(", ")) == allowed


@pytest.mark.parametrize(
    "path",
    ["/v2/repository/index", "/v2/models/fmnist/config", "/v2/models/stats", "/v2/trace/setting"],
)
def test_what_is_tritons_alone_is_not_there(fake: Client, path: str) -> None:
    assert fake.post(path).status_code in (404, 405)
    assert fake.get(path).status_code in (404, 405)


@pytest.mark.parametrize(("model", "ask"), [(IMAGES, INFER), (PHOTOS, INFER_PHOTOS)])
def test_a_model_gives_what_its_metadata_say(fake: Client, model: Any, ask: str) -> None:
    metadata = fake.get(f"/v2/models/{model.name}").json()
    (takes,) = metadata["inputs"]
    parameters = takes.pop("parameters", {})
    assert parameters == ({} if model is IMAGES else {"content_type": "base64"})
    data = image_of(1).ravel().tolist() if model is IMAGES else [base64_of(picture_of(1))]
    shape = [1, *takes["shape"][1:]]
    response = fake.post(ask, json={"inputs": [{**takes, "shape": shape, "data": data}]})
    given = [
        {key: output[key] for key in ("name", "datatype", "shape")}
        for output in response.json()["outputs"]
    ]
    for output in given:
        output["shape"][0] = -1
    assert given == metadata["outputs"]


def test_openapi_has_the_paths_that_there_are() -> None:
    paths = openapi_paths()
    assert set(paths) == {route.path for route in ROUTES} - {"/v2/"}
    for route in ROUTES:
        if route.path != "/v2/":
            methods = {method.lower() for method in route.methods or ()} - {"head"}
            assert methods == set(paths[route.path]) - {"parameters"}


def test_a_server_that_stops_is_not_ready() -> None:
    scope = {"type": "http", "state": {protocol.STOPPING: True}, "path_params": {"model": "fmnist"}}
    for ask in (protocol.ready, protocol.model_ready):
        response = asyncio.run(ask(Request(scope)))
        assert response.status_code == 503
        answer = json.loads(bytes(response.body))
        assert set(answer) == {"error", "ready"}
        assert answer["ready"] is False
        assert response.headers["Retry-After"] == "1"


def test_a_server_whose_network_does_not_answer_is_not_ready() -> None:
    gate = threading.Event()

    def ask(images: Pixels) -> NDArray[np.float32]:
        assert gate.wait(20)
        return fake_classifier().logits(images)

    paths = ("/v2/health/ready", "/v2/models/fmnist/ready", "/v2/models/fmnist_photo/ready")
    with client(Settings(deadline_seconds=0.2), Classifier(ask, FACTS)) as asking:
        assert [asking.get(path).status_code for path in paths] == [200] * 3
        check_refused(asking.post(INFER, **binary(ONE)), 504)
        wait_until(lambda: asking.get(paths[0]).status_code == 503)
        for path in paths:
            response = asking.get(path)
            assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
            assert response.json()["ready"] is False
        assert asking.get("/v2/health/live").status_code == 200
        gate.set()
        wait_until(lambda: asking.get(paths[0]).status_code == 200)


SLOW = """
import sys, time
from fmnist.classifier import Classifier
logits = Classifier.logits
def slow(self, images):
    if len(images) == 2:
        print("in hand", file=sys.stderr, flush=True)
        time.sleep(1)
    return logits(self, images)
Classifier.logits = slow
"""


def test_a_server_that_is_told_to_stop_answers_what_it_has_and_is_not_ready() -> None:
    with running(before=SLOW) as stopping, ThreadPoolExecutor(1) as threads:
        probe = http.client.HTTPConnection("127.0.0.1", stopping.port, timeout=10)
        assert status_of_health(probe) == 200
        answer = threads.submit(stopping.post, INFER, **binary(image_of(1, 2)))
        wait_until(lambda: "in hand" in stopping.stderr_lines())
        stopping.process.send_signal(signal.SIGTERM)
        wait_until(lambda: status_of_health(probe) == 503)
        probe.close()
        assert outputs_of(answer.result())["logits"].shape == (2, 10)
        assert stopping.process.wait(30) == 0


def status_of_health(probe: http.client.HTTPConnection) -> int:
    probe.request("GET", "/v2/health/ready")
    response = probe.getresponse()
    response.read()
    return response.status


def wait_until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_the_platform_of_a_run_is_not_called_onnx() -> None:
    for of_run, platform in ((True, "fmnist_run"), (False, "onnx_onnxv1")):
        served = SimpleNamespace(of_run=of_run)
        scope = {"type": "http", "state": {"served": served}, "path_params": {"model": "fmnist"}}
        response = asyncio.run(protocol.describe_model(Request(scope)))
        assert json.loads(bytes(response.body))["platform"] == platform


# Images


@pytest.mark.parametrize("content_type", [None, "application/json", "text/plain", "nonsense"])
def test_the_content_type_does_not_matter(fake: Client, content_type: str | None) -> None:
    body = json.dumps({"inputs": [told(image_of(3))]}).encode()
    headers = {"Content-Type": content_type} if content_type else {}
    response = fake.post(INFER, data=body, headers=headers)
    assert response.headers["Content-Type"] == "application/json"
    assert outputs_of(response)["logits"].argmax() == 3


@pytest.mark.parametrize("nested", [False, True])
def test_data_may_be_nested_or_flat(fake: Client, nested: bool) -> None:
    images = np.concatenate([image_of(3), image_of(8)])
    tensor = told(images, data=images.tolist()) if nested else told(images)
    outputs = outputs_of(fake.post(INFER, json={"inputs": [tensor]}))
    assert list(outputs) == ["logits", "probabilities"]
    assert outputs["logits"].argmax(axis=1).tolist() == [3, 8]


def test_probabilities_are_tempered(fake: Client) -> None:
    images = np.random.default_rng(0).integers(0, 100, (5, 28, 28), np.uint8)
    outputs = outputs_of(fake.post(INFER, **binary(images)))
    right = fake_classifier().probabilities(images).astype(np.float32)
    np.testing.assert_array_equal(outputs["probabilities"], right)


def test_binary_tensors_may_be_asked_for_one_by_one(fake: Client) -> None:
    message = {
        "parameters": {"binary_data_output": True},
        "outputs": [
            {"name": "probabilities"},
            {"name": "logits", "parameters": {"binary_data": False}},
        ],
    }
    response = fake.post(INFER, **binary(image_of(4), message))
    assert response.headers["Content-Type"] == "application/octet-stream"
    head = json.loads(response.content[: int(response.headers[HEADER_LENGTH])])
    assert head["outputs"][0]["parameters"] == {"binary_data_size": 40}
    assert "data" not in head["outputs"][0]
    assert len(head["outputs"][1]["data"]) == 10
    assert outputs_of(response)["logits"].argmax() == 4


def test_no_outputs_named_or_an_empty_list_means_all_of_them(fake: Client) -> None:
    messages: list[dict[str, Any]] = [{}, {"outputs": []}, {"outputs": None}]
    for message in messages:
        response = fake.post(INFER, json={"inputs": [told(image_of(4))], **message})
        assert list(outputs_of(response)) == ["logits", "probabilities"]


def test_a_request_in_chunks_is_read(fake: Client) -> None:
    request = binary(image_of(6))
    pieces = (request["data"][at : at + 100] for at in range(0, len(request["data"]), 100))
    response = fake.post(INFER, data=pieces, headers=request["headers"])
    assert response.request.headers["Transfer-Encoding"] == "chunked"
    assert outputs_of(response)["logits"].argmax() == 6


@pytest.mark.parametrize("name", ["42", "", "x" * 1024, "\u20ac \ud800 \0 \"'<"])
def test_an_id_comes_back(fake: Client, name: str) -> None:
    response = fake.post(INFER, json={"id": name, "inputs": [told(image_of(0))]})
    assert response.json()["id"] == name


def test_no_id_where_none_was_given(fake: Client) -> None:
    assert "id" not in fake.post(INFER, json={"inputs": [told(image_of(0))]}).json()


def test_unknown_parameters_and_keys_are_ignored(fake: Client) -> None:
    message: Any = {
        "inputs": [told(image_of(7), parameters={"content_type": "np"}, comment=[])],
        "parameters": {"sequence_id": 5, "mine": "x", "priority": 2, "timeout": 10_000_000},
        "trace": {"on": [True]},
    }
    assert outputs_of(fake.post(INFER, json=message))["logits"].argmax() == 7


# What is refused: 14 requests of which Triton's own tests and its faults have most

ONE = image_of(1)
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
    assert server.get("/v2/health/live", timeout=1).json() == {"live": True}


def test_they_are_14() -> None:
    assert len(MALFORMED) == 14


def nested(levels: int) -> Any:
    value: Any = 0
    for _ in range(levels):
        value = [value]
    return value


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


def test_a_body_is_no_larger_than_its_images_need(fake: Client) -> None:
    most = {"inputs": [told(np.full((256, 28, 28), 255, np.uint8))]}
    assert len(outputs_of(fake.post(INFER, json=most))["logits"]) == 256
    assert "1.59 MB" in check_refused(fake.post(INFER, data=bytes(1_700_000)), 413)
    with client(Settings(images=1)) as asking:
        assert "0.0685 MB" in check_refused(asking.post(INFER, data=bytes(80_000)), 413)
        assert check_refused(asking.post(INFER_PHOTOS, data=bytes(80_000)), 400)


# Photos


def png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "png")
    return file.getvalue()


def picture_of(class_index: int, *, negated: bool = False) -> bytes:
    """A file with an image of Fashion-MNIST's kind."""
    pixels = np.zeros((28, 28), np.uint8)
    pixels[4:24, 8:20] = 200
    pixels[0, 0] = 10 * class_index
    return png(Image.fromarray(255 - pixels if negated else pixels))


def base64_of(content: bytes) -> str:
    return base64.b64encode(content).decode()


def encodebytes(content: bytes) -> str:
    """In base64, broken into lines as MIME wants it."""
    return base64.encodebytes(content).decode()


def photos(*files: bytes, message: dict[str, Any] | None = None) -> dict[str, Any]:
    """A request about files in binary."""
    content = b"".join(len(file).to_bytes(4, "little") + file for file in files)
    tensor = {
        "name": "photos",
        "shape": [len(files)],
        "datatype": "BYTES",
        "parameters": {"binary_data_size": len(content)},
    }
    head = json.dumps({"inputs": [tensor], **(message or {})}).encode()
    return {"data": head + content, "headers": {HEADER_LENGTH: str(len(head))}}


def photos_in_json(*texts: Any) -> dict[str, Any]:
    tensor = {"name": "photos", "shape": [len(texts)], "datatype": "BYTES", "data": list(texts)}
    return {"json": {"inputs": [tensor]}}


PICTURES = [picture_of(index) for index in (2, 9, 0)]
HUGE = png(Image.new("1", (8000, 8000)))  # pixels


def check_labels(outputs: dict[str, Any], *classes: int) -> None:
    assert outputs["label"].tolist() == [CLASS_NAMES[index] for index in classes]
    assert outputs["class_index"].tolist() == list(classes)
    assert outputs["accepted"].tolist() == [True] * len(classes)
    right = fake_classifier().probabilities(np.concatenate([image_of(i) for i in classes]))
    np.testing.assert_array_equal(outputs["probabilities"], right.astype(np.float32))


def test_photos_in_binary_in_base64_and_alone(fake: Client) -> None:
    answers = (
        fake.post(INFER_PHOTOS, **photos(*PICTURES)),
        fake.post(
            INFER_PHOTOS, **photos(*PICTURES, message={"parameters": {"binary_data_output": True}})
        ),
        fake.post(INFER_PHOTOS, **photos_in_json(*map(base64_of, PICTURES))),
        fake.post(INFER_PHOTOS, **photos_in_json(*(encodebytes(each) for each in PICTURES))),
    )
    for answer in answers:
        check_labels(outputs_of(answer), 2, 9, 0)
    alone = fake.post(INFER_PHOTOS, data=PICTURES[1], headers={HEADER_LENGTH: "0"})
    check_labels(outputs_of(alone), 9)


def test_a_photos_warnings_are_told_in_lines(fake: Client) -> None:
    files = photos(picture_of(2), picture_of(2, negated=True))
    first, second = outputs_of(fake.post(INFER_PHOTOS, **files))["warnings"].tolist()
    assert first == ""
    assert "negated" in second


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"no picture", 415),
        (b"", 422),
        (PICTURES[0][:60], 422),
        (HUGE, 413),
    ],
    ids=["text", "empty", "cut short", "too many pixels"],
)
def test_a_photo_that_cannot_be_read_is_named(fake: Client, content: bytes, status: int) -> None:
    for request in (
        photos(*PICTURES, content, PICTURES[0]),
        photos_in_json(*map(base64_of, [*PICTURES, content])),
    ):
        assert "photos[3]" in check_refused(fake.post(INFER_PHOTOS, **request), status)


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (photos_in_json("not base64!"), "data[0]"),
        (photos_in_json(base64_of(PICTURES[0]), "é"), "data[1]"),
        (photos_in_json(base64_of(PICTURES[0]), 5), "data[1]"),
        (photos_in_json(base64_of(PICTURES[0]), None), "data[1]"),
        (photos_in_json(base64_of(PICTURES[0]), nested(120)), "data[1]"),
        (photos_in_json(nested(120)), "data[0]"),
        (photos(*PICTURES * 6), "1..16"),
        (photos_in_json(*["A"] * 5000), "values"),
    ],
)
def test_other_wrong_photos_are_refused(fake: Client, request_: dict[str, Any], said: str) -> None:
    assert said in check_refused(fake.post(INFER_PHOTOS, **request_))


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xff\xff\xff" + PICTURES[0],
        len(PICTURES[0]).to_bytes(4, "little") + PICTURES[0] + b"\0",
        b"\0\0\0",
        PICTURES[0],
        b"\0\0\0\0" * 2,
        b"",
    ],
)
def test_lengths_that_do_not_fit_are_refused(fake: Client, content: bytes) -> None:
    tensor = {
        "name": "photos",
        "shape": [1],
        "datatype": "BYTES",
        "parameters": {"binary_data_size": len(content)},
    }
    head = json.dumps({"inputs": [tensor]}).encode()
    headers = {HEADER_LENGTH: str(len(head))}
    message = check_refused(fake.post(INFER_PHOTOS, data=head + content, headers=headers))
    assert "behind its length" in message


# Compression


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        ("", None),
        ("gzip", "gzip"),
        ("deflate", "deflate"),
        ("gzip, deflate", "gzip"),
        ("gzip;q=0.5, deflate;q=0.8", "deflate"),
        ("GZIP;Q=1.0", "gzip"),
        ("gzip;q=0", None),
        ("gzip;q=0, deflate", "deflate"),
        ("*", "gzip"),
        ("*;q=0", None),
        ("gzip;q=0, *", "deflate"),
        ("identity", None),
        ("identity, gzip;q=0.5", None),
        ("identity;q=0, gzip;q=0.001", "gzip"),
        ("br, zstd", None),
        ("gzip;q=loud", None),
        ("gzip;q=nan, deflate;q=inf", None),
        (",;,=;q", None),
    ],
)
def test_the_coding_is_the_one_that_the_client_likes_best(
    accepted: str, coding: str | None
) -> None:
    assert best_coding(accepted.encode()) == coding


@pytest.mark.parametrize(
    ("accepted", "decompressed"), [("gzip", gzip.decompress), ("deflate", zlib.decompress)]
)
def test_answers_are_compressed_where_the_client_accepts_it(
    fake: Client, accepted: str, decompressed: Any
) -> None:
    request = binary(image_of(5), {"parameters": {"binary_data_output": True}})
    headers = {**request["headers"], "Accept-Encoding": "identity"}
    plain = fake.post(INFER, data=request["data"], headers=headers)
    headers["Accept-Encoding"] = accepted
    response = fake.post(INFER, data=request["data"], headers=headers, stream=True)
    assert response.headers["Content-Encoding"] == accepted
    assert response.headers[HEADER_LENGTH] == plain.headers[HEADER_LENGTH]
    assert decompressed(response.raw.read(decode_content=False)) == plain.content
    for each in (plain, response):
        assert each.headers["Vary"] == "accept-encoding"
    assert "Content-Encoding" not in plain.headers


@pytest.mark.parametrize(("coding", "made"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_compressed_requests_are_read(fake: Client, coding: str, made: Any) -> None:
    request = binary(image_of(5))
    headers = {**request["headers"], "Content-Encoding": coding}
    response = fake.post(INFER, data=made(request["data"]), headers=headers)
    assert outputs_of(response)["logits"].argmax() == 5
    check_refused(fake.post(INFER, data=made(request["data"])[:-3], headers=headers))


# The same answer through every door, and under load


def test_1000_requests_at_once_have_each_their_own_answer(server: Server) -> None:
    """Single images with ids, half in binary and half in JSON; not one bit is another."""
    images = np.random.default_rng(1).integers(0, 256, (1000, 28, 28), np.uint8)
    classifier = load_classifier(threads=1)
    logits = classifier.logits(images)
    probabilities = classifier.probabilities(images).astype(np.float32)
    local = threading.local()

    def ask(number: int) -> None:
        if not hasattr(local, "session"):
            local.session = requests.Session()
            sessions.append(local.session)
        image, message = images[number, None], {"id": f"{number}"}
        if number % 2:
            request = binary(image, {**message, "parameters": {"binary_data_output": True}})
        else:
            request = {"json": {"inputs": [told(image)], **message}}
        response = local.session.post(server.url + INFER, timeout=60, **request)
        outputs = outputs_of(response)
        length = response.headers.get(HEADER_LENGTH, len(response.content))
        assert json.loads(response.content[: int(length)])["id"] == str(number)
        np.testing.assert_array_equal(outputs["logits"][0], logits[number])
        np.testing.assert_array_equal(outputs["probabilities"][0], probabilities[number])

    sessions: list[requests.Session] = []
    with ThreadPoolExecutor(32) as threads:
        list(threads.map(ask, range(1000)))
    for session in sessions:
        session.close()


def test_a_full_queue_is_refused_at_once_and_exactly_what_is_over() -> None:
    """Triton's L0_model_queue: 8 images are in hand, 8 requests may wait, and 10 come."""
    in_hand, gate = threading.Event(), threading.Event()

    def ask_network(images: Pixels) -> NDArray[np.float32]:
        in_hand.set()
        assert gate.wait(20)
        return fake_classifier().logits(images)

    def ask(number: int) -> requests.Response:
        return requests.post(busy.url + INFER, timeout=30, **binary(image_of(number)))

    with (
        client(Settings(waiting_tensors=8), Classifier(ask_network, FACTS)) as busy,
        ThreadPoolExecutor(11) as threads,
    ):
        first = threads.submit(busy.post, INFER, **binary(image_of(1, 8)))
        assert in_hand.wait(20)
        asked = [threads.submit(ask, number) for number in range(10)]
        wait_until(lambda: sum(each.done() for each in asked) == 2)
        check_refused(busy.post(INFER, data=b"not even read"), 503)
        gate.set()
        assert first.result().status_code == 200
        answers = [each.result() for each in asked]
    assert sorted(answer.status_code for answer in answers) == [200] * 8 + [503] * 2
    for number, answer in enumerate(answers):
        if answer.status_code == 503:
            check_refused(answer, 503)
            assert answer.headers["Retry-After"] == "1"
            assert answer.elapsed.total_seconds() < 0.5
        else:
            assert outputs_of(answer)["logits"].argmax() == number


def test_an_answer_that_takes_too_long_is_given_up() -> None:
    with client(Settings(deadline_seconds=0.1), fake_classifier(seconds=0.4)) as slow:
        check_refused(slow.post(INFER, **binary(ONE)), 504)
        check_refused(slow.post(INFER_PHOTOS, **photos(*PICTURES)), 504)
    with client(classifier=fake_classifier(seconds=0.4)) as slow:
        hurried = {"parameters": {"timeout": 100_000}}
        assert "100000 us" in check_refused(slow.post(INFER, **binary(ONE, hurried)), 504)
        check_refused(slow.post(INFER_PHOTOS, **photos(*PICTURES, message=hurried)), 504)
        assert slow.post(INFER, **binary(ONE)).status_code == 200


def test_a_request_that_makes_the_network_fail_fails_alone() -> None:
    gate = threading.Event()

    def ask(images: Pixels) -> NDArray[np.float32]:
        assert gate.wait(10)
        if (images == 255).all(axis=(1, 2)).any():
            raise RuntimeError("the network cannot bear white")
        return np.eye(10, dtype=np.float32)[images[:, 0, 0] // 10]

    white = np.full((1, 28, 28), 255, np.uint8)
    requests_ = [image_of(1), image_of(2), white, image_of(3), image_of(4)]
    with client(classifier=Classifier(ask, FACTS)) as asking, ThreadPoolExecutor(5) as threads:
        sent = [
            threads.submit(requests.post, asking.url + INFER, timeout=30, **binary(images))
            for images in requests_
        ]
        time.sleep(0.3)
        gate.set()
        responses = [each.result() for each in sent]
    check_refused(responses.pop(2), 500)
    classes = [outputs_of(response)["logits"].argmax() for response in responses]
    assert classes == [1, 2, 3, 4]


def test_clients_that_leave_while_they_wait_do_no_harm() -> None:
    in_hand, gate = threading.Event(), threading.Event()

    def ask_network(images: Pixels) -> NDArray[np.float32]:
        in_hand.set()
        assert gate.wait(20)
        return fake_classifier().logits(images)

    with (
        client(classifier=Classifier(ask_network, FACTS)) as asking,
        ThreadPoolExecutor(4) as threads,
    ):
        sent = [threads.submit(asking.post, INFER, **binary(image_of(1)))]
        assert in_hand.wait(20)
        for number in range(8):
            left = http.client.HTTPConnection("127.0.0.1", asking.port)
            left.request("POST", INFER, image_of(number).tobytes(), {HEADER_LENGTH: "0"})
            left.close()
            if number % 3 == 0:
                post = requests.post
                sent.append(threads.submit(post, asking.url + INFER, **binary(image_of(number))))
        time.sleep(0.1)
        gate.set()
        classes = [outputs_of(each.result())["logits"].argmax() for each in sent]
        assert classes == [1, 0, 3, 6]
        assert outputs_of(asking.post(INFER, **binary(image_of(9))))["logits"].argmax() == 9
