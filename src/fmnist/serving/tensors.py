"""The messages of the Open Inference Protocol as numpy arrays, JSON or binary."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Asked:
    images: NDArray[np.uint8]
    binary: bool
    id: str | None = None


def decode_request(body: bytes, header_length: str | None) -> Asked:
    if header_length is None:
        message = json.loads(body)
        tensor = message["inputs"][0]
        data = np.asarray(tensor["data"], np.uint8).reshape(tensor["shape"])
        return Asked(data, False, message.get("id"))
    n = int(header_length)
    message = json.loads(body[:n])
    tensor = message["inputs"][0]
    return Asked(
        np.frombuffer(body[n:], np.uint8).reshape(tensor["shape"]), True, message.get("id")
    )


def encode_response(asked: Asked, logits: NDArray[np.float32]) -> tuple[bytes, int | None]:
    output: dict[str, Any] = {"name": "logits", "datatype": "FP32", "shape": list(logits.shape)}
    message = {"model_name": "fmnist", "model_version": "1", "outputs": [output]}
    if asked.id is not None:
        message["id"] = asked.id
    if not asked.binary:
        output["data"] = logits.ravel().tolist()
        return json.dumps(message).encode(), None
    output["parameters"] = {"binary_data_size": logits.nbytes}
    head = json.dumps(message).encode()
    return head + logits.tobytes(), len(head)
