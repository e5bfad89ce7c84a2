"""Requests with anything wrong about them: the server answers or closes, and lives on.

`FMNIST_GARBAGE=0:50000` in the environment makes these fifty thousand cases, `1234:1235` one again.
"""

import contextlib
import json
import os
import re
import socket
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from garbage import Case, case
from processes import held, resident_mib
from servers import Server, running
from waiting import PATIENCE, wait_until
from wire import Wire

FIRST, END = map(int, os.environ.get("FMNIST_GARBAGE", "0:2000").split(":"))
CLIENTS = 4  # threads
KNOWN = {503, 504}  # of the statuses from 500 on: what a server may say that has much to do
ENOUGH = 0.02  # seconds for an answer to what may not be a whole request


def fault(server: Server, number: int) -> str | None:
    """What is wrong with what is answered to a case; None: nothing."""
    sent = case(number)
    try:
        found = answered(server, sent) if sent.methods is None else framed(server, sent)
    except Exception as error:  # whatever it is: the case is to be named
        found = f"{type(error).__name__}: {error}"
    return found and f"FMNIST_GARBAGE={number}:{number + 1}: {found}; sent {sent.pieces!r:.3000}"


def answered(server: Server, sent: Case) -> str | None:
    """What is wrong with the statuses that come until the connection's end."""
    with Wire(server.port) as wire:
        with contextlib.suppress(ConnectionError):  # closed before all was sent
            for piece in sent.pieces:
                wire.send(piece)
            wire.socket.settimeout(ENOUGH)
            with contextlib.suppress(TimeoutError):  # it waits for the rest
                wire.received += wire.socket.recv(2**16)
            wire.socket.settimeout(PATIENCE)
            with contextlib.suppress(OSError):  # the server has closed, or it does now
                wire.socket.shutdown(socket.SHUT_WR)
            wire.rest()
        statuses = map(int, re.findall(rb"HTTP/1.1 (\d{3}) ", wire.received))
        failed = [status for status in statuses if status >= 500 and status not in KNOWN]
        return f"status {failed}" if failed else None


def framed(server: Server, sent: Case) -> str | None:
    """What is wrong with the answers to whole requests; each is due until one ends all."""
    assert sent.methods is not None
    with Wire(server.port) as wire:
        with contextlib.suppress(ConnectionError):  # it may close after a refusal
            for piece in sent.pieces:
                wire.send(piece)
        for method in sent.methods:
            answer = wire.head()
            while answer.status == 100:
                answer = wire.head()
            if answer.status >= 500 and answer.status not in KNOWN:
                return f"status {answer.status}"
            if method != b"HEAD" and answer.status != 304:
                answer.body = wire.take(int(answer.headers["content-length"]))
                if answer.status >= 400 and not is_refusal(answer.headers, answer.body):
                    return f"status {answer.status} with {answer.body!r:.300}"
            if answer.headers.get("connection") == "close":
                break
    return None


def is_refusal(headers: dict[str, str], body: bytes) -> bool:
    """Whether every client can read an error."""
    told = json.loads(body)
    words = told.get("error")
    named = set(told) <= {"error", "predictions"}
    json_ = headers["content-type"] == "application/json"
    return json_ and named and isinstance(words, str) and "\n" not in words and words != ""


@pytest.fixture(scope="module")
def own() -> Iterator[Server]:
    """A server that nobody else asks, since its memory is looked at."""
    with running() as started:
        yield started


def faults(server: Server, numbers: range) -> list[str]:
    """What is wrong with the answers to cases, several clients asking at once."""
    with ThreadPoolExecutor(CLIENTS) as clients:
        found = clients.map(lambda number: fault(server, number), numbers)
        return [each for each in found if each is not None]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_no_request_makes_the_server_fail_or_grow(own: Server) -> None:
    faults(own, range(-300, 0))  # all threads that there will be are there, and all is loaded
    before, files_and_threads = resident_mib(own.pid), held(own.pid)
    found = faults(own, range(FIRST, END))
    assert not found, f"{len(found)} of {END - FIRST} cases:\n" + "\n".join(found[:20])
    grown = resident_mib(own.pid) - before
    print(f"{END - FIRST} cases: {grown:+} MiB, files and threads {files_and_threads}")
    assert grown < 32

    def as_before() -> bool:
        pairs = zip(held(own.pid), files_and_threads, strict=True)
        return all(abs(now - then) <= 5 for now, then in pairs)

    wait_until(as_before)
    assert own.get("/v2/health/ready", timeout=PATIENCE).json()["ready"] is True
    lines = own.err.read_text().splitlines()
    assert len(lines) > END - FIRST
    assert [line for line in lines if "Traceback" in line or '"fault"' in line] == []
