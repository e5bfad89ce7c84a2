"""Request bodies: whole, in memory, within limits that count what really arrives."""

import asyncio
import zlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

from starlette.requests import Request

from fmnist.serving.refusal import BROKEN, Refusal, overloaded
from fmnist.serving.settings import Settings

if TYPE_CHECKING:
    from starlette.types import Scope

# Keys of a request's scope: the bytes of its body, for the log, and the server's Arriving.
BYTES_IN, ARRIVING = "fmnist.bytes_in", "fmnist.arriving"

_WINDOW = {b"gzip": 16 + zlib.MAX_WBITS, b"deflate": zlib.MAX_WBITS}  # zlib's wbits for a coding
_SMALL = 2**10  # bytes; deflate makes at most 1,032 of one, which takes less than a millisecond
_DIGITS = 20  # of 2**64


class Arriving:
    """The bytes of all bodies that arrive at this moment, which fill the memory together."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._bytes = 0

    def add(self, size: int) -> None:
        """Count bytes that came; raise Refusal (503) where they are too many."""
        if self._bytes + size > self._limit:
            raise overloaded("too many uploads at once")
        self._bytes += size

    def drop(self, size: int) -> None:
        """Count bytes no longer."""
        self._bytes -= size


async def read_body(request: Request, settings: Settings) -> bytes:
    """Return a request's body, decompressed; raise Refusal where it is too large, late or damaged.

    Content-Length is believed only where it says too much.
    """
    limit = settings.body_bytes
    length, coding = _described(request.scope["headers"])
    if length > limit:
        raise too_large(limit)
    if coding in (b"", b"identity"):
        return await _received(request, limit)
    if coding not in _WINDOW:
        raise Refusal(
            415,
            "the body's Content-Encoding is not known; send gzip, deflate or none",
            {"Accept-Encoding": "gzip, deflate"},
        )
    body = await _received(request, limit)
    if len(body) <= _SMALL:
        return decompressed(body, coding, limit)
    return await asyncio.to_thread(decompressed, body, coding, limit)


def _described(headers: Iterable[tuple[bytes, bytes]]) -> tuple[int, bytes]:
    """Return how long a body is said to be (0: not said), and its coding in lower case."""
    length, codings = b"0", []
    for name, value in headers:
        if name == b"content-length":
            length = value.strip()
        elif name == b"content-encoding":
            codings.append(value.strip().lower())
    if not length.isdigit() or len(length) > _DIGITS:
        raise Refusal(400, "Content-Length must be the number of the body's bytes")
    return int(length), b",".join(codings)


async def _received(request: Request, limit: int) -> bytes:
    """Return the body as it was sent."""
    receive, scope = request.receive, request.scope
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body"):
        return _ended(scope, message.get("body", b""), limit)
    arriving: Arriving = scope[ARRIVING]
    body = bytearray()  # not a list: a body may come byte by byte
    try:
        while True:
            if message["type"] != "http.request":
                raise Refusal(400, "the client went away before the end of the body")
            chunk = message.get("body", b"")
            if len(body) + len(chunk) > limit:
                raise too_large(limit)
            arriving.add(len(chunk))
            body += chunk
            if not message.get("more_body"):
                return _ended(scope, bytes(body), limit)
            message = await receive()
    finally:
        arriving.drop(len(body))


def _ended(scope: "Scope", body: bytes, limit: int) -> bytes:
    """Return a body that came to its end, or raise what the connection found wrong with it."""
    scope[BYTES_IN] = len(body)
    if BROKEN in scope:
        raise scope[BROKEN]
    if len(body) > limit:
        raise too_large(limit)
    return body


def decompressed(body: bytes, coding: bytes, limit: int) -> bytes:
    """Return a body that was sent with gzip or deflate (zlib, RFC 9110 section 8.4.1)."""
    inflater = zlib.decompressobj(_WINDOW[coding])
    try:
        whole = inflater.decompress(body, limit + 1)
    except zlib.error as error:
        raise Refusal(400, f"the body is not {coding.decode()}; check Content-Encoding") from error
    if len(whole) > limit:
        raise too_large(limit)
    if not inflater.eof or inflater.unused_data:
        raise Refusal(400, f"the {coding.decode()} body is cut short or followed by other bytes")
    return whole


def too_large(limit: int) -> Refusal:
    """Return the refusal of a body over the limit."""
    return Refusal(
        413, f"the body is over {limit / 2**20:.3g} MB; send less", {"Connection": "close"}
    )
