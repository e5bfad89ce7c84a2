"""A request that is turned down, as HTTP says it."""


class Refusal(Exception):
    """Ends a request with `status` and the body {"error": message}; what a client can mend."""

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers or {}


def overloaded(what: str) -> Refusal:
    """Return the refusal for a full queue, at once: a client that waits would only wait longer."""
    return Refusal(503, f"{what}: the server is busy; try again in a second", {"Retry-After": "1"})
