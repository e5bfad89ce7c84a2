"""How the command line looks: results on stdout, progress on stderr."""

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from fmnist.training import Progress

LINE_SECONDS = 30.0  # between two lines of progress where there is no terminal


def print_json(value: Mapping[str, Any]) -> None:
    """Print one JSON object on one line of stdout."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n")
    sys.stdout.flush()


def print_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], title: str | None = None
) -> None:
    """Print a table on stdout, as wide as the terminal lets it or the text needs."""
    table = Table(box=box.SIMPLE_HEAD, show_header=any(columns), pad_edge=False)
    for column in columns:
        table.add_column(escape(column), overflow="fold")  # a path must not lose its end
    for row in rows:
        table.add_row(*[escape(cell) for cell in row])
    console = Console()
    if not console.is_terminal:
        console = Console(width=100_000)  # a file or a pipe has no edge to fold at
    if title:
        console.print(escape(title))
    console.print(table)


def percent(share: float) -> str:
    """Return 0.9254 as "92.54 %"."""
    return f"{100 * share:.2f} %"


def seconds(value: float) -> str:
    """Return a duration as a person says it: "0.04 s", "12.3 s", "2 min 05 s"."""
    if value < 60:
        return f"{value:.2f} s" if value < 1 else f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest:02d} s"


@contextlib.contextmanager
def training_progress(quiet: bool) -> "Iterator[Callable[[Progress], None]]":
    """Lend a function that shows a training's progress: a bar, or plain lines off a terminal."""
    if quiet:
        yield lambda progress: None
    elif sys.stderr.isatty():
        with _bar() as show:
            yield show
    else:
        yield _PlainLines().show


class _PlainLines:
    """A line an epoch, and one every LINE_SECONDS in long epochs."""

    def __init__(self) -> None:
        self.printed_at = time.monotonic()

    def show(self, progress: "Progress") -> None:
        now = time.monotonic()
        if progress.epoch_ended or now - self.printed_at >= LINE_SECONDS:
            self.printed_at = now
            print(_line(progress), file=sys.stderr, flush=True)


def _line(progress: "Progress") -> str:
    validation = ""
    if progress.validation_accuracy is not None:
        validation = f"  validation {percent(progress.validation_accuracy)}"
    return (
        f"epoch {progress.epoch}/{progress.epochs}  step {progress.step}/{progress.steps}  "
        f"loss {progress.loss:.4f}  accuracy {percent(progress.accuracy)}{validation}  "
        f"{progress.images_per_second:,.0f} images/s"
    )


@contextlib.contextmanager
def _bar() -> "Iterator[Callable[[Progress], None]]":
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar
    from rich.table import Column

    whole = Column(no_wrap=True, min_width=7)  # at 80 columns the bar gives way, never the time
    with Bar(
        TextColumn("epoch {task.fields[epoch]}", table_column=Column(no_wrap=True)),
        BarColumn(bar_width=None, table_column=Column(ratio=1, min_width=5)),
        TimeRemainingColumn(table_column=whole),
        TextColumn("left  {task.fields[figures]}", table_column=Column(no_wrap=True)),
        console=Console(stderr=True),
        expand=True,
    ) as bar:
        task = bar.add_task("train", total=None, epoch="", figures="")

        def show(progress: "Progress") -> None:
            validation = progress.validation_accuracy
            judged = "" if validation is None else f"  val {percent(validation)}"
            bar.update(
                task,
                completed=progress.step,
                total=progress.steps,
                epoch=f"{progress.epoch}/{progress.epochs}",
                figures=f"loss {progress.loss:.3f}{judged}  "
                f"{progress.images_per_second:,.0f} images/s",
            )

        yield show
