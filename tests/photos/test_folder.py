"""A folder of labelled photos: what is read of it, what is refused."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fmnist.data import STRANGER
from fmnist.errors import DataError
from fmnist.photos import prepare
from fmnist.photos.folder import PhotoFolder, prepare_photos, read_labels, read_parts

ROWS = """path,class_index,sender_id,source_label
one.png,0,anna,T-Shirt
two.png,9,bert,Shoes
hat.png,,anna,Hat
skirt.png,,bert,Skirt
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "labels.csv").write_text(ROWS)
    (tmp_path / "senders.csv").write_text("sender_id,part\nanna,tune\nbert,judge\n")
    for number, name in enumerate(("one", "two", "hat", "skirt")):
        pixels = np.full((60, 40, 3), 250, np.uint8)
        pixels[10 + number : 50, 10:30] = (20, 40, 50 * number)
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    return tmp_path


def test_labels_say_class_sender_and_kind(folder: Path) -> None:
    one, two, hat, _ = read_labels(folder)
    assert (one.path, one.class_index, one.sender, one.kind) == (
        folder / "one.png",
        0,
        "anna",
        "T-Shirt",
    )
    assert (two.class_index, hat.class_index, hat.kind) == (9, None, "Hat")
    assert read_parts(folder / "senders.csv") == {"anna": "tune", "bert": "judge"}


def test_parts_and_kinds_choose_photos(folder: Path) -> None:
    def names(**chosen: object) -> list[str]:
        return [photo.path.stem for photo in PhotoFolder(folder, **chosen).read()]  # type: ignore[arg-type]

    senders = folder / "senders.csv"
    assert names() == ["one", "two"]
    assert names(strangers=("Hat",)) == ["one", "two", "hat"]
    assert names(senders=senders, parts=("tune",)) == ["one"]
    assert names(senders=senders, parts=("judge",), strangers=("Hat", "Skirt")) == ["two", "skirt"]


@pytest.mark.parametrize("chosen", [("tuen",), ("tune", "tuen")])
def test_a_part_that_no_photo_has_is_refused(folder: Path, chosen: tuple[str, ...]) -> None:
    with pytest.raises(DataError, match=r"calls 'tuen'; there are: 'judge', 'tune'$"):
        PhotoFolder(folder, folder / "senders.csv", chosen).read()


@pytest.mark.parametrize("chosen", [("Hta",), ("Hat", "Hta"), ("T-Shirt",)])
def test_a_kind_that_no_stranger_has_is_refused(folder: Path, chosen: tuple[str, ...]) -> None:
    message = rf"no class with source_label '{chosen[-1]}'; there are: 'Hat', 'Skirt'$"
    with pytest.raises(DataError, match=message):
        PhotoFolder(folder, strangers=chosen).read()


def test_strangers_alone_are_not_learned_from(folder: Path) -> None:
    with (folder / "labels.csv").open("a") as table:
        table.write("hat.png,,carl,Hat\n")
    with (folder / "senders.csv").open("a") as table:
        table.write("carl,none\n")
    with pytest.raises(DataError, match="no photo of a class by a sender of none"):
        PhotoFolder(folder, folder / "senders.csv", ("none",), ("Hat",)).read()


def test_a_sender_is_of_one_part(folder: Path) -> None:
    senders = folder / "senders.csv"
    senders.write_text("sender_id,part\nanna,tune\nbert,judge\nanna,tune\n")
    assert read_parts(senders) == {"anna": "tune", "bert": "judge"}
    senders.write_text("sender_id,part\nanna,tune\nbert,judge\nanna,judge\n")
    with pytest.raises(DataError, match=r"line 4: sender 'anna' is of part 'judge' here.*'tune'"):
        read_parts(senders)
    senders.write_text("sender_id,part\nanna\n")
    with pytest.raises(DataError, match=r"senders\.csv, line 2 ends before column part"):
        read_parts(senders)


def test_a_choice_survives_json(folder: Path) -> None:
    chosen = PhotoFolder(folder, folder / "senders.csv", ("tune",), ("Hat",))
    assert PhotoFolder.from_json(chosen.to_json()) == chosen
    assert PhotoFolder.from_json(PhotoFolder(folder).to_json()) == PhotoFolder(folder)


def test_a_choice_holds_in_another_directory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    name = Path(folder.name)
    kept = PhotoFolder(name, name / "senders.csv", ("tune",)).to_json()
    monkeypatch.chdir(folder)
    again = PhotoFolder.from_json(kept)
    assert again == PhotoFolder(folder, folder / "senders.csv", ("tune",))
    assert [photo.path for photo in again.read()] == [folder / "one.png"]


def test_photos_are_prepared_in_order_and_hashed(folder: Path) -> None:
    photos = PhotoFolder(folder, strangers=("Hat",)).read()
    prepared = prepare_photos(photos)
    assert prepared.labels.tolist() == [0, 9, STRANGER]
    assert (prepared.images[1] == prepare(folder / "two.png").image).all()
    assert prepared.sha256 == prepare_photos(photos).sha256
    assert prepared.sha256 != prepare_photos(photos[:2]).sha256


def test_without_senders_each_photo_is_its_own(folder: Path) -> None:
    (folder / "labels.csv").write_text("path,class_index\none.png,0\ntwo.png,9\n")
    assert [photo.sender for photo in read_labels(folder)] == ["one.png", "two.png"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,class_index\none.png,0\n", "has no column path"),
        ("path\none.png\n", "has no column class_index"),
        ("", "has no column path"),
        ("path,class_index\none.png,10\n", r"line 2: class_index '10' is not 0\.\.9"),
        ("path,class_index\none.png,0\ntwo.png,shirt\n", "line 3: class_index 'shirt'"),
        ("path,class_index\nhat.png,\n", "lists no photo of a class"),
        ("path,class_index\n\none.png\n", "line 3 ends before column class_index"),
        ("class_index,path\n0,one.png\n9\n", "line 3 ends before column path"),
    ],
)
def test_a_wrong_table_is_refused(folder: Path, text: str, message: str) -> None:
    (folder / "labels.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        PhotoFolder(folder).read()


def test_a_missing_table_and_a_bad_photo_are_named(folder: Path) -> None:
    with pytest.raises(DataError, match=r"labels\.csv cannot be read: No such file"):
        PhotoFolder(folder / "nowhere").read()
    (folder / "two.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"two\.png.*take its line out of labels\.csv"):
        prepare_photos(PhotoFolder(folder).read())
