"""Requests of the Open Inference Protocol as `requests` takes them, and what is answered."""

import base64
import io
import json
from typing import Any

import numpy as np
import requests
from numpy.typing import NDArray
from PIL import Image

from fmnist.serving.protocol import HEADER_LENGTH

Pixels = NDArray[np.uint8]

INFER = "/v2/models/fmnist/infer"
INFER_PHOTOS = "/v2/models/fmnist_photo/infer"


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


ONE = image_of(1)


def nested(levels: int) -> Any:
    value: Any = 0
    for _ in range(levels):
        value = [value]
    return value


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
