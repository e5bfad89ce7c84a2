"""A gate with a small application behind it on a real socket, and a client that sees each byte."""

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import uvicorn
from starlette.types import Message, Receive, Scope, Send

from fmnist.serving.backlog import Backlog
from fmnist.serving.bodies import read_body
from fmnist.serving.connection import Connection
from fmnist.serving.gate import Gate
from fmnist.serving.metrics import Metrics
from fmnist.serving.settings import Settings
from servers import in_thread, port_of
from waiting import PATIENCE, wait_until

HOST = b"Host: 127.0.0.1\r\n"
GET = b"GET /x HTTP/1.1\r\n" + HOST
POST = b"POST /x HTTP/1.1\r\n" + HOST


@dataclass
class Answer:
    status: int
    headers: dict[str, str]  # names in lower case
    body: bytes

    @property
    def error(self) -> str:
        """The message of a refusal, which says nothing else."""
        ((name, text),) = json.loads(self.body).items()
        assert name == "error"
        assert self.headers["content-type"] == "application/json"
        return str(text)


class Wire:
    """A client's end of a connection."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self.received = b""

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def ask(self, data: bytes) -> Answer:
        self.send(data)
        return self.answer()

    def answer(self) -> Answer:
        """Read one answer to anything but HEAD; fail where the connection ends before it does."""
        answer = self.head()
        answer.body = self.take(int(answer.headers["content-length"]))
        return answer

    def take(self, length: int) -> bytes:
        """Read so many bytes, no more; fail where the connection ends before they are there."""
        while len(self.received) < length:
            self._read()
        taken, self.received = self.received[:length], self.received[length:]
        return taken

    def head(self) -> Answer:
        """Read an answer's line and headers; fail where a header comes twice."""
        while b"\r\n\r\n" not in self.received:
            self._read()
        head, _, self.received = self.received.partition(b"\r\n\r\n")
        status, *lines = head.decode().split("\r\n")
        pairs = [line.split(": ", 1) for line in lines]
        headers = {name.lower(): value for name, value in pairs}
        assert len(headers) == len(pairs), head
        return Answer(int(status.split()[1]), headers, b"")

    def _read(self) -> None:
        data = self.socket.recv(2**16)
        assert data, f"the connection ended after {self.received!r}"
        self.received += data

    def ends(self) -> bool:
        """Wait for the connection's end, which must be no reset; False where more comes first."""
        return not self.received and self.socket.recv(1) == b""

    def rest(self) -> bytes:
        """Read until the connection's end, which must be no reset."""
        while data := self.socket.recv(2**16):
            self.received += data
        return self.received

    def dribble(self, data: bytes, pause: float = 0.03) -> None:
        """Send byte by byte until the other side closes or says something, before the last one."""
        self.socket.settimeout(pause)
        for byte in data:
            self.send(bytes([byte]))
            with contextlib.suppress(TimeoutError):
                self.received += self.socket.recv(2**16)
                break
        else:
            raise AssertionError("everything could be sent")
        self.socket.settimeout(PATIENCE)


class Echo:
    """Answers with the body that it was sent; other paths do other things first."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.scopes: list[Scope] = []
        self.cancelled = threading.Event()
        self.go_on = threading.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        body = b""
        if scope["path"] == "/slow":
            await self._wait()
        elif scope["path"] == "/large":
            body = bytes(20_000_000)
        elif scope["path"] == "/fault":
            raise ZeroDivisionError("a secret")
        elif scope["path"] == "/half":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"half", "more_body": True})
            raise ZeroDivisionError("a secret")
        if scope["path"] not in ("/early", "/large"):
            body = await read_body(scope, receive, self.settings.body_bytes)
        headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _wait(self) -> None:
        try:
            while not self.go_on.is_set():
                await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


@dataclass
class Served:
    """A running server."""

    port: int
    server: uvicorn.Server
    gate: Gate
    echo: Echo
    metrics: Metrics
    wires: list[Wire] = field(default_factory=list)

    def wire(self) -> Wire:
        """Connect; the connection is closed with the server at the latest."""
        self.wires.append(Wire(self.port))
        return self.wires[-1]

    def ask(self, data: bytes) -> Answer:
        """Ask on a connection of its own."""
        with self.wire() as wire:
            return wire.ask(data)

    def stop(self) -> None:
        self.server.should_exit = True

    @property
    def connections(self) -> list[Connection]:
        """Those that are open, on the server's side."""
        return cast("list[Connection]", list(self.server.server_state.connections))

    def wait_for(self, connections: int) -> None:
        """Wait until so many connections are open."""
        wait_until(lambda: len(self.connections) == connections)

    def wait_for_request(self, path: str) -> None:
        """Wait until the application has seen the latest request, to that path."""
        wait_until(lambda: bool(self.echo.scopes) and self.echo.scopes[-1]["path"] == path)

    def wait_for_requests(self, number: int) -> None:
        """Wait until the application has seen so many requests in all."""
        wait_until(lambda: len(self.echo.scopes) == number)


@contextlib.contextmanager
def served(
    settings: Settings | None = None, backlog: Backlog | None = None, **limits: Any
) -> Iterator[Served]:
    """Run Echo behind a gate, in a thread."""
    settings = settings or Settings(access_log=False, **limits)
    echo, metrics = Echo(settings), Metrics()
    gate = Gate(echo, settings, metrics, backlog)
    with in_thread(gate, settings, lifespan="off") as server:
        running = Served(port_of(server), server, gate, echo, metrics)
        try:
            yield running
        finally:
            for wire in running.wires:
                wire.socket.close()
            echo.go_on.set()


def passed(
    gate: Gate, path: str = "/api/x", method: str = "GET", version: str = "1.1", **headers: str
) -> Answer:
    """Return what a gate answers to a request without a body; `_` stands for `-` in headers."""
    named = {"host": "127.0.0.1:8000", **headers}
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "http_version": version,
        "client": ("127.0.0.1", 1),
        "headers": [
            (name.replace("_", "-").encode(), value.encode("latin-1"))
            for name, value in named.items()
            if value
        ],
    }
    return sent(gate, scope)


def sent(gate: Gate, scope: Scope) -> Answer:
    """Return what a gate answers to a scope."""
    messages: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        messages.append(message)

    asyncio.run(gate(scope, receive, send))
    start, *rest = messages
    pairs = [(name.decode(), value.decode("latin-1")) for name, value in start["headers"]]
    assert len(dict(pairs)) == len(pairs), pairs
    return Answer(start["status"], dict(pairs), b"".join(each["body"] for each in rest))
