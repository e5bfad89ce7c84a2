"""Heat lies where the pixel was in the photo, in its colour, and nowhere else."""

import numpy as np
import pytest
from numpy.typing import NDArray

from fmnist.photos.overlay import LIGHT, overlay

GREY = np.full((140, 280, 3), 200, np.uint8)
# 28x28 to the middle of the picture, 5 pixels a pixel; and the same mirrored.
MIDDLE = np.array([[5.0, 0, 70], [0, 5, 0]])
MIRRORED = np.array([[-5.0, 0, 205], [0, 5, 0]])


def spot(row: int, column: int, value: float = 1.0) -> NDArray[np.float32]:
    """A map that is warm in one place."""
    heat = np.zeros((28, 28), np.float32)
    heat[row, column] = value
    return heat


@pytest.mark.parametrize(("to_original", "x"), [(MIDDLE, 70 + 5 * 20), (MIRRORED, 205 - 5 * 20)])
def test_the_heat_is_where_the_pixel_was(to_original: NDArray[np.float64], x: int) -> None:
    shown = overlay(GREY, spot(8, 20), to_original)
    assert shown.shape == GREY.shape
    assert shown.dtype == np.uint8
    colourful = np.ptp(shown.astype(int), axis=2)
    assert np.unravel_index(colourful.argmax(), colourful.shape) == (40, x)
    rows, columns = np.nonzero(colourful > 20)
    assert abs(rows - 40).max() <= 15
    assert abs(columns - x).max() <= 15


def test_what_supports_is_orange_and_what_opposes_is_blue() -> None:
    shown = overlay(GREY, spot(5, 5, 2.0) - spot(20, 20, 2.0), MIDDLE).astype(int)
    warm, cold = shown[25, 95], shown[100, 170]
    assert warm[0] > warm[1] > warm[2]
    assert cold[0] < cold[1] < cold[2]


def test_where_nothing_matters_the_photo_is_only_dimmed() -> None:
    clear = overlay(GREY, np.zeros((28, 28), np.float32), MIDDLE)
    assert (clear == round(200 * LIGHT)).all()
    beside = overlay(GREY, spot(8, 20), MIDDLE)[:, :60]
    np.testing.assert_array_equal(beside, clear[:, :60])


def test_only_shares_of_the_strongest_place_are_shown() -> None:
    heat = spot(5, 5) - spot(20, 20, 0.4)
    np.testing.assert_array_equal(
        overlay(GREY, heat, MIDDLE), overlay(GREY, np.float32(64) * heat, MIDDLE)
    )


def test_a_noisy_map_is_smooth_on_the_photo() -> None:
    """No number runs over 255 either, which would show as a jump."""
    heat = np.random.default_rng(0).choice(np.array([-1, 1], np.float32), (28, 28))
    for value in (0, 255):
        picture = np.full((140, 140, 3), value, np.uint8)
        shown = overlay(picture, heat, np.array([[5.0, 0, 2], [0, 5, 2]])).astype(int)
        assert np.abs(np.diff(shown, axis=1)).max() < 60
        assert np.ptp(shown, axis=2).max() > 100
