"""The gallery: what was put in, what the model saw and what it said, as one HTML file.

Pictures are written as they come, so that memory stays flat; the summary on top, known last, is put
before them at the end.
"""

import base64
import contextlib
import errno
import io
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TextIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fmnist.files import written_whole
from fmnist.reporting.mistakes import data_uri
from fmnist.reporting.templates import load_template

THUMBNAIL = 280  # pixels, the longest side: twice what the page shows, for dense screens
JPEG_QUALITY = 82  # about 10 kB a thumbnail
TINY = 56  # pixels: what is no larger is shown pixel by pixel


@dataclass(frozen=True, eq=False)
class Answered:
    """A picture and what was said of it.

    `top` is (label, probability 0..1), the likeliest first, as many as are to be shown; `image` is
    (28, 28) uint8, what the model saw. The others are (h, w, 3) uint8 RGB, or None where there is
    none: the picture itself, its cut-out, and the picture with a heat map of what counted.
    `warnings` are advice in plain words.
    """

    name: str
    top: tuple[tuple[str, float], ...]
    accepted: bool
    image: NDArray[np.uint8]
    original: NDArray[np.uint8] | None = None
    cutout: NDArray[np.uint8] | None = None
    heat: NDArray[np.uint8] | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Unread:
    """A picture that could not be read, and why."""

    name: str
    reason: str


class Tile(NamedTuple):
    """One small picture on the page."""

    address: str
    caption: str
    pixelated: bool


class Gallery:
    """Takes pictures one by one; `open_gallery` makes the page of them."""

    def __init__(self, spool: TextIO, path: Path) -> None:
        """Write each picture's HTML to `spool`, on the disk where `path` will be."""
        self.labels: Counter[str] = Counter()  # of accepted answers
        self.unsure = self.unread = self.explained = 0
        self._numbers: dict[str, int] = {}  # a label's, in order of appearance; HTML needs a name
        self._spool, self._path = spool, path
        self._template = load_template("gallery_picture.html")

    def add(self, picture: Answered | Unread) -> None:
        """Put a picture on the page, after those before it."""
        if isinstance(picture, Unread):
            self.unread += 1
            reason = picture.reason.removeprefix(f"{picture.name}: ")
            self._write("unread", name=picture.name, reason=reason, tiles=())
        else:
            self.explained += picture.heat is not None
            self._write(
                self._count(picture), name=picture.name, picture=picture, tiles=_tiles(picture)
            )

    @property
    def filters(self) -> list[tuple[str, str, int]]:
        """What can be shown alone: key, text and count; the counts add up to all pictures."""
        classes = [
            (f"class-{self._numbers[label]}", label, count)
            for label, count in sorted(self.labels.items(), key=lambda item: (-item[1], item[0]))
        ]
        others = [("unsure", "Not sure", self.unsure), ("unread", "Not read", self.unread)]
        return classes + [other for other in others if other[2]]

    def _count(self, picture: Answered) -> str:
        """Count a picture and return the key of those that are shown with it."""
        if not picture.accepted:
            self.unsure += 1
            return "unsure"
        label = picture.top[0][0]
        self.labels[label] += 1
        return f"class-{self._numbers.setdefault(label, len(self._numbers))}"

    def _write(self, key: str, **values: object) -> None:
        try:
            self._spool.write(self._template.render(key=key, **values))
            self._spool.flush()
        except OSError as error:  # which knows no name: the disk is full
            raise OSError(error.errno, error.strerror, str(self._path)) from error


@contextlib.contextmanager
def open_gallery(path: Path, model: str = "") -> Iterator[Gallery]:
    """Yield a gallery that becomes the page `path` when the block ends, and only if it ends well.

    `model` says in a few words who answered. The page loads nothing from elsewhere and runs no
    script. Raises OSError where the page cannot be written: before the block if its folder cannot.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "is a folder; name a file for the gallery", str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    # Beside the page, because /tmp may be memory. A name with broken characters is still written.
    with tempfile.TemporaryFile(
        "w+", encoding="utf-8", errors="replace", newline="\n", dir=path.parent
    ) as spool:
        gallery = Gallery(spool, path)
        yield gallery
        spool.seek(0)
        _write_page(path, gallery, spool, model)


def _write_page(path: Path, gallery: Gallery, pictures: Iterator[str], model: str) -> None:
    page = load_template("gallery.html").generate(
        named=gallery.labels.total(),
        unsure=gallery.unsure,
        unread=gallery.unread,
        explained=gallery.explained,
        filters=gallery.filters,
        model=model,
        pictures=pictures,
    )
    with written_whole(path) as file:
        for part in page:
            file.write(part.encode("utf-8", errors="replace"))


def _tiles(picture: Answered) -> list[Tile]:
    """Return a picture's steps as far as there are any, the 28x28 image last."""
    steps = (
        (picture.original, "Picture"),
        (picture.heat, "What counted"),
        (picture.cutout, "Cut out"),
    )
    tiles = [_tile(pixels, caption) for pixels, caption in steps if pixels is not None]
    return [*tiles, Tile(data_uri(picture.image), "What it saw", True)]


def _tile(pixels: NDArray[np.uint8], caption: str) -> Tile:
    if max(pixels.shape[:2]) <= TINY:
        return Tile(data_uri(pixels), caption, True)
    thumbnail = Image.fromarray(pixels)
    thumbnail.thumbnail((THUMBNAIL, THUMBNAIL))
    file = io.BytesIO()
    thumbnail.save(file, format="jpeg", quality=JPEG_QUALITY, optimize=True)
    address = "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")
    return Tile(address, caption, False)
