"""The application: its doors (page, JSON API, protocol) behind one gate."""

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from importlib import metadata
from typing import Any, NoReturn, TypeAlias

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from fmnist.classifier import Classifier
from fmnist.serving import api, protocol
from fmnist.serving.backlog import Backlog
from fmnist.serving.batching import LARGEST
from fmnist.serving.gate import Gate
from fmnist.serving.metrics import Metrics
from fmnist.serving.model_identity import Identity
from fmnist.serving.pages import page_routes
from fmnist.serving.protocol_openapi import openapi_paths
from fmnist.serving.refusal import Refusal
from fmnist.serving.served import open_served
from fmnist.serving.settings import Settings
from fmnist.serving.tokens import Tokens

_Lifespan: TypeAlias = Callable[[FastAPI], AbstractAsyncContextManager[dict[str, Any]]]


def create_app(
    settings: Settings, classifier: Classifier, identity: Identity, tokens: Tokens | None = None
) -> Gate:
    """Return the ASGI application around a classifier: the one that `settings.model` names.

    It takes `tokens`, which may be renewed; None: those of the settings.
    """
    metrics = Metrics()
    metrics.model(*identity)
    json_api = _json_api(partial(_lifespan, classifier, settings, metrics))
    routes = (
        *protocol.ROUTES,
        *page_routes(token_needed=bool(settings.tokens)),
        Route("/metrics", partial(_show_metrics, metrics)),
        Route("/openapi.json", partial(_show_document, json_api)),
    )
    return Gate(_Doors(routes, json_api), settings, metrics, _backlog(settings), tokens)


def _backlog(settings: Settings) -> Backlog:
    """Return what counts requests for the network: as many as fit into its queue and a batch."""
    model = f"/v2/models/{protocol.IMAGES.name}"
    targets = (f"{model}/infer", f"{model}/versions/{protocol.VERSION}/infer")
    return Backlog(map(str.encode, targets), settings.waiting_tensors + LARGEST)


class _Doors:
    """Hands each request to the first route that knows its path, or else to the JSON API.

    FastAPI would do it too, but note for few routes which one it took, which the gate counts by.
    """

    def __init__(self, routes: Sequence[Route], json_api: ASGIApp) -> None:
        self._routes = routes
        self._json_api = json_api

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope["app"] = self  # without it, Starlette answers what it refuses, in plain text
            for route in self._routes:
                match, found = route.matches(scope)
                if match is not Match.NONE:
                    scope.update(found, route=route)
                    await _handle(route, scope, receive, send)
                    return
        await self._json_api(scope, receive, send)


async def _handle(route: Route, scope: Scope, receive: Receive, send: Send) -> None:
    try:
        await route.handle(scope, receive, send)
    except HTTPException as error:
        _refuse(Request(scope), error)


def _json_api(lifespan: _Lifespan) -> FastAPI:
    app = FastAPI(
        title="fmnist",
        version=metadata.version("fmnist"),
        description="What is on pictures of clothes, by a classifier of Fashion-MNIST's classes.",
        lifespan=lifespan,
        openapi_url=None,  # and with it pages that load scripts from elsewhere; ours is at /docs
        redirect_slashes=False,
        exception_handlers={
            HTTPException: _refuse,
            RequestValidationError: _refuse,
            Exception: _raise,
        },
    )
    app.include_router(api.router)
    return app


@contextlib.asynccontextmanager
async def _lifespan(
    classifier: Classifier, settings: Settings, metrics: Metrics, app: FastAPI
) -> AsyncIterator[dict[str, Any]]:
    with open_served(classifier, settings, metrics) as served:
        yield {"served": served}


def _show_metrics(metrics: Metrics, request: Request) -> Response:
    """Answer Prometheus; several workers' numbers are read from files, so off the event loop."""
    content, content_type = metrics.text()
    return Response(content, headers={"Content-Type": content_type})


def _show_document(json_api: FastAPI, request: Request) -> Response:
    """Answer with the OpenAPI document: FastAPI's of the JSON API, and the protocol's paths."""
    document = json_api.openapi()  # which it makes once
    return JSONResponse({**document, "paths": {**document["paths"], **openapi_paths()}})


def _refuse(request: Request, error: Exception) -> NoReturn:
    """Raise Refusal for what the framework refuses; the gate answers for all."""
    if isinstance(error, RequestValidationError):
        raise api.refuse_query(error) from error
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        raise Refusal(404, "nothing is at this address; / is the page, /docs says what else is")
    headers = dict(error.headers or {})
    if error.status_code == 405:
        message = f"{request.method} is not for this address; use {headers['Allow']}"
        raise Refusal(405, message, headers)
    raise Refusal(error.status_code, error.detail, headers) from error


def _raise(request: Request, error: Exception) -> NoReturn:
    """Leave an error to the gate, which knows the request's id; else FastAPI would answer."""
    raise error
