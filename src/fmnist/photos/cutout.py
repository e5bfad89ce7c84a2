"""Cut a garment out of a picture: by its alpha, off a flat backdrop, or by GrabCut."""

from dataclasses import dataclass, replace
from enum import Enum

import cv2
import numpy as np
from numpy.typing import NDArray

from fmnist.photos.backdrop import (
    KEEP,
    Colour,
    Lab,
    flat_colour,
    is_negated,
    is_page,
    off_backdrop,
)
from fmnist.photos.grabcut import grab
from fmnist.photos.silhouette import (
    Box,
    Mask,
    box_of,
    fills_its_box,
    main_parts,
    resized,
    ring,
    without_threads,
)

FLAT_SIDE = 320  # px, the longest side where a colour is flooded: laces and straps are still seen
GRAB_SIDE = 128  # px, the longest side that GrabCut works at: over 4 px for one of 28
NARROW = 12  # px at GRAB_SIDE; a garment is not 1 : 10
OPAQUE = 128  # of 255
LEAST_AREA = 0.015  # of the frame; what is smaller is a button or a speck, not the garment
LEAST_CONFIDENCE = 0.12  # of a cut-out; noise and bare walls come to less
DOUBTFUL = 0.3  # confidence
RECTANGLE = 0.97  # of its box that a frame or a pasted picture fills
SQUARE = 0.03  # of the longer side that an image of Fashion-MNIST, enlarged, may be off a square
LINE = 0.05  # of a frame's shorter side: how thick its line is at most
SAME_PAGE = 1.0  # in Lab, from outside a frame to inside
BLURRED = 2  # px at FLAT_SIDE: what shrinking mixes of an image and the page around it
CLEAR = 15.0  # in Lab: a distance from the backdrop that leaves no doubt
NEAR_EDGE = 0.04  # of the longest side; GrabCut takes what is nearer mostly for background
EDGE_SHARE = 0.15  # of the line there that a garment may cover without a word
SMALL = 0.12  # of the frame: 3 of the 657 photos that were tuned on have less, 2 by a wrong cut

NOTHING = "no garment was found, so the whole picture was used; lay it on a plain background"
HARD_TO_TELL = (
    "the garment is hard to tell from the background; lay it on a plain one of another colour"
)
TOUCHES = "the garment reaches the edge of the picture; step back so that all of it is seen"
LITTLE = (
    "the cut-out is a small part of the picture; step closer, and if it is only a part of the"
    " garment, such as its print, lay it on a plain background"
)
NEGATED = "taken for an enlarged image of Fashion-MNIST, light on black; its tones were kept"


class Look(Enum):
    """What a picture's tones are like, which says how they become Fashion-MNIST's."""

    PHOTO = "as people take them"
    SHOP = "on a light page, as the originals were"
    NEGATED = "light on black, as Fashion-MNIST has them"


@dataclass(frozen=True)
class Cutout:
    """What was found in a picture."""

    mask: Mask  # (h, w); all of the picture if nothing was found
    box: Box  # what becomes the 28x28 image: around the mask
    look: Look
    ground: float  # 0..255, the backdrop's grey; of no use to a PHOTO
    confidence: float  # 0..1
    found: bool
    warnings: tuple[str, ...]  # advice in plain words


def cut_out(pixels: NDArray[np.uint8], alpha: NDArray[np.uint8] | None) -> Cutout:
    """Return where the garment is in a picture: (h, w, 3) uint8 RGB, alpha (h, w) uint8 or None.

    Colours below a transparent alpha must be those of a page, light grey. The same picture gives
    the same answer, on any thread.
    """
    if alpha is not None:
        solid = alpha >= OPAQUE
        if solid.any() and not solid.all():
            return _by_alpha(pixels, solid)
    return _by_colour(pixels)


def _by_alpha(pixels: NDArray[np.uint8], solid: Mask) -> Cutout:
    """Return what is not transparent, but for specks; what is in it, if that is a whole picture."""
    mask = main_parts(solid, KEEP)
    if mask.mean() < LEAST_AREA:
        return _nothing(solid.shape)
    box = box_of(mask)
    if fills_its_box(mask, RECTANGLE):
        inner = _by_colour(pixels[box])
        if inner.found:  # or else the rectangle is the garment: a bag, a towel
            return _placed(inner, box, solid.shape)
    page = float(pixels[~solid].mean())
    return Cutout(mask, box, Look.SHOP, page, 1.0, True, ())


def _by_colour(pixels: NDArray[np.uint8], in_frame: bool = False) -> Cutout:
    """Return what stands out in an opaque picture; `in_frame`: no more frames are looked into."""
    small = _shrunk(pixels, GRAB_SIDE)
    if min(small.shape[:2]) < NARROW:
        return _nothing(pixels.shape)
    lab = _lab(_shrunk(pixels, FLAT_SIDE))
    colour = flat_colour(lab)
    if colour is not None:
        return _off_flat(pixels, lab, colour, in_frame)
    answer = grab(small, _lab(small))
    mask = resized(answer.mask, pixels.shape)
    if mask.mean() < LEAST_AREA or answer.confidence < LEAST_CONFIDENCE:
        return _nothing(pixels.shape)
    warnings = _advice(mask, answer.confidence)
    return Cutout(mask, box_of(mask), Look.PHOTO, 0.0, answer.confidence, True, warnings)


def _off_flat(pixels: NDArray[np.uint8], lab: Lab, colour: Colour, in_frame: bool) -> Cutout:
    """Return what is not of the backdrop's flat colour."""
    mask = off_backdrop(lab, colour)
    if mask.mean() < LEAST_AREA:
        return _nothing(pixels.shape)
    framed = None if in_frame else _in_frame(pixels, lab, colour, mask)
    if framed is not None:
        return framed
    look = Look.NEGATED if is_negated(lab, colour) else Look.SHOP
    if look is Look.SHOP and not is_page(colour):
        look = Look.PHOTO
    clear = np.linalg.norm(lab[mask] - colour, axis=1) / CLEAR
    confidence = float(np.minimum(np.percentile(clear, 75), 1))
    mask = resized(mask, pixels.shape)
    box = _negated_box(mask) if look is Look.NEGATED else box_of(mask)
    doubt = (HARD_TO_TELL,) if confidence < DOUBTFUL else ()
    warnings = (NEGATED,) if look is Look.NEGATED else doubt
    return Cutout(mask, box, look, _grey(colour), confidence, True, warnings)


def _negated_box(mask: Mask) -> Box:
    """Return all of a square picture, as it is framed already, or the mask's box of another."""
    height, width = mask.shape
    if abs(height - width) <= SQUARE * max(height, width):
        return slice(0, height), slice(0, width)
    return box_of(mask)


def _in_frame(pixels: NDArray[np.uint8], lab: Lab, colour: Colour, mask: Mask) -> Cutout | None:
    """Return what is in a frame line, or in an image of Fashion-MNIST on a page; None if neither.

    So are figures of plotting libraries saved.
    """
    solid = without_threads(mask)
    if not solid.any() or not fills_its_box(solid, RECTANGLE):
        return None
    box = box_of(solid)
    trim = _trim(lab[box], colour)
    if trim is None:
        return None
    box = _scaled(*box, trim, pixels.shape[0] / lab.shape[0])
    inside = pixels[box]
    if not inside.size or inside.shape == pixels.shape:
        return None
    return _placed(_by_colour(inside, in_frame=True), box, pixels.shape)


def _trim(framed: Lab, page: Colour) -> int | None:
    """Return by how many px a rectangle on a page is trimmed to what is in it, or None.

    None is for what is no frame: a bag may be a rectangle too.
    """
    height, width = framed.shape[:2]
    square = abs(height - width) <= SQUARE * max(height, width)
    most = min(round(LINE * min(height, width)), (min(height, width) - NARROW) // 2)
    for trim in range(BLURRED, most + 1):
        inner = framed[trim:-trim, trim:-trim]
        ground = flat_colour(inner)
        if ground is None:
            continue
        same = bool(np.linalg.norm(ground - page) < SAME_PAGE)
        if same or (square and is_negated(inner, ground)):
            return trim
    return None


def _scaled(rows: slice, columns: slice, trim: int, scale: float) -> Box:
    """Return a box, without its outer `trim` px, in a picture `scale` times as large."""
    row, column = (
        slice(round((side.start + trim) * scale), round((side.stop - trim) * scale))
        for side in (rows, columns)
    )
    return row, column


def _placed(cut: Cutout, box: Box, shape: tuple[int, ...]) -> Cutout:
    """Return a cut-out of the part `box` of a picture as one of the picture."""
    mask = np.zeros(shape[:2], bool)
    mask[box] = cut.mask
    rows, columns = (
        slice(outer.start + inner.start, outer.start + inner.stop)
        for outer, inner in zip(box, cut.box, strict=True)
    )
    return replace(cut, mask=mask, box=(rows, columns))


def _nothing(shape: tuple[int, ...]) -> Cutout:
    """Return the whole picture, for want of a garment in it."""
    box = slice(0, shape[0]), slice(0, shape[1])
    return Cutout(np.ones(shape[:2], bool), box, Look.PHOTO, 0.0, 0.0, False, (NOTHING,))


def _shrunk(pixels: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Return `pixels` with its longest side `side`; a smaller picture is enlarged."""
    height, width = pixels.shape[:2]
    scale = side / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(pixels, size, interpolation=way), np.uint8)


def _lab(pixels: NDArray[np.uint8]) -> Lab:
    """Return RGB pixels in Lab."""
    return np.asarray(cv2.cvtColor(pixels.astype(np.float32) / 255, cv2.COLOR_RGB2LAB))


def _grey(colour: Colour) -> float:
    """Return the grey, 0..255, of a colour in Lab."""
    rgb = cv2.cvtColor(colour.reshape(1, 1, 3), cv2.COLOR_LAB2RGB)
    return float(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)[0, 0] * 255)


def _advice(mask: Mask, confidence: float) -> tuple[str, ...]:
    """Return what would make a better picture."""
    warnings = []
    if confidence < DOUBTFUL:
        warnings.append(HARD_TO_TELL)
    inset = max(1, round(NEAR_EDGE * max(mask.shape)))
    near_edge = ring(mask.shape, inset + 1) & ~ring(mask.shape, inset)
    if near_edge.any() and mask[near_edge].mean() > EDGE_SHARE:
        warnings.append(TOUCHES)
    elif mask.mean() < SMALL:
        warnings.append(LITTLE)
    return tuple(warnings)
