"""The page's files, read once and handed out by name: no path of a request reaches a disk."""

import hashlib
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fmnist.errors import FmnistError

_TYPES = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "jpg": "image/jpeg",
    "js": "text/javascript; charset=utf-8",
    "md": "text/plain; charset=utf-8",
    "png": "image/png",
    "svg": "image/svg+xml",
}
_PATHS = {"index.html": "/", "docs.html": "/docs"}
# A copy may be kept but is asked about each time, so that a new version is seen at once.
_CACHE = "no-cache"
# Told in the page: to find out by a request would be an error in the browser's console.
_TOKEN_NEEDED = b'<meta name="token-needed" content="%s">'


def page_routes(*, token_needed: bool) -> list[Route]:
    """Return a route for each file of the page, GET and HEAD; the page asks for a token if needed.

    Raises:
        FmnistError: the page is not installed.

    """
    routes = []
    folder = files("fmnist.serving") / "page"
    for name in _PATHS:
        if not (folder / name).is_file():
            raise FmnistError(f"the web page has no {name}: install fmnist again")
    for file in folder.iterdir():
        kind = _TYPES.get(file.name.rpartition(".")[2])
        if kind:
            path = _PATHS.get(file.name, f"/page/{file.name}")
            content = file.read_bytes()
            if token_needed:
                content = content.replace(_TOKEN_NEEDED % b"no", _TOKEN_NEEDED % b"yes")
            routes.append(_route(path, content, kind))
    return routes


def _route(path: str, content: bytes, kind: str) -> Route:
    tag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
    headers = {"Content-Type": kind, "Cache-Control": _CACHE, "ETag": tag}

    async def get(request: Request) -> Response:
        if _has(tag, request.headers.get("if-none-match", "")):
            return Response(None, 304, headers)
        return Response(content, headers=headers)

    return Route(path, get, name=path)


def _has(tag: str, kept: str) -> bool:
    """Tell whether a copy that a client keeps is this one (RFC 9110, section 13.1.2)."""
    tags = {each.strip().removeprefix("W/") for each in kept.split(",")}
    return not tags.isdisjoint({tag, "*"})
