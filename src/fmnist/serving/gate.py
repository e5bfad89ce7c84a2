"""What every request passes on its way in and out: who may ask, ids, headers, errors, counts."""

import asyncio
import itertools
import json
import re
import secrets
import time
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any, cast

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from fmnist.serving import logs
from fmnist.serving.backlog import Backlog
from fmnist.serving.batching import FULL
from fmnist.serving.exchange import EXCHANGE, Exchange, HeldBytes
from fmnist.serving.hosts import Hosts, is_cross_site
from fmnist.serving.metrics import CLIENT_GONE, Metrics
from fmnist.serving.rates import Rates, client_of, unmapped
from fmnist.serving.refusal import REASONS, Refusal, overloaded
from fmnist.serving.settings import MetricsChoice, Settings
from fmnist.serving.tokens import Tokens

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
_TELL_SECONDS = 1.0  # in which those that are turned away become one line of the log

# What the page is made of, health, and what browsers and crawlers ask for by themselves (404): open
# to all, at any rate. All else needs the token.
_ICONS = {"/favicon.ico", "/apple-touch-icon.png", "/apple-touch-icon-precomposed.png"}
_OPEN = frozenset({"/", "/docs", "/openapi.json", "/robots.txt", *_ICONS})
_OPEN_UNDER = ("/page/", "/v2/health/")
_METRICS = "/metrics"

_REQUEST_ID = re.compile(rb"[A-Za-z0-9_-]{1,64}")
# Two of these could mean one thing to a proxy and another to us.
_SINGLE = (
    b"host",
    b"authorization",
    b"content-encoding",
    b"content-type",
    b"inference-header-content-length",
    b"origin",
    b"sec-fetch-site",
)

# Of requests: eight digits of the process, drawn by chance, and eight that count.
_PROCESS = secrets.token_hex(4)
_COUNT = itertools.count(1)

_Headers = dict[bytes, bytes]


class Gate:
    """An ASGI application around another, whose errors it answers."""

    def __init__(
        self,
        app: ASGIApp,
        settings: Settings,
        metrics: Metrics,
        backlog: Backlog | None = None,
        tokens: Tokens | None = None,
    ) -> None:
        self.settings = settings
        self.metrics = metrics
        self.backlog = backlog or Backlog()
        self.held = HeldBytes(settings.held_bytes)
        self._app = app
        self._hosts = Hosts(settings)
        self._rates = Rates(settings.rate, settings.burst) if settings.rate else None
        self._tokens = Tokens(settings.tokens) if tokens is None else tokens
        status, headers, self._busy_body = _parts(overloaded(FULL))
        self._busy_head = _head(status, [*headers, *_SECURITY, _NO_STORE, (b"x-request-id", b"")])
        self._turned_away = 0  # since the log told it
        self._entry: ASGIApp = self._answer
        if settings.proxies:
            self._entry = self._forwarded
            self._unproxied = ProxyHeadersMiddleware(cast(Any, self._answer), [*settings.proxies])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or hand on what is none (the start and end of the server)."""
        await (self._entry if scope["type"] == "http" else self._app)(scope, receive, send)

    async def _forwarded(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request for the client that a trusted proxy names."""
        if scope["client"]:
            address, port = scope["client"]
            scope["client"] = (unmapped(address), port)
        await self._unproxied(cast(Any, scope), cast(Any, receive), cast(Any, send))

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        self.metrics.in_flight(1)
        exchange: Exchange = scope.get(EXCHANGE) or Exchange(self.held)
        headers = dict(scope["headers"])
        out = _Out(send, _request_id(headers), _is_guarded(scope["path"]))
        inner = scope if scope["method"] != "HEAD" else {**scope, "method": "GET"}
        inner[EXCHANGE] = exchange
        try:
            if exchange.broken is not None:
                raise exchange.broken
            self._admit(inner, headers)
            await self._app(inner, receive, out.send)
        except asyncio.CancelledError:
            await self._give_up(exchange, out)
        except Exception as error:  # the application's; its client is told, its operator too
            await self._refuse(error, out)
        finally:
            exchange.release()
            self.metrics.in_flight(-1)
        route = getattr(inner.get("route"), "path", UNMATCHED)
        seconds = time.perf_counter() - began
        method, client = scope["method"], self._client(scope["client"])
        reason = out.reason or REASONS.get(out.status, "")  # of pictures, the application tells
        told = out.request_id, route, method, out.status, seconds, exchange.bytes_in
        self._note(logs.Answered(*told, client, reason))

    def turn_away(self, scope: Scope, headers: _Headers) -> bytes | None:
        """Return the whole answer to a request that would find the network's queue full.

        None where it may not ask at all, or that is not so quickly told. There is no line in the
        log for each: they are counted.
        """
        if self.settings.proxies and self._rates is not None:  # whose rate it is, a proxy tells
            return None
        try:
            self._admit(scope, headers)
        except Refusal:
            return None
        self.metrics.request(NETWORK, "POST", HTTPStatus.SERVICE_UNAVAILABLE, 0.0)
        if not self._turned_away:
            asyncio.get_running_loop().call_later(_TELL_SECONDS, self._tell_turned_away)
        self._turned_away += 1
        return b"%b%b\r\n\r\n%b" % (
            self._busy_head,
            _request_id(headers).encode(),
            self._busy_body,
        )

    def _tell_turned_away(self) -> None:
        logs.event("turned away", count=self._turned_away)
        self._turned_away = 0

    def refused(
        self, refusal: Refusal, seconds: float, peer: tuple[str, int] | None = None
    ) -> bytes:
        """Return the whole answer to what never became a request, noted as the others are."""
        request_id = _new_id()
        status, headers, body = _parts(refusal)
        headers += [*_SECURITY, _NO_STORE, (b"x-request-id", request_id.encode()), _CLOSE]
        told = request_id, UNMATCHED, "none", status, seconds, 0
        self._note(logs.Answered(*told, self._client(peer), refusal.reason))
        return _head(status, headers) + b"\r\n\r\n" + body

    def _admit(self, scope: Scope, headers: _Headers) -> None:
        """Raise Refusal where a request may not be answered."""
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
        if self._tokens:
            self._check_token(headers)

    def _check_origin(self, scope: Scope, headers: _Headers) -> None:
        host = headers.get(b"host")
        if host is None:
            if scope["http_version"] != "1.0":
                raise Refusal(400, "the request names no Host")
            return
        if not self._hosts.accept(host):
            raise Refusal(
                400,
                "this Host is not answered; ask by address, or start with --allowed-host NAME",
                reason="host",
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
        if choice is MetricsChoice.token and self._tokens:
            self._check_token(headers)

    def _check_token(self, headers: _Headers) -> None:
        if not self._tokens.admit(headers.get(b"authorization", b"")):
            raise Refusal(
                401,
                "the token is missing or wrong; send the header Authorization: Bearer TOKEN",
                {"WWW-Authenticate": "Bearer"},
            )

    async def _give_up(self, exchange: Exchange, out: "_Out") -> None:
        """End a request whose task was cancelled: its client is gone, or the server stops."""
        if exchange.gone:
            out.status = CLIENT_GONE
        elif not out.is_begun:
            again = {"Retry-After": "1"}
            await out.refuse(
                Refusal(503, "the server stops; try again in a second", again, "stopping")
            )

    async def _refuse(self, error: Exception, out: "_Out") -> None:
        if not isinstance(error, Refusal):
            logs.log.error(
                "error", exc_info=error, extra={"fields": {"request_id": out.request_id}}
            )
            error = _fault(out.request_id)
        if not out.is_begun:  # else half an answer is on its way, and the server cuts it off
            await out.refuse(error)

    def _client(self, peer: tuple[str, int] | None) -> str:
        """Return who asks, for the log; "" where that is not to be kept."""
        return client_of(peer[0]) if peer and self.settings.client_address else ""

    def _note(self, answered: logs.Answered) -> None:
        """Count an answered request, and log it."""
        self.metrics.request(answered.route, answered.method, answered.status, answered.seconds)
        if self.settings.access_log:
            logs.request(answered)


class _Out:
    """One request's way out: adds headers and notes the status.

    As ASGI has it, nothing is sent before the first part of the body: until then an application
    may fail, and its client be told so.
    """

    __slots__ = ("_guarded", "_send", "_start", "is_begun", "reason", "request_id", "status")

    def __init__(self, send: Send, request_id: str, guarded: bool) -> None:
        self._send = send
        self._guarded = guarded
        self._start: Message | None = None
        self.request_id = request_id
        self.status = 0  # not yet
        self.reason = ""  # why it was refused
        self.is_begun = False

    async def send(self, message: Message) -> None:
        """Send a message of the application."""
        if message["type"] == "http.response.start":
            self._start = message
            return
        if not self.is_begun:
            assert self._start is not None
            await self._begin(self._start["status"], self._start.get("headers", ()))
        await self._send(message)

    async def refuse(self, refusal: Refusal) -> None:
        """Send the answer of a refusal."""
        self.reason = refusal.reason
        status, headers, body = _parts(refusal)
        await self._begin(status, headers)
        await self._send({"type": "http.response.body", "body": body})

    async def _begin(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        self.is_begun, self.status = True, status
        whole = self._with_ours(headers)
        await self._send({"type": "http.response.start", "status": status, "headers": whole})

    def _with_ours(self, headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        ours = (*_SECURITY, (b"x-request-id", self.request_id.encode()))
        if self._guarded or self.status >= 400:
            return [*(each for each in headers if each[0] != _NO_STORE[0]), *ours, _NO_STORE]
        return [*headers, *ours]


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
    return _new_id()


def _new_id() -> str:
    return f"{_PROCESS}{next(_COUNT):08x}"


def _is_guarded(path: str) -> bool:
    return path not in _OPEN and not path.startswith(_OPEN_UNDER)


def _refuse_doubles(headers: Iterable[tuple[bytes, bytes]]) -> None:
    names = [name for name, _ in headers]
    for name in _SINGLE:
        if names.count(name) > 1:
            raise Refusal(400, f"the request has two headers {name.decode()}; send one")
