"""Calls of NVIDIA's client to a running server, in a process of their own: `... URL`.

Prints a JSON line for each call, {"call": number, "fault": null or what went wrong}. The client
brings gevent, which the tests' own process is to be spared.
"""

import asyncio
import base64
import functools
import gzip
import inspect
import io
import json
import sys
import traceback
import zlib
from collections.abc import Callable
from typing import Any, TypeAlias
from unittest import mock

import numpy as np
import pytest
import requests
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from numpy.typing import NDArray
from PIL import Image
from tritonclient.utils import InferenceServerException

from fmnist.classifier import load_classifier

MODEL, MOST = "fmnist", 256
HEADER = "Inference-Header-Content-Length"
UNDECODED = "an exception occurred in the client while decoding"  # its sign of a malformed error
RNG = np.random.default_rng(20)
IMAGES = RNG.integers(0, 256, (32, 28, 28), np.uint8)

Client: TypeAlias = Any  # of tritonclient, which has no types
Call: TypeAlias = Callable[[Client], None]


@functools.cache
def expected() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Logits and probabilities of IMAGES, asked in this process."""
    classifier = load_classifier(threads=1)
    logits = classifier.logits(IMAGES)
    return logits, classifier.probabilities(IMAGES).astype(np.float32)


def images(array: NDArray[Any] = IMAGES[:2], *, binary: bool = True, **other: Any) -> Any:
    """The input; `other` are things to declare otherwise."""
    told = {"name": "images", "shape": list(array.shape), "datatype": "UINT8", **other}
    tensor = triton.InferInput(told["name"], told["shape"], told["datatype"])
    return tensor.set_data_from_numpy(array, binary_data=binary)


def wanted(name: str, *, binary: bool = True) -> Any:
    return triton.InferRequestedOutput(name, binary_data=binary)


def check(result: Any, rows: slice | int = slice(2), *names: str) -> None:
    """The outputs, all but `names` left out, are bit for bit what this process says."""
    logits, probabilities = expected()
    for name, right in (("logits", logits), ("probabilities", probabilities)):
        got = result.as_numpy(name)
        if names and name not in names:
            assert got is None, name
            continue
        assert got.dtype == np.float32
        np.testing.assert_array_equal(got, np.atleast_2d(right[rows]), name, strict=True)


def refused(call: Callable[[], Any], status: str = "400") -> None:
    """The server refuses with a status and a message that the client can read."""
    with pytest.raises(InferenceServerException) as caught:
        call()
    error: Any = caught.value
    assert error.status() == status, error
    assert UNDECODED not in error.message(), error


def call_1(client: Client) -> None:
    assert client.is_server_live() is True


def call_2(client: Client) -> None:
    assert client.is_server_live(query_params={"test_1": 1, "test_2": 2}) is True


def call_3(client: Client) -> None:
    assert client.is_server_ready() is True


def call_4(client: Client) -> None:
    assert client.is_model_ready(MODEL) is True
    assert client.is_model_ready("fmnist_photo") is True


def call_5(client: Client) -> None:
    assert client.is_model_ready(MODEL, "1") is True
    assert client.is_model_ready(MODEL, "2") is False


def call_6(client: Client) -> None:
    assert client.is_model_ready("nope") is False


def call_7(client: Client) -> None:
    told = client.get_server_metadata()
    assert told["name"] == "fmnist"
    assert told["version"]
    assert "binary_tensor_data" in told["extensions"]


def call_8(client: Client) -> None:
    assert client.get_model_metadata(MODEL) == {
        "name": MODEL,
        "versions": ["1"],
        "platform": "onnx_onnxv1",
        "inputs": [{"name": "images", "datatype": "UINT8", "shape": [-1, 28, 28]}],
        "outputs": [
            {"name": "logits", "datatype": "FP32", "shape": [-1, 10]},
            {"name": "probabilities", "datatype": "FP32", "shape": [-1, 10]},
        ],
    }


def call_9(client: Client) -> None:
    assert client.get_model_metadata(MODEL, "1") == client.get_model_metadata(MODEL)


def call_10(client: Client) -> None:
    refused(lambda: client.get_model_metadata("wrong_model_name"), "404")


def call_11(client: Client) -> None:
    result = client.infer(
        MODEL,
        [images(binary=False)],
        outputs=[wanted("logits", binary=False), wanted("probabilities", binary=False)],
        request_id="42",
    )
    assert result.get_response()["id"] == "42"
    assert all("data" in output for output in result.get_response()["outputs"])
    check(result)


def call_12(client: Client) -> None:
    outputs = [wanted("probabilities"), wanted("logits")]
    result = client.infer(MODEL, [images()], outputs=outputs)
    assert [each["name"] for each in result.get_response()["outputs"]] == [
        "probabilities",
        "logits",
    ]
    check(result)


def call_13(client: Client) -> None:
    result = client.infer(MODEL, [images()])
    assert all(
        "binary_data_size" in output["parameters"] for output in result.get_response()["outputs"]
    )
    check(result)


def call_14(client: Client) -> None:
    outputs = [wanted("logits"), wanted("probabilities", binary=False)]
    result = client.infer(MODEL, [images()], outputs=outputs)
    assert "data" not in result.get_output("logits")
    assert "data" in result.get_output("probabilities")
    check(result)


def call_15(client: Client) -> None:
    check(client.infer(MODEL, [images()], request_compression_algorithm="gzip"))


def call_16(client: Client) -> None:
    check(client.infer(MODEL, [images()], request_compression_algorithm="deflate"))


def call_17(client: Client) -> None:
    with mock.patch.object(gzip, "decompress", wraps=gzip.decompress) as decompressed:
        check(client.infer(MODEL, [images()], response_compression_algorithm="gzip"))
    decompressed.assert_called_once()


def call_18(client: Client) -> None:
    with mock.patch.object(zlib, "decompress", wraps=zlib.decompress) as decompressed:
        check(client.infer(MODEL, [images()], response_compression_algorithm="deflate"))
    decompressed.assert_called_once()


def call_19(client: Client) -> None:
    for number in (1, 7):
        check(client.infer(MODEL, [images(IMAGES[:number])]), slice(number))
    many = np.concatenate([IMAGES] * (MOST // len(IMAGES) + 1))
    result = client.infer(MODEL, [images(many[:MOST])])
    right = np.concatenate([expected()[0]] * (MOST // len(IMAGES)))
    np.testing.assert_array_equal(result.as_numpy("logits"), right)
    refused(lambda: client.infer(MODEL, [images(many[: MOST + 1])]))


def call_20(client: Client) -> None:
    refused(lambda: client.infer(MODEL, [images(name="picture")]))
    floats = images(IMAGES[:2].astype(np.float32), datatype="FP32")
    refused(lambda: client.infer(MODEL, [floats]))
    refused(lambda: client.infer(MODEL, [images(IMAGES[0])]))
    refused(lambda: client.infer(MODEL, [images()], outputs=[wanted("scores")]))
    body, length = triton.InferenceServerClient.generate_request_body([images()])
    response = post(client, body[:-1], length)
    assert (response.status_code, list(response.json())) == (400, ["error"])


def call_21(client: Client) -> None:
    refused(lambda: client.infer(MODEL, [images()], outputs=[wanted("logits"), wanted("logits")]))


def call_22(client: Client) -> None:
    asked = {
        number: client.async_infer(MODEL, [images(IMAGES[number, None])], request_id=str(number))
        for number in range(32)
    }
    for number, answer in asked.items():
        result = answer.get_result()
        assert result.get_response()["id"] == str(number)
        check(result, number)


def call_23(client: Client) -> None:
    async def calls() -> None:
        async with triton_aio.InferenceServerClient(client.address) as other:
            assert await other.is_server_live() is True
            assert (await other.get_server_metadata())["name"] == "fmnist"
            check(await other.infer(MODEL, [images()]))
            check(await other.infer(MODEL, [images()], response_compression_algorithm="gzip"))

    asyncio.run(calls())


def call_24(client: Client) -> None:
    body, length = triton.InferenceServerClient.generate_request_body([images()])
    response = post(client, body, length)
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "application/octet-stream"
    check(
        triton.InferenceServerClient.parse_response_body(
            response.content, header_length=int(response.headers[HEADER])
        )
    )


def call_25(client: Client) -> None:
    """A deadline of a microsecond, and one of ten seconds."""
    refused(lambda: client.infer(MODEL, [images()], timeout=1, priority=1), "504")
    check(client.infer(MODEL, [images()], timeout=10_000_000, priority=1))


def call_26(client: Client) -> None:
    response = post(client, IMAGES[:2].tobytes(), 0)
    assert response.status_code == 200
    check(
        triton.InferenceServerClient.parse_response_body(
            response.content, header_length=int(response.headers[HEADER])
        )
    )


def post(client: Client, body: bytes, length: int) -> requests.Response:
    """Ask without the client, with no Content-Type."""
    url = f"http://{client.address}/v2/models/{MODEL}/infer"
    return requests.post(url, body, headers={HEADER: str(length)}, timeout=30)


def call_27(client: Client) -> None:
    """Not of the list: a photo, in binary and, which JSON needs, in base64."""
    file = photo()
    right = load_classifier(threads=1).predict(file)
    for content, binary in ((file, True), (base64.b64encode(file), False)):
        photos = triton.InferInput("photos", [2], "BYTES")
        photos.set_data_from_numpy(np.array([content] * 2, object), binary_data=binary)
        result = client.infer("fmnist_photo", [photos])
        assert result.as_numpy("label").tolist() == [right.label.encode()] * 2
        assert result.as_numpy("class_index").tolist() == [right.class_index] * 2
        assert result.as_numpy("accepted").tolist() == [right.accepted] * 2
        assert result.as_numpy("warnings").tolist() == ["\n".join(right.warnings).encode()] * 2
        best = result.as_numpy("probabilities").max(axis=1)
        assert best.tolist() == [np.float32(right.probability)] * 2


def call_28(client: Client) -> None:
    """Not of the list: how many images a request may hold; what is not offered says so."""
    for version in ("", "1"):
        told = client.get_model_config(MODEL, version)
        assert told["max_batch_size"] == MOST
        assert told["input"] == [{"name": "images", "data_type": "TYPE_UINT8", "dims": [28, 28]}]
    refused(lambda: client.get_model_config("nope"), "404")
    refused(lambda: client.get_inference_statistics(MODEL), "404")
    refused(client.get_model_repository_index, "404")
    refused(lambda: client.load_model(MODEL), "404")


def photo() -> bytes:
    """A dark pair of trousers on a light wall."""
    pixels = np.full((200, 160, 3), 230, np.uint8)
    pixels[30:180, 50:75] = pixels[30:180, 85:110] = pixels[30:70, 50:110] = (40, 50, 90)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


CALLS: dict[int, Call] = {
    int(name.removeprefix("call_")): function
    for name, function in globals().items()
    if name.startswith("call_") and inspect.isfunction(function)
}


def main(address: str) -> None:
    client = triton.InferenceServerClient(url=address, concurrency=4)
    client.address = address
    for number, call in CALLS.items():
        fault = None
        try:
            call(client)
        except BaseException:  # whatever it is: the others are to be tried too
            fault = traceback.format_exc()
        print(json.dumps({"call": number, "fault": fault}), flush=True)
    client.close()


if __name__ == "__main__":
    main(sys.argv[1])
