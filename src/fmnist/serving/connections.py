"""The open connections of one server: how many there may be, and which must go for others."""

from collections import Counter
from typing import TYPE_CHECKING

from fmnist.serving.settings import Settings

if TYPE_CHECKING:
    from fmnist.serving.connection import Connection


class Connections:
    """What the connections of one server share."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.stopping = False
        # Those that wait for a request or the rest of one, the longest waiting first.
        self.waiting: dict[Connection, None] = {}
        self._open: Counter[str] = Counter()  # for each client

    def enter(self, client: str) -> bool:
        """Count a connection of a client; tell whether there is room, if need be by ending another.

        That is one that waits, of the client who has most: else clients that say nothing, or one
        that opens ever more, would keep out the others.
        """
        self._open[client] += 1
        if self._open.total() <= self.settings.connections:
            return True
        longest = self._longest()
        if longest is None:
            return False
        del self.waiting[longest]  # it is lost only later; until then others may come
        longest.abort()
        return True

    def leave(self, client: str) -> None:
        """Count a connection no longer."""
        self._open[client] -= 1
        if not self._open[client]:
            del self._open[client]

    def _longest(self) -> "Connection | None":
        """Return the longest waiting of the client with most connections, or of all."""
        client, connections = max(self._open.items(), key=lambda counted: counted[1])
        if connections > 1:
            for each in self.waiting:
                if each.client_name == client:
                    return each
        return next(iter(self.waiting), None)
