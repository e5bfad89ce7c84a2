from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fmnist.data import CLASS_NAMES, Dataset
from fmnist.data.sheet import COLUMNS, GAP, LEFT, SIDE, TOP, write_sheet
from fmnist.errors import DataError


def tile(sheet: Image.Image, row: int, column: int) -> Image.Image:
    left, top = LEFT + column * (SIDE + GAP), TOP + row * (SIDE + GAP)
    return sheet.crop((left, top, left + SIDE, top + SIDE))


def test_each_row_shows_twelve_images_of_its_class(garments: Dataset, tmp_path: Path) -> None:
    write_sheet(garments, tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.format == "PNG"
        for label in range(len(CLASS_NAMES)):
            members = garments.train_images[garments.train_labels == label]
            known = {image.tobytes() for image in members}
            for column in range(COLUMNS):
                pixels = np.asarray(tile(sheet, label, column))[::2, ::2]
                assert pixels.tobytes() in known
            name = sheet.crop(
                (0, TOP + label * (SIDE + GAP), LEFT, TOP + label * (SIDE + GAP) + SIDE)
            )
            assert np.asarray(name).min() < 100  # something is written there


def test_the_sheet_is_the_same_each_time(garments: Dataset, tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        write_sheet(garments, tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_a_sheet_that_cannot_be_written_is_a_data_error(garments: Dataset, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"file/sheet\.png cannot be written"):
        write_sheet(garments, tmp_path / "file" / "sheet.png")


def test_a_failed_sheet_leaves_the_old_one_and_no_other_file(
    garments: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    (tmp_path / "sheet.png").write_text("old")
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(DataError, match="No space left"):
        write_sheet(garments, tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.png"]
