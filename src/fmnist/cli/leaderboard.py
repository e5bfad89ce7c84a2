"""The verb `leaderboard`."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from fmnist import tables
from fmnist.cli.options import Json, show


class Layout(StrEnum):
    """How the table is printed."""

    table = "table"
    markdown = "markdown"


def leaderboard(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[PATH]...",
            help="Folders that are searched for runs, seeds and what bench left. [default: runs]",
            show_default=False,
        ),
    ] = None,
    layout: Annotated[Layout, typer.Option("--format", help="How to print it.")] = Layout.table,
    page: Annotated[
        Path | None,
        typer.Option(metavar="FILE.html", help="Write it as a page too.", show_default=False),
    ] = None,
    audit: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="What `fmnist audit` wrote: give accuracies without the images it flags too.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Collect what was judged on the test split into one table: accuracy, spread, time, command.

    Seeds of one training are one row. What does not count is told on stderr.

    Example: `fmnist leaderboard runs --format markdown`
    """
    from fmnist.evaluation.comparison.leaderboard import leaderboard as collect
    from fmnist.reporting.leaderboard import as_markdown, write_page

    board = collect(paths or [Path("runs")], audit)
    if page is not None:
        write_page(page, board)
    if layout is Layout.markdown and not as_json:
        print(as_markdown(board))
    else:
        show(board, tables.print_leaderboard, as_json)
    for left_out in board["left_out"]:
        print(f"fmnist: left out: {left_out['reason']}", file=sys.stderr)
