"""Images of no class, drawn by the program, for a network to learn to be unsure about.

Shapes, strokes as of digits, blobs, noise, garments of which only a part is there, and two halves
that do not belong together. A network that is asked to answer all classes alike for such images
answers other strangers with less confidence too: outlier exposure (D. Hendrycks et al., ICLR 2019,
arXiv 1812.04606), here without any outside data set.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Image28: TypeAlias = NDArray[np.uint8]
Garments: TypeAlias = NDArray[np.uint8]  # (n, 28, 28), to cut parts from
Draw: TypeAlias = Callable[[np.random.Generator, Garments], NDArray[np.uint8]]

SIDE = 28
CANVAS = 3 * SIDE  # what is drawn by hand is drawn larger and then made small, as photos are
FAINT = 20  # of 255: what counts as background when an image is trimmed
SHAPES = 2  # a drawing is made of up to so many


def draw_strangers(count: int, garments: Garments, seed: int) -> NDArray[np.uint8]:
    """Return `count` images of no class, (count, 28, 28) uint8, background 0.

    Parts and halves are cut from `garments` (n, 28, 28); the same arguments give the same images.
    """
    generator = np.random.default_rng((seed, count))
    kinds, shares = list(KINDS), np.array(list(KINDS.values()))
    drawn: list[NDArray[np.uint8]] = []
    while len(drawn) < count:
        kind = kinds[generator.choice(len(kinds), p=shares / shares.sum())]
        image = kind(generator, garments)
        image = image if image.shape == (SIDE, SIDE) else _fit(image)
        if image.max() > FAINT:
            drawn.append(image)
    return np.array(drawn, np.uint8).reshape(-1, SIDE, SIDE)


def _shapes(generator: np.random.Generator, garments: Garments) -> NDArray[np.uint8]:
    """Ellipses, parts of them, boxes and polygons."""
    canvas = Image.new("L", (CANVAS, CANVAS))
    pen = ImageDraw.Draw(canvas)
    for _ in range(generator.integers(1, SHAPES + 1)):
        grey = int(generator.integers(60, 256))
        if generator.random() < 0.4:
            left, top = generator.uniform(0, CANVAS / 2, 2)
            width, height = generator.uniform(CANVAS / 6, CANVAS / 2, 2)
            end = int(generator.choice([180, 270, 360]))
            pen.pieslice((left, top, left + width, top + height), 0, end, fill=grey)
            canvas = canvas.rotate(float(generator.uniform(0, 360)), Image.Resampling.BILINEAR)
            pen = ImageDraw.Draw(canvas)
        else:
            corners = int(generator.integers(3, 13))
            angles = np.sort(generator.uniform(0, 2 * np.pi, corners))
            radii = generator.uniform(CANVAS / 7, CANVAS / 2, corners)
            points = CANVAS / 2 + radii * np.stack([np.cos(angles), np.sin(angles)])  # (2, corners)
            pen.polygon([(float(x), float(y)) for x, y in points.T], fill=grey)
    return np.array(canvas)


def _strokes(generator: np.random.Generator, garments: Garments) -> NDArray[np.uint8]:
    """Cubic curves of a broad pen, as digits and letters are made of."""
    canvas = Image.new("L", (CANVAS, CANVAS))
    pen = ImageDraw.Draw(canvas)
    width = int(generator.integers(CANVAS // 20, CANVAS // 6))
    t = np.linspace(0, 1, 24)[:, None]
    for _ in range(generator.integers(1, 4)):
        a, b, c, d = generator.uniform(CANVAS / 7, CANVAS * 6 / 7, (4, 2))
        curve = (1 - t) ** 3 * a + 3 * (1 - t) ** 2 * t * b + 3 * (1 - t) * t**2 * c + t**3 * d
        points = [(float(x), float(y)) for x, y in curve]
        pen.line(points, fill=int(generator.integers(150, 256)), width=width, joint="curve")
    return np.array(canvas)


def _blobs(generator: np.random.Generator, garments: Garments) -> NDArray[np.uint8]:
    """Shapes without straight lines, with a texture."""
    outline = _field(generator, int(generator.integers(3, 7)), CANVAS)
    texture = _field(generator, int(generator.integers(3, 20)), CANVAS)
    grey = np.clip(generator.uniform(60, 230) + 30 * texture, FAINT, 255)
    return np.asarray((outline > generator.uniform(0, 1)) * grey, np.uint8)


def _noise(generator: np.random.Generator, garments: Garments) -> NDArray[np.uint8]:
    """Noise of all frequencies, of low ones, around a grey, or of few points."""
    grey: NDArray[np.floating[Any]]
    match generator.integers(4):
        case 0:
            grey = generator.uniform(0, 255, (SIDE, SIDE))
        case 1:
            grey = generator.normal(generator.uniform(20, 255), 60 * generator.random(), (28, 28))
        case 2:
            coarse = _field(generator, int(generator.integers(2, 9)), SIDE)
            grey = 128 + generator.uniform(20, 100) * coarse
        case _:
            grey = 255.0 * (generator.random((SIDE, SIDE)) < generator.uniform(0.01, 0.3))
    return np.clip(grey, 0, 255).astype(np.uint8)


def _part(generator: np.random.Generator, garments: Garments) -> NDArray[np.uint8]:
    """A third to half of a garment, from one of its ends, blown up; its shape may be stretched."""
    garment = garments[generator.integers(len(garments))]
    cut = int(generator.integers(SIDE // 3, SIDE // 2 + 2))
    ends = garment[:cut], garment[-cut:], garment[:, :cut], garment[:, -cut:]
    part = ends[generator.choice(4, p=(0.4, 0.4, 0.1, 0.1))]
    size = 3 * part.shape[1], round(3 * part.shape[0] * generator.uniform(0.8, 1.2))
    return np.array(Image.fromarray(part).resize(size, Image.Resampling.BILINEAR))


def _halves(generator: np.random.Generator, garments: Garments) -> NDArray[np.uint8]:
    """One garment's upper or left part on another's."""
    one, other = garments[generator.integers(len(garments), size=2)]
    cut = int(generator.integers(8, 20))
    if generator.random() < 0.5:
        return np.concatenate([one[:cut], other[cut:]])
    return np.concatenate([one[:, :cut], other[:, cut:]], axis=1)


# How often each kind is drawn.
KINDS: dict[Draw, float] = {
    _shapes: 0.2,
    _strokes: 0.15,
    _blobs: 0.2,
    _noise: 0.1,
    _part: 0.25,
    _halves: 0.1,
}


def _field(generator: np.random.Generator, coarse: int, side: int) -> NDArray[np.float32]:
    """Return smooth noise (side, side) of mean 0 and variance about 1, `coarse` knots a side."""
    knots = Image.fromarray(generator.normal(size=(coarse, coarse)).astype(np.float32))
    return np.asarray(knots.resize((side, side), Image.Resampling.BICUBIC), np.float32)


def _fit(drawn: NDArray[np.uint8]) -> Image28:
    """Trim a drawing, make its longest edge 28 and centre it, as photos are."""
    rows, columns = np.nonzero(drawn > FAINT)
    if len(rows) == 0:
        return np.zeros((SIDE, SIDE), np.uint8)
    trimmed = drawn[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    scale = SIDE / max(trimmed.shape)
    height, width = (max(1, round(length * scale)) for length in trimmed.shape)
    small = Image.fromarray(trimmed).resize((width, height), Image.Resampling.BOX)
    image = np.zeros((SIDE, SIDE), np.uint8)
    top, left = (SIDE - height) // 2, (SIDE - width) // 2
    image[top : top + height, left : left + width] = np.asarray(small)
    return image
