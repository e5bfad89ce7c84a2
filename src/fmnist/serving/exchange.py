"""A request and its answer: what connection, gate and readers of bodies tell each other of them."""

from dataclasses import dataclass
from typing import Final

from fmnist.serving.refusal import Refusal, overloaded

EXCHANGE: Final = "fmnist"  # key of a request's scope


@dataclass(slots=True)
class HeldBytes:
    """The bytes that all requests hold together; they fill the memory."""

    limit: int
    total: int = 0


@dataclass(slots=True)
class Exchange:
    """One request on its way through the server. All methods are for the event loop."""

    of_all: HeldBytes
    held: int = 0  # bytes: its part of them, from their arrival until its end, sent and unpacked
    bytes_in: int = 0  # of its body, as sent
    gone: bool = False  # its connection was lost, whereupon its task is cancelled
    # What the connection found wrong with its body: broken framing, or too slow. Whoever reads the
    # body raises it.
    broken: Refusal | None = None

    def hold(self, size: int) -> None:
        """Count bytes of the request, or fewer; raise Refusal (503) where all hold too many.

        A request that is alone is taken: its own limits are enough.
        """
        alone = self.of_all.total == self.held
        if size > 0 and self.of_all.total + size > self.of_all.limit and not alone:
            raise overloaded("too many uploads at once")
        self.of_all.total += size
        self.held += size

    def release(self) -> None:
        """Count its bytes no longer, as it has ended."""
        self.of_all.total -= self.held
        self.held = 0
