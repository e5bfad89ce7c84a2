"""A picture of samples: ten rows, a class each."""

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fmnist.data.dataset import Dataset
from fmnist.data.idx import Images
from fmnist.data.official import CLASS_NAMES
from fmnist.errors import DataError
from fmnist.files import write_whole

COLUMNS = 12
SIDE = 56  # pixels of a sample on the sheet: twice its 28
GAP = 6
LEFT = 176  # for the class names
TOP = 56  # for the title
MARGIN = 20
PAPER, INK, FAINT = 255, 20, 110


def write_sheet(dataset: Dataset, path: Path) -> None:
    """Write a PNG of 12 training images of each class to `path`, whole or not at all.

    The images are those at equal distances through the class, so the sheet is always the same.
    Raises DataError where `path` cannot be written.
    """
    sheet = io.BytesIO()
    draw_sheet(dataset.train_images, dataset.train_labels).save(sheet, "PNG", optimize=True)
    try:
        write_whole(path, sheet.getvalue())
    except OSError as error:
        raise DataError(f"the sheet {path} cannot be written: {error.strerror}") from error


def draw_sheet(images: Images, labels: Images) -> Image.Image:
    """The sheet of images (n, 28, 28) and labels (n,), both uint8, as a grey picture."""
    pitch = SIDE + GAP
    size = (LEFT + COLUMNS * pitch + MARGIN - GAP, TOP + len(CLASS_NAMES) * pitch + MARGIN - GAP)
    sheet = Image.new("L", size, PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((MARGIN, 16), "Fashion-MNIST", INK, ImageFont.load_default(size=20))
    pen.text((LEFT, 21), f"{len(labels):,} training images, as the network sees them", FAINT,
             ImageFont.load_default(size=14))  # fmt: skip
    for label, name in enumerate(CLASS_NAMES):
        y = TOP + label * pitch
        pen.text((MARGIN, y + SIDE / 2), name, INK, ImageFont.load_default(size=16), anchor="lm")
        for column, index in enumerate(_samples(labels, label)):
            tile = Image.fromarray(images[index]).resize((SIDE, SIDE), Image.Resampling.NEAREST)
            sheet.paste(tile, (LEFT + column * pitch, y))
    return sheet


def _samples(labels: Images, label: int) -> list[int]:
    """Up to COLUMNS indices of `label`, at equal distances."""
    members = np.flatnonzero(labels == label)
    places = np.linspace(0, len(members), min(COLUMNS, len(members)), endpoint=False)
    return [int(index) for index in members[places.astype(np.int64)]]
