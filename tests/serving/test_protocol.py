"""The Open Inference Protocol over HTTP: what is answered, what is refused, and what bears load."""

import asyncio
import gzip
import http.client
import json
import re
import signal
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.requests import Request

from fmnist.data import CLASS_NAMES
from fmnist.serving import protocol
from fmnist.serving.protocol import HEADER_LENGTH, IMAGES, PHOTOS, ROUTES, best_coding
from fmnist.serving.protocol_messages import decode_request
from fmnist.serving.protocol_openapi import openapi_paths
from fmnist.serving.settings import Settings
from schemas import conforms
from servers import ENDS_WITHIN, HELD, Client, Held, client, fake_classifier, running
from v2 import (
    INFER,
    INFER_PHOTOS,
    ONE,
    PICTURES,
    base64_of,
    binary,
    check_refused,
    encodebytes,
    image_of,
    nested,
    outputs_of,
    photos,
    photos_in_json,
    picture_of,
    png,
    told,
)
from waiting import PATIENCE, wait_until


@pytest.fixture(scope="module")
def fake() -> Iterator[Client]:
    """A server whose classifier tells the class by an image's first pixel."""
    with client() as asking:
        yield asking


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
        assert response.json()["extensions"] == ["binary_tensor_data", "model_configuration"]


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
    ["/v2/repository/index", "/v2/models/fmnist/stats", "/v2/models/stats", "/v2/trace/setting"],
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


@pytest.mark.parametrize(("model", "first"), [(IMAGES, 1), (PHOTOS, 0)])
def test_a_models_configuration_is_told_as_triton_does(model: Any, first: int) -> None:
    with client(Settings(images=9)) as asking:
        metadata = asking.get(f"/v2/models/{model.name}").json()
        told_ = asking.get(f"/v2/models/{model.name}/config").json()
    assert told_["max_batch_size"] == 9 * first
    assert (told_["name"], told_["platform"]) == (model.name, metadata["platform"])
    for ours, tritons in (("inputs", "input"), ("outputs", "output")):
        for tensor, configured in zip(metadata[ours], told_[tritons], strict=True):
            assert configured == {
                "name": tensor["name"],
                "data_type": "TYPE_" + tensor["datatype"].replace("BYTES", "STRING"),
                "dims": tensor["shape"][first:],
            }


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
    held = Held()
    paths = ("/v2/health/ready", "/v2/models/fmnist/ready", "/v2/models/fmnist_photo/ready")
    with client(Settings(deadline_seconds=0.2), held.classifier) as asking:
        assert [asking.get(path).status_code for path in paths] == [200] * 3
        document = asking.get("/openapi.json").json()["paths"]
        check_refused(asking.post(INFER, **binary(ONE)), 504)
        wait_until(lambda: asking.get(paths[0]).status_code == 503)
        for path in paths:
            response = asking.get(path)
            assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
            assert response.json()["ready"] is False
            documented = document[re.sub("fmnist(_photo)?", "{model}", path)]["get"]["responses"]
            schema = documented["503"]["content"]["application/json"]["schema"]
            assert conforms(response.json(), schema, {}) == ""
        assert asking.get("/v2/health/live").status_code == 200
        held.let_go.set()
        wait_until(lambda: asking.get(paths[0]).status_code == 200)


# An idle connection may ask for as long as it likes after the server is told to stop.
ASKS_ON = "import fmnist.serving.connection; fmnist.serving.connection.STOP_SECONDS = 600.0\n"
PATIENT = ("--deadline", "600", "--stop-deadline", "600")


def test_a_server_that_is_told_to_stop_answers_what_it_has_and_is_not_ready(tmp_path: Path) -> None:
    let_go = tmp_path / "let go"
    before = ASKS_ON + HELD.format(file=str(let_go))
    with running(*PATIENT, before=before) as stopping, ThreadPoolExecutor(1) as threads:
        probe = http.client.HTTPConnection("127.0.0.1", stopping.port, timeout=PATIENCE)
        assert status_of_health(probe) == 200
        request = binary(image_of(1, 2))
        answer = threads.submit(lambda: outputs_of(stopping.post(INFER, **request)))
        stopping.wait_for_requests(1)
        stopping.process.send_signal(signal.SIGTERM)
        wait_until(lambda: status_of_health(probe) == 503)
        probe.close()
        let_go.touch()
        assert answer.result()["logits"].shape == (2, 10)
        assert stopping.process.wait(ENDS_WITHIN) == 0


def status_of_health(probe: http.client.HTTPConnection) -> int:
    probe.request("GET", "/v2/health/ready")
    response = probe.getresponse()
    response.read()
    return response.status


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


def test_a_body_is_no_larger_than_its_images_need(fake: Client) -> None:
    most = {"inputs": [told(np.full((256, 28, 28), 255, np.uint8))]}
    assert len(outputs_of(fake.post(INFER, json=most))["logits"]) == 256
    assert "6.95 MB" in check_refused(fake.post(INFER, data=bytes(7_300_000)), 413)
    with client(Settings(images=1)) as asking:
        assert "0.0894 MB" in check_refused(asking.post(INFER, data=bytes(94_000)), 413)
        assert check_refused(asking.post(INFER_PHOTOS, data=bytes(94_000)), 400)


@pytest.mark.parametrize("nested", [False, True])
def test_as_many_images_as_are_allowed_may_be_written_with_a_line_for_each_pixel(
    fake: Client, nested: bool
) -> None:
    images = np.full((256, 28, 28), 255, np.uint8)
    images[:, 0, 0] = 30
    tensor = told(images, data=images.tolist()) if nested else told(images)
    body = json.dumps({"id": "x" * 1000, "inputs": [tensor]}, indent=4)
    logits = outputs_of(fake.post(INFER, data=body))["logits"]
    assert logits.argmax(axis=1).tolist() == [3] * 256


def test_what_takes_long_to_read_is_not_read(fake: Client) -> None:
    body = b'{"inputs": [], "a": ' + b"9" * 641 + b"}"
    assert "not JSON" in check_refused(fake.post(INFER, data=body))
    names = {str(name): 0 for name in range(2000)}
    assert "2,000 names" in check_refused(fake.post(INFER, json={"inputs": [], "a": names}))


def test_large_json_is_read_one_after_the_other(
    fake: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, most = 0, 0

    def decode(*arguments: Any) -> Any:
        nonlocal reading, most
        reading += 1
        most = max(most, reading)
        time.sleep(0.05)
        reading -= 1
        return decode_request(*arguments)

    monkeypatch.setattr(protocol, "decode_request", decode)
    body = json.dumps({"inputs": [told(image_of(6, 30))]})
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda _: fake.post(INFER, data=body), range(4)))
    assert [len(outputs_of(answer)["logits"]) for answer in answers] == [30] * 4
    assert most == 1


# Photos


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


def test_photos_may_come_as_a_column(fake: Client) -> None:
    """As MLServer's codecs have strings, and models of Triton that take batches."""
    texts = [base64_of(each) for each in PICTURES]
    tensor: dict[str, Any] = {"name": "photos", "shape": [3, 1], "datatype": "BYTES"}
    for data in (texts, [[text] for text in texts]):
        answer = fake.post(INFER_PHOTOS, json={"inputs": [{**tensor, "data": data}]})
        check_labels(outputs_of(answer), 2, 9, 0)
    in_binary = photos(*PICTURES)
    head = in_binary["data"].replace(b'"shape": [3]', b'"shape": [3, 1]')
    length = str(int(in_binary["headers"][HEADER_LENGTH]) + 3)
    answer = fake.post(INFER_PHOTOS, data=head, headers={HEADER_LENGTH: length})
    check_labels(outputs_of(answer), 2, 9, 0)


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
        (photos_in_json([base64_of(PICTURES[0])] * 2), "nested"),
        (photos_in_json([base64_of(PICTURES[0])], []), "nested"),
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
