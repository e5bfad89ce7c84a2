"""Test images with one thing wrong with them: Fashion-MNIST-C's fifteen corruptions, seeded.

Which there are, and at which strength, is Fashion-MNIST-C's choice (M. Weiss & P. Tonella, "Simple
techniques work surprisingly well for neural network test prioritization and active learning", ISSTA
2022; github.com/testingautomated-usi/fashion-mnist-c, generator.py). Ten of them are MNIST-C's (N.
Mu & J. Gilmer, arXiv 1906.02337; github.com/google-research/mnist-c, corruptions.py), which gives
five severities to each; the others have none. Both draw their chance unseeded, so their published
images can be matched in distribution only.

Pixels are float64, 0..1, (n, 28, 28), unless it is said otherwise.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Pixels: TypeAlias = NDArray[np.float64]
Chance: TypeAlias = np.random.Generator

SIDE = 28
SEED = 0


@dataclass(frozen=True)
class Kind:
    """One way to corrupt: a function of pixels, a strength and chance, and its strengths."""

    apply: Callable[[Pixels, Any, Chance], Pixels]
    strengths: tuple[Any, ...] = (None,)  # of severities 1, 2, …; a single one is no severity
    usual: int | None = None  # the severity that Fashion-MNIST-C has

    @property
    def severities(self) -> tuple[int | None, ...]:
        """What `corrupt` takes as severity."""
        return (None,) if self.usual is None else tuple(range(1, len(self.strengths) + 1))


def corrupt(
    images: NDArray[np.uint8], kind: str, severity: int | None = None, seed: int = SEED
) -> NDArray[np.uint8]:
    """Return images (n, 28, 28) uint8 corrupted in one of KINDS; the arguments decide all chance.

    `severity` is one of the kind's `severities`, or None: as Fashion-MNIST-C has it. Raises
    ValueError where there is no such kind or severity.
    """
    if kind not in KINDS:
        raise ValueError(f"there is no corruption {kind!r}; there are {', '.join(KINDS)}")
    how = KINDS[kind]
    severity = how.usual if severity is None else severity
    if severity not in how.severities:
        raise ValueError(f"{kind} has the severities {how.severities}, not {severity!r}")
    chance = np.random.default_rng((seed, zlib.crc32(kind.encode()), severity or 0))
    pixels = how.apply(images / 255.0, how.strengths[(severity or 1) - 1], chance)
    # float32 before it is cut to bytes, as both sources have it: 9 / 255 * 255 must stay 9.
    return (np.clip(pixels, 0, 1) * 255).astype(np.float32).astype(np.uint8)


def _shot_noise(x: Pixels, rate: float, chance: Chance) -> Pixels:
    """Count photons: Poisson noise, of which brighter pixels have more."""
    return chance.poisson(x * rate) / rate


def _impulse_noise(x: Pixels, share: float, chance: Chance) -> Pixels:
    """Make a share of the pixels black or white."""
    hit = chance.random(x.shape) < share
    return np.where(hit, chance.random(x.shape) < 0.5, x)


def _glass_blur(x: Pixels, strength: tuple[float, int, int], chance: Chance) -> Pixels:
    """Blur, swap pixels with near ones in `rounds`, and blur again.

    The blur runs down the columns alone: both sources hand a grey picture to a filter that takes
    its last axis for colour channels. A pixel is swapped in half of the cases, by up to `reach` up
    or left and one less down or right.
    """
    sigma, reach, rounds = strength
    blurred = (_blur_columns(x, sigma) * 255).astype(np.uint8)
    pixels = np.ascontiguousarray(blurred.reshape(len(x), -1).T)  # (784, n): swaps are of rows
    image, places = np.arange(len(x)), range(SIDE - reach, reach, -1)
    for _ in range(rounds):
        for here in (row * SIDE + column for row in places for column in places):
            down, right = chance.integers(-reach, reach, (2, len(x)))
            swapped = chance.random(len(x)) < 0.5
            there = here + swapped * (down * SIDE + right)
            kept = pixels[here].copy()
            pixels[here] = pixels[there, image]
            pixels[there, image] = kept
    return _blur_columns(pixels.T.reshape(x.shape) / 255, sigma)


def _blur_columns(x: Pixels, sigma: float) -> Pixels:
    """Blur from top to bottom with a Gaussian that ends at 4 sigma; edges go on as they are."""
    reach = int(4 * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    padded = np.pad(x, ((0, 0), (reach, reach), (0, 0)), mode="edge")
    shifted = (padded[:, at : at + SIDE] * weight for at, weight in enumerate(weights))
    result: Pixels = sum(shifted, np.zeros_like(x)) / weights.sum()
    return result


def _motion_blur(x: Pixels, strength: tuple[int, float], chance: Chance) -> Pixels:
    """Smear to one side along a line up to 45 degrees from level, with half a Gaussian.

    ImageMagick's MotionBlurImage (MagickCore/effect.c), which both sources call: 2 radius + 1 taps
    at whole pixels, edges go on as they are, the result is rounded to bytes.
    """
    radius, sigma = strength
    taps = np.arange(2 * radius + 1)
    weights = np.exp(-(taps**2) / (2 * sigma**2))
    angles = np.radians(chance.uniform(-45, 45, len(x)))
    right = np.ceil(np.outer(taps, np.cos(angles)) - 0.5).astype(np.int64)  # (taps, n)
    down = np.ceil(np.outer(taps, np.sin(angles)) - 0.5).astype(np.int64)
    result, image, line = np.zeros_like(x), np.arange(len(x))[:, None, None], np.arange(SIDE)
    for weight, rights, downs in zip(weights / weights.sum(), right, down, strict=True):
        rows = np.clip(line + downs[:, None], 0, SIDE - 1)[:, :, None]
        columns = np.clip(line + rights[:, None], 0, SIDE - 1)[:, None, :]
        result += weight * x[image, rows, columns]
    return np.round(result * 255) / 255


def _shear(x: Pixels, angle: float, chance: Chance) -> Pixels:
    """Lean to one of the sides; heights grow by 1 / cos(angle), as scikit-image then had it."""
    return _either_way(x, lambda a: np.array([[1, -np.sin(a)], [0, np.cos(a)]]), angle, chance)


def _rotate(x: Pixels, angle: float, chance: Chance) -> Pixels:
    """Turn by an angle, rad, to one of the sides."""
    return _either_way(
        x, lambda a: np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]), angle, chance
    )


def _either_way(
    x: Pixels, matrix: Callable[[float], NDArray[np.float64]], angle: float, chance: Chance
) -> Pixels:
    """Warp each image by `matrix` of the angle or of its negative."""
    plus = chance.random(len(x)) < 0.5
    result = np.empty_like(x)
    for chosen, sign in ((plus, 1), (~plus, -1)):
        result[chosen] = _warp(x[chosen], matrix(sign * angle))
    return result


def _scale(x: Pixels, factor: float, chance: Chance) -> Pixels:
    """Make smaller."""
    return _warp(x, np.eye(2) / factor)


def _warp(x: Pixels, matrix: NDArray[np.float64]) -> Pixels:
    """Return images whose pixel at (column, row) from the centre is that at matrix @ it.

    Bilinear; black beyond the edges.
    """
    middle = (SIDE - 1) / 2
    rows, columns = np.indices((SIDE, SIDE)).reshape(2, -1) - middle
    at_column, at_row = matrix @ np.stack([columns, rows]) + middle  # (784,) each
    left, top = np.floor(at_column).astype(np.int64), np.floor(at_row).astype(np.int64)
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
    result = np.zeros((len(x), SIDE * SIDE))
    for right, down in ((0, 0), (0, 1), (1, 0), (1, 1)):
        weight = (1 - abs(at_column - left - right)) * (1 - abs(at_row - top - down))
        row = np.clip(top + down, -1, SIDE) + 1
        column = np.clip(left + right, -1, SIDE) + 1
        result += weight * padded[:, row, column]
    return result.reshape(x.shape)


def _brightness(x: Pixels, more: float, chance: Chance) -> Pixels:
    return x + more


def _contrast(x: Pixels, factor: float, chance: Chance) -> Pixels:
    """Draw pixels towards their image's mean."""
    means: Pixels = x.mean(axis=(1, 2), keepdims=True)
    return (x - means) * factor + means


def _saturate(x: Pixels, strength: tuple[float, float, float], chance: Chance) -> Pixels:
    """Return (factor x + more), cut to 0..1, times `grey`.

    The sources do so with hue, saturation and value of a grey picture, so that one which adds also
    colours: `grey` is what scikit-image's rgb2gray (0.2125, 0.7154, 0.0721) sees of that colour.
    """
    factor, more, grey = strength
    return np.clip(factor * x + more, 0, 1) * grey


def _inverse(x: Pixels, strength: None, chance: Chance) -> Pixels:
    return 1 - x


def _flip(x: Pixels, strength: None, chance: Chance, *, axis: int) -> Pixels:
    return np.flip(x, axis)


def _turn(x: Pixels, strength: None, chance: Chance, *, quarters: int) -> Pixels:
    """Turn by quarters, anticlockwise."""
    return np.rot90(x, quarters, axes=(1, 2))


KINDS: dict[str, Kind] = {
    "shot_noise": Kind(_shot_noise, (60, 25, 12, 5, 3), usual=5),
    "impulse_noise": Kind(_impulse_noise, (0.03, 0.06, 0.09, 0.17, 0.27), usual=4),
    "glass_blur": Kind(
        _glass_blur, ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)), usual=1
    ),
    "motion_blur": Kind(_motion_blur, ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)), usual=1),
    "shear": Kind(_shear, (0.2, 0.4, 0.6, 0.8, 1.0), usual=2),
    "scale": Kind(_scale, (0.9, 0.8, 0.7, 0.6, 0.5), usual=3),
    "rotate": Kind(_rotate, (0.2, 0.4, 0.6, 0.8, 1.0), usual=2),
    "brightness": Kind(_brightness, (0.1, 0.2, 0.3, 0.4, 0.5), usual=5),
    "contrast": Kind(_contrast, (0.4, 0.3, 0.2, 0.1, 0.05), usual=4),
    "saturate": Kind(
        _saturate,
        ((0.3, 0, 1), (0.1, 0, 1), (2, 0, 1), (5, 0.1, 0.964174), (20, 0.2, 0.977080)),
        usual=5,
    ),
    "inverse": Kind(_inverse),
    "flip_sides": Kind(partial(_flip, axis=2)),
    "flip_up_down": Kind(partial(_flip, axis=1)),
    "turn_right": Kind(partial(_turn, quarters=3)),
    "turn_left": Kind(partial(_turn, quarters=1)),
}
