"""A cut-out garment to 28x28, as the makers of Fashion-MNIST made their images.

H. Xiao, K. Rasul, R. Vollgraf, arXiv 1708.07747, section 2: trim, longest edge to 28, sharpen,
centre, negate, grey. Photos differ from their shop's in light and exposure, so that tones are
brought to one contrast first, and a white garment does not vanish when it is negated.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from fmnist.photos.cutout import Cutout, Look
from fmnist.photos.silhouette import Box

EDGE = 28  # px
PAPER = 253  # of 255: the shop's light grey background, #fdfdfd
SHARPEN = 0.6  # of the difference to a Gaussian of sigma 1, the paper's step 4
FEATHER = 2.0  # px of a 640 px picture: half the width of the soft edge around a garment
DARK_MEAN, LIGHT_MEAN = 225.0, 70.0  # where a black and a white garment's mean goes, negated
FAINTEST = 25.0  # of 255: no part of a garment is negated to the background's black
SPREAD = 110.0  # of 255: what the range of a garment's tones (3rd to 97th in 100) is brought to
GAIN = 2.0  # at most, or creases and noise of a plain fabric become a pattern
LEAST_RANGE = 25.0  # of 255
LIGHT_HIGH = 110.0  # of 255: what the lighter tones (90th in 100) are raised to in a shop photo
LIGHT_GAIN = 3.0  # at most
LEAST_WHITE = 200.0  # of 255: the lightest tone of an enlarged image that is taken for its white

LIGHT = (
    "the garment is very light, and Fashion-MNIST has no white ones: it may be taken for another"
)
LIGHT_TONE = 225.0  # of 255, the mean that is warned of


@dataclass(frozen=True)
class Shot:
    """A garment as Fashion-MNIST has it."""

    cutout: NDArray[np.uint8]  # (a, b, 3): the garment alone on #fdfdfd, trimmed
    image: NDArray[np.uint8]  # (28, 28), background 0
    warnings: tuple[str, ...]
    to_original: NDArray[np.float64]  # (2, 3): (column, row, 1) of `image` to (x, y) of the picture


def shoot(pixels: NDArray[np.uint8], cut: Cutout) -> Shot:
    """Return the garment of `cut` in a picture, (h, w, 3) uint8 RGB, as a 28x28 image."""
    inside = pixels[cut.box]
    grey = cv2.cvtColor(inside, cv2.COLOR_RGB2GRAY).astype(np.float32)
    cover = _cover(cut.mask, cut.look)[cut.box]
    small = _to_edge(_tones(grey, cover, cut) * cover)
    if cut.look is not Look.NEGATED:
        small = _sharpened(small)
    image, left, top = _centred(small)
    paper = cover[..., None] * inside + (1 - cover[..., None]) * PAPER
    return Shot(
        cutout=paper.round().astype(np.uint8),
        image=image,
        warnings=_advice(grey, cut),
        to_original=_affine(cut.box, small.shape, left, top),
    )


def _cover(mask: NDArray[np.bool_], look: Look) -> NDArray[np.float32]:
    """Return how much of each pixel is the garment's, 0..1: with a soft edge in a photo.

    On a flat backdrop the edge is soft as it is, and the mask is widened so as to hold it.
    """
    if look is Look.PHOTO:
        sigma = max(FEATHER * max(mask.shape) / 640, 0.3)
        return np.asarray(cv2.GaussianBlur(mask.astype(np.float32), (0, 0), sigma))
    return cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(np.float32)


def _tones(
    grey: NDArray[np.float32], cover: NDArray[np.float32], cut: Cutout
) -> NDArray[np.float32]:
    """Return the tones as Fashion-MNIST has them, 0..255: the darker, the lighter."""
    if cut.look is Look.PHOTO:
        return _levelled(grey, cover)
    if cut.look is Look.SHOP:
        return _negated(grey, cover, cut.ground)
    span = max(float(grey.max()), LEAST_WHITE) - cut.ground
    return _clipped((grey - cut.ground) * (255 / span))


def _levelled(grey: NDArray[np.float32], cover: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a photo's tones, negated, in the contrast that most garments have."""
    garment = grey[cover > 0.9]
    if garment.size < 10:
        return 255 - grey
    low, high = np.percentile(garment, [3, 97])
    mean = float(garment.mean())
    target = min(max(255 - mean, LIGHT_MEAN), DARK_MEAN)
    gain = min(SPREAD / max(high - low, LEAST_RANGE), GAIN)
    return _clipped(target - (grey - mean) * gain, FAINTEST)


def _negated(
    grey: NDArray[np.float32], cover: NDArray[np.float32], ground: float
) -> NDArray[np.float32]:
    """Return a shop photo's tones, negated, the page as 0; those of a light garment are raised."""
    tones = _clipped((ground - grey) * (255 / ground))
    high = float(np.percentile(tones[cover > 0.9], 90)) if (cover > 0.9).any() else 255.0
    return _clipped(tones * min(max(LIGHT_HIGH / max(high, 1.0), 1), LIGHT_GAIN))


def _clipped(tones: NDArray[np.float32], least: float = 0.0) -> NDArray[np.float32]:
    """Return tones within `least`..255."""
    return np.asarray(np.clip(tones, least, 255), np.float32)


def _advice(grey: NDArray[np.float32], cut: Cutout) -> tuple[str, ...]:
    """Return what is to be said of the garment's tone."""
    if not cut.found or cut.look is Look.NEGATED:
        return ()
    return (LIGHT,) if grey[cut.mask[cut.box]].mean() > LIGHT_TONE else ()


def _to_edge(tones: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return `tones` with the longest edge EDGE."""
    height, width = tones.shape
    scale = EDGE / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(cv2.resize(tones, size, interpolation=cv2.INTER_AREA))


def _sharpened(tones: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return `tones` with more contrast near outlines, the paper's step 4."""
    blurred = cv2.GaussianBlur(tones, (0, 0), 1.0)
    return _clipped(tones + SHARPEN * (tones - blurred))


def _centred(small: NDArray[np.float32]) -> tuple[NDArray[np.uint8], int, int]:
    """Return `small` in the middle of a (28, 28) uint8 image, with its left and top there."""
    height, width = small.shape
    top, left = (EDGE - height) // 2, (EDGE - width) // 2
    image = np.zeros((EDGE, EDGE), np.uint8)
    image[top : top + height, left : left + width] = small.round()
    return image, left, top


def _affine(box: Box, shape: tuple[int, ...], left: int, top: int) -> NDArray[np.float64]:
    """Return the map of pixel centres from the 28x28 image to the picture: (2, 3)."""
    rows, columns = box
    across = (columns.stop - columns.start) / shape[1]
    down = (rows.stop - rows.start) / shape[0]
    x = columns.start - 0.5 + across * (0.5 - left)
    y = rows.start - 0.5 + down * (0.5 - top)
    return np.array([[across, 0, x], [0, down, y]])
