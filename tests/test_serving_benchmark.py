"""The load on a server: what the client counts, and how the capacity is found."""

import asyncio
import base64
import itertools
import selectors
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

import load_client
import serving
from waiting import PATIENCE

REQUEST = serving.http_request("/", {}, b"four")


class Selector(selectors.DefaultSelector):
    """Where nothing is on its way, the time that is waited for is there at once."""

    skipped = 0.0  # seconds
    on_the_way = 0  # requests, answers and connections, on the loopback

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or (timeout > 0 and self.on_the_way):
            ready = super().select(PATIENCE)
            assert ready, "what is on its way does not arrive"
            return ready
        ready = super().select(0)
        if not ready:
            self.skipped += timeout
        return ready


class Loop(asyncio.SelectorEventLoop):
    """An event loop whose time is what was waited for, and not what the machine took."""

    def __init__(self) -> None:
        self.waiting = Selector()
        super().__init__(self.waiting)

    def time(self) -> float:
        return self.waiting.skipped

    async def create_connection(self, *arguments: Any, **options: Any) -> Any:
        self.waiting.on_the_way += 1
        try:
            return await super().create_connection(*arguments, **options)
        finally:
            self.waiting.on_the_way -= 1


def on_the_way(change: int) -> None:
    """Note that something was sent (1), or has arrived (-1)."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, Loop)
    loop.waiting.on_the_way += change


class Connection(load_client.Connection):
    """The client's, which notes what it sends and what arrives."""

    def send(self, request: bytes, intended: float) -> None:
        on_the_way(1)
        super().send(request, intended)

    def data_received(self, data: bytes) -> None:
        on_the_way(-1)  # so short an answer comes whole
        super().data_received(data)

    def connection_lost(self, error: Exception | None) -> None:
        if self.intended is not None:  # it was hung up on
            on_the_way(-1)
        super().connection_lost(error)


class Answering(asyncio.Protocol):
    """A server that answers with statuses in turn, after some seconds; 0: it hangs up."""

    def __init__(self, turn: Iterator[int], seconds: float) -> None:
        self.turn, self.seconds, self.received = turn, seconds, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received += data
        if self.received == REQUEST:
            self.received = b""
            on_the_way(-1)
            asyncio.get_running_loop().call_later(self.seconds, self.answer, next(self.turn))

    def answer(self, status: int) -> None:
        on_the_way(1)
        if status:
            self.transport.write(b"HTTP/1.1 %d X\r\ncontent-length: 2\r\n\r\nok" % status)
        else:
            self.transport.close()


def ask(statuses: list[int], latency: float = 0.0, **job: Any) -> dict[str, Any]:
    asked: dict[str, Any] = {
        "host": "127.0.0.1",
        "requests": [base64.b64encode(REQUEST).decode()],
        "rate": 200.0,
        "seconds": 0.5,
        "connections": 50,
        "seed": 0,
        "probe": None,
        **job,
    }

    async def run() -> dict[str, Any]:
        turn = itertools.cycle(statuses)
        server = await asyncio.get_running_loop().create_server(
            lambda: Answering(turn, latency), "127.0.0.1", 0
        )
        async with server:
            port = server.sockets[0].getsockname()[1]
            return await load_client.run({**asked, "port": port})

    with asyncio.Runner(loop_factory=Loop) as runner, pytest.MonkeyPatch.context() as patch:
        clock = SimpleNamespace(perf_counter=runner.get_loop().time, process_time=time.process_time)
        patch.setattr(load_client, "time", clock)
        patch.setattr(load_client, "Connection", Connection)
        return runner.run(run())


def test_an_open_loop_keeps_its_rate_whatever_the_server_does() -> None:
    told = ask([200, 200, 503], 0.1, probe=base64.b64encode(REQUEST).decode())
    sent = told["requests"]["sent"]
    assert 60 <= sent <= 140  # a Poisson count of mean 100
    assert sum(told["requests"]["statuses"].values()) == sent
    assert told["requests"]["statuses"]["503"] == pytest.approx(sent / 3, abs=20)
    assert 100 <= told["requests"]["milliseconds"]["p50"] < 102
    assert told["connections"] >= 10  # 200 a second, 0.1 seconds each
    assert told["health"]["sent"] > 5


def test_a_stall_is_in_the_latencies() -> None:
    """With one connection, requests wait for it, and their time counts from when they were due."""
    told = ask([200], 0.01, connections=1)
    assert told["requests"]["milliseconds"]["p50"] > 150
    assert told["connections"] == 1


def test_a_closed_loop_sends_the_next_when_it_has_the_last() -> None:
    told = ask([200], 0.05, rate=None, connections=4)
    assert told["requests"]["sent"] == 4 * 11  # from 0 to 0.5 seconds, and each 0.05 of them
    assert told["requests"]["milliseconds"]["max"] == pytest.approx(50)
    assert told["requests"]["unanswered"] == 0


def test_what_is_hung_up_on_is_counted() -> None:
    told = ask([200, 0])
    assert told["requests"]["broken"] > 10
    assert told["requests"]["unanswered"] == 0
    assert not serving.is_carried(told)


def test_the_capacity_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load(*_: object, rate: float, **__: object) -> dict[str, Any]:
        asked.append(rate)
        good = {"200": 10} if rate <= 730 else {"200": 9, "503": 1}
        return {"requests": {"sent": 10, "statuses": good, "milliseconds": {"p99": 4.0}}}

    monkeypatch.setattr(serving, "load", load)
    found = serving.capacity(None, [], 300.0, 1.0)  # type: ignore[arg-type]
    assert 730 * (1 - serving.ACCURATE) <= found <= 730
    assert len(asked) < 12
