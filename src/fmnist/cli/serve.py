"""The verb `serve`."""

import sys
from pathlib import Path
from typing import Annotated

import typer


def serve(
    model: Annotated[
        Path | None,
        typer.Argument(
            metavar="[RUN|FILE.onnx]",
            help="Serve this, not the classifier that comes with fmnist.",
            show_default=False,
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = 8000,
) -> None:
    """Serve the web page, the JSON API and the Open Inference Protocol v2.

    Example: `fmnist serve --port 8080`
    """
    from fmnist.serving.server import open_listener
    from fmnist.serving.server import serve as run
    from fmnist.serving.settings import Settings

    settings = Settings(model=model, host=host, port=port)
    listener = open_listener(settings)
    print(f"http://{host}:{listener.getsockname()[1]}", file=sys.stdout, flush=True)
    run(settings, listener)
