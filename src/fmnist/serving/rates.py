"""How often one client may ask: a token bucket for each address, of bounded number."""

import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache

from fmnist.serving.refusal import Refusal

# Addresses that are remembered, about 2 MB; of more, those that asked longest ago are forgotten.
MOST = 16_384
_LONGEST = len("255.255.255.255")
_LONGEST_V6 = 64  # with the name of an interface
_UNKNOWN = "unknown addresses"  # as a proxy handed them on
_V6_CLIENT = 64  # bits: the smallest network that a client of IPv6 is given (RFC 6177)


class Rates:
    """Lets an address ask `burst` times at once, and `rate` times a second in the long run."""

    def __init__(
        self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Take requests a second (over 0) and requests at once (from 1)."""
        self._rate = rate
        self._burst = burst
        self._clock = clock
        # For each address the time at which its bucket is full again: all that a bucket is.
        self._full: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._full)

    def take(self, address: str) -> None:
        """Note a request; raise Refusal (429) where the address has asked too often."""
        now = self._clock()
        client = client_of(address)
        full = max(self._full.get(client, now), now) + 1 / self._rate
        wait = full - now - self._burst / self._rate
        if wait > 1e-9:  # rounding
            seconds = math.ceil(wait)
            raise Refusal(
                429,
                f"more than {self._rate:g} requests a second come from {client}; wait {seconds} s",
                {"Retry-After": str(seconds)},
            )
        self._full[client] = full
        self._full.move_to_end(client)
        if len(self._full) > MOST:
            self._full.popitem(last=False)


def client_of(address: str) -> str:
    """Return what counts as one client: an address of IPv4, a network of IPv6."""
    if ":" not in address:
        return address if len(address) <= _LONGEST else _UNKNOWN
    return _network(address) if len(address) <= _LONGEST_V6 else _UNKNOWN


def unmapped(address: str) -> str:
    """Return an address of IPv4 as such, also where a socket for both hands it on as of IPv6."""
    return address.removeprefix("::ffff:") if "." in address else address


@lru_cache(1024)
def _network(address: str) -> str:
    try:
        exact = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return _UNKNOWN
    if exact.ipv4_mapped is not None:
        return str(exact.ipv4_mapped)
    return str(ipaddress.ip_network((exact, _V6_CLIENT), strict=False))
