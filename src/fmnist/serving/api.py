"""The JSON API: pictures to answers, in the shape that the command line prints."""

import asyncio
import base64
import io
from typing import Any

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from numpy.typing import NDArray
from PIL import Image
from python_multipart.exceptions import FormParserError
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.datastructures import UploadFile

from fmnist.classifier import Prediction
from fmnist.errors import PhotoError, PhotoTooLarge, UnreadableFormat
from fmnist.serving.bodies import read_body
from fmnist.serving.refusal import Refusal
from fmnist.serving.served import Served

router = APIRouter()


@router.get("/api/about")
async def about(request: Request) -> dict[str, Any]:
    """Say what answers: the classes, the limits."""
    served: Served = request.state.served
    return {
        "class_names": list(served.classifier.class_names),
        "limits": {"files": served.settings.files, "body_bytes": served.settings.body_bytes},
    }


@router.post("/api/predict")
async def predict(
    request: Request, top: int = 10, steps: bool = False, explain: bool = False
) -> JSONResponse:
    """Say what is on pictures of clothes: multipart with any number of files, or one raw body."""
    served: Served = request.state.served
    pictures = await _pictures(request, served)
    answers = await asyncio.gather(
        *(_answer(served, name, content, top, steps, explain) for name, content in pictures)
    )
    return JSONResponse({"predictions": answers})


async def _pictures(request: Request, served: Served) -> list[tuple[str, bytes]]:
    body = await read_body(request, served.settings)
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        return [("", body)]

    async def stream() -> Any:
        yield body

    class InMemory(MultiPartParser):
        spool_max_size = len(body) + 1  # nothing of a request is written to disk

    try:
        form = await InMemory(
            request.headers, stream(), max_files=served.settings.files, max_fields=8
        ).parse()
    except (MultiPartException, FormParserError) as error:
        raise Refusal(400, f"the form cannot be read: {error}") from error
    files = [each for _, each in form.multi_items() if isinstance(each, UploadFile)]
    if not files:
        raise Refusal(400, "the form holds no file")
    return [(each.filename or "", await each.read()) for each in files]


async def _answer(
    served: Served, name: str, content: bytes, top: int, steps: bool, explain: bool
) -> dict[str, Any]:
    try:
        prediction = await served.predict(content)
    except PhotoError as error:
        return {"path": name, "error": str(error)}
    answer = {"path": name, **prediction.to_json(top)}
    if steps:
        answer["steps"] = await served.in_worker(lambda: _steps(prediction))
    return answer


def _steps(prediction: Prediction) -> dict[str, str]:
    assert prediction.prepared is not None
    photo = prediction.prepared
    pictures = {"original": photo.original, "cutout": photo.cutout, "image": photo.image}
    return {name: _png(pixels) for name, pixels in pictures.items()}


def _png(pixels: NDArray[np.uint8]) -> str:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png", compress_level=1)
    return base64.b64encode(file.getvalue()).decode()
