"""Which names the server answers to, and which pages of a browser may ask it."""

import ipaddress
import re
from functools import lru_cache

from fmnist.serving.settings import Settings

LONGEST = 253 + len(":65535")  # a name as DNS has it (RFC 1035), and a port
_HOST = re.compile(r"(?P<name>\[[0-9a-fA-F:.]+\]|[^\[\]:/@?#\s]+)(?::\d{1,5})?")
_PORTS = {b"http": b":80", b"https": b":443"}


class Hosts:
    """The values of Host that are answered: addresses, localhost, and the operator's names.

    A page that had its own name point to this machine (DNS rebinding) always asks by that name.
    """

    def __init__(self, settings: Settings) -> None:
        names = ("localhost", settings.host, *settings.allowed_hosts)
        self._names = frozenset(name.lower().rstrip(".") for name in names)
        self._known = lru_cache(maxsize=256)(self._judged)

    def accept(self, host: bytes) -> bool:
        """Tell whether a request with this Host is answered."""
        return len(host) <= LONGEST and self._known(host)

    def _judged(self, host: bytes) -> bool:
        parts = _HOST.fullmatch(host.decode("latin-1"))
        if not parts:
            return False
        name = parts["name"].lower().rstrip(".")
        return name in self._names or _is_address(name)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def is_cross_site(host: bytes, origin: bytes | None, site: bytes | None) -> bool:
    """Tell whether a browser asks for a page of another site, by Origin and Sec-Fetch-Site.

    Clients that are no browsers send neither.
    """
    if site in (b"cross-site", b"same-site"):
        return True
    return origin is not None and not _is_origin(origin, host)


def _is_origin(origin: bytes, host: bytes) -> bool:
    """Tell whether an Origin ("http://name:port", or "null") is the server asked as `host`."""
    scheme, _, own = origin.lower().partition(b"://")
    port = _PORTS.get(scheme, b"")
    return own.removesuffix(port) == host.lower().removesuffix(port) and scheme in _PORTS
