"""What an operator decides about a server, with the limits that keep it up."""

import ipaddress
import re
from dataclasses import dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any

from fmnist.errors import RunError

TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]{16,512}")  # what a Bearer header can hold: RFC 6750, 2.1
TOKEN_FILE_CHARACTERS = 16_384
NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,252})")  # of a host, without a port


class MetricsChoice(StrEnum):
    """Who may read /metrics."""

    token = "token"
    open = "open"
    off = "off"


@dataclass(frozen=True)
class Settings:
    """A server's settings; the defaults are those of `fmnist serve`.

    Raises RunError where they would open the server to a network without a token, where a token, a
    name or an address is none, and where the file of tokens cannot be read, which is done once.
    """

    model: Path | None = None  # a run or .onnx file; None: the classifier that comes with fmnist
    host: str = "127.0.0.1"
    port: int = 8000  # 0: any free one
    allowed_hosts: tuple[str, ...] = ()  # names for the Host header besides the addresses
    token: str | None = field(default=None, repr=False)
    token_file: Path | None = None  # a token a line, so that one can take another's place
    tokens: tuple[str, ...] = field(init=False, repr=False)  # all of both, any of which will do
    insecure: bool = False  # other machines may ask without a token
    metrics: MetricsChoice = MetricsChoice.token
    workers: int = 1  # processes
    access_log: bool = True  # a line a request on stderr
    client_address: bool = True  # is part of that line

    proxies: tuple[str, ...] = ()  # addresses or networks whose X-Forwarded-For is believed
    connections: int = 4096  # open at once, each worker; of more, the one that waits longest is cut
    body_bytes: int = 20 * 2**20  # of a request's body, before and after decompression
    held_bytes: int = 256 * 2**20  # of all requests' bodies, until answered, each worker
    pixels: int = 50_000_000  # of one picture, by its header
    files: int = 16  # pictures in one request
    images: int = 256  # 28x28 images in one request of the protocol
    waiting_tensors: int = 512  # requests that wait for the network, each worker
    waiting_photos: int = 32  # pictures that wait to be prepared, each worker
    rate: float = 0.0  # requests a second of one client's address, each worker; 0: no limit
    burst: int = 20  # requests that an address may send at once before its rate counts
    deadline_seconds: float = 10.0  # from a whole request to its answer
    header_seconds: float = 10.0  # from a request's first byte to the end of its headers
    body_seconds: float = 30.0  # from there to the end of its body
    idle_seconds: float = 75.0  # between two requests of a connection
    stop_seconds: float = 25.0  # for requests in flight when the server is told to stop

    def __post_init__(self) -> None:
        given = () if self.token is None else (self.token,)
        listed = () if self.token_file is None else _read_tokens(self.token_file)
        object.__setattr__(self, "tokens", given + listed)  # a frozen dataclass's own way
        if not all(map(TOKEN.fullmatch, self.tokens)):
            raise RunError(
                "a token must be 16 to 512 letters, digits or -._~+/= ; to make one, run: "
                'python -c "import secrets; print(secrets.token_urlsafe())"'
            )
        for name in self.allowed_hosts:
            if not NAME.fullmatch(name):
                raise RunError(f"{name!r} is no host name; write it without http:// and port")
        for network in self.proxies:
            _check_network(network)
        if not (is_loopback(self.host) or self.tokens or self.insecure):
            raise RunError(
                f"{self.host} can be reached from other machines: name a secret (--token-file, or "
                "FMNIST_SERVE_TOKEN in the environment), or say --insecure to let everyone ask"
            )

    def chosen(self) -> dict[str, Any]:
        """Return what differs from the defaults, by name; of tokens only how many there are."""
        told = {each.name: getattr(self, each.name) for each in fields(self) if each.repr}
        named = {key: value for key, value in told.items() if value != getattr(Settings, key)}
        return {**named, "tokens": len(self.tokens)} if self.tokens else named


def _read_tokens(file: Path) -> tuple[str, ...]:
    """Return the lines of a file of tokens, blank ones left out; raise RunError where none is."""
    try:
        with file.open(encoding="ascii") as opened:
            text = opened.read(TOKEN_FILE_CHARACTERS + 1)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not plain text"
        raise RunError(f"the file of tokens {file} cannot be read: {reason}") from error
    if len(text) > TOKEN_FILE_CHARACTERS:
        raise RunError(
            f"the file of tokens {file} is too long; {TOKEN_FILE_CHARACTERS:,} characters"
            " at most are read"
        )
    tokens = tuple(line.strip() for line in text.splitlines() if line.strip())
    if not tokens:
        raise RunError(f"the file of tokens {file} holds none; write one into each line")
    return tokens


def _check_network(text: str) -> None:
    try:
        ipaddress.ip_network(text)
    except ValueError as error:
        raise RunError(
            f"{text!r} is no address of a proxy, such as 10.0.0.2 or 10.0.0.0/24"
        ) from error


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
