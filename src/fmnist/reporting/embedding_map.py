"""The map of all test images: a point each, and a script that shows the image under the pointer."""

import base64
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fmnist.reporting.templates import source

SIDE = 1000  # of the static scatter, in its own units
PITCH = 32  # pixels from image to image in the sheet: whole JPEG blocks, so none bleeds over
COLUMNS = 100  # images in a row of the sheet
JPEG_QUALITIES = (40, 20, 10)  # the first of which the sheet is small enough
SHEET_BYTES = 3_000_000  # as JPEG: clothes are 1.7 MB, 10,000 images of noise would be 3.7 MB
STEPS = 65_535  # a coordinate is sent as uint16


@dataclass(frozen=True, eq=False)
class EmbeddingMap:
    """Where images lie and what was said of them, all in the order of their split.

    `points` is (n, 2) in any unit, `images` (n, 28, 28) uint8, `labels` and `predicted` (n,) uint8,
    `confidence` (n,) what the predicted class was given, 0..1. `made_of` says in a few words which
    numbers the map was made of.
    """

    points: NDArray[np.float32]
    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    predicted: NDArray[np.uint8]
    confidence: NDArray[np.float64]
    made_of: str


@dataclass(frozen=True)
class DrawnMap:
    """An embedding map as the page takes it.

    `places` and `answers` are base64: x, y as little-endian uint16, and true class, predicted class
    and confidence as uint8. `dots` are SVG path data by class, `titles` where each class's name
    stands, in 0..SIDE.
    """

    images: int
    made_of: str
    names: Sequence[str]
    places: str
    answers: str
    sheet: str
    dots: Sequence[str]
    titles: Sequence[tuple[str, int, int]]
    script: str
    script_hash: str
    columns: int = COLUMNS
    pitch: int = PITCH


def draw_map(embedding: EmbeddingMap, names: Sequence[str]) -> DrawnMap:
    """Return the map with its points, its sheet of small pictures (JPEG) and its script."""
    unit = _into_square(embedding.points)
    spots = np.rint(unit * SIDE).astype(int)
    confidence = np.rint(embedding.confidence * 255).astype(np.uint8)
    script = source("embedding_map.js")
    return DrawnMap(
        images=len(unit),
        made_of=embedding.made_of,
        names=names,
        places=_base64(np.rint(unit * STEPS).astype("<u2")),
        answers=_base64(np.stack([embedding.labels, embedding.predicted, confidence], axis=1)),
        sheet=_sheet(embedding.images),
        dots=[_dots(spots[embedding.labels == index]) for index in range(len(names))],
        titles=_titles(spots, embedding.labels, names),
        script=script,
        script_hash=f"sha256-{_base64(hashlib.sha256(script.encode()).digest())}",
    )


def _into_square(points: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the points in 0..1 with a margin, their proportions kept."""
    middle = (points.max(axis=0) + points.min(axis=0)).astype(np.float64) / 2
    half = max(float(np.ptp(points, axis=0).max()) / 2, 1e-9)
    unit: NDArray[np.float64] = 0.5 + 0.48 * (points - middle) / half
    return unit


def _dots(spots: NDArray[np.int_]) -> str:
    """Return lines of no length, which round caps make dots."""
    return "".join(f"M{x} {y}h0" for x, y in spots)


def _titles(
    spots: NDArray[np.int_], labels: NDArray[np.uint8], names: Sequence[str]
) -> list[tuple[str, int, int]]:
    """Return each class's name at the median of its points, moved down where another stands."""
    medians = [
        (name, *np.median(spots[labels == index], axis=0).astype(int).tolist())
        for index, name in enumerate(names)
        if (labels == index).any()
    ]
    placed: list[tuple[str, int, int]] = []
    for name, x, y in sorted(medians, key=lambda title: title[2]):
        while any(abs(y - other) < 40 and abs(x - near) < 190 for _, near, other in placed):
            y += 10
        placed.append((name, min(max(x, 100), SIDE - 100), y))
    return placed


def _sheet(images: NDArray[np.uint8]) -> str:
    """Return all images (n, 28, 28) side by side as one JPEG in a `data:` address."""
    rows = -(-len(images) // COLUMNS)
    cells = np.zeros((rows * COLUMNS, PITCH, PITCH), np.uint8)
    cells[: len(images), :28, :28] = images
    sheet = cells.reshape(rows, COLUMNS, PITCH, PITCH).swapaxes(1, 2)
    pixels = Image.fromarray(sheet.reshape(rows * PITCH, COLUMNS * PITCH))
    tried = (_jpeg(pixels, quality) for quality in JPEG_QUALITIES[:-1])
    fitting = next((file for file in tried if len(file) <= SHEET_BYTES), None)
    file = fitting or _jpeg(pixels, JPEG_QUALITIES[-1])
    return "data:image/jpeg;base64," + _base64(file)


def _jpeg(image: Image.Image, quality: int) -> bytes:
    file = io.BytesIO()
    image.save(file, format="jpeg", quality=quality, optimize=True)
    return file.getvalue()


def _base64(content: bytes | NDArray[np.generic]) -> str:
    data = content if isinstance(content, bytes) else np.ascontiguousarray(content).tobytes()
    return base64.b64encode(data).decode("ascii")
