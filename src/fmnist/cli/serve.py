"""The verb `serve`."""

import contextlib
import os
import socket
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fmnist import console
from fmnist.cli.options import Json

if TYPE_CHECKING:
    from fmnist.serving.identity import Identity
    from fmnist.serving.server import Announce
    from fmnist.serving.settings import Settings

MEGABYTE = 2**20
MEGAPIXEL = 10**6
TOKEN_VARIABLE = "FMNIST_SERVE_TOKEN"


class WhoReadsMetrics(StrEnum):
    """Who may read /metrics."""

    token = "token"
    open = "open"
    off = "off"


def _option(panel: str, variable: str, help: str, **more: Any) -> Any:
    """Return an option that an environment variable may give too."""
    return typer.Option(help=help, rich_help_panel=panel, envvar=f"FMNIST_SERVE_{variable}", **more)


def serve(
    model: Annotated[
        Path | None,
        typer.Argument(
            metavar="[RUN|FILE.onnx]",
            help="Serve this, not the classifier that comes with fmnist.",
            show_default=False,
        ),
    ] = None,
    host: Annotated[
        str, _option("Server", "HOST", "Address to listen on; 0.0.0.0: all of this machine.")
    ] = "127.0.0.1",
    port: Annotated[int, _option("Server", "PORT", "0: any free one.", min=0, max=65535)] = 8000,
    workers: Annotated[
        int,
        _option(
            "Server",
            "WORKERS",
            "Processes; each holds the model and its own queues.",
            min=1,
            max=64,
        ),
    ] = 1,
    access_log: Annotated[
        bool,
        typer.Option(
            "--access-log/--no-access-log",
            help="Log each request on stderr.",
            rich_help_panel="Server",
            envvar="FMNIST_SERVE_ACCESS_LOG",
        ),
    ] = True,
    as_json: Json = False,
    token: Annotated[
        str | None,
        _option(
            "Access",
            "TOKEN",
            "Secret that clients must send; needed where other machines can ask. Rather set the "
            "environment variable: other users of this machine see what is on a command line.",
            show_default=False,
            metavar="SECRET",
        ),
    ] = None,
    insecure: Annotated[
        bool,
        typer.Option(
            "--insecure",
            help="Let other machines ask without a token.",
            rich_help_panel="Access",
            envvar="FMNIST_SERVE_INSECURE",
        ),
    ] = False,
    allowed_host: Annotated[
        list[str] | None,
        _option(
            "Access",
            "ALLOWED_HOST",
            "Name that clients may use for this server, besides its addresses and localhost; may "
            "be repeated.",
            show_default=False,
            metavar="NAME",
        ),
    ] = None,
    metrics: Annotated[
        WhoReadsMetrics,
        _option("Access", "METRICS", "Who may read /metrics: who has the token, all, nobody."),
    ] = WhoReadsMetrics.token,
    max_body: Annotated[
        float,
        _option(
            "Limits", "MAX_BODY", "Of a request, decompressed.", min=0.001, max=1024, metavar="MB"
        ),
    ] = 20,
    max_pixels: Annotated[
        float,
        _option("Limits", "MAX_PIXELS", "Of one picture.", min=0.001, max=1000, metavar="MILLIONS"),
    ] = 50,
    max_files: Annotated[
        int, _option("Limits", "MAX_FILES", "Pictures in one request.", min=1, max=1000)
    ] = 16,
    max_images: Annotated[
        int,
        _option(
            "Limits", "MAX_IMAGES", "28x28 images in one request of the protocol.", min=1, max=10000
        ),
    ] = 256,
    max_waiting: Annotated[
        int,
        _option(
            "Limits",
            "MAX_WAITING",
            "Requests of each worker that wait for the network; more are told to come back.",
            min=1,
            max=100_000,
        ),
    ] = 1024,
    max_waiting_photos: Annotated[
        int,
        _option(
            "Limits",
            "MAX_WAITING_PHOTOS",
            "Pictures of each worker that wait to be prepared.",
            min=1,
            max=10_000,
        ),
    ] = 32,
    rate: Annotated[
        float,
        _option(
            "Limits",
            "RATE",
            "Requests a second that one address may send to each worker; 0: any number.",
            min=0,
            max=1e6,
        ),
    ] = 0,
    deadline: Annotated[
        float,
        _option(
            "Limits",
            "DEADLINE",
            "From a whole request to its answer.",
            min=0.1,
            max=3600,
            metavar="SECONDS",
        ),
    ] = 10,
    header_deadline: Annotated[
        float,
        _option(
            "Limits",
            "HEADER_DEADLINE",
            "For the headers of a request to arrive.",
            min=0.1,
            max=3600,
            metavar="SECONDS",
        ),
    ] = 10,
    body_deadline: Annotated[
        float,
        _option(
            "Limits",
            "BODY_DEADLINE",
            "For the body of a request to arrive.",
            min=0.1,
            max=3600,
            metavar="SECONDS",
        ),
    ] = 30,
    stop_deadline: Annotated[
        float,
        _option(
            "Limits",
            "STOP_DEADLINE",
            "For requests to finish when the server is told to stop (SIGTERM, Ctrl-C).",
            min=0.1,
            max=3600,
            metavar="SECONDS",
        ),
    ] = 25,
) -> None:
    """Serve the web page, the JSON API and the Open Inference Protocol v2.

    Prints the address when it answers, logs on stderr, and goes on until Ctrl-C.

    Example: `fmnist serve --port 8080`
    """
    if os.environ.get(TOKEN_VARIABLE) == "" and token is None:
        raise typer.BadParameter("is empty; name a secret or unset it", param_hint=TOKEN_VARIABLE)
    from fmnist.serving.listener import open_listener
    from fmnist.serving.settings import MetricsChoice, Settings

    settings = Settings(
        model=model,
        host=host,
        port=port,
        allowed_hosts=tuple(allowed_host or ()),
        token=token,
        insecure=insecure,
        metrics=MetricsChoice(metrics.value),
        workers=workers,
        access_log=access_log,
        body_bytes=round(max_body * MEGABYTE),
        pixels=round(max_pixels * MEGAPIXEL),
        files=max_files,
        images=max_images,
        waiting_tensors=max_waiting,
        waiting_photos=max_waiting_photos,
        rate=rate,
        deadline_seconds=deadline,
        header_seconds=header_deadline,
        body_seconds=body_deadline,
        stop_seconds=stop_deadline,
    )
    with open_listener(settings) as listener:
        _serve(settings, listener, _announcer(settings, listener, as_json))


def _serve(settings: "Settings", listener: socket.socket, announce: "Announce") -> None:
    if settings.workers > 1:
        from fmnist.serving.workers import serve_with_workers

        serve_with_workers(settings, listener, announce)
    else:
        from fmnist.serving.server import serve as serve_alone

        serve_alone(settings, listener, announce)


def _announcer(settings: "Settings", listener: socket.socket, as_json: bool) -> "Announce":
    """Return what prints, once, where the server answers."""
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
        with contextlib.suppress(OSError):  # nobody reads it any more: no reason to stop
            if as_json:
                console.print_json(told)
            else:
                print(url, flush=True)

    return announce
