"""The verbs of the command line: each parses, calls the room that does the work, and prints.

Data goes to stdout, progress and logs to stderr. Exit status: 0 done, 1 the work failed (one line
says what and what to do), 2 bad usage, 128 + n stopped by signal n. Heavy imports stand inside the
verbs, so that help answers at once.
"""

import atexit
import gc
import logging
import os
import sys
from typing import Annotated

import typer

from fmnist.cli.audit import audit
from fmnist.cli.bench import bench
from fmnist.cli.compare import compare
from fmnist.cli.data import data
from fmnist.cli.doctor import doctor
from fmnist.cli.evaluate import evaluate
from fmnist.cli.export import export
from fmnist.cli.leaderboard import leaderboard
from fmnist.cli.predict import predict
from fmnist.cli.recipes import recipes
from fmnist.cli.report import report
from fmnist.cli.serve import ServeCommand, serve
from fmnist.cli.train import train
from fmnist.errors import FmnistError, Stopped, missing_extra

app = typer.Typer(
    name="fmnist",
    help="Fashion-MNIST: get the data, train a classifier, judge it, show it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)

VERBS = (
    data,
    recipes,
    train,
    evaluate,
    bench,
    compare,
    leaderboard,
    audit,
    report,
    export,
    predict,
    serve,
    doctor,
)
for verb in VERBS:
    app.command(cls=ServeCommand if verb is serve else None)(verb)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"fmnist {version('fmnist')}")
        raise typer.Exit


@app.callback()
def root(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    """Set what holds for every verb."""
    logging.getLogger("fmnist").setLevel(logging.INFO)
    if debug:
        os.environ["FMNIST_DEBUG"] = "1"


def main() -> None:
    """Run the command line; a user's error is one line on stderr."""
    atexit.register(gc.freeze)  # what is left goes with the process; to collect it takes 0.05 s
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("fmnist: %(message)s"))
    logging.getLogger("fmnist").addHandler(handler)
    try:
        app()
    except (FmnistError, OSError, ModuleNotFoundError) as error:
        if os.environ.get("FMNIST_DEBUG"):
            raise
        sys.exit(_explain(error))
    except SystemExit as end:
        if end.code == 130:  # what Typer makes of Ctrl-C
            print("fmnist: interrupted", file=sys.stderr)
        raise


def _explain(error: Exception) -> int:
    """Print a user's error as one line and return the exit status; re-raise what is our own."""
    if isinstance(error, ModuleNotFoundError):
        missing = missing_extra(error)
        if missing is None:
            raise error
        error = missing
    if isinstance(error, OSError):
        error = FmnistError(f"{error.filename or 'a file'}: {error.strerror or error}")
    print(f"fmnist: {error}", file=sys.stderr)
    return 128 + error.signal if isinstance(error, Stopped) else 1
