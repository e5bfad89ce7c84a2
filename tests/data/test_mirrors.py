import errno
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from fmnist.data import load_dataset, mirrors
from fmnist.data.official import OFFICIAL
from fmnist.errors import DataError
from waiting import PATIENCE

Answer = Callable[[BaseHTTPRequestHandler, bytes], None]


def status(code: int) -> Answer:
    return lambda request, body: request.send_error(code)


def body(change: Callable[[bytes], bytes], length: int | None = None) -> Answer:
    """An answer of 200 with `change(body)`, which may claim another `length`."""

    def answer(request: BaseHTTPRequestHandler, content: bytes) -> None:
        sent = change(content)
        request.send_response(200)
        request.send_header("Content-Length", str(len(sent) if length is None else length))
        request.end_headers()
        request.wfile.write(sent)

    return answer


def cut(request: BaseHTTPRequestHandler, content: bytes) -> None:
    request.send_response(200)
    request.send_header("Content-Length", str(len(content)))
    request.end_headers()
    request.wfile.write(content[: len(content) // 2])


def silent_cut(request: BaseHTTPRequestHandler, content: bytes) -> None:
    request.send_response(200)  # without a length, only the gzip tells
    request.end_headers()
    request.wfile.write(content[: len(content) // 2])


def stall(request: BaseHTTPRequestHandler, content: bytes) -> None:
    cut(request, content)
    time.sleep(1.5)


def endless(request: BaseHTTPRequestHandler, content: bytes) -> None:
    request.send_response(200)
    request.end_headers()
    try:
        while True:
            request.wfile.write(bytes(1 << 16))
    except OSError:
        pass


def loop(request: BaseHTTPRequestHandler, content: bytes) -> None:
    request.send_response(302)
    request.send_header("Location", request.path)
    request.end_headers()


BAD: dict[str, tuple[Answer, str]] = {
    "404": (status(404), "HTTP 404"),
    "500": (status(500), "HTTP 500"),
    "cut": (cut, "the connection was cut"),
    "silent cut": (silent_cut, "the gzip is truncated"),
    "stall": (stall, "it stopped sending"),
    "endless": (endless, "larger than the file awaited"),
    "redirects": (loop, "redirects without end"),
    "garbage": (body(lambda good: good[:30] + bytes(len(good) - 30)), "gzip"),
    "page": (body(lambda good: b"<!DOCTYPE html><h1>Log in</h1>"), "this is a web page"),
    "empty": (body(lambda good: b""), "0 bytes are no IDX file"),
    "short": (body(lambda good: good[:-9]), "the gzip is truncated"),
    "long": (body(lambda good: good + b"tail"), "the gzip is damaged"),
}


@pytest.fixture
def second(accepted: Path, mirror: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A second mirror, which is well."""
    well = type(mirror)(accepted)
    monkeypatch.setattr(mirrors, "MIRRORS", (mirror.url, well.url))
    yield well
    well.close()


@pytest.mark.parametrize("fault", BAD)
def test_a_bad_mirror_leaves_nothing_and_is_named(
    mirror: Any, bare: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setattr(mirrors, "READ_SECONDS", 0.5)
    mirror.answer, message = BAD[fault]
    with pytest.raises(DataError, match=message) as error:
        load_dataset()
    assert mirror.url.split("/")[2] in str(error.value)
    assert "\n" not in str(error.value)
    assert [path.name for path in bare.iterdir()] == ["lock"]


@pytest.mark.parametrize("fault", BAD)
def test_the_next_mirror_is_asked(
    mirror: Any, second: Any, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setattr(mirrors, "READ_SECONDS", 0.5)
    mirror.answer, _ = BAD[fault]
    assert len(load_dataset().split("all")) == 480
    assert sorted(second.asked) == sorted(f"/{name}.gz" for name in OFFICIAL)
    assert len(set(mirror.asked)) == 1  # after its first failure it is left alone


@pytest.mark.parametrize(("fault", "asked"), [("404", 1), ("500", 2), ("cut", 2), ("garbage", 1)])
def test_only_what_may_pass_is_tried_again(mirror: Any, fault: str, asked: int) -> None:
    mirror.answer, _ = BAD[fault]
    with pytest.raises(DataError):
        load_dataset()
    assert len(mirror.asked) == asked


def test_a_mirror_that_is_cut_once_is_enough(mirror: Any) -> None:
    well = mirror.answer
    mirror.answer = lambda request, content: (cut if len(mirror.asked) == 1 else well)(
        request, content
    )
    assert len(load_dataset().split("all")) == 480
    assert len(mirror.asked) == 5


def test_what_a_mirror_sends_unpacked_is_taken(mirror: Any, accepted: Path) -> None:
    def plain(request: BaseHTTPRequestHandler, content: bytes) -> None:
        name = request.path.removeprefix("/").removesuffix(".gz")
        body(lambda _: (accepted / name).read_bytes())(request, content)

    mirror.answer = plain
    assert len(load_dataset().split("all")) == 480


def test_an_unknown_host_and_a_closed_port_cost_no_time(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FMNIST_OFFLINE", "0")
    monkeypatch.setattr(mirrors, "CONNECT_SECONDS", 600.0)  # which nothing here waits for
    monkeypatch.setattr(mirrors, "MIRRORS", ("http://unknown.invalid/", "http://127.0.0.1:9/"))
    with pytest.raises(DataError, match=r"unknown\.invalid: its name cannot be resolved") as error:
        load_dataset()
    assert "127.0.0.1:9: connection refused" in str(error.value)


def test_mirrors_that_never_answer_cost_one_wait_for_all(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket

    import requests

    asked_at_once, head = threading.Barrier(5), requests.head

    def ask(url: str, **options: Any) -> requests.Response:
        asked_at_once.wait(PATIENCE)
        return head(url, **options)

    monkeypatch.setattr(requests, "head", ask)
    with socket.create_server(("127.0.0.1", 0), backlog=8) as deaf:  # accepts, and says nothing
        port = deaf.getsockname()[1]
        monkeypatch.setenv("FMNIST_OFFLINE", "0")
        monkeypatch.setattr(mirrors, "CONNECT_SECONDS", 0.5)
        urls = tuple(f"http://127.0.0.1:{port}/{number}/" for number in range(5))
        monkeypatch.setattr(mirrors, "MIRRORS", urls)
        with pytest.raises(DataError, match="no answer"):
            load_dataset()
    assert not asked_at_once.broken


def test_a_disk_that_fills_up_while_downloading_is_named(
    mirror: Any, bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: object, chunk: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(mirrors._Bounded, "write", full)
    with pytest.raises(
        DataError, match=r"cannot be written \(No space left.*FMNIST_CACHE"
    ) as error:
        load_dataset()
    assert str(bare) in str(error.value)
    assert [path.name for path in bare.iterdir()] == ["lock"]
