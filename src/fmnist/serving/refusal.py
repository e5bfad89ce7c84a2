"""A request that is turned down, as HTTP says it."""

from typing import Literal, TypeAlias

from fmnist.errors import PhotoError, PhotoTooLarge, UnreadableFormat

# Why, in a word, for the log.
Reason: TypeAlias = Literal[
    "host",
    "cross_site",
    "token",
    "rate",
    "queue",
    "deadline",
    "size",
    "picture",
    "malformed",
    "route",
    "stopping",
    "fault",
]
REASONS: dict[int, Reason] = {  # unless a refusal says another
    400: "malformed",
    401: "token",
    403: "cross_site",
    404: "route",
    405: "route",
    408: "deadline",
    413: "size",
    415: "picture",
    422: "picture",
    429: "rate",
    431: "size",
    500: "fault",
    503: "queue",
    504: "deadline",
}


class Refusal(Exception):
    """Ends a request with `status` and the body {"error": message}; what a client can mend."""

    def __init__(
        self,
        status: int,
        message: str,
        headers: dict[str, str] | None = None,
        reason: Reason | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers or {}
        self.reason = reason or REASONS.get(status, "malformed")


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
