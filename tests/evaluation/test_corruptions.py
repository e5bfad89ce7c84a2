import colorsys
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage

from fmnist.data import Dataset
from fmnist.evaluation import corruptions
from fmnist.evaluation.corruptions import KINDS, corrupt

EVERY = [(name, severity) for name, kind in KINDS.items() for severity in kind.severities]
BY_CHANCE = {"shot_noise", "impulse_noise", "glass_blur", "motion_blur", "shear", "rotate"}


def floats(images: Any) -> npt.NDArray[np.float64]:
    return np.asarray(images / 255.0)


class Fixed:
    """Chance that always says the same."""

    def __init__(self, value: float) -> None:
        self.value = value

    def uniform(self, low: float, high: float, size: int) -> Any:
        return np.full(size, self.value)

    def random(self, size: int) -> Any:
        return np.full(size, self.value)


def test_there_are_fashion_mnist_cs_fifteen_ten_of_them_in_five_severities() -> None:
    assert len(KINDS) == 15
    assert len(EVERY) == 10 * 5 + 5
    assert {name: kind.usual for name, kind in KINDS.items() if kind.usual} == {
        "shot_noise": 5,
        "impulse_noise": 4,
        "glass_blur": 1,
        "motion_blur": 1,
        "shear": 2,
        "scale": 3,
        "rotate": 2,
        "brightness": 5,
        "contrast": 4,
        "saturate": 5,
    }


@pytest.mark.parametrize(("kind", "severity"), EVERY)
def test_a_corruption_is_decided_by_its_arguments(
    kind: str, severity: int | None, garments: Dataset
) -> None:
    images = garments.test_images[:20]
    before = images.copy()
    once = corrupt(images, kind, severity)
    assert once.shape == images.shape
    assert once.dtype == np.uint8
    assert (once != images).any(axis=(1, 2)).all()
    np.testing.assert_array_equal(images, before)
    np.testing.assert_array_equal(once, corrupt(images, kind, severity))
    other = corrupt(images, kind, severity, seed=1)
    assert (once != other).any() == (kind in BY_CHANCE)


@pytest.mark.parametrize("kind", KINDS)
def test_no_severity_is_fashion_mnist_cs(kind: str, garments: Dataset) -> None:
    images = garments.test_images[:5]
    np.testing.assert_array_equal(corrupt(images, kind), corrupt(images, kind, KINDS[kind].usual))


@pytest.mark.parametrize(
    "kind", [name for name, kind in KINDS.items() if kind.usual and name != "saturate"]
)
def test_a_higher_severity_takes_more_away(kind: str, garments: Dataset) -> None:
    images = garments.test_images
    change = [np.abs(corrupt(images, kind, s).astype(int) - images).mean() for s in (1, 3, 5)]
    assert change[0] < change[1] < change[2]


@pytest.mark.parametrize("sigma", [0.7, 1.1, 1.5])
def test_the_blur_is_scipys_along_columns(sigma: float, garments: Dataset) -> None:
    x = floats(garments.test_images[:4])
    expected = ndimage.gaussian_filter1d(x, sigma, axis=1, mode="nearest", truncate=4.0)
    np.testing.assert_allclose(corruptions._blur_columns(x, sigma), expected, atol=1e-9)


def test_glass_only_swaps_pixels_between_its_blurs(
    garments: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corruptions, "_blur_columns", lambda x, sigma: x)
    images = garments.test_images[:6]
    swapped = corrupt(images, "glass_blur", 3)
    assert (swapped != images).any()
    for before, after in zip(images, swapped, strict=True):
        assert sorted(before.ravel().tolist()) == pytest.approx(
            sorted(after.ravel().tolist()), abs=1
        )


def test_glass_swaps_with_as_far_a_pixel_as_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    """One round, by hand, on the same draws."""
    monkeypatch.setattr(corruptions, "_blur_columns", lambda x, sigma: x)
    images = np.arange(784, dtype=np.float64).reshape(1, 28, 28) % 251 / 255
    told = corruptions._glass_blur(images, (0.9, 2, 1), np.random.default_rng(4))
    chance, pixels = np.random.default_rng(4), (images[0] * 255).astype(np.uint8)
    for row in range(26, 2, -1):
        for column in range(26, 2, -1):
            (down,), (right,) = chance.integers(-2, 2, (2, 1))
            if chance.random(1)[0] < 0.5:
                there = row + down, column + right
                pixels[row, column], pixels[there] = pixels[there], pixels[row, column]
    np.testing.assert_array_equal((told[0] * 255).round(), pixels)


@pytest.mark.parametrize("angle", [-45.0, -18.0, 0.0, 30.0])
@pytest.mark.parametrize("strength", KINDS["motion_blur"].strengths[::4])
def test_motion_is_a_sum_along_a_line(
    angle: float, strength: tuple[int, int], garments: Dataset
) -> None:
    radius, sigma = strength
    x = floats(garments.test_images[[3]])
    told = corruptions._motion_blur(x, strength, Fixed(angle))  # type: ignore[arg-type]
    weights = [math.exp(-(tap**2) / (2 * sigma**2)) for tap in range(2 * radius + 1)]
    for row, column in ((3, 5), (14, 14), (27, 20), (0, 0)):
        total = 0.0
        for tap, weight in enumerate(weights):
            down = math.ceil(tap * math.sin(math.radians(angle)) - 0.5)
            right = math.ceil(tap * math.cos(math.radians(angle)) - 0.5)
            at = min(max(row + down, 0), 27), min(max(column + right, 0), 27)
            total += weight * x[0][at]
        assert told[0, row, column] * 255 == pytest.approx(
            round(total / sum(weights) * 255), abs=1e-9
        )


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("kind", ["shear", "rotate", "scale"])
def test_warps_are_scipys(kind: str, sign: int, garments: Dataset) -> None:
    a = sign * 0.4
    # scipy takes (row, column), the corruptions (column, row)
    matrix = {
        "shear": [[math.cos(a), 0], [-math.sin(a), 1]],
        "rotate": [[math.cos(a), math.sin(a)], [-math.sin(a), math.cos(a)]],
        "scale": [[1 / 0.7, 0], [0, 1 / 0.7]],
    }[kind]
    x = floats(garments.test_images[[0, 5]])
    how = KINDS[kind]
    told = how.apply(x, how.strengths[(how.usual or 0) - 1], Fixed(0.4 + 0.2 * -sign))  # type: ignore[arg-type]
    middle = np.array([13.5, 13.5])
    for image, warped in zip(x, told, strict=True):
        expected = ndimage.affine_transform(
            image, np.array(matrix), middle - matrix @ middle, order=1, mode="grid-constant"
        )
        np.testing.assert_allclose(warped, expected, atol=1e-9)


def test_shot_noise_counts_photons() -> None:
    images = np.full((200, 28, 28), 102, np.uint8)  # 0.4
    noisy = floats(corrupt(images, "shot_noise", 1))
    assert noisy.mean() == pytest.approx(0.4, abs=0.004)
    assert noisy.var() == pytest.approx(0.4 / 60, rel=0.03)
    assert len(np.unique(corrupt(images, "shot_noise", 5))) == 4  # 0, 1, 2 or all of 3 photons


@pytest.mark.parametrize(("severity", "share"), [(1, 0.03), (4, 0.17), (5, 0.27)])
def test_impulse_noise_blackens_and_whitens_as_many(severity: int, share: float) -> None:
    noisy = corrupt(np.full((200, 28, 28), 102, np.uint8), "impulse_noise", severity)
    for value in (0, 255):
        assert (noisy == value).mean() == pytest.approx(share / 2, rel=0.05)
    assert (noisy == 102).mean() == pytest.approx(1 - share, rel=0.01)


def test_both_directions_come_as_often(garments: Dataset) -> None:
    images = np.repeat(garments.test_images[:1], 400, axis=0)
    for kind in ("shear", "rotate"):
        ways, counts = np.unique(corrupt(images, kind), axis=0, return_counts=True)
        assert len(ways) == 2
        assert counts.min() > 160


def test_flips_turns_and_the_negative() -> None:
    image = np.zeros((28, 28), np.uint8)
    image[0, :2] = 10, 20  # at the top left
    corner = {
        "flip_sides": ((0, 27), (0, 26)),
        "flip_up_down": ((27, 0), (27, 1)),
        "turn_right": ((0, 27), (1, 27)),
        "turn_left": ((27, 0), (26, 0)),
    }
    for kind, (ten, twenty) in corner.items():
        told = corrupt(image[None], kind)[0]
        assert (told[ten], told[twenty], told.sum()) == (10, 20, 30)
    np.testing.assert_array_equal(corrupt(image[None], "inverse")[0], 255 - image)


def test_brightness_and_contrast_are_their_formulas() -> None:
    image = np.arange(784).reshape(1, 28, 28) % 256
    bright = corrupt(image.astype(np.uint8), "brightness")
    np.testing.assert_array_equal(bright, np.minimum(image + 127, 255))  # 127.5, cut
    flat = floats(corrupt(image.astype(np.uint8), "contrast"))
    mean = image.mean() / 255
    np.testing.assert_allclose(flat, (image / 255 - mean) * 0.1 + mean, atol=1 / 255)


def test_saturate_is_what_its_sources_do_with_colours() -> None:
    """Hue, saturation and value of a grey are (0, 0, grey)."""
    factors = ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2))
    x = np.linspace(0, 1, 784).reshape(1, 28, 28)
    for (factor, more), strength in zip(factors, KINDS["saturate"].strengths, strict=True):
        told = corruptions._saturate(x, strength, np.random.default_rng(0))
        for at in (0, 5, 100, 783):
            value = min(1, factor * x.flat[at] + more)
            red, green, blue = colorsys.hsv_to_rgb(more, more, value)
            grey = 0.2125 * red + 0.7154 * green + 0.0721 * blue
            assert told.flat[at] == pytest.approx(grey, abs=1e-9)


def test_a_kind_or_severity_that_is_not_there_is_refused(garments: Dataset) -> None:
    images = garments.test_images[:2]
    for severity in (0, 6, -1):
        with pytest.raises(ValueError, match=r"rotate has the severities \(1, 2, 3, 4, 5\), not"):
            corrupt(images, "rotate", severity)
    with pytest.raises(ValueError, match=r"inverse has the severities \(None,\), not 1"):
        corrupt(images, "inverse", 1)
    with pytest.raises(ValueError, match="there is no corruption 'fog'; there are shot_noise, "):
        corrupt(images, "fog")
