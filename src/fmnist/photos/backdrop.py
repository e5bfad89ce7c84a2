"""Backgrounds of one flat colour, as shop photos, drawings and screenshots have."""

from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from fmnist.photos.silhouette import Mask, filled, flooded, main_parts, ring

Lab: TypeAlias = NDArray[np.float32]  # (h, w, 3): L 0..100, a and b about -100..100
Colour: TypeAlias = NDArray[np.float32]  # (3,) in Lab

FLAT = 1.0  # in Lab: no camera's wall or floor is as even as this over half of the border
FLAT_SHARE = 0.5  # of the border; the garment may touch the rest
LOOSE = 5.0  # in Lab: about the paper's 5 % (step 2), which leaves faint shadows behind
TIGHT = 1.5  # in Lab: more than JPEG's noise, less than white cotton on a white page
LOST = 0.8  # of the tight mask's area that the loose one must keep, or it eats a light garment
KEEP = 0.02  # of the largest part's weight: loose straps and laces are kept, dust is not
HOLE = 0.3  # of the garment's area: a hole as large is more than what is seen through a handle
SAME = 0.6  # in Lab: a hole that is the background's colour to this is one, not white cloth

LIGHT = 88.0  # L of the darkest page
BLACK = 8.0  # L
COLOURLESS = 6.0  # in Lab: chroma that JPEG leaves in a grey picture
VIRIDIS = (
    (68, 1, 84),
    (253, 231, 37),
)  # RGB of 0 and 1 in the colour map that matplotlib starts from
VIRIDIS_NEAR = 12.0  # in Lab


def flat_colour(lab: Lab) -> Colour | None:
    """Return the one colour of most of the border, or None."""
    border = lab[ring(lab.shape, 2)]
    colour = np.median(border, axis=0)
    near = np.linalg.norm(border - colour, axis=1) < FLAT
    return colour if near.mean() >= FLAT_SHARE else None


def off_backdrop(lab: Lab, colour: Colour) -> Mask:
    """Return all but what a flat colour floods from the border and shows through in holes."""
    far = np.linalg.norm(lab - colour, axis=2)
    tight = main_parts(~flooded(far < TIGHT), KEEP)
    loose = main_parts(~flooded(far < LOOSE), KEEP)
    mask = loose if loose.sum() >= LOST * tight.sum() else tight
    return _with_holes(mask, far)


def is_page(colour: Colour) -> bool:
    """Tell whether a colour is that of a page: light, without colour."""
    return bool(colour[0] >= LIGHT and np.hypot(*colour[1:]) < COLOURLESS)


def is_negated(lab: Lab, colour: Colour) -> bool:
    """Tell whether a picture is one of Fashion-MNIST's, enlarged: light on black, or in viridis."""
    if colour[0] < BLACK:
        return bool(np.percentile(np.hypot(lab[..., 1], lab[..., 2]), 99) < COLOURLESS)
    least, most = (_lab_of(end) for end in VIRIDIS)
    if np.linalg.norm(colour - least) > VIRIDIS_NEAR:
        return False
    return bool(np.linalg.norm(lab - most, axis=2).min() < 2 * VIRIDIS_NEAR)


def _with_holes(mask: Mask, far: NDArray[np.float32]) -> Mask:
    """Return `mask` with what lies inside it, but for holes in which the background is seen."""
    whole = filled(mask, HOLE)
    same = (far < SAME).astype(np.uint8)
    holes = whole & (cv2.morphologyEx(same, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)) > 0)
    # White cloth burnt out to the page's white looks as a hole does; but a garment is mostly cloth.
    return whole & ~holes if holes.sum() < HOLE * whole.sum() else whole


def _lab_of(rgb: tuple[int, int, int]) -> Colour:
    """Return a colour, 0..255 each, in Lab."""
    pixel = np.array([[rgb]], np.float32) / 255
    return np.asarray(cv2.cvtColor(pixel, cv2.COLOR_RGB2LAB)[0, 0])
