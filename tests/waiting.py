"""Waiting for what is sure to come, on a machine that may have much else to do."""

import time
from collections.abc import Callable

PATIENCE = 60.0  # seconds; who waits longer waits for ever


def wait_until(
    holds: Callable[[], object], seconds: float = PATIENCE, what: str = "it does not come"
) -> None:
    """Wait until something holds; fail where it does not in time, and say `what`."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)
