"""The bar of a download, on stderr, and only where that is a terminal."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress

logger = logging.getLogger("fmnist")


class DownloadBar:
    """What pooch wants of a progress bar, drawn by rich."""

    def __init__(self, progress: "Progress", name: str) -> None:
        self.progress = progress
        self.task = progress.add_task(name, total=None)
        self.total = 0

    def update(self, advance: int) -> None:
        """`advance` more bytes are there."""
        self.progress.update(self.task, advance=advance, total=self.total or None)

    def reset(self) -> None:
        """Begin again at no bytes."""
        self.progress.reset(self.task)

    def close(self) -> None:
        """Nothing: the context manager closes the display."""


@contextmanager
def download_bar(name: str) -> Iterator[DownloadBar | None]:
    """A bar called `name`; None where stderr is no terminal or "fmnist" logs no warnings."""
    if not sys.stderr.isatty() or not logger.isEnabledFor(logging.WARNING):
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield DownloadBar(progress, name)
