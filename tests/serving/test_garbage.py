"""Requests with anything wrong about their bytes: the server answers or closes, and lives on."""

import contextlib
import re
import socket
import sys
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processes import resident_mib
from servers import Server
from wire import Wire

METHODS = (b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"BREW")
PATHS = (
    b"/",
    b"/page/page.js",
    b"/metrics",
    b"/openapi.json",
    b"/api/about",
    b"/api/predict?top=3",
    b"/v2",
    b"/v2/health/ready",
    b"/v2/models/fmnist",
    b"/v2/models/fmnist/infer",
    b"/v2/models/fmnist_photo/infer",
)
LINES = (
    b"Content-Type: multipart/form-data; boundary=b",
    b"Content-Encoding: gzip",
    b"Transfer-Encoding: chunked",
    b"Inference-Header-Content-Length: 2",
    b"Connection: close",
    b"Connection: upgrade\r\nUpgrade: h2c",
    b"Expect: 100-continue",
    b"Content-Length: 7",
    b"Origin: null",
    b"Accept-Encoding: gzip;q=2, deflate",
)
BODIES = (
    b"",
    b"{}",
    b'{"inputs": [{"name": "images", "shape": [1, 28, 28], "datatype": "UINT8", "data": [1]}]}',
    b"--b\r\nContent-Disposition: form-data; filename=a\r\n\r\nGIF89a\r\n--b--\r\n",
    b"7\r\n1234567\r\n0\r\n\r\n",
    b"\x1f\x8b\x08\x00",
)
PIECES = (
    b"\r\n",
    b"\n",
    b"\0",
    b":",
    b" ",
    b"\xff",
    b"%00",
    b"-1",
    b"9" * 20,
    b"HTTP/1.1",
    b"a" * 999,
)


@st.composite
def garbage(draw: st.DrawFn) -> bytes:
    """A request, sound or nearly so, and something wrong put into it here and there."""
    body = draw(st.sampled_from(BODIES))
    lines = [draw(st.sampled_from(METHODS)) + b" " + draw(st.sampled_from(PATHS)) + b" HTTP/1.1"]
    lines += [b"Host: localhost", *draw(st.lists(st.sampled_from(LINES), max_size=4, unique=True))]
    if draw(st.booleans()):
        lines.append(b"Content-Length: %d" % len(body))
    request = b"\r\n".join([*lines, b"", body])
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(request)))
        lost = draw(st.integers(0, 3))
        piece = draw(st.one_of(st.sampled_from(PIECES), st.binary(max_size=4)))
        request = request[:at] + piece + request[at + lost :]
    return request


def statuses(server: Server, sent: list[bytes]) -> list[int]:
    """The statuses of what is answered to pieces of bytes, up to the connection's end."""
    with Wire(server.port) as wire:
        with contextlib.suppress(OSError):  # closed before all was sent
            for piece in sent:
                wire.send(piece)
            wire.socket.settimeout(0.02)
            with contextlib.suppress(TimeoutError):  # it waits for the rest
                wire.received += wire.socket.recv(2**16)
            wire.socket.settimeout(10)
            wire.socket.shutdown(socket.SHUT_WR)
            while data := wire.socket.recv(2**16):
                wire.received += data
        return [int(status) for status in re.findall(rb"HTTP/1.1 (\d{3}) ", wire.received)]


@pytest.fixture(scope="module")
def grown(server: Server) -> Iterator[None]:
    before = resident_mib(server.pid)
    yield
    assert resident_mib(server.pid) - before < 32
    assert server.get("/v2/health/live").status_code == 200


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@given(st.lists(garbage(), min_size=1, max_size=2))
@settings(max_examples=300, deadline=None)
def test_no_bytes_make_the_server_fail(server: Server, grown: None, sent: list[bytes]) -> None:
    assert all(status < 500 for status in statuses(server, sent))
