"""A request that is turned down, as HTTP says it."""

from starlette.exceptions import HTTPException

# Key of a request's scope under which the connection leaves the Refusal of what came of its body:
# broken framing, or too slow. Whoever reads the body raises it.
BROKEN = "fmnist.broken"

_FRAMEWORK = {
    404: "there is nothing at this address; see /docs",
    405: "the address does not take this method; see /docs",
}


class Refusal(Exception):
    """Ends a request with `status` and the body {"error": message}; what a client can mend."""

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers or {}


def overloaded(what: str) -> Refusal:
    """Return the refusal for a full queue, at once: a client that waits would only wait longer."""
    return Refusal(503, f"{what}: the server is busy; try again in a second", {"Retry-After": "1"})


def refusal_of(error: Exception) -> Refusal | None:
    """Return how a client is told of an error; None where the fault is ours."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, HTTPException) and error.status_code < 500:
        message = _FRAMEWORK.get(error.status_code, error.detail)
        return Refusal(error.status_code, message, dict(error.headers or {}))
    return None
