"""Masks: (h, w) bool, true where the garment is. Their border, parts, holes and box."""

from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

Mask: TypeAlias = NDArray[np.bool_]
Box: TypeAlias = tuple[slice, slice]  # rows, columns


def ring(shape: tuple[int, ...], thickness: int) -> Mask:
    """Return the border of a picture of this shape, `thickness` px wide."""
    mask = np.zeros(shape[:2], bool)
    mask[:thickness] = mask[-thickness:] = True
    mask[:, :thickness] = mask[:, -thickness:] = True
    return mask


def disc(size: int) -> NDArray[np.uint8]:
    """Return a round structuring element of `size` px."""
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size)), np.uint8)


def box_of(mask: Mask) -> Box:
    """Return the rows and columns that hold all of a mask that is not empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def flooded(ground: Mask) -> Mask:
    """Return the parts of `ground` that reach the border of the picture."""
    _, parts = cv2.connectedComponents(ground.astype(np.uint8), connectivity=4)
    outer = np.unique(parts[ring(parts.shape, 1)])
    return np.isin(parts, outer[outer > 0])


def smoothed(mask: Mask) -> Mask:
    """Return `mask` without threads and cracks of a pixel or two."""
    opened = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, disc(3))
    return np.asarray(cv2.morphologyEx(opened, cv2.MORPH_CLOSE, disc(5)) > 0)


def without_threads(mask: Mask) -> Mask:
    """Return the largest part of `mask`, its holes filled, without ticks and letters around it."""
    solid = cv2.morphologyEx(filled(mask, np.inf).astype(np.uint8), cv2.MORPH_OPEN, disc(7))
    return main_parts(solid > 0, keep=1 - 1e-6)


def main_parts(mask: Mask, keep: float) -> Mask:
    """Return the parts that weigh, by size and nearness to the middle, `keep` of the heaviest."""
    height, width = mask.shape
    count, parts, stats, centres = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    if count < 2:
        return np.zeros(mask.shape, bool)
    away = np.hypot(centres[1:, 0] / width - 0.5, centres[1:, 1] / height - 0.5)
    weights = stats[1:, cv2.CC_STAT_AREA] * np.exp(-3 * away**2)
    return np.isin(parts, 1 + np.flatnonzero(weights >= keep * weights.max()))


def filled(mask: Mask, largest: float) -> Mask:
    """Return `mask` without the holes that are smaller than `largest` of its area."""
    ground = (~mask).astype(np.uint8)
    _, holes, stats, _ = cv2.connectedComponentsWithStats(ground, connectivity=4)
    small = np.flatnonzero(stats[:, cv2.CC_STAT_AREA] < largest * mask.sum())
    outer = np.unique(holes[ring(mask.shape, 1)])
    return np.asarray(mask | np.isin(holes, np.setdiff1d(small[small > 0], outer)))


def fills_its_box(mask: Mask, share: float) -> bool:
    """Tell whether a mask, its holes filled, is a rectangle but for 1 - `share` of its area."""
    return bool(filled(mask, np.inf)[box_of(mask)].mean() >= share)


def resized(mask: Mask, shape: tuple[int, ...]) -> Mask:
    """Return `mask` at another size (h, w), with smooth edges."""
    soft = cv2.resize(mask.astype(np.float32), (shape[1], shape[0]))
    return np.asarray(soft > 0.5)


def overlap(one: Mask, other: Mask) -> float:
    """Return the intersection of two masks over their union, 0..1; 1 if both are empty."""
    union = (one | other).sum()
    return float((one & other).sum() / union) if union else 1.0
