"""What several verbs share: options, and how a result is printed."""

import logging
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from fmnist import console


class DeviceChoice(StrEnum):
    """Where a network runs."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
    mps = "mps"


class SplitChoice(StrEnum):
    """What a model can be judged on."""

    validation = "validation"
    test = "test"


class SuiteChoice(StrEnum):
    """How much a model is asked."""

    basic = "basic"
    full = "full"


DataDir = Annotated[
    Path | None,
    typer.Option(help="Folder with the four files of Fashion-MNIST.", show_default=False),
]

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on one line of stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Nothing but the result and errors.")]
DeviceOption = Annotated[DeviceChoice, typer.Option(help="auto: CUDA, then MPS, then the CPU.")]
RunDirectory = Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")]


def show(
    result: dict[str, Any], for_people: Callable[[dict[str, Any]], None], as_json: bool
) -> None:
    """Print a verb's result on stdout."""
    if as_json:
        console.print_json(result)
    else:
        for_people(result)


def set_log_level(quiet: bool) -> None:
    """Let only errors through where the user asked for quiet."""
    logging.getLogger("fmnist").setLevel(logging.ERROR if quiet else logging.INFO)
