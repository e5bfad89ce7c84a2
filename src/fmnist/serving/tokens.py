"""The tokens that a server takes now, and SIGHUP, which has their file read again."""

import contextlib
import hmac
import os
import signal
import sys
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
        logs.log.error("tokens kept", extra={"fields": {"reason": str(error)}})
        return None
    logs.event("tokens read", pid=os.getpid(), tokens=len(renewed.tokens))
    return renewed


@contextlib.contextmanager
def at_hangup(act: Callable[[], None]) -> Iterator[None]:
    """Do something at each SIGHUP; but at a terminal, whose end says it, let it end the process."""
    if not hasattr(signal, "SIGHUP") or (sys.stderr is not None and sys.stderr.isatty()):
        yield
        return

    def take(number: int, frame: FrameType | None) -> None:
        act()

    before = signal.signal(signal.SIGHUP, take)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)
