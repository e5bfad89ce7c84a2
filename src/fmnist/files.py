"""Files read within a limit, written whole or not at all, and locks that die with the process."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from fmnist.errors import ModelError


def write_whole(path: Path, content: bytes) -> None:
    """Make `path` hold `content`: after a crash at any point it holds the old bytes or the new.

    The temporary file lies beside the target (another disk could not be renamed from) and is
    removed if anything fails. Raises OSError that names `path`, for example when the disk is full.
    """
    with written_whole(path) as file:
        file.write(content)


def read_at_most(path: Path, limit_bytes: int) -> bytes:
    """Return the content of a model's file, of which no more than the limit is ever in memory.

    Raises ModelError where it cannot be read or is over `limit_bytes`.
    """
    try:
        with path.open("rb") as file:
            content = file.read(limit_bytes + 1)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error
    if len(content) > limit_bytes:
        raise ModelError(f"{path} is over {limit_bytes // 2**20} MiB, which is not loaded")
    return content


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[BinaryIO]:
    """Yield a file to write into that becomes `path` when the block ends, and only if it ends well.

    For content that should not lie in memory at once; otherwise as `write_whole`. An OSError of
    the block is taken to be this file's.
    """
    try:
        with _renamed_at_the_end(path) as file:
            yield file
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


@contextlib.contextmanager
def _renamed_at_the_end(path: Path) -> Iterator[BinaryIO]:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:  # Ctrl-C too leaves nothing behind
        temporary.unlink(missing_ok=True)
        raise
    flush_folder(path.parent)


def flush_folder(folder: Path) -> None:
    """Make the names in `folder` as durable as the bytes (a rename lives in the folder)."""
    if sys.platform == "win32":  # which cannot open a folder
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def try_lock(path: Path) -> Iterator[bool]:
    """Hold an exclusive lock on the file `path` and yield True, or yield False if it is taken.

    The kernel drops the lock with the process, so a kill leaves nothing to clean up. Where the
    system has no flock (Windows) the answer is always True.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab") as file:
        if sys.platform == "win32":
            yield True
            return
        import fcntl

        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        except OSError:  # some network disks have no locks; the work is safe, only not exclusive
            pass
        yield True


def _umask() -> int:
    """Return the process's umask; mkstemp makes files 0600, shared folders want the usual mode."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
