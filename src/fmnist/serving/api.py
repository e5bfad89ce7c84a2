"""The JSON API: pictures to answers, in the shape that the command line prints."""

import asyncio
import base64
import io
import json
from dataclasses import dataclass
from importlib import metadata
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from numpy.typing import NDArray
from PIL import Image

from fmnist import answers
from fmnist.classifier import Prediction
from fmnist.errors import PhotoError
from fmnist.serving.api_openapi import ERRORS, ERRORS_OF_PREDICT, REQUEST_BODY, About, Answers
from fmnist.serving.bodies import read_body
from fmnist.serving.exchange import EXCHANGE
from fmnist.serving.forms import FORM, FormFile, form_files
from fmnist.serving.refusal import Refusal, status_of
from fmnist.serving.served import Served

router = APIRouter()


@dataclass(frozen=True)
class Wanted:
    """What a client wants to be told of each picture."""

    top: int  # classes, likeliest first
    steps: bool
    explain: bool


@router.get("/api/about", response_model=About, responses=ERRORS)
async def about(request: Request) -> Response:
    """Say what answers, with its classes and limits."""
    served: Served = request.state.served
    return _response(json.dumps(_about(served)))


@router.post(
    "/api/predict",
    response_model=Answers,
    responses=ERRORS_OF_PREDICT,
    openapi_extra={"requestBody": REQUEST_BODY},
)
async def predict(
    request: Request,
    top: Annotated[int, Query(ge=1, le=10, description="classes to name, likeliest first")] = 3,
    steps: Annotated[bool, Query(description="add the steps to the answer as pictures")] = False,
    explain: Annotated[
        bool, Query(description="add a picture of what the answer rests on, as a step")
    ] = False,
) -> Response:
    """Say what is on pictures of clothes: the files of a form, or one as the body itself."""
    served: Served = request.state.served
    served.check_room()
    files = await _files(request, served)
    with served.room(len(files)):
        async with served.deadline():
            wanted = Wanted(top, steps, explain)
            return await _answers(served, files, wanted)


def refuse_query(error: RequestValidationError) -> Refusal:
    """Return the refusal of query parameters that are not as documented."""
    faults = (f"{fault['loc'][-1]}: {fault['msg']}" for fault in error.errors())
    return Refusal(400, f"the address cannot be read ({'; '.join(faults)}); see /docs")


async def _files(request: Request, served: Served) -> list[FormFile]:
    """Return the files of a request: those of its form, or its body as one without a name.

    Only what says that it is a form is taken for one: curl calls any body `--data-binary` a form of
    another kind.
    """
    scope = request.scope
    body = await read_body(scope, request.receive, served.settings.body_bytes)
    content_type = request.headers.get("content-type", "")
    if content_type.partition(";")[0].strip().lower() != FORM:
        return [FormFile("", body)]
    scope[EXCHANGE].hold(len(body))  # the files, beside the form
    return await form_files(body, content_type, served.settings.files)


async def _answers(served: Served, files: list[FormFile], wanted: Wanted) -> Response:
    """Return the answers for files, in their order; a refusal of one is that of all."""
    tasks = [asyncio.create_task(_answer(served, file, wanted)) for file in files]
    try:
        told = await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
    predictions = f"[{', '.join(answer for answer, _ in told)}]"
    faults = [fault for _, fault in told if fault is not None]
    if len(faults) < len(files):
        return _response(f'{{"predictions": {predictions}}}')
    error = json.dumps(str(faults[0]))
    return _response(f'{{"error": {error}, "predictions": {predictions}}}', status_of(faults[0]))


async def _answer(served: Served, file: FormFile, wanted: Wanted) -> tuple[str, PhotoError | None]:
    """Return as JSON what is said of a file, with the reason where it cannot be read.

    Each answer is written by itself: the pictures of all at once would hold up the event loop.
    """
    try:
        prediction = await served.judge(file.content)
    except PhotoError as error:  # anew: its traceback holds the picture
        fault = type(error)(str(error))
        return json.dumps(answers.to_json(file.name, fault)), fault
    told = answers.to_json(file.name, prediction, wanted.top)
    if steps := await _steps(served, prediction, wanted):
        told["steps"] = steps
    return json.dumps(told), None


async def _steps(served: Served, answer: Prediction, wanted: Wanted) -> dict[str, str]:
    """Return the wanted pictures of an answer, PNG in base64, by name."""
    photo, pictures = answer.prepared, {}
    assert photo is not None  # it came from a file
    if wanted.steps:
        pictures = {"original": photo.original, "cutout": photo.cutout, "image": photo.image}
    if wanted.explain:
        pictures["explained"] = await served.explained(answer)
    if not pictures:
        return {}
    return await served.in_worker(lambda: {name: _png(each) for name, each in pictures.items()})


def _png(pixels: NDArray[np.uint8]) -> str:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png", compress_level=1)  # smaller would take far longer
    return base64.b64encode(file.getvalue()).decode()


def _about(served: Served) -> dict[str, Any]:
    classifier, settings = served.classifier, served.settings
    facts = classifier.facts
    return {
        "name": "fmnist",
        "version": metadata.version("fmnist"),
        "model": {
            "recipe": facts.get("recipe", {}).get("name"),
            "network": facts.get("network"),
            "precision": facts.get("precision"),
            "temperature": classifier.temperature,
        },
        "class_names": list(classifier.class_names),
        "least_probability": classifier.least_probability,
        "limits": {
            "files": settings.files,
            "body_bytes": settings.body_bytes,
            "pixels": settings.pixels,
            "images": settings.images,
            "deadline_seconds": settings.deadline_seconds,
        },
        "token_needed": bool(settings.tokens),
    }


def _response(text: str, status: int = 200) -> Response:
    """Return JSON as an answer; it is ASCII, so that a file's name does nothing to a terminal."""
    headers = {"Content-Type": "application/json", "Cache-Control": "no-store"}
    return Response(text, status, headers)
