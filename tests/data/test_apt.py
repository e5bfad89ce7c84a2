import shutil
from pathlib import Path

import pytest

from fmnist.data import apt, folders, load_dataset, mirrors
from fmnist.errors import DataError

real_download = apt.download  # the fixture `bare` takes it away


def fake(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose programs stand in for the system's."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


def test_without_apt_get_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DataError, match="no apt-get"):
        apt.download([], tmp_path)


def test_a_disk_too_full_for_the_package_is_named(
    bare: Path, tools: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(tools, "dpkg-deb", "exit 0")
    fake(tools, "apt-get", "exit 0")
    monkeypatch.setenv("FMNIST_OFFLINE", "0")
    monkeypatch.setattr(apt, "download", real_download)
    monkeypatch.setattr(mirrors, "MIRRORS", ())
    monkeypatch.setattr(apt, "SPACE", shutil.disk_usage(tools).total * 2)
    with pytest.raises(DataError, match=r"No space left on device.*set FMNIST_CACHE") as error:
        load_dataset()
    assert str(bare) in str(error.value)


def test_the_last_words_of_apt_get_are_told(tools: Path, tmp_path: Path) -> None:
    fake(tools, "dpkg-deb", "exit 0")
    fake(tools, "apt-get", "echo 'W: old' >&2; echo 'E: Unable to locate it' >&2; exit 100")
    with pytest.raises(DataError, match=r"^apt-get: Unable to locate it$"):
        apt.download([], tmp_path)


def test_apt_get_that_hangs_is_stopped(
    tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apt, "SECONDS", 0.2)
    fake(tools, "dpkg-deb", "exit 0")
    fake(tools, "apt-get", "exec sleep 20")
    with pytest.raises(DataError, match="apt-get: no answer within"):
        apt.download([], tmp_path)


def test_its_own_lists_are_the_second_attempt(accepted: Path, tools: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    fake(
        tools,
        "apt-get",
        f"""echo "$@" >> {log}
        case "$*" in
            *Lists*download*) touch dataset-fashion-mnist_1_all.deb ;;
            *) exit 100 ;;
        esac""",
    )
    fake(
        tools,
        "dpkg-deb",
        f"""mkdir -p unpacked/usr/share/datasets
        cp -r {accepted} unpacked/usr/share/datasets/fashion-mnist
        gzip unpacked/usr/share/datasets/fashion-mnist/*""",
    )
    workshop = tmp_path / "workshop"
    workshop.mkdir()
    files = apt.download(["t10k-labels-idx1-ubyte"], workshop)
    assert files["t10k-labels-idx1-ubyte"].array.shape == (120,)
    first, update, second = log.read_text().splitlines()
    assert "Lists" not in first
    assert f"Dir::State::Lists={workshop / 'lists'}" in update
    assert second.endswith("download dataset-fashion-mnist")


def test_a_package_of_something_else_is_a_data_error(tools: Path, tmp_path: Path) -> None:
    fake(tools, "apt-get", "touch dataset-fashion-mnist_1_all.deb")
    fake(tools, "dpkg-deb", "mkdir -p unpacked")
    with pytest.raises(DataError, match=r"train-labels-idx1-ubyte\.gz: it cannot be read"):
        apt.download(["train-labels-idx1-ubyte"], tmp_path)


@pytest.mark.real_data
@pytest.mark.skipif(not shutil.which("apt-get"), reason="this system has no apt-get")
@pytest.mark.parametrize("lists", ["if the system has them", "none"])
def test_the_real_package_fills_an_empty_cache(
    own_home: Path, monkeypatch: pytest.MonkeyPatch, lists: str
) -> None:
    monkeypatch.setenv("FMNIST_OFFLINE", "0")
    monkeypatch.setattr(folders, "other_tools", lambda: iter(()))
    monkeypatch.setattr(mirrors, "MIRRORS", ("http://127.0.0.1:9/",))
    if lists == "none":
        (own_home / "apt.conf").write_text(f'Dir::State::Lists "{own_home}/no-lists";')
        monkeypatch.setenv("APT_CONFIG", str(own_home / "apt.conf"))
    dataset = load_dataset()
    assert dataset.folder == own_home / "cache/fashion-mnist"
    assert len(dataset.split("all")) == 60_000
