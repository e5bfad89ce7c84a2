"""The verb `serve`."""

import contextlib
import os
import signal
import socket
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from fmnist import console
from fmnist.cli.options import Json
from fmnist.serving.settings import MetricsChoice, Settings

if TYPE_CHECKING:
    from fmnist.serving.identity import Identity
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


def _limit(name: str, help: str, **more: Any) -> Any:
    return _option(name, "Limits", help, **more)


def _seconds(name: str, help: str) -> Any:
    return _limit(name, help, min=0.1, max=3600, metavar="SECONDS")


Model = Annotated[
    Path | None,
    typer.Argument(
        metavar="[RUN|FILE.onnx]",
        help="Serve this, not the classifier that comes with fmnist.",
        show_default=False,
    ),
]
Host = Annotated[
    str, _option("--host", "Server", "Address to listen on; 0.0.0.0: all of this machine.")
]
Port = Annotated[int, _option("--port", "Server", "0: any free one.", min=0, max=65535)]
Workers = Annotated[
    int,
    _option(
        "--workers", "Server", "Processes; each has the model and its own limits.", min=1, max=64
    ),
]
AccessLog = Annotated[
    bool, _option("--access-log/--no-access-log", "Server", "Log each request on stderr.")
]
Token = Annotated[
    str | None,
    _option(
        "--token",
        "Access",
        "Secret that clients must send; needed where other machines can ask. Rather set "
        "FMNIST_SERVE_TOKEN: every user of this machine can read its command lines.",
        metavar="SECRET",
        show_default=False,
    ),
]
Insecure = Annotated[
    bool, _option("--insecure", "Access", "Let other machines ask without a token.")
]
AllowedHost = Annotated[
    list[str] | None,
    _option(
        "--allowed-host",
        "Access",
        "Name that clients may call this server by, besides its addresses and localhost; may be "
        "repeated.",
        metavar="NAME",
        show_default=False,
    ),
]
Proxy = Annotated[
    list[str] | None,
    _option(
        "--proxy",
        "Access",
        "Address or network of a proxy whose X-Forwarded-For is believed; may be repeated.",
        metavar="ADDRESS",
        show_default=False,
    ),
]
WhoReadsMetrics = Annotated[
    MetricsChoice,
    _option("--metrics", "Access", "Who may read /metrics: those with the token, all, or nobody."),
]
MaxBody = Annotated[
    float,
    _limit("--max-body", "A request's size, decompressed.", min=0.001, max=1024, metavar="MB"),
]
MaxArriving = Annotated[
    float,
    _limit("--max-arriving", "All bodies that are arriving.", min=0.001, max=2**20, metavar="MB"),
]
MaxConnections = Annotated[
    int, _limit("--max-connections", "Connections that are open.", min=1, max=60_000)
]
MaxPixels = Annotated[
    float,
    _limit("--max-pixels", "A picture's size.", min=0.001, max=1000, metavar="MILLIONS"),
]
MaxFiles = Annotated[int, _limit("--max-files", "Pictures in one request.", min=1, max=1000)]
MaxImages = Annotated[
    int,
    _limit("--max-images", "28x28 images in one request of the protocol.", min=1, max=10_000),
]
MaxWaiting = Annotated[
    int,
    _limit(
        "--max-waiting",
        "Requests that wait for the network; others are told to come back.",
        min=1,
        max=100_000,
    ),
]
MaxWaitingPhotos = Annotated[
    int,
    _limit("--max-waiting-photos", "Pictures that wait to be prepared.", min=1, max=10_000),
]
Rate = Annotated[
    float,
    _limit(
        "--rate", "Requests a second from one address; 0: any number.", min=0, max=1e6, metavar="N"
    ),
]
Burst = Annotated[
    int, _limit("--burst", "Requests from one address before --rate counts.", min=1, max=1_000_000)
]
IdleDeadline = Annotated[
    float, _seconds("--idle-deadline", "Until a connection's next request begins.")
]
Deadline = Annotated[float, _seconds("--deadline", "From a whole request to its answer.")]
HeaderDeadline = Annotated[float, _seconds("--header-deadline", "Until a request's headers came.")]
BodyDeadline = Annotated[float, _seconds("--body-deadline", "From there until its body came.")]
StopDeadline = Annotated[
    float, _seconds("--stop-deadline", "For requests to finish when the server is to stop.")
]


def serve(
    model: Model = None,
    host: Host = Settings.host,
    port: Port = Settings.port,
    workers: Workers = Settings.workers,
    access_log: AccessLog = Settings.access_log,
    token: Token = None,
    insecure: Insecure = False,
    allowed_host: AllowedHost = None,
    proxy: Proxy = None,
    metrics: WhoReadsMetrics = Settings.metrics,
    max_connections: MaxConnections = Settings.connections,
    max_body: MaxBody = Settings.body_bytes / MEGABYTE,
    max_arriving: MaxArriving = Settings.arriving_bytes / MEGABYTE,
    max_pixels: MaxPixels = Settings.pixels / MEGAPIXEL,
    max_files: MaxFiles = Settings.files,
    max_images: MaxImages = Settings.images,
    max_waiting: MaxWaiting = Settings.waiting_tensors,
    max_waiting_photos: MaxWaitingPhotos = Settings.waiting_photos,
    rate: Rate = Settings.rate,
    burst: Burst = Settings.burst,
    deadline: Deadline = Settings.deadline_seconds,
    header_deadline: HeaderDeadline = Settings.header_seconds,
    body_deadline: BodyDeadline = Settings.body_seconds,
    idle_deadline: IdleDeadline = Settings.idle_seconds,
    stop_deadline: StopDeadline = Settings.stop_seconds,
    as_json: Json = False,
) -> None:
    """Serve the web page, the JSON API and the Open Inference Protocol v2.

    Prints the address when it answers, logs on stderr, and goes on until Ctrl-C or SIGTERM; then it
    finishes the requests it has. The environment may stand for options: FMNIST_SERVE_MAX_BODY=5 for
    --max-body 5. Limits are those of one worker.

    Example: `fmnist serve --port 8080`
    """
    _refuse_empty_secret()
    _hold_standard_files()
    settings = Settings(
        model=model,
        host=host,
        port=port,
        workers=workers,
        access_log=access_log,
        token=token,
        insecure=insecure,
        allowed_hosts=tuple(allowed_host or ()),
        proxies=tuple(proxy or ()),
        metrics=metrics,
        connections=max_connections,
        body_bytes=round(max_body * MEGABYTE),
        arriving_bytes=round(max_arriving * MEGABYTE),
        pixels=round(max_pixels * MEGAPIXEL),
        files=max_files,
        images=max_images,
        waiting_tensors=max_waiting,
        waiting_photos=max_waiting_photos,
        rate=rate,
        burst=burst,
        deadline_seconds=deadline,
        header_seconds=header_deadline,
        body_seconds=body_deadline,
        idle_seconds=idle_deadline,
        stop_seconds=stop_deadline,
    )
    from fmnist.serving.listener import open_listener

    with open_listener(settings) as listener:
        _serve(settings, listener, _announcer(settings, listener, as_json))


def _refuse_empty_secret() -> None:
    """Raise for a token that got lost on its way: Click takes an empty variable for none."""
    if os.environ.get(f"{PREFIX}TOKEN") == "":
        raise typer.BadParameter("name a secret, or unset it", param_hint=f"{PREFIX}TOKEN")


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
        from fmnist.serving.server import serve as serve_alone

        serve_alone(settings, listener, announce)


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    """End, before there is a server to stop."""
    raise SystemExit(0)


def _announcer(settings: Settings, listener: socket.socket, as_json: bool) -> "Announce":
    """Return what prints where the server answers."""
    from fmnist.serving.listener import url_of

    url, port = url_of(settings, listener), listener.getsockname()[1]

    def announce(identity: "Identity") -> None:
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
                print(url, flush=True)

    return announce
