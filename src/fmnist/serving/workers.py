"""Several server processes on one socket: started, replaced when they die, ended together."""

import contextlib
import multiprocessing
import os
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from types import FrameType
from typing import TYPE_CHECKING

from prometheus_client.multiprocess import mark_process_dead

from fmnist.errors import FmnistError, RunError
from fmnist.serving import logs
from fmnist.serving.metrics import SHARED
from fmnist.serving.settings import Settings

if TYPE_CHECKING:
    from fmnist.serving.server import Announce

LOOK_SECONDS = 0.1  # between two looks at the workers
GRACE_SECONDS = 4.0  # over what requests in flight may take, until workers are killed

_spawn = multiprocessing.get_context("spawn")  # a fork would copy locks that threads hold


def serve_with_workers(settings: Settings, listener: socket.socket, announce: "Announce") -> None:
    """Serve from `settings.workers` processes until SIGTERM or SIGINT, as `server.serve` does.

    `announce` is called once, when the first of them answers. Raises FmnistError where one cannot
    load the model, RunError where one ends before it answers.
    """
    logs.configure()
    with _shared_metrics() as folder:
        crew = _Crew(settings, listener, announce, folder)
        before = {
            number: signal.signal(number, crew.take_signal)
            for number in (signal.SIGTERM, signal.SIGINT)
        }
        try:
            crew.serve()
        finally:
            crew.end()
            for number, handler in before.items():
                signal.signal(number, handler)
    logs.event("stopped", pid=os.getpid())
    logs.flush()


@contextlib.contextmanager
def _shared_metrics() -> Iterator[str]:
    """Lend a folder in which the processes started meanwhile count together."""
    before = os.environ.get(SHARED)
    with tempfile.TemporaryDirectory(prefix="fmnist-serve-", ignore_cleanup_errors=True) as folder:
        os.environ[SHARED] = folder
        try:
            yield folder
        finally:
            del os.environ[SHARED]
            if before is not None:
                os.environ[SHARED] = before


@dataclass
class _Worker:
    process: SpawnProcess
    told: Connection  # what it says, and by its end that the parent is gone
    answers: bool = False


class _Crew:
    """The workers of one server, as their parent sees them."""

    def __init__(
        self, settings: Settings, listener: socket.socket, announce: "Announce", folder: str
    ) -> None:
        self._settings = settings
        self._listener = listener
        self._announce = announce
        self._folder = folder
        self._workers: list[_Worker] = []
        self._signals: list[int] = []
        self._announced = False

    def take_signal(self, number: int, frame: FrameType | None) -> None:
        """Note a signal; what it asks for is done between two looks at the workers."""
        self._signals.append(number)

    def serve(self) -> None:
        """Start the workers and replace those that die, until a signal comes."""
        self._workers = [self._started() for _ in range(self._settings.workers)]
        while not self._signals:
            for worker in list(self._workers):
                dead = not worker.process.is_alive()
                self._listen_to(worker)  # its last words too
                if dead:
                    self._replace(worker)
            time.sleep(LOOK_SECONDS)
        logs.event("stopping", pid=os.getpid(), signal=signal.Signals(self._signals[0]).name)

    def end(self) -> None:
        """Ask the workers to finish; kill those that do not in time, or at another Ctrl-C."""
        self._listener.close()  # else connections would go on to wait for nobody
        for worker in self._workers:
            worker.process.terminate()
        deadline = time.monotonic() + self._settings.stop_seconds + GRACE_SECONDS
        while any(worker.process.is_alive() for worker in self._workers):
            hurried = signal.SIGINT in self._signals[1:]
            if hurried or time.monotonic() > deadline:
                self._kill()
            if hurried:
                raise SystemExit(128 + signal.SIGINT)
            time.sleep(LOOK_SECONDS / 2)

    def _kill(self) -> None:
        for worker in self._workers:
            worker.process.kill()
            worker.process.join()
        logs.event("ended before all requests were answered")

    def _started(self) -> _Worker:
        ours, theirs = _spawn.Pipe()
        process = _spawn.Process(
            target=_work,
            args=(self._settings, self._listener, theirs, self._folder),
            daemon=True,
        )
        with _inherited_ctrl_c_ignored():
            process.start()
        theirs.close()
        return _Worker(process, ours)

    def _listen_to(self, worker: _Worker) -> None:
        """Take what a worker says: that it answers, or why it cannot."""
        try:
            said = worker.told.recv() if worker.told.poll() else None
        except (EOFError, OSError):  # it died; that is looked at next
            return
        if isinstance(said, FmnistError):
            raise said
        if said is not None:
            worker.answers = True
            if not self._announced:
                self._announced = True
                self._announce(said)

    def _replace(self, worker: _Worker) -> None:
        """Start another in the place of a worker that died; raise RunError if it never answered."""
        status = worker.process.exitcode
        if self._signals:  # of a signal to all of us
            return
        if not worker.answers:
            raise RunError(
                f"a worker ended before it answered, with status {status}; its last log lines, or "
                "fmnist serve with --workers 1, say why"
            )
        fields = {"pid": worker.process.pid, "status": status}
        logs.log.error("worker died", extra={"fields": fields})
        mark_process_dead(worker.process.pid, self._folder)  # type: ignore[no-untyped-call]
        worker.told.close()
        self._workers[self._workers.index(worker)] = self._started()


def _work(settings: Settings, listener: socket.socket, told: Connection, folder: str) -> None:
    """Be a worker."""
    from fmnist.serving.server import serve

    threading.Thread(target=_end_with_parent, args=(told, folder), daemon=True).start()
    try:
        serve(settings, listener, told.send, (signal.SIGTERM,))
    except FmnistError as error:
        told.send(FmnistError(str(error)))
    except Exception as error:
        logs.log.exception("worker failed")
        logs.flush()
        raise SystemExit(1) from error


def _end_with_parent(told: Connection, folder: str) -> None:
    """Have this process finish when its parent is gone, which says nothing and only ends."""
    with contextlib.suppress(EOFError, OSError):
        told.recv()
    shutil.rmtree(folder, ignore_errors=True)
    os.kill(os.getpid(), signal.SIGTERM)


@contextlib.contextmanager
def _inherited_ctrl_c_ignored() -> Iterator[None]:
    """Have processes started here ignore Ctrl-C, which a terminal sends to all: we tell them."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
