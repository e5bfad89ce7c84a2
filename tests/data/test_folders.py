import gzip
from pathlib import Path

import pytest

from fmnist.data import folders
from fmnist.data.official import OFFICIAL
from fmnist.errors import DataError


def put(folder: Path, suffix: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in OFFICIAL:
        (folder / f"{name}{suffix}").write_bytes(b"x")
    return folder


@pytest.mark.parametrize("below", folders.BELOW)
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_locate_finds_the_files_where_tools_put_them(
    tmp_path: Path, below: str, suffix: str
) -> None:
    lying = put(tmp_path / below, suffix)
    assert folders.locate(tmp_path) == {name: lying / f"{name}{suffix}" for name in OFFICIAL}


def test_a_plain_file_goes_before_a_packed_one(tmp_path: Path) -> None:
    put(tmp_path)
    put(tmp_path, ".gz")
    assert folders.present(tmp_path) == {name: tmp_path / name for name in OFFICIAL}


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    put(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte \(or \.gz\) is missing"):
        folders.locate(tmp_path)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere: there is no such folder"):
        folders.locate(tmp_path / "nowhere")


def test_a_folder_under_a_files_name_is_no_file(tmp_path: Path) -> None:
    for name in OFFICIAL:
        (tmp_path / name).mkdir()
    assert folders.present(tmp_path) == {}


def test_the_tools_folders_follow_home_and_keras_home(
    own_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = [path for _, path in folders.other_tools()]
    assert Path("/usr/share/datasets/fashion-mnist") in places
    assert own_home / ".keras/datasets/fashion-mnist" in places
    assert own_home / "data/FashionMNIST/raw" in places
    assert Path("data/FashionMNIST/raw").absolute() in places
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    assert tmp_path / "datasets/fashion-mnist" in [path for _, path in folders.other_tools()]


def test_packed_is_by_content_not_by_name(tmp_path: Path, accepted: Path) -> None:
    from fmnist.data import load_dataset

    for (
        name
    ) in OFFICIAL:  # what an unpacker that keeps names, or one that forgets to unpack, leaves
        content = (accepted / name).read_bytes()
        (tmp_path / name).write_bytes(gzip.compress(content))
    assert load_dataset(tmp_path).train_images.shape == (480, 28, 28)
