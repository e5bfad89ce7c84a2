"""A heat map of the 28x28 image drawn over the picture that it was made from."""

import cv2
import numpy as np
from numpy.typing import NDArray

# Told apart by all kinds of colour vision: Okabe and Ito, "Color Universal Design" (2008).
SUPPORTS = np.array((230, 159, 0), np.float32)  # orange, sRGB
OPPOSES = np.array((0, 114, 178), np.float32)  # blue
SMOOTHING = 1.0  # pixels of the map: no one pixel of it means anything
OPACITY = 0.8  # of what matters most
LIGHT = 0.75  # of the picture underneath
COLOUR = 0.15  # that the picture keeps: the rest is grey, so that the heat is the colour seen


def overlay(
    original: NDArray[np.uint8], heat: NDArray[np.float32], to_original: NDArray[np.float64]
) -> NDArray[np.uint8]:
    """Return a picture (h, w, 3) RGB with a heat map (28, 28) over it, of the same shape.

    Orange supports the answer and blue speaks against it, the more opaque the more it matters
    beside the strongest place; what does not matter is left clear. `to_original` (2, 3) leads from
    (column, row, 1) of the map to (x, y) of the picture, as that of `Prepared`.
    """
    height, width = original.shape[:2]
    share = cv2.warpAffine(_strength(heat), to_original, (width, height))[..., None]
    opacity = OPACITY * np.abs(share)
    mixed = _dimmed(original) * (1 - opacity) + np.where(share > 0, SUPPORTS, OPPOSES) * opacity
    return np.rint(mixed).astype(np.uint8)


def _strength(heat: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a heat map, smoothed, as shares -1..1 of its strongest place."""
    smooth = cv2.GaussianBlur(heat, (0, 0), SMOOTHING).astype(np.float32)
    strongest = np.abs(smooth).max()
    return smooth / strongest if strongest > 0 else smooth


def _dimmed(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return a picture (h, w, 3) darker and paler."""
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[..., None]
    paler: NDArray[np.float32] = np.float32(COLOUR) * picture + np.float32(1 - COLOUR) * grey
    return paler * np.float32(LIGHT)
