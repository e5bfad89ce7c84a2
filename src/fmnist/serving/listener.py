"""The socket that a server listens on, and the address that a person opens."""

import errno
import ipaddress
import socket

from fmnist.errors import RunError
from fmnist.serving.settings import Settings

WAITING = 2048  # connections that the system holds until they are taken
ADVICE = {
    errno.EADDRINUSE: "something listens there already; name another port with --port, "
    "or 0 for any free one",
    errno.EADDRNOTAVAIL: "that is no address of this machine; name one of its own with --host, "
    "or 0.0.0.0 for all",
    errno.EACCES: "only the system's administrator may use that port; name one over 1023",
}


def open_listener(settings: Settings) -> socket.socket:
    """Return a socket that listens where the settings say; raise RunError where it cannot."""
    where = f"cannot listen on {settings.host} port {settings.port}"
    try:
        found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise RunError(f"{where}: the host is not known; name an address with --host") from error
    # Of a name with both, such as localhost, the address that clients try who know only one kind.
    family, *_, address = min(found, key=lambda each: each[0] != socket.AF_INET)
    both = settings.host == "::" and socket.has_dualstack_ipv6()
    try:
        return socket.create_server(address, family=family, backlog=WAITING, dualstack_ipv6=both)
    except OSError as error:
        reason = ADVICE.get(error.errno or 0, error.strerror)
        raise RunError(f"{where}: {reason}") from error


def url_elsewhere(settings: Settings, listener: socket.socket) -> str | None:
    """Return the address that other machines open of a server that listens everywhere, else None.

    It is that of the interface by which this machine would ask the internet. None without one.
    """
    port = listener.getsockname()[1]
    if settings.host == "0.0.0.0" or (settings.host == "::" and socket.has_dualstack_ipv6()):
        address = _own_address(socket.AF_INET, "192.0.2.1")  # for documentation: RFC 5737
        if address is not None:
            return f"http://{address}:{port}"
    if settings.host == "::":
        address = _own_address(socket.AF_INET6, "2001:db8::1")  # the same: RFC 3849
        if address is not None:
            return f"http://[{address}]:{port}"
    return None


def _own_address(family: socket.AddressFamily, target: str) -> str | None:
    """Return the address from which this machine would send to another; nothing is sent."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((target, 9))
            address = str(probe.getsockname()[0])
    except OSError:
        return None
    return None if ipaddress.ip_address(address.partition("%")[0]).is_loopback else address


def url_of(settings: Settings, listener: socket.socket) -> str:
    """Return the address to open on this machine; for one that listens everywhere, the loopback."""
    host, port = settings.host, listener.getsockname()[1]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return f"http://{host}:{port}"
    if address.is_unspecified:
        address = ipaddress.ip_address("127.0.0.1" if address.version == 4 else "::1")
    return f"http://{address}:{port}" if address.version == 4 else f"http://[{address}]:{port}"
