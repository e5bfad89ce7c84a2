import contextlib
import errno
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fmnist.files import try_lock, write_whole, written_whole

HOLD_A_LOCK = """
import sys, pathlib, fmnist.files
with fmnist.files.try_lock(pathlib.Path(sys.argv[1])) as is_ours:
    print("held" if is_ours else "taken", flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def other_process(lock: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has tried to take the lock, said so on stdout, and waits."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD_A_LOCK, str(lock)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def first_word(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=10)
@given(old=st.none() | st.binary(), new=st.binary())
def test_write_whole_replaces_what_was_there(tmp_path: Path, old: bytes | None, new: bytes) -> None:
    path = tmp_path / "deep" / "file"
    path.unlink(missing_ok=True)
    if old is not None:
        write_whole(path, old)
    write_whole(path, new)
    assert path.read_bytes() == new
    assert os.listdir(path.parent) == ["file"]


def full_disk(*_: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


class FullFile:
    """A file on a disk that fills up after 3 bytes."""

    def __init__(self, handle: int) -> None:
        self.handle = handle

    def __enter__(self) -> "FullFile":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.handle)

    def write(self, content: bytes) -> None:
        os.write(self.handle, content[:3])
        full_disk()


def full_file(handle: int, mode: str) -> "IO[bytes] | FullFile":
    return FullFile(handle)


@pytest.mark.parametrize("old", [b"the old content", None])
@pytest.mark.parametrize(
    ("call", "replacement"), [("fdopen", full_file), ("fsync", full_disk), ("replace", full_disk)]
)
def test_a_failure_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, replacement: Any, old: bytes | None
) -> None:
    path = tmp_path / "file"
    if old is not None:
        path.write_bytes(old)
    with monkeypatch.context() as patch:
        patch.setattr(os, call, replacement)
        with pytest.raises(OSError, match="No space left"):
            write_whole(path, b"the new content")
    assert (path.read_bytes() if path.exists() else None) == old
    assert os.listdir(tmp_path) == ([] if old is None else ["file"])


def write_half(path: Path) -> None:
    with written_whole(path) as file:
        file.write(b"half")
        raise KeyboardInterrupt


def test_a_file_written_in_parts_is_there_at_the_end_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with written_whole(path) as file:
        file.write(b"one ")
        assert not path.exists()
        file.write(b"two")
    with pytest.raises(KeyboardInterrupt):
        write_half(path)
    assert path.read_bytes() == b"one two"
    assert os.listdir(tmp_path) == ["file"]


def test_the_content_is_on_disk_before_its_name_and_the_name_before_the_return(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, os.replace

    def watched_fsync(handle: int) -> None:
        done.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        fsync(handle)

    def watched_replace(source: Path, target: Path) -> None:
        assert Path(source).read_bytes() == b"new"
        done.append("name")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "replace", watched_replace)
    write_whole(tmp_path / "file", b"new")
    assert done == ["file", "name", "folder"]


@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077])
def test_the_mode_is_that_of_any_new_file(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        write_whole(tmp_path / "file", b"")
        assert os.umask(umask) == umask
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o666 & ~umask


def test_a_lock_is_held_by_one_process_and_freed_by_its_killing(tmp_path: Path) -> None:
    lock = tmp_path / "deep" / "lock"
    with other_process(lock) as holder:
        assert first_word(holder) == "held"
        with try_lock(lock) as is_ours:
            assert not is_ours
        holder.kill()
        holder.wait()
        with try_lock(lock) as is_ours:
            assert is_ours


def test_a_lock_that_we_hold_is_taken_for_others_until_the_block_ends(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with try_lock(lock) as is_ours, other_process(lock) as other:
        assert is_ours
        assert first_word(other) == "taken"
    with try_lock(lock) as is_ours, try_lock(lock) as is_also_ours:
        assert is_ours
        assert not is_also_ours
    with try_lock(lock) as is_ours:
        assert is_ours
