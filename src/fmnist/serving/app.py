"""The application: its doors (page, JSON API, protocol) behind one gate."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI
from starlette.types import ASGIApp

from fmnist.answers import load_classifier
from fmnist.classifier import Classifier
from fmnist.serving import api, protocol
from fmnist.serving.gate import Gate
from fmnist.serving.pages import page_routes
from fmnist.serving.served import open_served
from fmnist.serving.settings import Settings


def create_app(settings: Settings, classifier: Classifier | None = None) -> ASGIApp:
    """Return the ASGI application; it loads the model of the settings unless one is given."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        ready = classifier or load_classifier(settings.model, threads=1)
        with open_served(ready, settings) as served:
            yield {"served": served}

    app = FastAPI(title="fmnist", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.router.routes.extend(protocol.ROUTES)
    app.include_router(api.router)
    app.router.routes.extend(page_routes())
    return Gate(app, settings)
