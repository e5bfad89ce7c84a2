import io
import re
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

import garments
from fmnist.errors import PhotoError
from fmnist.photos import prepare
from fmnist.photos.prepared import EMPTY, NEGATED, WHITE
from fmnist.photos.silhouette import overlap
from scenes import SHIRT, Pixels, laid, outline, page, wall

SECONDS = 2.0  # twenty times what is promised, for machines that are slow or busy


def png(pixels: Pixels) -> bytes:
    """Pixels as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def fashion_image(label: int) -> Pixels:
    """A drawn image as Fashion-MNIST has them."""
    return garments.draw(label, np.random.default_rng(label))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("label", range(10))
def test_an_image_of_fashion_mnist_is_not_changed_in_a_bit(label: int, channels: int) -> None:
    image = fashion_image(label)
    pixels = image if channels == 1 else image[..., None].repeat(3, axis=2)
    prepared = prepare(png(pixels))
    assert prepared.image.tobytes() == image.tobytes()
    assert prepared.found
    assert prepared.confidence == 1
    assert prepared.warnings == ()
    assert (prepared.to_original == [[1, 0, 0], [0, 1, 0]]).all()


@pytest.mark.parametrize("label", range(10))
def test_a_small_image_dark_on_light_is_negated_and_it_is_said(label: int) -> None:
    image = fashion_image(label)
    prepared = prepare(png(255 - image))
    assert (prepared.image == image).all()
    assert prepared.warnings == (NEGATED,)


@given(arrays(np.uint8, (28, 28)))
def test_any_small_grey_image_passes_or_is_negated(image: Pixels) -> None:
    prepared = prepare(Image.fromarray(image))
    empty = image.min() == image.max()
    negated = NEGATED in prepared.warnings or (empty and image[0, 0] >= WHITE)
    assert (prepared.image == (255 - image if negated else image)).all()
    assert prepared.found == (not empty) == (EMPTY not in prepared.warnings)


@pytest.mark.parametrize("tone", [0, 128, 255])
def test_a_small_picture_of_one_tone_is_empty(tone: int) -> None:
    prepared = prepare(png(np.full((28, 28), tone, np.uint8)))
    assert not prepared.found
    assert prepared.confidence == 0
    assert prepared.mask.all()
    assert prepared.warnings == (EMPTY,)
    assert (prepared.image == (0 if tone == 255 else tone)).all()


FAULTS = [
    (
        cv2.error("OpenCV(9) a.cpp:1:\n error: (-215) !empty()"),
        r"error: OpenCV\(9\) a\.cpp:1: error",
    ),
    (MemoryError(), "MemoryError"),
    (IndexError("list index out of range"), "IndexError: list index out of range"),
]


@pytest.mark.parametrize(("fault", "told"), FAULTS)
@pytest.mark.parametrize("step", ["cut_out", "shoot"])
def test_whatever_goes_wrong_with_a_picture_is_its_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, fault: Exception, told: str
) -> None:
    def fail(*_: object) -> None:
        raise fault

    picture = png(laid(wall(), outline(SHIRT), (30, 40, 90)))
    path = tmp_path / "shirt.png"
    path.write_bytes(picture)
    monkeypatch.setattr(f"fmnist.photos.prepared.{step}", fail)
    for source, subject in (path, f"{path}:"), (picture, "the picture is"):
        message = rf"^{re.escape(subject)} one that could not be prepared \({told}.*\); [^\n]+$"
        with pytest.raises(PhotoError, match=message) as caught:
            prepare(source)
        assert caught.value.__cause__ is fault


def test_a_photo_and_what_is_told_of_it() -> None:
    mask = outline(SHIRT)
    scene = laid(wall(), mask, (30, 40, 90))
    prepared = prepare(png(scene))
    assert (prepared.original == scene).all()
    assert prepared.mask.shape == scene.shape[:2]
    assert overlap(prepared.mask, mask) > 0.9
    assert prepared.found
    assert 0 < prepared.confidence <= 1
    assert prepared.image.shape == (28, 28)
    assert prepared.image.max() > 100


def test_colours_below_what_is_transparent_do_not_count() -> None:
    mask = outline(SHIRT)
    scene = laid(page(), mask, (30, 40, 90))
    alpha = np.where(mask, 255, 0).astype(np.uint8)
    garbage = np.where(mask[..., None], scene, 0)
    noise = np.random.default_rng(0).integers(0, 256, scene.shape)
    images = [
        prepare(png(np.dstack([below, alpha]).astype(np.uint8))).image
        for below in (scene, garbage, np.where(mask[..., None], scene, noise))
    ]
    assert (images[0] == images[1]).all()
    assert (images[0] == images[2]).all()


def test_a_wholly_transparent_picture_has_no_garment() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 50, 4)).astype(np.uint8)
    pixels[..., 3] = 0
    prepared = prepare(png(pixels))
    assert not prepared.found
    assert prepared.warnings


@given(st.integers(1, 60), st.integers(1, 60), st.sampled_from(["L", "RGB", "RGBA", "P", "1"]))
def test_no_size_or_mode_breaks_it(width: int, height: int, mode: str) -> None:
    prepared = prepare(Image.new(mode, (width, height)))
    assert prepared.image.shape == (28, 28)
    assert prepared.original.shape == (*prepared.mask.shape, 3)


def test_a_photo_takes_no_long_time() -> None:
    scene = png(laid(wall(), outline(SHIRT), (30, 40, 90)))
    prepare(scene)
    start = time.process_time()
    prepare(scene)
    assert time.process_time() - start < SECONDS
