"""A clock for what nearly always comes in time."""

import asyncio
from collections.abc import Callable


class Alarm:
    """Calls `ring` where what is expected does not come in time.

    To set and to stop it costs next to nothing, and the event loop is asked to call back about as
    often as something is late: a call that comes too early looks again later.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Callable[[], None]) -> None:
        self._loop = loop
        self._ring = ring
        self._due: float | None = None  # by the loop's clock; None: nothing is expected
        self._call: asyncio.TimerHandle | None = None  # never after `_due`

    def is_set(self) -> bool:
        """Tell whether something is expected."""
        return self._due is not None

    def set(self, seconds: float) -> None:
        """Expect something within so many seconds, and what was expected before no longer."""
        self._due = self._loop.time() + seconds
        if self._call is None or self._call.when() > self._due:
            self._call_within(seconds)

    def stop(self) -> None:
        """Expect nothing."""
        self._due = None

    def cancel(self) -> None:
        """Expect nothing any more, and be forgotten by the loop."""
        self._due = None
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _call_within(self, seconds: float) -> None:
        if self._call is not None:
            self._call.cancel()
        self._call = self._loop.call_later(seconds, self._look)

    def _look(self) -> None:
        self._call = None
        if self._due is None:
            return
        left = self._due - self._loop.time()
        if left > 0:
            self._call_within(left)
        else:
            self._due = None
            self._ring()
