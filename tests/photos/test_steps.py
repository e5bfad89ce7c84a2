"""The steps of pictures as files: exact, side by side, and nowhere but in their folder."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fmnist.photos import Prepared
from fmnist.photos.steps import StepsFolder, safe_stem

RANDOM = np.random.default_rng(0)
PREPARED = Prepared(
    original=RANDOM.integers(0, 256, (40, 30, 3), dtype=np.uint8),
    mask=RANDOM.random((40, 30)) < 0.5,
    cutout=RANDOM.integers(0, 256, (20, 10, 3), dtype=np.uint8),
    image=RANDOM.integers(0, 256, (28, 28), dtype=np.uint8),
    confidence=0.9,
    found=True,
    warnings=(),
    to_original=np.eye(2, 3),
)
STEPS = ("original", "mask", "cutout", "image", "enlarged")


def test_each_step_is_a_file_with_its_exact_pixels(tmp_path: Path) -> None:
    paths = StepsFolder(tmp_path / "deep" / "steps").write("photos/shoe.jpg", PREPARED)
    assert [path.name for path in paths] == [f"shoe-{step}.png" for step in STEPS]
    assert sorted(paths) == sorted((tmp_path / "deep" / "steps").iterdir())
    original, mask, cutout, image, enlarged = (np.asarray(Image.open(path)) for path in paths)
    np.testing.assert_array_equal(original, PREPARED.original)
    np.testing.assert_array_equal(mask, PREPARED.mask * np.uint8(255))
    np.testing.assert_array_equal(cutout, PREPARED.cutout)
    np.testing.assert_array_equal(image, PREPARED.image)
    assert enlarged.shape == (280, 280)
    np.testing.assert_array_equal(enlarged[4::10, 9::10], PREPARED.image)
    np.testing.assert_array_equal(enlarged[0::10, 0::10], PREPARED.image)


def test_pictures_called_alike_get_numbers_and_the_same_ones_again(tmp_path: Path) -> None:
    names = ["a/shoe.jpg", "b/shoe.jpg", "b/SHOE.png", "shoe-2.jpg", "shoe.jpg"]
    for _ in range(2):
        folder = StepsFolder(tmp_path)
        stems = [folder.write(name, PREPARED)[0].name.split("-original")[0] for name in names]
        assert stems == ["shoe", "shoe-2", "SHOE-3", "shoe-2-2", "shoe-4"]
    assert len(list(tmp_path.iterdir())) == 5 * len(STEPS)


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("shoe.jpg", "shoe"),
        ("my shoes (left).JPEG", "my-shoes-left"),
        ("../../etc/passwd", "passwd"),
        ("..", "picture"),
        ("a/..", "picture"),
        ("C:\\photos\\boot.png", "boot"),
        (".hidden.png", "hidden"),
        ("v1.5.jpg", "v1-5"),
        ("schöne Schuhe.jpg", "schöne-Schuhe"),
        ("sho\u0308n.jpg", "shön"),
        ("nul\0byte\n.jpg", "nul-byte"),
        ("\udcff.jpg", "picture"),
        ("靴.jpg", "靴"),
        ("photos/", "photos"),
        ("-", "picture"),
        ("", "picture"),
    ],
)
def test_a_stem_is_a_plain_word(name: str, stem: str) -> None:
    assert safe_stem(name) == stem


@settings(max_examples=25, deadline=None)  # the disk may take its time
@given(st.lists(st.text(max_size=300), min_size=1, max_size=3))
def test_whatever_the_names_the_files_are_new_and_in_the_folder(
    tmp_path_factory: pytest.TempPathFactory, names: list[str]
) -> None:
    around = tmp_path_factory.mktemp("around")
    folder = StepsFolder(around / "steps")
    paths = [path for name in names for path in folder.write(name, PREPARED)]
    assert os.listdir(around) == ["steps"]
    assert len({path.name.casefold() for path in paths}) == len(STEPS) * len(names)
    assert {path.name for path in paths} == set(os.listdir(around / "steps"))
