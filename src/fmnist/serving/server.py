"""The server process: its socket, its protocol's deadlines, its workers, its end."""

import signal
import socket
from functools import partial

import uvicorn
from uvicorn.supervisors import Multiprocess

from fmnist.errors import RunError
from fmnist.serving.app import create_app
from fmnist.serving.settings import Settings


def serve(settings: Settings, listener: socket.socket) -> None:
    """Serve until SIGTERM or SIGINT; requests in flight are finished first."""
    config = uvicorn.Config(
        partial(create_app, settings),
        factory=True,
        workers=settings.workers,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        lifespan="on",
        timeout_graceful_shutdown=round(settings.stop_seconds),
    )
    # uvicorn raises the signal that ended it again, for whom this would be a failure.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    if settings.workers > 1:
        Multiprocess(config, [listener]).run()
    else:
        uvicorn.Server(config).run([listener])


def open_listener(settings: Settings) -> socket.socket:
    """Return a socket that listens where the settings say; raise RunError where it cannot."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=2048)
    except OSError as error:
        raise RunError(
            f"cannot listen on {settings.host} port {settings.port} ({error.strerror}); "
            "name another with --port"
        ) from error
