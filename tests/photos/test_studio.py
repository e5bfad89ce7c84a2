import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmnist.photos.cutout import Cutout, Look, cut_out
from fmnist.photos.silhouette import Mask, box_of
from fmnist.photos.studio import LIGHT, shoot
from scenes import BOOT, SHIRT, TROUSERS, laid, outline, page, wall


def cut_of(mask: Mask, look: Look = Look.PHOTO, ground: float = 253.0) -> Cutout:
    """A cut-out of a known mask."""
    return Cutout(mask, box_of(mask), look, ground, 1.0, True, ())


@pytest.mark.parametrize("look", list(Look))
@pytest.mark.parametrize("label", [SHIRT, TROUSERS, BOOT])
def test_the_longest_edge_is_28_and_the_garment_central(label: int, look: Look) -> None:
    mask = outline(label)
    scene = laid(page(0 if look is Look.NEGATED else 253), mask, (120, 120, 120))
    shot = shoot(scene, cut_of(mask, look, 0.0 if look is Look.NEGATED else 253.0))
    assert shot.image.shape == (28, 28)
    assert shot.image.dtype == np.uint8
    rows, columns = box_of(shot.image > 8)
    sides = rows.stop - rows.start, columns.stop - columns.start
    assert max(sides) == 28
    for side in rows, columns:
        assert abs(side.start - (28 - side.stop)) <= 1


def test_dark_is_light_and_what_is_not_the_garment_black() -> None:
    mask = outline(SHIRT)
    dark = shoot(laid(wall(), mask, (20, 20, 30)), cut_of(mask)).image
    pale = shoot(laid(wall(), mask, (200, 200, 190)), cut_of(mask)).image
    assert np.median(dark[8:24, 10:18]) > 190 > np.median(pale[8:24, 10:18])
    assert (dark[:2, :2] == 0).all()
    assert (dark[-4:, :4] == 0).all()


@pytest.mark.parametrize("look", [Look.PHOTO, Look.SHOP])
def test_a_white_garment_stays_to_be_seen(look: Look) -> None:
    mask = outline(SHIRT)
    shot = shoot(laid(page(), mask, (244, 244, 244)), cut_of(mask, look))
    assert np.median(shot.image[8:24, 10:18]) > 20
    assert shot.warnings == (LIGHT,)


def test_a_shop_photo_is_only_negated() -> None:
    """Tones of the paper's steps: 253 to 0, and c to 253 - c, on the scale of 255."""
    scene = page()
    scene[50:350, 50:250] = 60
    mask = scene[..., 0] < 253
    image = shoot(scene, cut_of(mask, Look.SHOP)).image
    assert image[10:18, 10:18] == pytest.approx((253 - 60) * 255 / 253, abs=1)


def test_an_enlarged_image_comes_back_as_it_was() -> None:
    image = np.random.default_rng(3).integers(0, 256, (28, 28)).astype(np.uint8)
    image[0], image[-1], image[:, 0], image[:, -1] = 0, 0, 0, 0
    image[5, 5] = 255
    large = np.kron(image, np.ones((10, 10), np.uint8))[..., None].repeat(3, axis=2)
    whole = slice(0, 280), slice(0, 280)
    cut = Cutout(large[..., 0] > 0, whole, Look.NEGATED, 0.0, 1.0, True, ())
    inner = shoot(large, cut).image[1:-1, 1:-1].astype(int)
    assert np.abs(inner - image[1:-1, 1:-1]).max() <= 1


def test_the_cutout_is_on_light_grey() -> None:
    mask = outline(SHIRT)
    rows, columns = box_of(mask)
    paper = shoot(laid(wall(), mask, (90, 20, 20)), cut_of(mask)).cutout
    assert paper.shape == (rows.stop - rows.start, columns.stop - columns.start, 3)
    far = cv2.dilate(mask.astype(np.uint8), np.ones((31, 31), np.uint8))[rows, columns] == 0
    assert far.any()
    assert (paper[far] == 253).all()


@given(st.integers(1, 200), st.integers(1, 200), st.integers(0, 30), st.integers(0, 30))
def test_corners_map_to_the_corners_of_the_box(
    height: int, width: int, top: int, left: int
) -> None:
    mask = np.zeros((240, 240), bool)
    mask[top : top + height, left : left + width] = True
    shot = shoot(np.zeros((240, 240, 3), np.uint8), cut_of(mask))
    scale = 28 / max(height, width)
    rows, columns = max(1, round(height * scale)), max(1, round(width * scale))
    first = np.array([(28 - columns) // 2, (28 - rows) // 2]) - 0.5  # outer corner of a pixel
    corners = np.array([[*first, 1], [first[0] + columns, first[1] + rows, 1]])
    expected = [[left - 0.5, top - 0.5], [left + width - 0.5, top + height - 0.5]]
    assert corners @ shot.to_original.T == pytest.approx(np.array(expected), abs=1e-9)


def test_a_mark_is_found_again_in_the_photo() -> None:
    mask = outline(SHIRT)
    scene = laid(page(), mask, (200, 200, 200))
    scene[248:258, 168:178] = 0
    shot = shoot(scene, cut_out(scene, None))
    row, column = np.unravel_index(shot.image.argmax(), (28, 28))
    x, y = shot.to_original @ [column, row, 1]
    assert abs(x - 172.5) < 8
    assert abs(y - 252.5) < 8
