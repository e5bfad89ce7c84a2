"""The page's files, read once and handed out by name: no path of a request reaches a disk."""

from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "jpg": "image/jpeg",
    "json": "application/json",
}


def page_routes() -> list[Route]:
    """Return a route for each file of the page."""
    folder = files("fmnist.serving") / "page"
    routes = []
    for file in folder.iterdir():
        kind = _TYPES.get(file.name.rpartition(".")[2])
        if kind:
            path = "/" if file.name == "index.html" else f"/page/{file.name}"
            routes.append(_route(path, file.read_bytes(), kind))
    return routes


def _route(path: str, content: bytes, kind: str) -> Route:
    async def get(request: Request) -> Response:
        return Response(content, media_type=None, headers={"Content-Type": kind})

    return Route(path, get)
