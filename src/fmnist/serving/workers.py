"""Several server processes on one socket: started, replaced when they die or hang, all ended."""

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
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from types import FrameType
from typing import TYPE_CHECKING

from prometheus_client.multiprocess import mark_process_dead

from fmnist.errors import FmnistError, RunError
from fmnist.serving import logs
from fmnist.serving.metrics import SHARED
from fmnist.serving.model_identity import Identity, check_same
from fmnist.serving.settings import Settings
from fmnist.serving.tokens import Tokens, at_hangup, ending_signals, read_again

if TYPE_CHECKING:
    from fmnist.serving.server import Announce

LOOK_SECONDS = 0.1  # between two looks at the workers
LONGEST_SECONDS = 30.0  # until a worker that died soon after its start is replaced
GRACE_SECONDS = 4.0  # over what requests in flight may take, until workers are killed
# Without a sign of its event loop, until a worker that answered is killed. What keeps a loop busy
# longest is JSON, for hundredths of a second.
PATIENCE_SECONDS = 20.0
DOUBTFUL_SECONDS = 3.0  # ... until it is not sure to take what it is sent

_spawn = multiprocessing.get_context("spawn")  # a fork would copy locks that threads hold


def serve_with_workers(settings: Settings, listener: socket.socket, announce: "Announce") -> None:
    """Serve from `settings.workers` processes until SIGTERM or SIGINT, as `serve_alone` does.

    `announce` is called once, when the first of them answers. Raises FmnistError where one cannot
    load the model before that, RunError where it ends; later on, those that answer go on.
    """
    logs.configure()
    with _shared_metrics() as folder:
        crew = _Crew(settings, listener, announce, folder)
        before = {
            number: signal.signal(number, crew.take_signal) for number in ending_signals(settings)
        }
        try:
            with at_hangup(settings, crew.read_tokens_again):
                try:
                    crew.serve()
                finally:
                    crew.end()
        finally:
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
    told: Connection  # what it says, and takes: tokens, and by its end that the parent is gone
    pulse: socket.socket  # a byte for each sign that its event loop turns
    began: float  # by the monotonic clock
    answers: bool = False
    silent: float = 0.0  # seconds since the last sign, in which we did look
    fault: FmnistError | None = None  # why it cannot answer


@dataclass
class _Place:
    """Where a worker is, or, when the one before it died, will be."""

    worker: _Worker | None = None
    due: float = 0.0  # when the next one is started, by the monotonic clock
    wait: float = 0.0  # seconds until then, should the next one die soon


class _Crew:
    """The workers of one server, as their parent sees them."""

    def __init__(
        self, settings: Settings, listener: socket.socket, announce: "Announce", folder: str
    ) -> None:
        self._settings = settings
        self._listener = listener
        self._announce = announce
        self._folder = folder
        self._places = [_Place() for _ in range(settings.workers)]
        self._signals: list[int] = []
        self._renewed: Settings | None = None  # with what the file of tokens holds now
        self._identity: Identity | None = None  # of the model that all answer with

    def take_signal(self, number: int, frame: FrameType | None) -> None:
        """Note a signal; what it asks for is done between two looks at the workers."""
        self._signals.append(number)

    def read_tokens_again(self) -> None:
        """Read the file of tokens; workers are told between two looks at them."""
        self._renewed = read_again(self._settings) or self._renewed

    def serve(self) -> None:
        """Start the workers and replace those that die or hang, until a signal comes."""
        while not self._signals:
            if self._renewed is not None:
                self._settings, self._renewed = self._renewed, None
                self._tell_tokens()
            for place in self._places:
                if place.worker is not None:
                    self._look_at(place, place.worker)
                elif time.monotonic() >= place.due:
                    self._fill(place)
            time.sleep(LOOK_SECONDS)
        logs.event("stopping", pid=os.getpid(), signal=signal.Signals(self._signals[0]).name)

    def end(self) -> None:
        """Ask the workers to finish; kill those that do not in time, or at another Ctrl-C."""
        self._listener.close()  # else connections would go on to wait for nobody
        processes = [place.worker.process for place in self._places if place.worker]
        for process in processes:
            process.terminate()
        deadline = time.monotonic() + self._settings.stop_seconds + GRACE_SECONDS
        while any(process.is_alive() for process in processes):
            hurried = signal.SIGINT in self._signals[1:]
            if hurried or time.monotonic() > deadline:
                _kill(processes)
            if hurried:
                raise SystemExit(128 + signal.SIGINT)
            time.sleep(LOOK_SECONDS / 2)

    def _fill(self, place: _Place) -> None:
        try:
            place.worker = self._started()
        except OSError as error:  # no memory, or too many processes
            if self._identity is None:
                raise RunError(f"a worker cannot be started: {error.strerror}") from error
            self._put_off(place, reason=str(error))

    def _tell_tokens(self) -> None:
        """Give all workers the tokens; one that may not take them is replaced, not waited for."""
        for worker in [place.worker for place in self._places if place.worker]:
            if worker.silent > DOUBTFUL_SECONDS:
                self._kill_silent(worker)
                continue
            with contextlib.suppress(OSError):  # it died; the next one has them
                worker.told.send(self._settings.tokens)

    def _started(self) -> _Worker:
        ours, theirs = _spawn.Pipe()
        pulse, beating = socket.socketpair()
        pulse.setblocking(False)
        process = _spawn.Process(
            target=_work,
            args=(self._settings, self._listener, theirs, beating, self._folder, self._identity),
            daemon=True,
        )
        with theirs, beating, _inherited_signals_ignored():
            process.start()
        return _Worker(process, ours, pulse, time.monotonic())

    def _look_at(self, place: _Place, worker: _Worker) -> None:
        dead = not worker.process.is_alive()
        self._listen_to(worker)  # its last words too
        if dead and not self._signals:  # else of a signal to all of us
            place.worker = None
            self._bury(place, worker)
        elif worker.answers:
            self._watch(worker)

    def _watch(self, worker: _Worker) -> None:
        """Kill a worker whose event loop stands still; it is replaced as one that died.

        Its silence is counted in looks, no clock: while the machine or this process stood still,
        which is no worker's fault, there were none.
        """
        worker.silent = 0.0 if _beats(worker.pulse) else worker.silent + LOOK_SECONDS
        if worker.silent > PATIENCE_SECONDS:
            self._kill_silent(worker)

    def _kill_silent(self, worker: _Worker) -> None:
        fields = {"pid": worker.process.pid, "silent_seconds": round(worker.silent, 1)}
        logs.log.error("worker hangs", extra={"fields": fields})
        worker.process.kill()
        worker.silent = 0.0  # until it is dead

    def _listen_to(self, worker: _Worker) -> None:
        """Take what a worker says: which model it answers with, or why it cannot."""
        try:
            said = worker.told.recv() if worker.told.poll() else None
        except (EOFError, OSError):  # it died; that is looked at next
            return
        if isinstance(said, FmnistError):
            worker.fault = said
        elif said is not None:
            self._welcome(worker, said)

    def _welcome(self, worker: _Worker, identity: Identity) -> None:
        """Note that a worker answers; end it where it does so with another model."""
        try:
            check_same(identity, self._identity)
        except FmnistError as error:  # the file changed while the first ones started
            worker.fault = error
            worker.process.terminate()
            return
        worker.answers = True
        if self._identity is None:
            self._identity = identity
            self._announce(identity)

    def _bury(self, place: _Place, worker: _Worker) -> None:
        """Have a dead worker replaced; raise where none ever answered, for then none will."""
        status, pid = worker.process.exitcode, worker.process.pid
        worker.told.close()
        worker.pulse.close()
        mark_process_dead(pid, self._folder)  # type: ignore[no-untyped-call]
        if self._identity is None:
            raise worker.fault or RunError(
                f"a worker ended before it answered, with status {status}; its last log lines, or "
                "fmnist serve with --workers 1, say why"
            )
        if worker.answers and time.monotonic() - worker.began > LONGEST_SECONDS:
            place.wait = 0.0
        reason = {} if worker.fault is None else {"reason": str(worker.fault)}
        self._put_off(place, pid=pid, status=status, answered=worker.answers, **reason)

    def _put_off(self, place: _Place, **why: object) -> None:
        """Have a place filled later, and later each time: a start takes a processor's second."""
        fields = {**why, "next_in_seconds": place.wait}
        logs.log.error("worker died", extra={"fields": fields})
        place.due = time.monotonic() + place.wait
        place.wait = min(LONGEST_SECONDS, max(1.0, 2 * place.wait))


def _kill(processes: list[SpawnProcess]) -> None:
    for process in processes:
        process.kill()
        process.join()
    logs.log.warning("ended before all requests were answered")


def _beats(pulse: socket.socket) -> bool:
    """Tell whether there was a sign since the last look."""
    try:
        return bool(pulse.recv(4096))
    except OSError:  # nothing came, or it died; that is looked at next
        return False


def _beat(beating: socket.socket) -> None:
    """Say that the event loop turns, without waiting: the parent may be stopped, or gone."""
    with contextlib.suppress(OSError):
        beating.send(b".")


def _work(
    settings: Settings,
    listener: socket.socket,
    told: Connection,
    beating: socket.socket,
    folder: str,
    first: Identity | None,
) -> None:
    """Be a worker; with the model that the first one answered with, if one did."""
    from fmnist.serving.server import serve

    tokens = Tokens(settings.tokens)
    beating.setblocking(False)
    beat = partial(_beat, beating)
    threading.Thread(target=_heed, args=(told, tokens, folder), daemon=True).start()
    try:
        serve(settings, listener, told.send, tokens, (signal.SIGTERM,), first, beat)
    except FmnistError as error:
        told.send(FmnistError(str(error)))
    except Exception as error:  # our own fault, of any kind: only this process's log can tell it
        logs.log.exception("worker failed")
        logs.flush()
        raise SystemExit(1) from error


def _heed(told: Connection, tokens: Tokens, folder: str) -> None:
    """Take the tokens that the parent sends; have this process finish when it is gone."""
    with contextlib.suppress(EOFError, OSError):
        while True:
            tokens.renew(told.recv())
    shutil.rmtree(folder, ignore_errors=True)
    os.kill(os.getpid(), signal.SIGTERM)


@contextlib.contextmanager
def _inherited_signals_ignored() -> Iterator[None]:
    """Have processes started here ignore what a terminal sends to all of us: we tell them."""
    names = [name for name in ("SIGINT", "SIGHUP") if hasattr(signal, name)]
    before = {name: signal.signal(getattr(signal, name), signal.SIG_IGN) for name in names}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)
