"""Drawn pictures of garments whose outline is known."""

import cv2
import numpy as np
from numpy.typing import NDArray

from garments import OUTLINES

HEIGHT, WIDTH = 400, 300
SHIRT, TROUSERS, BAG, BOOT = 0, 1, 8, 9

Mask = NDArray[np.bool_]
Pixels = NDArray[np.uint8]


def outline(label: int, share: float = 0.7) -> Mask:
    """Where a garment of class `label` is, (HEIGHT, WIDTH), over `share` of the width."""
    scale = WIDTH * share / 28
    canvas = np.zeros((HEIGHT, WIDTH), np.uint8)
    middle = np.array([WIDTH / 2, HEIGHT / 2])
    for polygon in OUTLINES[label]:
        corners = (np.array(polygon) - 14) * scale + middle
        cv2.fillPoly(canvas, [corners.round().astype(np.int32)], 1)
    return canvas > 0


def wall(seed: int = 0) -> Pixels:
    """A wall in warm light: uneven, grainy, with a darker floor."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    light = 1 - 0.25 * ((x - 90) ** 2 + (y - 120) ** 2) / (HEIGHT**2)
    colour = np.array([205.0, 190.0, 165.0]) * light[..., None]
    colour[340:] *= 0.75
    return clipped(colour + random.normal(0, 4, colour.shape))


def carpet(seed: int = 0) -> Pixels:
    """A carpet of two browns in stripes, grainy."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    stripes = (np.sin(x / 7 + y / 23) > 0)[..., None]
    colour = np.where(stripes, [120.0, 95.0, 70.0], [150.0, 125.0, 95.0])
    return clipped(colour + random.normal(0, 8, colour.shape))


def page(level: int = 253) -> Pixels:
    """A flat page."""
    return np.full((HEIGHT, WIDTH, 3), level, np.uint8)


def laid(ground: Pixels, mask: Mask, colour: tuple[int, int, int], seed: int = 1) -> Pixels:
    """A garment of one colour, with creases, on a ground."""
    random = np.random.default_rng(seed)
    creases = cv2.GaussianBlur(random.normal(0, 60, mask.shape), (0, 0), 6)
    fabric = np.array(colour, float) + creases[..., None]
    soft = cv2.GaussianBlur(mask.astype(float), (0, 0), 0.8)[..., None]
    return clipped(soft * fabric + (1 - soft) * ground)


def clipped(values: NDArray[np.floating]) -> Pixels:
    """As pixels."""
    return np.asarray(np.clip(values, 0, 255), np.uint8)
