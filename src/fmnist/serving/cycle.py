"""One request and its answer, on uvicorn's side: what an application receives and sends."""

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from starlette.types import Message
from uvicorn.protocols.http.httptools_impl import (
    HEADER_RE,
    HEADER_VALUE_RE,
    STATUS_LINE,
    RequestResponseCycle,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

_BODILESS = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})


class Cycle(RequestResponseCycle):
    """uvicorn's, whose answer leaves in one write where it is whole.

    As ASGI asks, its head waits for the first part of the body. uvicorn would write both alone and
    look through each header alone, which takes longer than all the rest of an answer's way out.
    """

    _head = b""  # that waits for the body

    async def send(self, message: Any) -> None:
        """Take a message of the application; wait where the client takes no more."""
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        kind = "body" if self.response_started else "start"
        if self.response_complete or message["type"] != f"http.response.{kind}":
            raise RuntimeError(f"the application sent {message['type']} out of turn")
        if kind == "start":
            self._begin(message["status"], message.get("headers", ()))
        else:
            self._go_on(message)

    def _begin(self, status: int, own: "Iterable[tuple[bytes, bytes]]") -> None:
        """Make an answer's head; its headers have names in lower case, each once."""
        self.response_started = True
        self.waiting_for_100_continue = False
        headers = [*self.default_headers, *own]
        _check(headers)
        named = dict(headers)
        if b"close" in named.get(b"connection", b""):
            self.keep_alive = False
        elif not self.keep_alive:
            headers.append((b"connection", b"close"))
        self.expected_content_length = int(named.get(b"content-length", 0))
        self.chunked_encoding = b"content-length" not in named and status not in _BODILESS
        if self.chunked_encoding and self.scope["method"] != "HEAD":
            headers.append((b"transfer-encoding", b"chunked"))
        lines = [b"%b: %b\r\n" % header for header in headers]
        self._head = STATUS_LINE[status] + b"".join(lines) + b"\r\n"

    def _go_on(self, message: Message) -> None:
        more = message.get("more_body", False)
        content = self._head + self._framed(message.get("body", b""), more)
        self._head = b""
        if content:
            self.transport.write(content)
        if not more:
            self._end()

    def _framed(self, body: bytes, more: bool) -> bytes:
        """Return a part of a body as it is sent."""
        if self.scope["method"] == "HEAD":
            self.expected_content_length = 0
            return b""
        if self.chunked_encoding:
            chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            return chunk if more else chunk + b"0\r\n\r\n"
        self.expected_content_length -= len(body)
        if self.expected_content_length < 0 or (self.expected_content_length and not more):
            raise RuntimeError("an answer's body is not as long as its Content-Length says")
        return body

    def _end(self) -> None:
        self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()


def _check(headers: "Iterable[tuple[bytes, bytes]]") -> None:
    """Raise RuntimeError where a header would end its line, or be another."""
    names = b"".join([name for name, _ in headers])
    values = b"".join([value for _, value in headers])
    if HEADER_RE.search(names) or HEADER_VALUE_RE.search(values):
        raise RuntimeError("an answer's header has a sign that it must not have")
