"""Request bodies: whole, in memory, within limits that count what really arrives."""

import asyncio
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from fmnist.serving.exchange import EXCHANGE, Exchange
from fmnist.serving.refusal import Refusal

if TYPE_CHECKING:
    from starlette.types import Receive, Scope

T = TypeVar("T")

BIG = 2**16  # bytes; to take a larger message apart is no work for the event loop
_WINDOW = {b"gzip": 16 + zlib.MAX_WBITS, b"deflate": zlib.MAX_WBITS}  # zlib's wbits for a coding
_RATIO = 1032  # bytes that deflate makes of one, at most (zlib's technical details)
_SMALL = 2**10  # bytes; to inflate them takes less than a millisecond
_DIGITS = 20  # of 2**64

# Two: what they make fills the memory, and the network and the event loop need the cores.
_THREADS = ThreadPoolExecutor(2, thread_name_prefix="fmnist-bodies")


async def off_loop(work: Callable[[], T]) -> T:
    """Return what `work` on a body returns, done in one of few threads."""
    return await asyncio.get_running_loop().run_in_executor(_THREADS, work)


async def read_body(scope: "Scope", receive: "Receive", limit: int) -> bytes:
    """Return a request's body, decompressed; raise Refusal where it is damaged or late.

    That it has over `limit` bytes, as sent or decompressed, is a Refusal too. Content-Length is
    believed only where it says too much.
    """
    headers = dict(scope["headers"])
    if _length(headers.get(b"content-length", b"0").strip()) > limit:
        raise too_large(limit)
    coding = headers.get(b"content-encoding", b"").strip().lower()
    if coding in (b"", b"identity"):
        return await _received(scope, receive, limit)
    if coding not in _WINDOW:
        raise Refusal(
            415,
            "the body's Content-Encoding is not known; send gzip, deflate or none",
            {"Accept-Encoding": "gzip, deflate"},
            "malformed",
        )
    body = await _received(scope, receive, limit)
    return await _unpacked(scope[EXCHANGE], body, coding, limit)


def _length(text: bytes) -> int:
    if not text.isdigit() or len(text) > _DIGITS:
        raise Refusal(400, "Content-Length must be the number of the body's bytes")
    return int(text)


async def _received(scope: "Scope", receive: "Receive", limit: int) -> bytes:
    """Return the body as it was sent."""
    exchange: Exchange = scope[EXCHANGE]
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body"):
        body = message.get("body", b"")
        exchange.hold(len(body))
        return _ended(exchange, body, limit)
    arrived = bytearray()  # not a list: a body may come byte by byte
    while True:
        if message["type"] != "http.request":
            raise Refusal(400, "the client went away before the end of the body")
        chunk = message.get("body", b"")
        if len(arrived) + len(chunk) > limit:
            raise too_large(limit)
        exchange.hold(len(chunk))
        arrived += chunk
        if not message.get("more_body"):
            return _ended(exchange, bytes(arrived), limit)
        message = await receive()


def _ended(exchange: Exchange, body: bytes, limit: int) -> bytes:
    """Return a body that came to its end, or raise what the connection found wrong with it."""
    exchange.bytes_in = len(body)
    if exchange.broken is not None:
        raise exchange.broken
    if len(body) > limit:
        raise too_large(limit)
    return body


async def _unpacked(exchange: Exchange, body: bytes, coding: bytes, limit: int) -> bytes:
    """Return a body without its coding; the memory that it may come to need is held meanwhile."""
    most = min(limit, len(body) * _RATIO)
    exchange.hold(most)
    if len(body) <= _SMALL:
        whole = decompressed(body, coding, limit)
    else:
        whole = await off_loop(partial(decompressed, body, coding, limit))
    exchange.hold(len(whole) - most)
    return whole


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
