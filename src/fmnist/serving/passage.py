"""What the connection, the gate and the readers of bodies tell each other about one request."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from fmnist.serving.refusal import Refusal

if TYPE_CHECKING:
    from fmnist.serving.bodies import BytesInFlight

PASSAGE: Final = "fmnist"  # key of a request's scope


@dataclass(slots=True)
class Passage:
    """The way of one request through the server."""

    in_flight: "BytesInFlight"  # all requests', of which it holds a part
    held: int = 0  # bytes: that part
    bytes_in: int = 0  # of its body, as sent
    gone: bool = False  # its connection was lost, whereupon its task is cancelled
    # What the connection found wrong with its body: broken framing, or too slow. Whoever reads the
    # body raises it.
    broken: Refusal | None = None

    def hold(self, size: int) -> None:
        """Count bytes that the request holds; raise Refusal (503) where all hold too many."""
        self.in_flight.add(self, size)
