from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fmnist.photos.cutout import LITTLE, NOTHING, TOUCHES, Look, cut_out
from fmnist.photos.silhouette import Mask, box_of, overlap
from scenes import (
    BAG,
    BOOT,
    HEIGHT,
    SHIRT,
    TROUSERS,
    WIDTH,
    Pixels,
    carpet,
    clipped,
    laid,
    outline,
    page,
    wall,
)

COLOURS = {"navy": (30, 40, 80), "red": (190, 40, 45), "green": (60, 130, 70)}


@pytest.mark.parametrize("label", [SHIRT, TROUSERS, BOOT])
@pytest.mark.parametrize("ground", [wall, carpet])
@pytest.mark.parametrize("colour", COLOURS.values(), ids=COLOURS)
def test_a_garment_on_a_real_looking_ground(
    label: int, ground: Callable[[], Pixels], colour: tuple[int, int, int]
) -> None:
    mask = outline(label)
    cut = cut_out(laid(ground(), mask, colour), None)
    assert cut.found
    assert cut.look is Look.PHOTO
    assert overlap(cut.mask, mask) > 0.9
    assert cut.confidence > 0.4
    assert cut.warnings == ()


def test_a_plain_shirt_is_not_lost_for_its_print() -> None:
    mask = outline(SHIRT, share=0.85)
    scene = laid(wall(), mask, (150, 120, 90))
    scene[170:230, 120:180] = (250, 250, 255)
    assert overlap(cut_out(scene, None).mask, mask) > 0.85


def test_both_shoes_are_kept() -> None:
    boots = outline(BOOT, share=0.4)
    pair = np.roll(boots, -65, axis=1) | np.roll(boots, 65, axis=1)
    assert overlap(cut_out(laid(wall(), pair, (60, 30, 20)), None).mask, pair) > 0.85


def test_a_garment_that_is_not_all_in_the_picture_is_said() -> None:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[:, 60:240] = True
    cut = cut_out(laid(wall(), mask, (20, 30, 70)), None)
    assert overlap(cut.mask, mask) > 0.9
    assert TOUCHES in cut.warnings


@pytest.mark.parametrize(("share", "is_small"), [(0.85, False), (0.3, True)])
def test_a_cut_out_that_is_a_small_part_of_the_picture_is_said(
    share: float, is_small: bool
) -> None:
    mask = outline(SHIRT, share=share)
    cut = cut_out(laid(wall(), mask, (20, 30, 70)), None)
    assert overlap(cut.mask, mask) > 0.8
    assert (LITTLE in cut.warnings) == is_small


@pytest.mark.parametrize("level", [253, 255])
@pytest.mark.parametrize("grey", [20, 120, 235, 246])
def test_shop_photos_even_of_white_goods(level: int, grey: int) -> None:
    mask = outline(SHIRT)
    soft = cv2.GaussianBlur(mask.astype(float), (0, 0), 1)[..., None]
    scene = clipped((soft * grey + (1 - soft) * level).repeat(3, axis=2))
    cut = cut_out(scene, None)
    assert cut.look is Look.SHOP
    assert cut.found
    assert overlap(cut.mask, mask) > 0.93


def test_the_page_is_seen_through_a_handle() -> None:
    mask = outline(BAG)
    cut = cut_out(laid(page(), mask, (120, 60, 30)), None)
    assert overlap(cut.mask, mask) > 0.93
    hole = HEIGHT // 2 - 37, WIDTH // 2  # between handle and bag
    assert not mask[hole]
    assert not cut.mask[hole]


def test_a_strap_is_not_eaten() -> None:
    scene = page()
    scene[200:260, 60:240] = 40
    scene[120:200, 150:154] = 40  # 4 px of 400
    assert cut_out(scene, None).mask[130:195, 151:153].all()


def test_a_faint_shadow_is_left_out() -> None:
    mask = outline(BOOT)
    shadow = cv2.GaussianBlur(np.roll(mask, 12, axis=0).astype(float), (0, 0), 8)[..., None]
    scene = laid(clipped(page() - 11 * shadow), mask, (90, 40, 30))
    assert overlap(cut_out(scene, None).mask, mask) > 0.93


def test_alpha_is_believed() -> None:
    mask = outline(SHIRT)
    cut = cut_out(laid(page(), mask, (40, 90, 200)), np.where(mask, 255, 0).astype(np.uint8))
    assert (cut.mask == mask).all()
    assert cut.confidence == 1
    assert cut.look is Look.SHOP


def test_a_whole_picture_with_a_transparent_margin_is_looked_into() -> None:
    mask = outline(SHIRT, share=0.6)
    scene = laid(wall(), mask, (30, 40, 80))
    alpha = np.zeros((HEIGHT, WIDTH), np.uint8)
    alpha[20:-20, 20:-20] = 255
    assert overlap(cut_out(scene, alpha).mask, mask) > 0.85


def test_a_rectangle_in_which_nothing_is_found_is_the_garment() -> None:
    """As a tote bag is, cut out."""
    scene, alpha = page(), np.zeros((HEIGHT, WIDTH), np.uint8)
    scene[100:330, 60:240] = (120, 80, 40)
    alpha[100:330, 60:240] = 255
    cut = cut_out(scene, alpha)
    assert cut.found
    assert (cut.mask == (alpha > 0)).all()
    assert cut.box == (slice(100, 330), slice(60, 240))
    assert cut.look is Look.SHOP
    assert cut.warnings == ()


def test_stray_pixels_do_not_widen_what_alpha_cuts_out() -> None:
    mask = outline(SHIRT)
    alpha = np.where(mask, 255, 0).astype(np.uint8)
    alpha[0, 0] = alpha[-1, -1] = 255
    cut = cut_out(laid(page(), mask, (40, 90, 200)), alpha)
    assert (cut.mask == mask).all()
    assert cut.box == box_of(mask)


def test_alpha_keeps_both_shoes() -> None:
    boots = outline(BOOT, share=0.4)
    pair = np.roll(boots, -65, axis=1) | np.roll(boots, 65, axis=1)
    alpha = np.where(pair, 255, 0).astype(np.uint8)
    assert (cut_out(laid(page(), pair, (60, 30, 20)), alpha).mask == pair).all()


def test_alpha_with_specks_alone_holds_no_garment() -> None:
    alpha = np.zeros((HEIGHT, WIDTH), np.uint8)
    alpha[::50, ::50] = 255
    cut = cut_out(page(), alpha)
    assert not cut.found
    assert cut.mask.all()


def test_a_frame_line_is_not_the_garment() -> None:
    mask = outline(SHIRT, share=0.6)
    scene = laid(page(255), mask, (40, 40, 40))
    cv2.rectangle(scene, (20, 50), (280, 350), (0, 0, 0), 3)
    assert overlap(cut_out(scene, None).mask, mask) > 0.9


def test_one_frame_is_looked_into_and_no_more() -> None:
    scene = page(255)
    for inset in range(20, 140, 20):
        cv2.rectangle(scene, (inset, inset), (WIDTH - inset, HEIGHT - inset), (0, 0, 0), 3)
    rows, columns = cut_out(scene, None).box
    outlines = np.array([rows.start, columns.start, HEIGHT - rows.stop, WIDTH - columns.stop])
    assert np.abs(outlines - 40).max() < 6


def square_in_black(label: int) -> Pixels:
    """An image of Fashion-MNIST, enlarged: (280, 280, 3)."""
    image = np.zeros((28, 28), np.uint8)
    small = cv2.resize(outline(label, 0.95).astype(np.float32), (28, 37))[4:32]
    image[small > 0.5] = 180
    large = np.asarray(cv2.resize(image, (280, 280), interpolation=cv2.INTER_CUBIC), np.uint8)
    return large[..., None].repeat(3, axis=2)


def test_an_enlarged_image_of_fashion_mnist_is_known_by_its_black() -> None:
    cut = cut_out(square_in_black(SHIRT), None)
    assert cut.look is Look.NEGATED
    assert cut.box == (slice(0, 280), slice(0, 280))
    assert len(cut.warnings) == 1


def test_an_enlarged_image_on_a_page_is_known_too() -> None:
    scene = np.full((400, 500, 3), 255, np.uint8)
    scene[60:340, 110:390] = square_in_black(SHIRT)
    cut = cut_out(scene, None)
    assert cut.look is Look.NEGATED
    rows, columns = cut.box
    assert abs(rows.start - 60) < 6
    assert abs(columns.start - 110) < 6
    assert abs(rows.stop - 340) < 6
    assert abs(columns.stop - 390) < 6


def test_a_colourful_garment_on_black_is_a_photo() -> None:
    cut = cut_out(laid(page(0), outline(SHIRT), (200, 60, 60)), None)
    assert cut.look is Look.PHOTO


def noise(*shape: int) -> Pixels:
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)


@pytest.mark.parametrize(
    "pixels",
    [page(255), page(0), page(128), wall(), carpet(), noise(HEIGHT, WIDTH, 3), noise(1, 1, 3),
     noise(3, 500, 3), noise(500, 3, 3)],
    ids=["white", "black", "grey", "wall", "carpet", "noise", "dot", "row", "column"],
)  # fmt: skip
def test_an_empty_frame_is_told(pixels: Pixels) -> None:
    cut = cut_out(pixels, None)
    assert not cut.found
    assert cut.confidence == 0
    assert cut.mask.all()
    assert cut.warnings == (NOTHING,)


@pytest.mark.parametrize("opacity", [0, 40, 127, 128, 255])
def test_alpha_that_tells_nothing(opacity: int) -> None:
    cut = cut_out(page(), np.full((HEIGHT, WIDTH), opacity, np.uint8))
    assert not cut.found


def test_the_answer_is_the_same_every_time_and_on_every_thread() -> None:
    scenes = [laid(carpet(seed), outline(SHIRT), (90, 80, 90), seed) for seed in range(4)]
    once: list[Mask] = [cut_out(scene, None).mask for scene in scenes]

    def again(turn: int) -> bool:
        cv2.setRNGSeed(turn)  # whatever was drawn on this thread before
        cv2.randu(np.zeros(turn + 1), np.zeros(1), np.ones(1))
        number = turn % len(scenes)
        return bool((cut_out(scenes[number], None).mask == once[number]).all())

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(again, range(16)))


sizes = st.tuples(st.integers(1, 40), st.integers(1, 40))
values = st.sampled_from([0, 1, 128, 253, 255])


@settings(max_examples=60, deadline=None)
@given(sizes.flatmap(lambda size: arrays(np.uint8, (*size, 4), elements=values)), st.booleans())
def test_any_picture_is_answered(rgba: Pixels, has_alpha: bool) -> None:
    pixels, alpha = np.ascontiguousarray(rgba[..., :3]), rgba[..., 3]
    cut = cut_out(pixels, alpha if has_alpha else None)
    assert cut.mask.shape == alpha.shape
    assert cut.mask.any()
    assert 0 <= cut.confidence <= 1
    assert cut.mask[cut.box].sum() == cut.mask.sum()
    assert cut.found or cut.warnings
