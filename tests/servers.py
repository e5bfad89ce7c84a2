"""Servers for tests: `fmnist serve` as a process of its own, or the application in a thread."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import requests
import uvicorn
from numpy.typing import NDArray

from fmnist.classifier import Classifier
from fmnist.data import CLASS_NAMES
from fmnist.serving.app import create_app
from fmnist.serving.identity import Identity
from fmnist.serving.server import configured
from fmnist.serving.settings import Settings

STARTS_WITHIN = 30.0  # seconds, on a machine that is busy with other tests
ENDS_WITHIN = 40.0  # seconds, over the server's own 30
IDENTITY = Identity("tiny", "0" * 64, "0.1.0")
FACTS: dict[str, Any] = {
    "class_names": list(CLASS_NAMES),
    "temperature": 2.0,
    "least_probability": 0.3,
    "recipe": {"name": "tiny"},
}


@dataclass(frozen=True)
class Server:
    """A running `fmnist serve`; `out` and `err` are the files that it writes to."""

    process: "subprocess.Popen[bytes]"
    out: Path
    err: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def url(self) -> str:
        """Where it answers, without a slash at the end."""
        line = self.out.read_text().splitlines()[0]
        return str(json.loads(line)["url"]) if line.startswith("{") else line

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def stderr_lines(self) -> list[str]:
        """What it has written on stderr so far."""
        return self.err.read_text().splitlines()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit status; the process ends in time or the test fails."""
        self.process.send_signal(number)
        return self.process.wait(ENDS_WITHIN)

    def get(self, path: str, **options: Any) -> requests.Response:
        """Ask for a path: `server.get("/v2/health/live")`."""
        return requests.get(self.url + path, **{"timeout": 30, **options})

    def post(self, path: str, **options: Any) -> requests.Response:
        return requests.post(self.url + path, **{"timeout": 30, **options})


@contextlib.contextmanager
def running(
    *arguments: str,
    env: Mapping[str, str] | None = None,
    before: str = "",
    program: Sequence[str | Path] = (),
) -> Iterator[Server]:
    """Run `fmnist serve --port 0 *arguments` in a process, from the time it says where it answers.

    `before` is Python code that is run first in that process, to replace parts of it; `program` is
    what to run in place of the `fmnist` of this process's environment.
    """
    with starting(*arguments, env=env, before=before, program=program) as server:
        deadline = time.monotonic() + STARTS_WITHIN
        while b"\n" not in server.out.read_bytes():
            assert server.process.poll() is None, server.err.read_text()
            assert time.monotonic() < deadline, server.err.read_text()
            time.sleep(0.01)
        yield server


@contextlib.contextmanager
def starting(
    *arguments: str,
    env: Mapping[str, str] | None = None,
    before: str = "",
    program: Sequence[str | Path] = (),
) -> Iterator[Server]:
    """As `running`, without waiting; whatever is left of the process and its children is killed."""
    code = f"{before}\nfrom fmnist.cli import main; main()"
    how = program or [sys.executable, *(["-c", code] if before else ["-m", "fmnist"])]
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder) / "out", Path(folder) / "err"
        with out.open("wb") as to_out, err.open("wb") as to_err:
            process = subprocess.Popen(
                [*how, "serve", "--port", "0", *arguments],
                env={**os.environ, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=to_out,
                stderr=to_err,
                start_new_session=True,
            )
        try:
            yield Server(process, out, err)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


class Client(requests.Session):
    """Asks one server: `client.get("/api/about")`."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url
        self.trust_env = False

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def request(self, method: Any, url: Any, *arguments: Any, **options: Any) -> requests.Response:
        return super().request(method, self.url + url, *arguments, **{"timeout": 30, **options})


@contextlib.contextmanager
def client(
    settings: Settings | None = None, classifier: Classifier | None = None
) -> Iterator[Client]:
    """Serve the application in a thread of this process, by default with `fake_classifier`."""
    settings = settings or Settings()
    app = create_app(settings, classifier or fake_classifier(), IDENTITY)
    config = configured(app, settings)
    config.port = 0
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.005)
        port = server.servers[0].sockets[0].getsockname()[1]
        with Client(f"http://127.0.0.1:{port}") as asking:
            yield asking
    finally:
        server.should_exit = True
        thread.join()


def fake_classifier(seconds: float = 0.0, **facts: Any) -> Classifier:
    """A classifier that names the class of an image's first pixel's tens, after so many seconds."""

    def ask(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        time.sleep(seconds)
        logits = np.zeros((len(images), 10), np.float32)
        logits[np.arange(len(images)), images[:, 0, 0] // 10 % 10] = 8.0
        return logits

    return Classifier(ask, {**FACTS, **facts})
