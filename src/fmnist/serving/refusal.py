"""A request that is turned down, as HTTP says it."""

from fmnist.errors import PhotoError, PhotoTooLarge, UnreadableFormat


class Refusal(Exception):
    """Ends a request with `status` and the body {"error": message}; what a client can mend."""

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers or {}


def overloaded(what: str) -> Refusal:
    """Return the refusal for a full queue, at once: a client that waits would only wait longer."""
    return Refusal(503, f"{what}: the server is busy; try again in a second", {"Retry-After": "1"})


def late(seconds: float) -> Refusal:
    """Return the refusal of a request that was not answered within the server's deadline."""
    return Refusal(504, f"no answer within {seconds:g} seconds; try again later")


def status_of(fault: PhotoError) -> int:
    """Return the HTTP status of a picture that cannot be read."""
    if isinstance(fault, PhotoTooLarge):
        return 413
    return 415 if isinstance(fault, UnreadableFormat) else 422
