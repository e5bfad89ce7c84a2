"""The project's own folder of unpacked files: whole files only, one writer at a time."""

import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import platformdirs

from fmnist.data.idx import Content
from fmnist.errors import DataError
from fmnist.files import flush_folder

logger = logging.getLogger("fmnist")


PARTIAL = "partial-"  # starts the name of every folder of unfinished work
REMEDY = "set FMNIST_CACHE to a folder with 300 MB free"


class CacheUnwritable(DataError):
    """The cache cannot be made or written: read-only, full, or nowhere."""


def cache_folder() -> Path:
    """Where the unpacked files are kept: below FMNIST_CACHE, else below the user's cache folder.

    Raises CacheUnwritable where there is neither.
    """
    if named := os.environ.get("FMNIST_CACHE"):
        return Path(os.path.abspath(os.path.expanduser(named)), "fashion-mnist")
    try:
        root = Path(platformdirs.user_cache_dir("fmnist", appauthor=False))
    except RuntimeError:
        root = Path("~")
    if not root.is_absolute():  # older platformdirs leave the ~ of a homeless user as it is
        raise CacheUnwritable(f"there is no home folder for the cache; set HOME, or {REMEDY}")
    return root / "fashion-mnist"


def unfinished(folder: Path) -> list[Path]:
    """The folders of unfinished work in the cache: another process's of now, or a killed one's."""
    return list(folder.glob(f"{PARTIAL}*"))


@contextmanager
def writing(folder: Path) -> Iterator[Path]:
    """Hold `folder` for writing and lend a folder in it for unfinished work, gone afterwards.

    Waits for another process that holds it, and removes what a killed one left. Raises
    CacheUnwritable where `folder` cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise unwritable(folder, error) from error
    try:
        if _hold(lock, folder):
            for stale in unfinished(folder):
                shutil.rmtree(stale, ignore_errors=True)
        with _workshop(folder) as workshop:
            yield workshop
    finally:
        os.close(lock)


@contextmanager
def _workshop(folder: Path) -> Iterator[Path]:
    try:
        workshop = Path(tempfile.mkdtemp(prefix=PARTIAL, dir=folder))
    except OSError as error:
        raise unwritable(folder, error) from error
    try:
        yield workshop
    finally:
        shutil.rmtree(workshop, ignore_errors=True)


def _hold(lock: int, folder: Path) -> bool:
    """Whether the lock could be had; without one (Windows, some network disks) files stay whole."""
    if sys.platform == "win32":
        return False
    import fcntl

    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        logger.info("waiting for another process that fills %s", folder)
        fcntl.flock(lock, fcntl.LOCK_EX)
    except OSError:
        return False
    return True


def store(folder: Path, contents: Mapping[str, Content], workshop: Path) -> None:
    """Put each content into `folder` by name: written and synced in `workshop`, then renamed.

    Raises CacheUnwritable; then `folder` holds what it held, or some of the files, whole.
    """
    try:
        for name, content in contents.items():
            with (workshop / name).open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(workshop / name, folder / name)
        flush_folder(folder)
    except OSError as error:
        raise unwritable(folder, error) from error


def unwritable(folder: Path, error: OSError) -> CacheUnwritable:
    """The error that names the cache, what the system said, and the way out."""
    return CacheUnwritable(
        f"the cache {folder} cannot be written ({error.strerror or error}); {REMEDY}"
    )
