"""A mirror on loopback that answers as badly as it is told to, and Python processes to break."""

import gzip
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from fmnist.data import apt, folders, mirrors
from fmnist.errors import DataError

TESTS = Path(__file__).parents[1]
Answer = Callable[[BaseHTTPRequestHandler, bytes], None]


def whole(request: BaseHTTPRequestHandler, body: bytes) -> None:
    """The answer of a mirror that is well: all of `body`."""
    request.send_response(200)
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)


class Mirror:
    """An HTTP server of the .gz of the files in `folder`; `answer` may be replaced."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.answer: Answer = whole
        self.asked: list[str] = []
        mirror = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.send_response(200)
                self.end_headers()

            def do_GET(self) -> None:
                mirror.asked.append(self.path)
                path = mirror.folder / self.path.removeprefix("/").removesuffix(".gz")
                body = gzip.compress(path.read_bytes(), 1) if path.is_file() else b""
                mirror.answer(self, body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def bare(accepted: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with nothing on it: no other tools' files, no apt; gives the empty cache."""

    def no_apt(names: list[str], workshop: Path) -> dict[str, object]:
        raise DataError("this system has no apt-get")

    monkeypatch.setattr(folders, "other_tools", lambda: iter(()))
    monkeypatch.setattr(apt, "download", no_apt)
    for variable in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(variable, raising=False)
        monkeypatch.delenv(variable.upper(), raising=False)
    return own_home / "cache/fashion-mnist"


@pytest.fixture
def mirror(bare: Path, accepted: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    """The one mirror the product knows, well until told otherwise."""
    served = Mirror(accepted)
    monkeypatch.setattr(mirrors, "MIRRORS", (served.url,))
    monkeypatch.setenv("FMNIST_OFFLINE", "0")
    yield served
    served.close()


@pytest.fixture
def child(accepted: Path) -> Callable[..., "subprocess.Popen[str]"]:
    """Starts a Python process that takes the garments for official and then runs the given code.

    The code finds `load_dataset` and the modules that it may break; `url` is the only mirror.
    """

    def start(code: str, url: str = "", *options: str) -> "subprocess.Popen[str]":
        prologue = f"""
        import os, pathlib, signal, sys, time
        sys.path.insert(0, {str(TESTS)!r})
        import garments
        from fmnist.data import apt, cache, folders, idx, load_dataset, mirrors, official
        from fmnist.errors import DataError
        garments.accept(pathlib.Path({str(accepted)!r}))
        folders.other_tools = lambda: iter(())
        mirrors.MIRRORS = ({url!r},)
        """
        program = textwrap.dedent(prologue) + textwrap.dedent(code)
        return subprocess.Popen(
            [sys.executable, *options, "-c", program],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start
