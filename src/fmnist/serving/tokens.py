"""The tokens that a server takes now, and SIGHUP, which has their file read again."""

import contextlib
import hmac
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from types import FrameType

from fmnist.errors import RunError
from fmnist.serving import logs
from fmnist.serving.settings import Settings


class Tokens:
    """Tokens, any of which opens the server; whoever renews them and the gate share one of these.

    False where there are none: then everyone may ask.
    """

    def __init__(self, tokens: Iterable[str]) -> None:
        self.renew(tokens)

    def __bool__(self) -> bool:
        return bool(self._authorizations)

    def renew(self, tokens: Iterable[str]) -> None:
        """Take these from now on and no others; from any thread."""
        self._authorizations = [f"Bearer {token}".encode() for token in tokens]

    def admit(self, authorization: bytes) -> bool:
        """Tell whether a header holds one of them."""
        scheme, _, token = authorization.partition(b" ")
        given = scheme.title() + b" " + token.strip()
        # In constant time: how long it takes does not tell how much of a guess is right.
        return bool(sum([hmac.compare_digest(given, each) for each in self._authorizations]))


def read_again(settings: Settings) -> Settings | None:
    """Return settings with what the file of tokens holds now, and log it; None where it is bad."""
    try:
        renewed = replace(settings)  # a new one reads it
    except RunError as error:
        fields = {"pid": os.getpid(), "file": str(settings.token_file), "reason": str(error)}
        logs.log.error("tokens kept", extra={"fields": fields})
        return None
    logs.event("tokens read", pid=os.getpid(), tokens=len(renewed.tokens))
    return renewed


def hangup_renews(settings: Settings) -> bool:
    """Tell whether SIGHUP is a wish to have the file of tokens read again.

    Else it is the end of a terminal, which ends the server, or there is nothing to read.
    """
    streams = (sys.stdin, sys.stderr)
    at_terminal = any(stream is not None and stream.isatty() for stream in streams)
    return hasattr(signal, "SIGHUP") and settings.token_file is not None and not at_terminal


def ending_signals(settings: Settings) -> tuple[signal.Signals, ...]:
    """Return the signals at which a server finishes its requests and ends."""
    signals = (signal.SIGTERM, signal.SIGINT)
    if hangup_renews(settings) or not hasattr(signal, "SIGHUP"):
        return signals
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN  # by nohup
    return signals if ignored else (*signals, signal.SIGHUP)


@contextlib.contextmanager
def at_hangup(settings: Settings, act: Callable[[], None]) -> Iterator[None]:
    """Do something at each SIGHUP that is a wish, in a thread: a file may take long to be read."""
    if not hangup_renews(settings):
        yield
        return

    def take(number: int, frame: FrameType | None) -> None:
        threading.Thread(target=act, name="fmnist-tokens", daemon=True).start()

    before = signal.signal(signal.SIGHUP, take)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)
