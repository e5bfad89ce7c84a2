"""Servers for tests: `fmnist serve` as a process of its own, or an application in a thread."""

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
from typing import Any, Literal

import numpy as np
import requests
import uvicorn
from numpy.typing import NDArray

from fmnist.classifier import Classifier
from fmnist.data import CLASS_NAMES
from fmnist.serving.app import create_app
from fmnist.serving.gate import Gate
from fmnist.serving.model_identity import Identity
from fmnist.serving.server import configured
from fmnist.serving.settings import Settings
from waiting import PATIENCE, wait_until

STARTS_WITHIN = 120.0  # seconds, on a machine that has much else to do
ENDS_WITHIN = 120.0
IDENTITY = Identity("tiny", "0" * 64, "0.1.0")
FACTS: dict[str, Any] = {
    "class_names": list(CLASS_NAMES),
    "temperature": 2.0,
    "least_probability": 0.3,
    "recipe": {"name": "tiny"},
}

# Code for `before`: the network answers once there is such a file.
HELD = """
import pathlib, time
import fmnist.serving.model_identity as identity
load = identity.load_classifier
def held(*arguments, **options):
    classifier = load(*arguments, **options)
    ask = classifier._ask
    def wait(images):
        while not pathlib.Path({file!r}).exists():
            time.sleep(0.01)
        return ask(images)
    classifier._ask = wait
    return classifier
identity.load_classifier = held
"""


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
        """The lines that it has written on stderr so far; of one that is being written, nothing."""
        return self.err.read_text().rpartition("\n")[0].splitlines()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit status; the process ends in time or the test fails."""
        self.process.send_signal(number)
        return self.process.wait(ENDS_WITHIN)

    def get(self, path: str, **options: Any) -> requests.Response:
        """Ask for a path: `server.get("/v2/health/live")`."""
        return requests.get(self.url + path, **{"timeout": PATIENCE, **options})

    def post(self, path: str, **options: Any) -> requests.Response:
        return requests.post(self.url + path, **{"timeout": PATIENCE, **options})

    def metric(self, name: str) -> float:
        """The sum of a metric over its labels, or over those that `name` begins with."""
        lines = self.get("/metrics").text.splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))

    def wait_for_requests(self, number: int) -> None:
        """Wait until so many requests are being answered, the one that asks not among them."""
        wait_until(lambda: self.metric("fmnist_requests_in_flight") == number + 1)


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
        options = {"timeout": PATIENCE, **options}
        return super().request(method, self.url + url, *arguments, **options)


@contextlib.contextmanager
def client(
    settings: Settings | None = None, classifier: Classifier | None = None
) -> Iterator[Client]:
    """Serve the application in a thread of this process, by default with `fake_classifier`.

    By default no answer is given up because the machine is slow.
    """
    settings = settings or Settings(deadline_seconds=PATIENCE)
    app = create_app(settings, classifier or fake_classifier(), IDENTITY)
    with (
        in_thread(app, settings) as server,
        Client(f"http://127.0.0.1:{port_of(server)}") as asking,
    ):
        yield asking


@contextlib.contextmanager
def in_thread(
    app: Gate, settings: Settings, lifespan: Literal["on", "off"] = "on"
) -> Iterator[uvicorn.Server]:
    """Run an application on a free port, in a thread of this process."""
    config = configured(app, settings)
    config.port, config.lifespan = 0, lifespan
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.005)
        yield server
    finally:
        server.should_exit = True
        thread.join(ENDS_WITHIN)
        assert not thread.is_alive()


def port_of(server: uvicorn.Server) -> int:
    """Where it listens."""
    return int(server.servers[0].sockets[0].getsockname()[1])


def fake_classifier(seconds: float = 0.0, **facts: Any) -> Classifier:
    """A classifier that names the class of an image's first pixel's tens, after so many seconds."""

    def ask(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        time.sleep(seconds)
        logits = np.zeros((len(images), 10), np.float32)
        logits[np.arange(len(images)), images[:, 0, 0] // 10 % 10] = 8.0
        return logits

    return Classifier(ask, {**FACTS, **facts})


class Held:
    """A network that does not answer before it is let go."""

    def __init__(self, classifier: Classifier | None = None) -> None:
        """Take what answers then; by default `fake_classifier`."""
        self.asked, self.let_go = threading.Event(), threading.Event()
        self.classifier = Classifier(self._ask, FACTS)
        self._answers = classifier or fake_classifier()

    def _ask(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.asked.set()
        assert self.let_go.wait(2 * PATIENCE)
        return self._answers.logits(images)
