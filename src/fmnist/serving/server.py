"""One server process: it loads the model, answers, and ends when it is told to."""

import asyncio
import contextlib
import gc
import math
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from types import FrameType
from typing import TypeAlias

import uvicorn

from fmnist.serving import logs
from fmnist.serving.app import create_app
from fmnist.serving.connection import protocol
from fmnist.serving.gate import Gate
from fmnist.serving.model_identity import Identity, check_same, load_identified
from fmnist.serving.protocol import STOPPING
from fmnist.serving.settings import Settings
from fmnist.serving.tokens import Tokens, at_hangup, ending_signals, read_again

# How long requests that do not finish, and then threads that do not end, may hold a server up.
GRACE_SECONDS = 2.0
BEAT_SECONDS = 1.0  # between two of the signs that the event loop turns
OPEN_FILES = 65_536  # each connection is one; systems allow 1,024 unless asked
# A thread that wants Python's lock, as the network's after each batch, waits one such interval: of
# 5 ms, Python's own, at 28x28 images that was a quarter of all time (docs/log.md).
SWITCH_SECONDS = 0.0001
# New objects until the youngest are looked through for garbage, and how often that is until older
# ones are: a request makes and drops hundreds, of which none is garbage in a circle.
GARBAGE = (20_000, 50, 100)

Announce: TypeAlias = Callable[[Identity], None]


def serve_alone(settings: Settings, listener: socket.socket, announce: Announce) -> None:
    """Serve from this process as `serve` does; at SIGHUP, take the tokens that the file has now."""
    tokens = Tokens(settings.tokens)

    def renew() -> None:
        renewed = read_again(settings)
        if renewed is not None:
            tokens.renew(renewed.tokens)

    with at_hangup(settings, renew):
        serve(settings, listener, announce, tokens, ending_signals(settings))


def serve(
    settings: Settings,
    listener: socket.socket,
    announce: Announce,
    tokens: Tokens,
    signals: Sequence[signal.Signals],
    first: Identity | None = None,
    beat: Callable[[], None] | None = None,
) -> None:
    """Serve until one of `signals` comes; requests in flight are finished first.

    `announce` is called once, when the server answers; from then on `beat` every BEAT_SECONDS by
    the event loop, for whoever watches it. Raises ModelError and RunError where the model cannot
    be loaded or is another than `first`, and SystemExit(0) where a signal came before it was.
    """
    logs.configure()
    _allow_many_connections()
    with _ending(settings.stop_seconds, signals) as ending:
        classifier, identity = load_identified(settings.model)
        check_same(identity, first)
        app = create_app(settings, classifier, identity, tokens)
        server = _Server(configured(app, settings))
        server.on_answering = partial(_answer, settings, identity, announce)
        server.beat = beat
        ending.server = server
        server.run([listener])
    logs.event("stopped", pid=os.getpid())
    logs.flush()


def _answer(settings: Settings, identity: Identity, announce: Announce) -> None:
    """Say that the server answers."""
    # What there is now stays: to look through it for garbage would stop all requests for 30 ms.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GARBAGE)
    sys.setswitchinterval(SWITCH_SECONDS)
    chosen = settings.chosen()
    who = {"model": identity.name, "sha256": identity.sha256[:12], "version": identity.version}
    logs.event("answering", pid=os.getpid(), **who, settings=chosen)
    announce(identity)


def configured(app: Gate, settings: Settings) -> uvicorn.Config:
    """Return how uvicorn runs an application for us."""
    return uvicorn.Config(
        app,
        http=protocol(settings),
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        lifespan="on",
        timeout_graceful_shutdown=math.ceil(settings.stop_seconds),
    )


class _Server(uvicorn.Server):
    """Uvicorn's server, which says when it answers and leaves signals to us."""

    on_answering: Callable[[], None]
    beat: Callable[[], None] | None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and not self.should_exit:
            self.on_answering()
            if self.beat is not None:
                _repeat(self.beat)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Change nothing: uvicorn would raise the signal that ended it again, as a failure."""
        yield


def _repeat(beat: Callable[[], None]) -> None:
    """Have the event loop call this now and every BEAT_SECONDS, also while the server stops."""
    beat()
    asyncio.get_running_loop().call_later(BEAT_SECONDS, _repeat, beat)


class _Ending:
    """What signals do: the first asks the server to finish, another Ctrl-C ends it at once."""

    def __init__(self, seconds: float) -> None:
        self.server: uvicorn.Server | None = None  # None: the model is being loaded
        self._seconds = seconds
        self._asked = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Take a signal."""
        if self._asked:
            if number == signal.SIGINT:
                _exit(128 + number)
            return
        self._asked = True
        logs.event("stopping", pid=os.getpid(), signal=signal.Signals(number).name)
        if self.server is None:
            raise SystemExit(0)
        self.server.should_exit = True
        if hasattr(self.server, "lifespan"):  # else it has not begun, and was never ready
            self.server.lifespan.state[STOPPING] = True
        # A request that is stuck in a thread can be neither finished nor cancelled.
        watchdog = threading.Timer(self._seconds + GRACE_SECONDS, _exit, (0,))
        watchdog.daemon = True
        watchdog.start()


def _exit(status: int) -> None:
    """End the process now, whatever its threads do."""
    fields = {"pid": os.getpid()}
    logs.log.warning("ended before all requests were answered", extra={"fields": fields})
    logs.flush()
    os._exit(status)


@contextlib.contextmanager
def _ending(seconds: float, signals: Sequence[signal.Signals]) -> Iterator[_Ending]:
    ending = _Ending(seconds)
    before = {number: signal.signal(number, ending) for number in signals}
    try:
        yield ending
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _allow_many_connections() -> None:
    """Let this process have as many open files as the system grants without asking."""
    try:
        import resource
    except ImportError:  # Windows, which has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
