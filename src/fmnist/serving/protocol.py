"""The Open Inference Protocol, version 2, over REST."""

import json
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from fmnist.serving.bodies import read_body
from fmnist.serving.served import Served
from fmnist.serving.tensors import decode_request, encode_response


async def live(request: Request) -> Response:
    return JSONResponse({"live": True})


async def ready(request: Request) -> Response:
    return JSONResponse({"live": True, "ready": True})


async def infer(request: Request) -> Response:
    """Answer an inference request."""
    served: Served = request.state.served
    body = await read_body(request, served.settings)
    asked = decode_request(body, request.headers.get("inference-header-content-length"))
    logits = await served.logits(asked.images)
    content, header_length = encode_response(asked, logits)
    headers = (
        {} if header_length is None else {"Inference-Header-Content-Length": str(header_length)}
    )
    return Response(
        content,
        headers=headers,
        media_type="application/json" if header_length is None else "application/octet-stream",
    )


ROUTES = [
    Route("/v2/models/fmnist/infer", infer, methods=["POST"]),
    Route("/v2/health/live", live),
    Route("/v2/health/ready", ready),
]
