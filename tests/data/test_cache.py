import errno
import os
from collections.abc import Callable
from pathlib import Path
from subprocess import Popen
from typing import Any

import platformdirs
import pytest

from fmnist.data import load_dataset
from fmnist.data.cache import CacheUnwritable, cache_folder, store, writing
from fmnist.data.official import OFFICIAL


def test_the_cache_is_where_fmnist_cache_says(
    tmp_path: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FMNIST_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path / "fashion-mnist"
    monkeypatch.setenv("FMNIST_CACHE", "~/mine")
    assert cache_folder() == own_home / "mine/fashion-mnist"
    monkeypatch.delenv("FMNIST_CACHE")
    assert own_home in cache_folder().parents


def test_store_puts_whole_files_and_the_workshop_is_gone(tmp_path: Path) -> None:
    with writing(tmp_path / "cache") as workshop:
        store(tmp_path / "cache", {"a": b"one", "b": b"two"}, workshop)
        assert workshop.parent == tmp_path / "cache"  # the same file system: a rename is one step
    assert (tmp_path / "cache/a").read_bytes() == b"one"
    assert sorted(os.listdir(tmp_path / "cache")) == ["a", "b", "lock"]


def test_a_killed_process_leaves_nothing_after_the_next_writer(tmp_path: Path) -> None:
    (tmp_path / "partial-old").mkdir()
    (tmp_path / "partial-old/a").write_bytes(b"half")
    with writing(tmp_path):
        assert not (tmp_path / "partial-old").exists()


def test_what_was_left_beside_a_whole_cache_is_swept(mirror: Any, bare: Path) -> None:
    load_dataset()
    (bare / "partial-old").mkdir()
    load_dataset()
    assert not (bare / "partial-old").exists()


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "a").write_bytes(b"old")
    with writing(tmp_path) as workshop:
        monkeypatch.setattr(os, call, full)
        with pytest.raises(CacheUnwritable, match=r"No space left on device.*FMNIST_CACHE"):
            store(tmp_path, {"a": b"new"}, workshop)
    assert (tmp_path / "a").read_bytes() == b"old"
    assert sorted(os.listdir(tmp_path)) == ["a", "lock"]


def test_a_file_size_limit_leaves_no_half_file(
    accepted: Path, mirror: Any, bare: Path, child: Callable[..., "Popen[str]"]
) -> None:
    done = child(
        """
        import resource
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        try:
            load_dataset()
        except DataError as error:
            print(error)
        """,
        mirror.url,
    )
    said, errors = done.communicate(timeout=60)
    assert "cannot be written (File too large)" in said, errors
    assert errors == ""
    assert not [name for name in os.listdir(bare) if name not in ("lock", *OFFICIAL)]
    for name in OFFICIAL:
        if (bare / name).exists():
            assert (bare / name).read_bytes() == (accepted / name).read_bytes()


def test_a_cache_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(CacheUnwritable, match=r"file/cache cannot be written.*set FMNIST_CACHE"),
        writing(tmp_path / "file/cache"),
    ):
        pass


def homeless(*_: object, **__: object) -> str:
    raise RuntimeError("could not determine the home directory")


@pytest.mark.parametrize("answer", [homeless, lambda *_, **__: "~/.cache/fmnist"])
def test_without_a_home_the_cache_is_nowhere(
    monkeypatch: pytest.MonkeyPatch, answer: Callable[..., str]
) -> None:
    monkeypatch.delenv("FMNIST_CACHE")
    monkeypatch.setattr(platformdirs, "user_cache_dir", answer)
    with pytest.raises(CacheUnwritable, match=r"no home folder.*set HOME, or set FMNIST_CACHE"):
        load_dataset()


def test_without_locks_files_are_still_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    def none(*arguments: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    (tmp_path / "partial-other").mkdir()  # perhaps somebody's, at work now
    with writing(tmp_path) as workshop:
        store(tmp_path, {"a": b"one"}, workshop)
    assert sorted(os.listdir(tmp_path)) == ["a", "lock", "partial-other"]


def test_a_whole_cache_is_only_read(
    mirror: Any, bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_dataset()
    (bare / "lock").unlink()
    before = {path: path.stat().st_mtime_ns for path in (bare, *bare.iterdir())}
    monkeypatch.setenv("FMNIST_OFFLINE", "1")
    bare.chmod(0o555)
    try:
        assert load_dataset().source == "cache"
    finally:
        bare.chmod(0o755)
    assert {path: path.stat().st_mtime_ns for path in (bare, *bare.iterdir())} == before
