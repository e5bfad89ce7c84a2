"""How many requests for the network are not answered yet: beyond a number, others are turned away.

The network's queue has a limit too. But under far more load than a server can bear most requests
would not come so far: each is a task that the event loop has yet to begin.
"""

from collections.abc import Iterable


class Backlog:
    """The requests for the network of one process that are whole and not answered."""

    def __init__(self, targets: Iterable[bytes] = (), most: int = 0) -> None:
        """Take what such requests name in their first line, and how many there may be."""
        self._targets = frozenset(targets)
        self._most = most
        self._requests = 0

    def is_for(self, target: bytes) -> bool:
        """Tell whether a POST to a target asks the network."""
        return target in self._targets

    def is_full(self) -> bool:
        """Tell whether one more would be too many."""
        return self._requests >= self._most

    def add(self, requests: int) -> None:
        """Count so many more, or fewer."""
        self._requests += requests
