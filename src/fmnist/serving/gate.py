"""What every request passes on its way in and out: who may ask, ids, headers, errors, counts."""

import json
import logging
import secrets
import time
from typing import Any

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fmnist.serving.refusal import Refusal
from fmnist.serving.settings import Settings

log = logging.getLogger("fmnist.serving")

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


class Gate:
    """An ASGI application around another."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self.settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = time.perf_counter(), 0
        request_id = secrets.token_hex(8)

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message["headers"],
                    *_SECURITY,
                    (b"x-request-id", request_id.encode()),
                ]
            await send(message)

        try:
            await self.app(scope, receive, send_with_headers)
        except Refusal as refusal:
            await send_error(send_with_headers, refusal)
        if self.settings.access_log:
            log.info(
                "request",
                extra={
                    "request_id": request_id,
                    "status": status,
                    "seconds": time.perf_counter() - began,
                    "method": scope["method"],
                },
            )


async def send_error(send: Send, refusal: Refusal) -> None:
    """Send what a refusal says, as JSON."""
    body = json.dumps({"error": str(refusal)}).encode()
    headers = {
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        **refusal.headers,
    }
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": refusal.status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
