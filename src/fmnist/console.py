"""How the command line looks: results on stdout, progress on stderr."""

import contextlib
import csv
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fmnist.training import Progress

BLOCKS = 28  # pixels: the image that a network sees, one to one
SHADES = " ░▒▓█"  # from black to white, on a dark terminal
LINE_SECONDS = 30.0  # between two lines of progress where there is no terminal


def print_json(value: Mapping[str, Any]) -> None:
    """Print one JSON object on one line of stdout."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    if printable(text) != text:  # for example a file's name with U+2028, which ends a line too
        text = json.dumps(value, allow_nan=False)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def print_csv(row: Sequence[str]) -> None:
    """Print one row of CSV on stdout; a line break within a cell stays, in quotes."""
    csv.writer(sys.stdout, lineterminator="\n").writerow([_encodable(cell) for cell in row])
    sys.stdout.flush()


def printable(text: str) -> str:
    """Return text that moves no cursor and that stdout can write, the rest as escapes."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return _encodable(shown)


def _encodable(text: str) -> str:
    encoding = sys.stdout.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def print_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], title: str | None = None
) -> None:
    """Print a table on stdout, as wide as the terminal lets it or the text needs."""
    table = Table(box=box.SIMPLE_HEAD, show_header=any(columns), pad_edge=False)
    for column in columns:
        table.add_column(escape(column), overflow="fold")  # a path must not lose its end
    for row in rows:
        table.add_row(*[escape(cell) for cell in row])
    console = wide_console()
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
def picture_progress(pictures: int, *, lines_for_people: bool) -> "Iterator[PictureProgress]":
    """Lend what counts `pictures` on a bar on stderr and prints beside it.

    There is no bar where stderr is no terminal, and none under JSON or CSV on the same terminal,
    whose lines it would break.
    """
    out = wide_console()
    if pictures and sys.stderr.isatty() and (lines_for_people or not out.is_terminal):
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

        # On one terminal the bar and the lines above it have to be of one console.
        console = out if out.is_terminal else Console(stderr=True)
        columns = BarColumn(bar_width=None), MofNCompleteColumn(), TimeRemainingColumn()
        with Progress(
            *columns,
            console=console,
            redirect_stdout=out.is_terminal,
            transient=True,
            expand=True,
        ) as bar:
            task = bar.add_task("predict", total=pictures)
            yield PictureProgress(out, lambda: bar.advance(task))
    else:
        yield PictureProgress(out, lambda: None)


@dataclass(frozen=True)
class PictureProgress:
    """`out` prints on stdout beside the bar, `advance` counts one picture."""

    out: Console
    advance: Callable[[], None]


def wide_console() -> Console:
    """Return stdout; a file or a pipe has no edge to fold at."""
    console = Console()
    return console if console.is_terminal else Console(width=100_000)


def blocks(image: "NDArray[np.uint8]", out: Console) -> Text | None:
    """Return a picture, (28, 28) grey or (h, w, 3) RGB, as text; None where `out` cannot show it.

    A character is two pixels, one above the other: in their own colours where there are enough,
    else as their mean in five steps. A larger picture is made BLOCKS wide or high.
    """
    if not out.is_terminal or not out.encoding.startswith("utf") or out.legacy_windows:
        return None
    import numpy as np
    from PIL import Image

    small = Image.fromarray(image).convert("RGB")
    small.thumbnail((BLOCKS, BLOCKS))
    rows = np.pad(np.asarray(small), ((0, small.height % 2), (0, 0), (0, 0))).tolist()
    colours, text = out.color_system in ("truecolor", "256"), Text(no_wrap=True)
    for upper_row, lower_row in zip(rows[::2], rows[1::2], strict=True):
        for upper, lower in zip(upper_row, lower_row, strict=True):
            if colours:
                text.append("▀", f"{_rgb(upper)} on {_rgb(lower)}")
            else:
                text.append(SHADES[sum(upper + lower) * len(SHADES) // (6 * 255 + 1)])
        text.append("\n")
    text.right_crop()
    return text


def _rgb(colour: list[int]) -> str:
    return f"rgb({','.join(map(str, colour))})"


@contextlib.contextmanager
def doing() -> "Iterator[Callable[[str], None]]":
    """Lend a function that shows on stderr what is being done, where that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda what: None
        return
    with Console(stderr=True).status("reading") as status:
        yield lambda what: status.update(escape(what))


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
