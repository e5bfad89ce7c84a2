"""The verb `serve`."""

import contextlib
import difflib
import os
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand

from fmnist import console
from fmnist.cli.options import Json
from fmnist.errors import RunError
from fmnist.serving.settings import MetricsChoice, Settings, is_loopback

if TYPE_CHECKING:
    from fmnist.serving.model_identity import Identity
    from fmnist.serving.server import Announce

PREFIX = "FMNIST_SERVE_"  # of the variables in the environment that stand for options
MEGABYTE = 2**20
MEGAPIXEL = 10**6


def _option(name: str, panel: str, help: str, **more: Any) -> Any:
    """Return an option that a variable may stand for: --max-body, FMNIST_SERVE_MAX_BODY."""
    variable = PREFIX + name.partition("/")[0].strip("-").replace("-", "_").upper()
    return typer.Option(
        name, help=help, rich_help_panel=panel, envvar=variable, show_envvar=False, **more
    )


def _server(name: str, help: str, **more: Any) -> Any:
    return _option(name, "Server", help, **more)


def _access(name: str, help: str, metavar: str | None = None) -> Any:
    return _option(name, "Access", help, metavar=metavar, show_default=metavar is None)


def _number(name: str, most: int, help: str) -> Any:
    return _option(name, "Limits", help, min=1, max=most)


def _size(name: str, most: float, metavar: str, help: str, least: float = 0.001) -> Any:
    return _option(name, "Limits", help, min=least, max=most, metavar=metavar)


def _seconds(name: str, help: str) -> Any:
    return _size(name, 3600, "SECONDS", help, 0.1)


MODEL = typer.Argument(
    metavar="[RUN|FILE.onnx]",
    help="Serve this, not the classifier that comes with fmnist. A run needs what trained it; "
    "`fmnist export RUN --format onnx` makes a file of it that needs no more.",
    show_default=False,
)
HOST = _server("--host", "Address to listen on; 0.0.0.0: all of this machine.")
PORT = _server("--port", "0: any free one.", min=0, max=65535)
WORKERS = _server("--workers", "Processes; each has the model and its own limits.", min=1, max=64)
ACCESS_LOG = _server("--access-log/--no-access-log", "Log each request on stderr.")
CLIENT = _server("--client-address/--no-client-address", "Log from where it came, too.")
TOKEN = _access(
    "--token",
    "Secret that clients must send; needed where other machines can ask. Rather set "
    "FMNIST_SERVE_TOKEN: every user of this machine can read its command lines.",
    "SECRET",
)
TOKEN_FILE = _access(
    "--token-file",
    "File of such secrets, one a line; any of them will do. It is read again at SIGHUP.",
    "FILE",
)
INSECURE = _access("--insecure", "Let other machines ask without a token.")
ALLOWED_HOST = _access(
    "--allowed-host",
    "Name that clients may call this server by, besides its addresses and localhost; may be "
    "repeated.",
    "NAME",
)
PROXY = _access(
    "--proxy",
    "Address or network of a proxy whose X-Forwarded-For is believed; may be repeated.",
    "ADDRESS",
)
METRICS = _access("--metrics", "Who may read /metrics: those with the token, all, or nobody.")
WAITING = "Requests that wait for the network; others are told to come back."
RATE = "Requests a second from one address; 0: any number."


class ServeCommand(TyperCommand):
    """The verb, which tells what is wrong in the environment by the names that stand there."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take arguments and variables; raise RunError for a variable that means nothing."""
        try:
            rest = super().parse_args(ctx, args)
        except typer.BadParameter as error:
            _name_variable(ctx, error)
            raise
        _refuse_unknown({str(option.envvar) for option in self.params if option.envvar})
        return rest


def _name_variable(context: Any, error: typer.BadParameter) -> None:
    """Have an error name the variable, where a bad value came from there and not from an option."""
    option = error.param
    if option is None or option.name is None or not option.envvar:
        return
    source = context.get_parameter_source(option.name)
    if source is not None and source.name == "ENVIRONMENT":
        error.param_hint = str(option.envvar)


def _refuse_unknown(known: set[str]) -> None:
    """Raise RunError for a variable of ours that stands for no option: a slip of the pen, often."""
    for name in sorted(os.environ):
        if name.startswith(PREFIX) and name not in known:
            alike = difflib.get_close_matches(name, known, 1, cutoff=0.0)
            raise RunError(f"{name} stands for no option; the nearest that does is {alike[0]}")


# The parameters have the names of the settings.
def serve(
    model: Annotated[Path | None, MODEL] = None,
    host: Annotated[str, HOST] = Settings.host,
    port: Annotated[int, PORT] = Settings.port,
    workers: Annotated[int, WORKERS] = Settings.workers,
    access_log: Annotated[bool, ACCESS_LOG] = Settings.access_log,
    client_address: Annotated[bool, CLIENT] = Settings.client_address,
    token: Annotated[str | None, TOKEN] = None,
    token_file: Annotated[Path | None, TOKEN_FILE] = None,
    insecure: Annotated[bool, INSECURE] = Settings.insecure,
    allowed_hosts: Annotated[list[str] | None, ALLOWED_HOST] = None,
    proxies: Annotated[list[str] | None, PROXY] = None,
    metrics: Annotated[MetricsChoice, METRICS] = Settings.metrics,
    connections: Annotated[
        int, _number("--max-connections", 60_000, "Connections that are open.")
    ] = Settings.connections,
    body_bytes: Annotated[
        float, _size("--max-body", 1024, "MB", "A request's size, decompressed.")
    ] = Settings.body_bytes / MEGABYTE,
    held_bytes: Annotated[
        float, _size("--max-held", 2**20, "MB", "All bodies until they are answered, decompressed.")
    ] = Settings.held_bytes / MEGABYTE,
    pixels: Annotated[
        float, _size("--max-pixels", 1000, "MILLIONS", "A picture's size.")
    ] = Settings.pixels / MEGAPIXEL,
    files: Annotated[
        int, _number("--max-files", 1000, "Pictures in one request.")
    ] = Settings.files,
    images: Annotated[
        int, _number("--max-images", 10_000, "28x28 images in one request of the protocol.")
    ] = Settings.images,
    waiting_tensors: Annotated[
        int, _number("--max-waiting", 100_000, WAITING)
    ] = Settings.waiting_tensors,
    waiting_photos: Annotated[
        int, _number("--max-waiting-photos", 10_000, "Pictures that wait to be prepared.")
    ] = Settings.waiting_photos,
    rate: Annotated[float, _size("--rate", 1e6, "N", RATE, 0)] = Settings.rate,
    burst: Annotated[
        int, _number("--burst", 1_000_000, "Requests from one address before --rate counts.")
    ] = Settings.burst,
    deadline_seconds: Annotated[
        float, _seconds("--deadline", "From a whole request to its answer.")
    ] = Settings.deadline_seconds,
    header_seconds: Annotated[
        float, _seconds("--header-deadline", "Until a request's headers came.")
    ] = Settings.header_seconds,
    body_seconds: Annotated[
        float, _seconds("--body-deadline", "From there until its body came.")
    ] = Settings.body_seconds,
    idle_seconds: Annotated[
        float, _seconds("--idle-deadline", "Until a connection's next request begins.")
    ] = Settings.idle_seconds,
    stop_seconds: Annotated[
        float, _seconds("--stop-deadline", "For requests to finish when the server is to stop.")
    ] = Settings.stop_seconds,
    as_json: Json = False,
) -> None:
    """Serve the web page, the JSON API and the Open Inference Protocol v2.

    Prints the address when it answers, logs on stderr, and goes on until Ctrl-C or SIGTERM; then it
    finishes the requests it has. The environment may stand for options: FMNIST_SERVE_MAX_BODY=5 for
    --max-body 5. Limits are those of one worker.

    Example: `fmnist serve --port 8080`
    """
    chosen = locals()
    del chosen["as_json"]
    _refuse_empty_secret()
    _hold_standard_files()
    settings = Settings(**{**chosen, **_in_units_of_settings(chosen)})
    from fmnist.serving.listener import open_listener

    with open_listener(settings) as listener:
        _serve(settings, listener, _announcer(settings, listener, as_json))


def _in_units_of_settings(chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Return the choices that settings have in other units or types."""
    units = {"body_bytes": MEGABYTE, "held_bytes": MEGABYTE, "pixels": MEGAPIXEL}
    sizes = {name: round(chosen[name] * unit) for name, unit in units.items()}
    lists = {name: tuple(chosen[name] or ()) for name in ("allowed_hosts", "proxies")}
    return sizes | lists


def _refuse_empty_secret() -> None:
    """Raise for a token that got lost on its way: Click takes an empty variable for none."""
    for variable in (f"{PREFIX}TOKEN", f"{PREFIX}TOKEN_FILE"):
        if os.environ.get(variable) == "":
            raise typer.BadParameter("give it a value, or unset it", param_hint=variable)


def _hold_standard_files() -> None:
    """Open what the caller closed of stdin, stdout and stderr, so that no socket takes its place.

    Else what is printed would go to a client, and libuv ends a process that closes such a socket.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)  # by workers, which have the same need
    os.close(descriptor)


def _serve(settings: Settings, listener: socket.socket, announce: "Announce") -> None:
    # The first process of a container, as which we may run, ignores what it has no handler for.
    signal.signal(signal.SIGTERM, _leave)
    if settings.workers > 1:
        from fmnist.serving.workers import serve_with_workers

        serve_with_workers(settings, listener, announce)
    else:
        from fmnist.serving.server import serve_alone

        serve_alone(settings, listener, announce)


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    """End, before there is a server to stop."""
    raise SystemExit(0)


def _announcer(settings: Settings, listener: socket.socket, as_json: bool) -> "Announce":
    """Return what prints where the server answers."""
    from fmnist.serving.listener import url_elsewhere, url_of

    url, elsewhere = url_of(settings, listener), url_elsewhere(settings, listener)
    port = listener.getsockname()[1]

    def announce(identity: "Identity") -> None:
        _warn_of_insecure(settings)
        told = {
            "url": url,
            "host": settings.host,
            "port": port,
            "pid": os.getpid(),
            "workers": settings.workers,
            "model": identity._asdict(),
        }
        with contextlib.suppress(OSError):  # nobody reads it: no reason to stop
            if as_json:
                console.print_json(told)
            else:
                print("\n".join(filter(None, [url, elsewhere])), flush=True)
            if sys.stderr is not None and sys.stderr.isatty():
                print("Ctrl-C ends it; log lines follow", file=sys.stderr, flush=True)

    return announce


def _warn_of_insecure(settings: Settings) -> None:
    if settings.tokens or is_loopback(settings.host):
        return
    from fmnist.serving.logs import log

    log.warning("insecure: other machines may ask without a token")
