"""1,000 requests of all kinds: what is answered is what /openapi.json says."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from fmnist.serving.protocol import HEADER_LENGTH
from schemas import conforms
from servers import Client, client
from uploads import encoded, form, image

RNG = np.random.default_rng(3)
PATHS = ("/v2", "/v2/health/live", "/v2/health/ready", "/api/about")
MODELS = ("fmnist", "fmnist_photo", "other")
PNG = encoded(image(3))


@pytest.fixture(scope="module")
def asking() -> Iterator[Client]:
    with client() as client_of_fake:
        yield client_of_fake


def any_of(*choices: Any) -> Any:
    return choices[RNG.integers(len(choices))]


def asked(asking: Client) -> tuple[str, str, Any]:
    """Ask anything; return the documented path, the method and the answer."""
    if RNG.random() < 0.1:
        path = any_of(*PATHS)
        return path, "get", asking.get(path)
    if RNG.random() < 0.2:
        files = form([(b"a", any_of(PNG, b"", b"none"))] * int(RNG.integers(1, 3)))
        query = any_of("", "?top=10", "?steps=1", "?top=0", "?explain=1")
        return "/api/predict", "post", asking.post(f"/api/predict{query}", **files)
    model, versioned = any_of(*MODELS), any_of("", "/versions/1", "/versions/2")
    template = "/v2/models/{model}" + ("/versions/{version}" if versioned else "")
    path = f"/v2/models/{model}{versioned}"
    end = any_of("", "/ready", "/config", "/infer", "/infer", "/infer")
    if end != "/infer":
        return template + end, "get", asking.get(path + end)
    return f"{template}/infer", "post", asking.post(f"{path}/infer", **message())


def message() -> dict[str, Any]:
    number = int(RNG.integers(0, 4))
    tensor: dict[str, Any] = {
        "name": any_of("images", "images", "photos"),
        "shape": any_of([number, 28, 28], [number], [1, 28, 28], [number, 1]),
        "datatype": any_of("UINT8", "UINT8", "BYTES", "FP32"),
    }
    told: dict[str, Any] = {"inputs": [tensor]}
    if RNG.random() < 0.5:
        told["id"] = any_of("", "7", "\u20ac", 7)
    if RNG.random() < 0.5:
        told["parameters"] = any_of({"binary_data_output": True}, {"timeout": -1}, {"a": 1.5})
    if RNG.random() < 0.5:
        told["outputs"] = any_of([], [{"name": "logits"}], [{"name": "label"}], "all")
    if RNG.random() < 0.3:
        tensor["data"] = any_of([7] * 784 * number, ["AAAA"] * number)
        return {"json": told}
    tensor["parameters"] = {"binary_data_size": 784 * number}
    head = json.dumps(told).encode()
    return {"data": head + bytes(784 * number), "headers": {HEADER_LENGTH: str(len(head))}}


def test_1000_answers_are_as_documented(asking: Client) -> None:
    document = asking.get("/openapi.json").json()
    seen = set()
    for _ in range(1000):
        path, method, answer = asked(asking)
        status = str(answer.status_code)
        responses = document["paths"][path][method]["responses"]
        assert status in responses, (path, answer.text)
        schema = responses[status]["content"]["application/json"]["schema"]
        length = answer.headers.get(HEADER_LENGTH)
        told = json.loads(answer.content[: None if length is None else int(length)])
        assert conforms(told, schema, document) == "", (path, status, told)
        seen.add((path, status))
    assert {status for _, status in seen} >= {"200", "400", "404", "415", "422"}
    assert len(seen) > 15
