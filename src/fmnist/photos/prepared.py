"""A picture made ready for a network, with every step on the way."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fmnist.errors import PhotoError
from fmnist.photos.cutout import Cutout, cut_out
from fmnist.photos.decode import Limits, Picture, Source, read_picture, subject
from fmnist.photos.studio import EDGE, PAPER, Shot, shoot

LIMITS = Limits()

NEGATED = "the 28x28 picture is dark on light, so it was negated"
EMPTY = "the picture is empty: all of it is of one tone; send one with a garment in it"
# Of 255: an image is dark on light if its border has more WHITE than BLACK. That is wrong for none
# of the 60,000 training images, and for none of them negated.
WHITE, BLACK = 235, 20


@dataclass(frozen=True)
class Prepared:
    """One picture's way from what was given to what a network sees."""

    original: NDArray[np.uint8]  # (h, w, 3) RGB, upright, at most 640 long
    mask: NDArray[np.bool_]  # (h, w): what was cut out
    cutout: NDArray[np.uint8]  # (a, b, 3): the garment alone on light grey, trimmed
    image: NDArray[np.uint8]  # (28, 28): as Fashion-MNIST has it, background 0
    confidence: float  # 0..1, of the cut-out
    found: bool  # False: nothing was found, so the whole picture was used
    warnings: tuple[str, ...]
    to_original: NDArray[np.float64]  # (2, 3): (column, row, 1) of `image` to (x, y) of `original`

    @property
    def was_photo(self) -> bool:
        """False where the picture was in Fashion-MNIST's form already."""
        return self.original.shape[:2] != self.image.shape


def prepare(source: Source, limits: Limits = LIMITS) -> Prepared:
    """Return a picture as Fashion-MNIST's makers would have shot it. Raises PhotoError.

    A grey picture of 28x28 is taken for an image of Fashion-MNIST and not changed in a bit.
    """
    picture = read_picture(source, limits)
    try:
        return _prepared(picture)
    except Exception as error:  # OpenCV's and MemoryError too: one bad photo ends no batch
        raise PhotoError(f"{subject(source)} {_fault(error)}") from error


def _prepared(picture: Picture) -> Prepared:
    """Return a decoded picture with the steps on its way."""
    if _is_fashion_mnist(picture):
        return _as_it_is(picture)
    picture = _on_page(picture)
    cut = cut_out(picture.pixels, picture.alpha)
    return _put_together(picture, cut, shoot(picture.pixels, cut))


def _fault(error: Exception) -> str:
    """Return in one line that a picture could not be prepared, and what was raised at it."""
    said = " ".join(f"{type(error).__name__}: {error}".split())[:100].rstrip(": ")
    return f"one that could not be prepared ({said}); save it anew or send another"


def _on_page(picture: Picture) -> Picture:
    """Return a picture with a light grey page behind what is transparent in it."""
    if picture.alpha is None:
        return picture
    cover = picture.alpha[..., None].astype(np.float32) / 255
    pixels = cover * picture.pixels + (1 - cover) * PAPER
    return replace(picture, pixels=pixels.round().astype(np.uint8))


def _put_together(picture: Picture, cut: Cutout, shot: Shot) -> Prepared:
    """Return the steps as one."""
    return Prepared(
        original=picture.pixels,
        mask=cut.mask,
        cutout=shot.cutout,
        image=shot.image,
        confidence=cut.confidence,
        found=cut.found,
        warnings=picture.warnings + cut.warnings + shot.warnings,
        to_original=shot.to_original,
    )


def _is_fashion_mnist(picture: Picture) -> bool:
    """Tell whether a picture has the size of Fashion-MNIST's images and no colour."""
    pixels = picture.pixels
    return (
        pixels.shape == (EDGE, EDGE, 3)
        and picture.alpha is None
        and bool((pixels == pixels[..., :1]).all())
    )


def _as_it_is(picture: Picture) -> Prepared:
    """Return a picture that is in Fashion-MNIST's form already; negated if dark on light.

    One of a single tone shows no garment: nothing was found in it.
    """
    image = picture.pixels[..., 0]
    border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    dark_on_light = bool((border >= WHITE).sum() > (border <= BLACK).sum())
    if dark_on_light:
        image = 255 - image
    found = bool(image.min() < image.max())
    advice = (NEGATED,) * dark_on_light if found else (EMPTY,)
    return Prepared(
        original=picture.pixels,
        mask=image > 0 if found else np.ones_like(image, bool),
        cutout=np.repeat(255 - image[..., None], 3, axis=2),
        image=np.ascontiguousarray(image),
        confidence=float(found),
        found=found,
        warnings=picture.warnings + advice,
        to_original=np.array([[1.0, 0, 0], [0, 1, 0]]),
    )
