"""What every request passes on its way in and out: who may ask, ids, headers, errors, counts."""

import asyncio
import hmac
import json
import re
import secrets
import time
from collections.abc import Awaitable, Iterable
from http import HTTPStatus
from typing import Any, Final, cast

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from fmnist.serving import logs
from fmnist.serving.batching import FULL
from fmnist.serving.bodies import ARRIVING, BYTES_IN, Arriving
from fmnist.serving.hosts import Hosts, is_cross_site
from fmnist.serving.metrics import Metrics
from fmnist.serving.rates import Rates
from fmnist.serving.refusal import BROKEN, Refusal, overloaded
from fmnist.serving.settings import MetricsChoice, Settings

# Keys of a request's scope: the task that answers, and whether its connection was lost, whereupon
# the task is cancelled.
TASK: Final = "fmnist.task"
GONE: Final = "fmnist.gone"
CLIENT_GONE = 499  # nginx's status for the log; nobody is answered
NETWORK = "/v2/models/{model}/infer"  # the route of what asks the network
UNMATCHED = "unmatched"  # the route of what has none, in logs and metrics

# OWASP's HTTP Headers and Content Security Policy cheat sheets.
SECURITY = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; connect-src 'self'; "
    "img-src 'self' blob:; style-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_SECURITY = [(name.lower().encode(), value.encode()) for name, value in SECURITY.items()]
_NO_STORE = (b"cache-control", b"no-store")
_CLOSE = (b"connection", b"close")

# What the page is made of, and health: open to all, at any rate. All else needs the token.
_OPEN = frozenset({"/", "/docs", "/openapi.json"})
_OPEN_UNDER = ("/page/", "/v2/health/")
_METRICS = "/metrics"

_REQUEST_ID = re.compile(rb"[A-Za-z0-9_-]{1,64}")
# Two of these could mean one thing to a proxy and another to us.
_SINGLE = (
    b"host",
    b"authorization",
    b"content-type",
    b"inference-header-content-length",
    b"origin",
    b"sec-fetch-site",
)

_Headers = dict[bytes, bytes]


class Gate:
    """An ASGI application around another, whose errors it answers."""

    def __init__(self, app: ASGIApp, settings: Settings, metrics: Metrics) -> None:
        self.settings = settings
        self._app = app
        self._metrics = metrics
        self._hosts = Hosts(settings)
        self._rates = Rates(settings.rate, settings.burst) if settings.rate else None
        self._arriving = Arriving(max(settings.arriving_bytes, settings.body_bytes))
        self._authorization = f"Bearer {settings.token}".encode() if settings.token else None
        self._busy_status, headers, self._busy_body = _parts(overloaded(FULL))
        ours = [*_SECURITY, _NO_STORE, (b"x-request-id", b"")]
        self._busy = _head(self._busy_status, [*headers, *ours])
        self._entry: ASGIApp = self._answer
        if settings.proxies:
            trusted = list(settings.proxies)
            self._entry = ProxyHeadersMiddleware(cast(Any, self._answer), trusted)  # type: ignore[assignment]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or hand on what is none (the start and end of the server)."""
        await (self._entry if scope["type"] == "http" else self._app)(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        scope[TASK] = asyncio.current_task()
        headers = dict(scope["headers"])
        out = _Out(send, _request_id(headers), _is_guarded(scope["path"]))
        inner = scope if scope["method"] != "HEAD" else {**scope, "method": "GET"}
        inner[ARRIVING] = self._arriving
        try:
            self._admit(inner, headers)
            await self._app(inner, receive, out.send)
        except asyncio.CancelledError:
            await self._give_up(scope, out)
        except Exception as error:  # the application's; its client is told, its operator too
            await self._refuse(error, out)
        route = getattr(inner.get("route"), "path", UNMATCHED)
        size = inner.get(BYTES_IN, 0)
        seconds = time.perf_counter() - began
        self._note(out.request_id, route, scope["method"], out.status, seconds, size)

    def busy(self) -> bytes:
        """Return the whole answer to a request that would find the network's queue full."""
        request_id = secrets.token_hex(8)
        self._note(request_id, NETWORK, "POST", self._busy_status, 0.0, 0)
        return self._busy + request_id.encode() + b"\r\n\r\n" + self._busy_body

    def turned_away(self, refusal: Refusal, seconds: float) -> bytes:
        """Return the whole answer to what never became a request, noted as the others are."""
        request_id = secrets.token_hex(8)
        status, headers, body = _parts(refusal)
        headers += [*_SECURITY, _NO_STORE, (b"x-request-id", request_id.encode()), _CLOSE]
        self._note(request_id, UNMATCHED, "none", status, seconds, 0)
        return _head(status, headers) + b"\r\n\r\n" + body

    def _admit(self, scope: Scope, headers: _Headers) -> None:
        """Raise Refusal where a request may not be answered."""
        if BROKEN in scope:
            raise scope[BROKEN]
        if len(headers) != len(scope["headers"]):
            _refuse_doubles(scope["headers"])
        self._check_origin(scope, headers)
        path = scope["path"]
        if not _is_guarded(path):
            return
        if path == _METRICS:
            self._check_metrics(headers)
            return
        if self._rates is not None and scope["client"]:
            self._rates.take(scope["client"][0])
        if self._authorization is not None:
            self._check_token(headers)

    def _check_origin(self, scope: Scope, headers: _Headers) -> None:
        host = headers.get(b"host")
        if host is None:
            if scope["http_version"] != "1.0":
                raise Refusal(400, "the request names no Host")
            return
        if not self._hosts.accept(host):
            raise Refusal(
                400, "this Host is not answered; ask by address, or start with --allowed-host NAME"
            )
        if scope["method"] != "GET" and is_cross_site(
            host, headers.get(b"origin"), headers.get(b"sec-fetch-site")
        ):
            raise Refusal(
                403, "pages of other sites may not ask; a proxy must hand on the Host it was asked"
            )

    def _check_metrics(self, headers: _Headers) -> None:
        choice = self.settings.metrics
        if choice is MetricsChoice.off:
            raise Refusal(404, "the metrics are switched off")
        if choice is MetricsChoice.token and self._authorization is not None:
            self._check_token(headers)

    def _check_token(self, headers: _Headers) -> None:
        assert self._authorization is not None
        scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
        # In constant time: how long it takes does not tell how much of a guess is right.
        if not hmac.compare_digest(scheme.title() + b" " + token.strip(), self._authorization):
            raise Refusal(
                401,
                "the token is missing or wrong; send the header Authorization: Bearer TOKEN",
                {"WWW-Authenticate": "Bearer"},
            )

    async def _give_up(self, scope: Scope, out: "_Out") -> None:
        """End a request whose task was cancelled: its client is gone, or the server stops."""
        if GONE in scope:
            out.status = CLIENT_GONE
        elif not out.status:
            await out.refuse(
                Refusal(503, "the server stops; try again in a second", {"Retry-After": "1"})
            )

    async def _refuse(self, error: Exception, out: "_Out") -> None:
        if not isinstance(error, Refusal):
            logs.log.error(
                "error", exc_info=error, extra={"fields": {"request_id": out.request_id}}
            )
            error = _fault(out.request_id)
        if not out.status:  # else half an answer is on its way, and the server cuts it off
            await out.refuse(error)

    def _note(
        self, request_id: str, route: str, method: str, status: int, seconds: float, bytes_in: int
    ) -> None:
        self._metrics.request(route, method, status, seconds)
        if self.settings.access_log:
            logs.request(request_id, route, method, status, seconds, bytes_in)


class _Out:
    """One request's way out: adds headers and notes the status."""

    __slots__ = ("_guarded", "_send", "request_id", "status")

    def __init__(self, send: Send, request_id: str, guarded: bool) -> None:
        self._send = send
        self._guarded = guarded
        self.request_id = request_id
        self.status = 0  # not yet

    def send(self, message: Message) -> Awaitable[None]:
        """Send a message of the application."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = self._with_ours(message.get("headers", ()))
        return self._send(message)

    def _with_ours(self, headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        whole = [*headers, *_SECURITY, (b"x-request-id", self.request_id.encode())]
        if self._guarded or self.status >= HTTPStatus.BAD_REQUEST:
            whole = [header for header in whole if header[0] != _NO_STORE[0]]
            whole.append(_NO_STORE)
        return whole

    async def refuse(self, refusal: Refusal) -> None:
        """Send the answer of a refusal."""
        self.status, headers, body = _parts(refusal)
        start = {"type": "http.response.start", "status": self.status}
        await self._send({**start, "headers": self._with_ours(headers)})
        await self._send({"type": "http.response.body", "body": body})


def _parts(refusal: Refusal) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Return the status, headers and body that say what a refusal says."""
    body = json.dumps({"error": str(refusal)}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    headers += [(name.lower().encode(), value.encode()) for name, value in refusal.headers.items()]
    return refusal.status, headers, body


def _head(status: int, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return the head of an answer without its last line's end."""
    lines = [b"HTTP/1.1 %d %s" % (status, HTTPStatus(status).phrase.encode())]
    return b"\r\n".join((*lines, *(name + b": " + value for name, value in headers)))


def _fault(request_id: str) -> Refusal:
    return Refusal(
        500, f"the server failed; its log tells why, in the line with request_id {request_id}"
    )


def _request_id(headers: _Headers) -> str:
    """Return the id that the client gave to its request, or a new one."""
    given = headers.get(b"x-request-id")
    if given is not None and _REQUEST_ID.fullmatch(given):
        return given.decode()
    return secrets.token_hex(8)


def _is_guarded(path: str) -> bool:
    return path not in _OPEN and not path.startswith(_OPEN_UNDER)


def _refuse_doubles(headers: Iterable[tuple[bytes, bytes]]) -> None:
    names = [name for name, _ in headers]
    for name in _SINGLE:
        if names.count(name) > 1:
            raise Refusal(400, f"the request has two headers {name.decode()}; send one")
