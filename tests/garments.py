"""Synthetic garments: a small data set of ten drawn classes, as real IDX files.

A few hundred images that a small network really learns, so that most tests need no download.
"""

import hashlib
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from fmnist.data.official import (
    OFFICIAL,
    TEST_IMAGES,
    TEST_LABELS,
    TRAIN_IMAGES,
    TRAIN_LABELS,
    Official,
    tree_sha256,
)

TRAIN_PER_CLASS = 48
TEST_PER_CLASS = 12
SCALE = 4  # drawn at 112 x 112, shrunk to 28 x 28

Array = npt.NDArray[np.uint8]
Polygon = list[tuple[float, float]]

# Outlines on a 28 x 28 grid, one list of polygons a class, in the order of the class names.
OUTLINES: tuple[list[Polygon], ...] = (
    [[(9, 4), (19, 4), (26, 9), (23, 13), (20, 11), (20, 25), (8, 25), (8, 11), (5, 13), (2, 9)]],
    [[(9, 2), (19, 2), (20, 26), (15, 26), (14, 8), (13, 26), (8, 26)]],
    [[(9, 4), (19, 4), (24, 8), (27, 24), (23, 25), (20, 12), (20, 24), (8, 24), (8, 12), (5, 25),
      (1, 24), (4, 8)]],
    [[(11, 1), (17, 1), (17, 10), (21, 27), (7, 27), (11, 10)]],
    [[(9, 2), (13, 2), (13, 27), (7, 27), (7, 12), (5, 24), (2, 24), (4, 6)],
     [(15, 2), (19, 2), (24, 6), (26, 24), (23, 24), (21, 12), (21, 27), (15, 27)]],
    [[(2, 22), (26, 22), (26, 24), (2, 24)], [(4, 17), (9, 14), (10, 16), (5, 21)],
     [(18, 10), (21, 9), (26, 21), (23, 21)]],
    [[(9, 3), (12, 3), (14, 7), (16, 3), (19, 3), (25, 10), (22, 15), (20, 12), (20, 22), (14, 26),
      (8, 22), (8, 12), (6, 15), (3, 10)]],
    [[(1, 18), (9, 16), (16, 11), (26, 13), (26, 20), (1, 20)]],
    [[(3, 12), (25, 12), (26, 26), (2, 26)], [(8, 12), (10, 5), (18, 5), (20, 12), (18, 12),
                                              (17, 7), (11, 7), (10, 12)]],
    [[(2, 19), (10, 17), (14, 3), (25, 3), (26, 25), (2, 25)]],
)  # fmt: skip


def draw(label: int, random: np.random.Generator) -> Array:
    """One garment of class `label`: (28, 28) uint8, moved, scaled, shaded and noisy."""
    stretch = random.uniform(0.82, 1.06, size=2)
    shift = random.uniform(-1.5, 1.5, size=2)
    canvas = Image.new("L", (28 * SCALE, 28 * SCALE))
    pen = ImageDraw.Draw(canvas)
    for polygon in OUTLINES[label]:
        corners = (np.array(polygon) - 14) * stretch + 14 + shift
        corners += random.normal(0, 0.35, size=corners.shape)
        pen.polygon(
            [(x * SCALE, y * SCALE) for x, y in corners], fill=int(random.integers(90, 250))
        )
    small = canvas.filter(ImageFilter.GaussianBlur(1)).resize((28, 28), Image.Resampling.BOX)
    pixels = np.asarray(small, dtype=np.float64)
    texture = random.normal(1, 0.15, size=pixels.shape)
    return np.clip(pixels * texture, 0, 255).astype(np.uint8)


def make(per_class: int, seed: int) -> tuple[Array, Array]:
    """Images (10 * per_class, 28, 28) and labels (10 * per_class,), shuffled, both uint8."""
    random = np.random.default_rng(seed)
    labels = random.permutation(np.repeat(np.arange(10, dtype=np.uint8), per_class))
    return np.stack([draw(int(label), random) for label in labels]), labels


def idx_bytes(array: Array) -> bytes:
    """`array` as an IDX file."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def write(folder: Path) -> None:
    """Write the four plain IDX files of 480 + 120 garments, the same ones each time."""
    folder.mkdir(parents=True, exist_ok=True)
    train, test = make(TRAIN_PER_CLASS, seed=1), make(TEST_PER_CLASS, seed=2)
    names = TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS
    for name, array in zip(names, (*train, *test), strict=True):
        (folder / name).write_bytes(idx_bytes(array))


def table(folder: Path) -> dict[str, Official]:
    """What the product would have to expect to accept the four files in `folder`."""
    expected = {}
    for name in OFFICIAL:
        content = (folder / name).read_bytes()
        rank = content[3]
        shape = struct.unpack(f">{rank}I", content[4 : 4 + 4 * rank])
        expected[name] = Official(hashlib.sha256(content).hexdigest(), tree_sha256(content), shape)
    return expected


def accept(folder: Path, put: Callable[[str, Official], object] = OFFICIAL.__setitem__) -> None:
    """Make this process take the four files in `folder` for the official ones."""
    for name, official in table(folder).items():
        put(name, official)
