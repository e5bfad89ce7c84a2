"""The application: its doors (page, JSON API, protocol) behind one gate."""

import contextlib
from collections.abc import AsyncIterator
from functools import partial
from importlib import metadata
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from fmnist.answers import load_classifier
from fmnist.classifier import Classifier
from fmnist.serving import api, protocol
from fmnist.serving.gate import Gate
from fmnist.serving.identity import identify
from fmnist.serving.metrics import Metrics
from fmnist.serving.pages import page_routes
from fmnist.serving.refusal import Refusal
from fmnist.serving.served import open_served
from fmnist.serving.settings import MetricsChoice, Settings


def create_app(settings: Settings, classifier: Classifier | None = None) -> ASGIApp:
    """Return the ASGI application; it loads the model of the settings now unless one is given.

    Raises ModelError, RunError and MissingExtra where that model cannot be loaded.
    """
    ready = classifier or load_classifier(settings.model, threads=1)
    metrics = Metrics()
    metrics.model(*identify(ready, settings.model))
    app = FastAPI(
        title="fmnist",
        version=metadata.version("fmnist"),
        lifespan=partial(_lifespan, ready, settings),
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        exception_handlers={
            HTTPException: _refuse,
            RequestValidationError: _refuse,
            Exception: _raise,
        },
    )
    app.openapi = partial(_document, app)  # type: ignore[method-assign]  # FastAPI's documented way
    app.router.routes.extend(protocol.ROUTES)
    app.include_router(api.router)
    app.router.routes.extend(page_routes())
    if settings.metrics != MetricsChoice.off:
        app.router.routes.append(Route("/metrics", partial(_metrics, metrics)))
    return Gate(app, settings)


@contextlib.asynccontextmanager
async def _lifespan(
    classifier: Classifier, settings: Settings, app: FastAPI
) -> AsyncIterator[dict[str, Any]]:
    with open_served(classifier, settings) as served:
        yield {"served": served}


def _metrics(metrics: Metrics, request: Request) -> Response:
    """Answer Prometheus; several workers' numbers are read from files, so off the event loop."""
    content, content_type = metrics.text()
    return Response(content, headers={"Content-Type": content_type})


def _document(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document: FastAPI's of the JSON API, and the protocol's own."""
    if app.openapi_schema is None:
        document = FastAPI.openapi(app)
        document["paths"].update(protocol.openapi_paths())
    assert app.openapi_schema is not None
    return app.openapi_schema


def _refuse(request: Request, error: Exception) -> Response:
    """Raise Refusal for what the framework found; the gate answers for all."""
    if isinstance(error, RequestValidationError):
        raise api.refuse_query(error) from error
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    if error.status_code == 405:
        raise Refusal(405, f"this address takes {headers.get('Allow', 'other methods')}", headers)
    if error.status_code == 404:
        raise Refusal(404, "there is nothing here; / is the page, /docs says what else there is")
    raise Refusal(error.status_code, error.detail, headers) from error


def _raise(request: Request, error: Exception) -> Response:
    """Leave the error to the gate, which knows the request's id; else the framework answers."""
    raise error
