"""The Open Inference Protocol, version 2, over REST, with the extension for binary tensors.

Two models: `fmnist` takes images as Fashion-MNIST has them, `fmnist_photo` the files of pictures.
Of what is Triton's alone, a model's configuration is told: clients read there how many images a
request may hold. Shared memory, classification and a repository of models are not offered, and
statistics neither: of several workers each would tell its own, where /metrics adds up.
"""

import asyncio
import contextlib
import gzip
import zlib
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sized
from functools import lru_cache, partial
from importlib import metadata
from threading import Lock
from typing import Any, TypeAlias, TypeVar

import numpy as np
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from fmnist.classifier import Prediction
from fmnist.errors import PhotoError
from fmnist.serving import protocol_tensors as tensors
from fmnist.serving.bodies import BIG, off_loop, read_body
from fmnist.serving.exchange import EXCHANGE
from fmnist.serving.protocol_messages import (
    Asked,
    Model,
    Tensor,
    Values,
    decode_request,
    encode_response,
)
from fmnist.serving.refusal import Refusal, status_of
from fmnist.serving.served import Served

T = TypeVar("T")
E = TypeVar("E", bound=Sized)

STOPPING = "stopping"  # a key of uvicorn's state from when the server is told to stop
VERSION = "1"  # of both models: a server has one network and never changes it
HEADER_LENGTH = "Inference-Header-Content-Length"
_HEADER_LENGTH = HEADER_LENGTH.lower().encode()
# Bytes an image may take in JSON that has a line for each pixel, indented by four for each of seven
# levels, as json.dumps(indent=4) writes it: 33 a pixel, and lines for brackets.
JSON_IMAGE = 36 * tensors.IMAGE
# Python's own lock is held while JSON is read, for 256 images some 10 ms. Were two threads at it,
# the event loop would wait for both, and they would be no faster.
_DECODING = Lock()
QUICK = 1  # zlib's level: an answer has some hundred bytes of numbers, which hardly shrink

PROBABILITIES = Tensor("probabilities", "FP32", (-1, 10))  # in the order of the classes
IMAGES = Model(
    name="fmnist",
    takes=Tensor("images", "UINT8", (-1, tensors.SIDE, tensors.SIDE)),  # background 0
    gives=(Tensor("logits", "FP32", (-1, 10)), PROBABILITIES),
    values=tensors.IMAGE + tensors.SIDE + 1,
    from_json=tensors.images_from_json,
    from_binary=tensors.images_from_binary,
    from_raw=tensors.images_from_raw,
)
PHOTOS = Model(
    name="fmnist_photo",
    takes=Tensor("photos", "BYTES", (-1,)),  # files; in base64 where they come in JSON
    gives=(
        Tensor("label", "BYTES", (-1,)),
        Tensor("class_index", "UINT8", (-1,)),
        PROBABILITIES,
        Tensor("accepted", "BOOL", (-1,)),
        Tensor("warnings", "BYTES", (-1,)),  # advice, a line each
    ),
    values=1,
    from_json=tensors.files_from_json,
    from_binary=tensors.files_from_binary,
    from_raw=tensors.files_from_raw,
)

_Headers: TypeAlias = list[tuple[bytes, bytes]]
_Content: TypeAlias = "tuple[bytes, int | None]"  # a body, and how long its JSON is if not all


# Inference


async def answer_images(scope: Scope, receive: Receive, header_length: str | None) -> _Content:
    """Return what the network says of the images of a request."""
    served: Served = scope["state"]["served"]
    served.batcher.check_room()
    images = served.settings.images
    limit = min(served.settings.body_bytes, images * JSON_IMAGE + BIG)
    body = await read_body(scope, receive, limit)
    asked = await _decoded(body, header_length, IMAGES, images)
    scores = await _in_time(served.batcher.ask(asked.elements), asked.microseconds)
    outputs: dict[str, Values] = {"logits": scores[:, :10], "probabilities": scores[:, 10:]}
    return encode_response(IMAGES, VERSION, asked, outputs)


async def answer_photos(scope: Scope, receive: Receive, header_length: str | None) -> _Content:
    """Return what is said of the pictures of a request; if one cannot be read, of none."""
    served: Served = scope["state"]["served"]
    served.check_room()
    body = await read_body(scope, receive, served.settings.body_bytes)
    scope[EXCHANGE].hold(len(body))  # the files, beside the message
    asked = await _decoded(body, header_length, PHOTOS, served.settings.files)
    predictions = await _in_time(_judged(served, asked.elements), asked.microseconds)
    return encode_response(PHOTOS, VERSION, asked, _outputs(predictions))


async def _decoded(body: bytes, header_length: str | None, model: Model[E], most: int) -> Asked[E]:
    """Return what a request asks; a large one is taken apart off the event loop."""
    if len(body) <= BIG:
        return decode_request(body, header_length, model, most)
    return await off_loop(partial(_decoded_alone, body, header_length, model, most))


def _decoded_alone(body: bytes, header_length: str | None, model: Model[E], most: int) -> Asked[E]:
    with _DECODING:
        return decode_request(body, header_length, model, most)


async def _judged(served: Served, files: list[bytes]) -> list[Prediction]:
    """Return what is said of pictures; the first that cannot be read ends the work for all."""
    with served.room(len(files)):
        async with served.deadline():
            tasks = [asyncio.create_task(_judge(served, *each)) for each in enumerate(files)]
            try:
                return await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()


async def _judge(served: Served, index: int, content: bytes) -> Prediction:
    try:
        return await served.judge(content)
    except PhotoError as error:
        raise Refusal(status_of(error), f"{PHOTOS.takes.name}[{index}]: {error}") from None


def _outputs(predictions: list[Prediction]) -> dict[str, Values]:
    probabilities = np.empty((len(predictions), 10), np.float32)
    for row, prediction in zip(probabilities, predictions, strict=True):
        for guess in prediction.top:
            row[guess.class_index] = guess.probability
    return {
        "label": [each.label for each in predictions],
        "class_index": np.array([each.class_index for each in predictions], np.uint8),
        "probabilities": probabilities,
        "accepted": np.array([each.accepted for each in predictions], bool),
        "warnings": ["\n".join(each.warnings) for each in predictions],
    }


async def _in_time(answer: Awaitable[T], microseconds: int) -> T:
    """Return an answer; raise Refusal (504) if the client's own deadline comes first; 0: none."""
    if not microseconds:
        return await answer
    try:
        async with asyncio.timeout(microseconds / 1e6):
            return await answer
    except TimeoutError as error:
        raise Refusal(504, f"no answer within the request's timeout, {microseconds} us") from error


_ANSWERS: dict[str, Callable[[Scope, Receive, str | None], Awaitable[_Content]]] = {
    IMAGES.name: answer_images,
    PHOTOS.name: answer_photos,
}
MODELS: dict[str, Model[Any]] = {IMAGES.name: IMAGES, PHOTOS.name: PHOTOS}


class Infer:
    """The ASGI application of inference: without Starlette's responses, which cost more than it."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer an inference request."""
        name = _model_name(scope["path_params"])
        sent = dict(scope["headers"])
        header_length = sent.get(_HEADER_LENGTH)
        said = None if header_length is None else header_length.decode("latin-1")
        content, json_length = await _ANSWERS[name](scope, receive, said)
        coding = best_coding(sent.get(b"accept-encoding", b""))
        if coding is not None:
            content = compressed(content, coding)
        headers = _headers(len(content), json_length, coding)
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": content})


def _headers(length: int, header_length: int | None, coding: str | None) -> _Headers:
    """Return an answer's headers; `header_length` is that of its JSON if it is not all JSON."""
    headers = [(b"content-length", b"%d" % length), (b"vary", b"accept-encoding")]
    if header_length is None:
        headers.append((b"content-type", b"application/json"))
    else:
        headers.append((b"content-type", b"application/octet-stream"))
        headers.append((_HEADER_LENGTH, b"%d" % header_length))
    if coding is not None:
        headers.append((b"content-encoding", coding.encode()))
    return headers


def _model_name(path: Mapping[str, str]) -> str:
    """Return the model that a path names; raise Refusal (404) for others, and other versions."""
    name, version = path["model"], path.get("version", VERSION)
    if name not in MODELS:
        raise Refusal(404, f"unknown model {name[:60]!r}; there are {' and '.join(MODELS)}")
    if version != VERSION:
        raise Refusal(404, f"{name} has no version {version[:20]!r}, only {VERSION}")
    return name


@lru_cache(maxsize=64)
def best_coding(accepted: bytes) -> str | None:
    """Return the coding, gzip or deflate, that a client's Accept-Encoding likes best, or None.

    RFC 9110, section 12.5.3; what cannot be read of it counts as not said.
    """
    wishes = dict(_wishes(accepted.decode("latin-1")))
    others = wishes.get("*", 0.0)
    quality = {coding: wishes.get(coding, others) for coding in ("gzip", "deflate")}
    best = max(quality, key=quality.__getitem__)
    return best if quality[best] > 0 and quality[best] >= wishes.get("identity", 0.0) else None


def _wishes(accepted: str) -> Iterator[tuple[str, float]]:
    for wish in accepted.lower().split(","):
        coding, _, weight = wish.partition(";")
        name, _, value = weight.partition("=")
        with contextlib.suppress(ValueError):
            yield coding.strip(), float(value) if name.strip() == "q" else 1.0


def compressed(content: bytes, coding: str) -> bytes:
    """Return a body in the coding gzip or deflate, which is zlib's format (RFC 9110, 8.4.1.2)."""
    if coding == "gzip":
        return gzip.compress(content, QUICK, mtime=0)
    return zlib.compress(content, QUICK)


# What there is, and whether it answers


async def live(request: Request) -> Response:
    """Say that the process answers."""
    return JSONResponse({"live": True})


async def ready(request: Request) -> Response:
    """Say whether requests are answered."""
    return _readiness(request, {"live": True})


async def model_ready(request: Request) -> Response:
    """Say whether requests to a model are answered."""
    return _readiness(request, {"name": _model_name(request.path_params)})


def _readiness(request: Request, told: dict[str, Any]) -> Response:
    """Return an answer that says "ready": whether to send more requests to this server."""
    state = request.scope["state"]
    if STOPPING in state:
        return _unready("the server stops; ask another")
    served: Served = state["served"]
    if served.batcher.busy_seconds() > served.settings.deadline_seconds:
        return _unready("the network does not answer; ask another server, or start this one anew")
    return JSONResponse({**told, "ready": True})


def _unready(error: str) -> Response:
    return JSONResponse({"error": error, "ready": False}, 503, {"Retry-After": "1"})


async def describe_server(request: Request) -> Response:
    """Say what answers, and which extensions of the protocol it has."""
    version = metadata.version("fmnist")
    extensions = ["binary_tensor_data", "model_configuration"]
    return JSONResponse({"name": "fmnist", "version": version, "extensions": extensions})


async def describe_model(request: Request) -> Response:
    """Say what a model takes and gives."""
    served: Served = request.state.served
    model = MODELS[_model_name(request.path_params)]
    return JSONResponse(
        {
            "name": model.name,
            "versions": [VERSION],
            "platform": _platform(served),
            "inputs": [_described(model.takes)],
            "outputs": [_described(tensor) for tensor in model.gives],
        }
    )


def _platform(served: Served) -> str:
    return "fmnist_run" if served.of_run else "onnx_onnxv1"


def _described(tensor: Tensor) -> dict[str, Any]:
    told: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype}
    told["shape"] = list(tensor.shape)
    if tensor is PHOTOS.takes:  # as MLServer says what strings in JSON are
        told["parameters"] = {"content_type": "base64"}
    return told


async def configure_model(request: Request) -> Response:
    """Say the same as Triton's extension "model configuration" does."""
    served: Served = request.state.served
    model = MODELS[_model_name(request.path_params)]
    first = 1 if len(model.takes.shape) > 1 else 0  # axis of `dims`: behind the images of a batch
    return JSONResponse(
        {
            "name": model.name,
            "platform": _platform(served),
            "max_batch_size": served.settings.images if first else 0,
            "input": [_configured(model.takes, first)],
            "output": [_configured(tensor, first) for tensor in model.gives],
        }
    )


def _configured(tensor: Tensor, first: int) -> dict[str, Any]:
    kind = "STRING" if tensor.datatype == "BYTES" else tensor.datatype
    return {"name": tensor.name, "data_type": f"TYPE_{kind}", "dims": tensor.shape[first:]}


_MODEL, _VERSIONED = "/v2/models/{model}", "/v2/models/{model}/versions/{version}"

# The busiest first: a router tries them one after the other.
ROUTES = [
    *(Route(f"{path}/infer", Infer(), methods=["POST"]) for path in (_MODEL, _VERSIONED)),
    Route("/v2/health/live", live),
    Route("/v2/health/ready", ready),
    *(Route(f"{path}/ready", model_ready) for path in (_MODEL, _VERSIONED)),
    *(Route(path, describe_model) for path in (_MODEL, _VERSIONED)),
    *(Route(f"{path}/config", configure_model) for path in (_MODEL, _VERSIONED)),
    *(Route(path, describe_server) for path in ("/v2", "/v2/")),
]
