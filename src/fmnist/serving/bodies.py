"""Request bodies: whole, in memory, within a limit that counts what really arrives."""

import asyncio
import zlib

from starlette.requests import ClientDisconnect, Request

from fmnist.serving.refusal import Refusal
from fmnist.serving.settings import Settings

_WINDOW = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}  # zlib's wbits for a coding


async def read_body(request: Request, settings: Settings) -> bytes:
    """Return a request's body, decompressed; raise Refusal where it is too large, late or damaged.

    Content-Length is believed only where it says too much.
    """
    limit = settings.body_bytes
    if int(request.headers.get("content-length", 0)) > limit:
        raise too_large(limit)
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    try:
        async with asyncio.timeout(settings.body_seconds):
            body = await _received(request, limit)
    except TimeoutError as error:
        raise Refusal(408, "the body did not arrive in time", {"Connection": "close"}) from error
    return body if coding == "identity" else decompressed(body, coding, limit)


async def _received(request: Request, limit: int) -> bytes:
    chunks, size = [], 0
    try:
        async for chunk in request.stream():
            size += len(chunk)
            if size > limit:
                raise too_large(limit)
            chunks.append(chunk)
    except ClientDisconnect as error:
        raise Refusal(400, "the client went away") from error
    return b"".join(chunks)


def decompressed(body: bytes, coding: str, limit: int) -> bytes:
    """Return a body that was sent with gzip or deflate (zlib, RFC 9110 section 8.4.1)."""
    if coding not in _WINDOW:
        raise Refusal(415, f"Content-Encoding {coding!r} is not read; send gzip, deflate or none")
    inflater = zlib.decompressobj(_WINDOW[coding])
    try:
        whole = inflater.decompress(body, limit + 1)
    except zlib.error as error:
        raise Refusal(400, f"the body is not {coding}; check Content-Encoding") from error
    if len(whole) > limit:
        raise too_large(limit)
    if not inflater.eof or inflater.unused_data:
        raise Refusal(400, f"the {coding} body is cut short or followed by other bytes")
    return whole


def too_large(limit: int) -> Refusal:
    """Return the refusal of a body over the limit; what else comes of it is not read."""
    return Refusal(413, f"the body is over {limit / 2**20:.3g} MB", {"Connection": "close"})
