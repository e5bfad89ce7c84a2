"""Where the data set comes from: the first source that has it wins, and each is verified."""

import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fmnist.data import apt, folders, mirrors
from fmnist.data.cache import CacheUnwritable, cache_folder, store, unfinished, unwritable, writing
from fmnist.data.dataset import Dataset
from fmnist.data.official import (
    OFFICIAL,
    TEST_IMAGES,
    TEST_LABELS,
    TRAIN_IMAGES,
    TRAIN_LABELS,
    HandwrittenDigits,
    Verified,
    verify_all,
)
from fmnist.errors import DataError

logger = logging.getLogger("fmnist")


def load_dataset(data_dir: str | os.PathLike[str] | None = None, *, fetch: bool = True) -> Dataset:
    """Fashion-MNIST, verified by SHA-256, from the first of these that has it.

    `data_dir`; the folder that FMNIST_DATA names; the project's cache (below FMNIST_CACHE or the
    user's cache folder); the folders that Debian's package, Keras and torchvision leave; HTTP
    mirrors; `apt-get download`. What is found after the cache is unpacked into it. FMNIST_OFFLINE=1
    forbids the last two, and `fetch=False` as well; then nothing is written either.

    Raises DataError, one line with what to do, where it cannot be had or where the folder named is
    wrong.
    """
    if data_dir is not None:
        return _from_folder(Path(os.path.expanduser(data_dir)), "the folder given")
    if named := os.environ.get("FMNIST_DATA"):
        return _from_folder(Path(os.path.expanduser(named)), "FMNIST_DATA")
    return _from_cache(sweep=fetch) or (_fill_cache() if fetch else _as_other_tools_left_it())


def _from_folder(folder: Path, source: str) -> Dataset:
    try:
        paths = folders.locate(folder)
        return _dataset(_whole(verify_all(paths)), source, next(iter(paths.values())).parent)
    except DataError as error:
        raise DataError(
            f"{source}: {error}; "
            "put the four official files there, or name no folder and fmnist finds or fetches them"
        ) from error


def _whole(files: Mapping[str, Verified | DataError]) -> dict[str, Verified]:
    """`files`, if all are verified; else raises the first error, MNIST's digits before others."""
    errors = [file for file in files.values() if isinstance(file, DataError)]
    if errors:
        raise max(errors, key=lambda error: isinstance(error, HandwrittenDigits))
    return {name: file for name, file in files.items() if isinstance(file, Verified)}


def _dataset(files: Mapping[str, Verified], source: str, folder: Path) -> Dataset:
    return Dataset(
        train_images=files[TRAIN_IMAGES].array,
        train_labels=files[TRAIN_LABELS].array,
        test_images=files[TEST_IMAGES].array,
        test_labels=files[TEST_LABELS].array,
        source=source,
        folder=folder.absolute(),
        sha256={name: files[name].sha256 for name in OFFICIAL},
    )


def _read_cache(folder: Path) -> dict[str, Verified | DataError]:
    return verify_all({name: folder / name for name in OFFICIAL if os.path.isfile(folder / name)})


def _lacking(files: Mapping[str, Verified | DataError]) -> list[str]:
    return [name for name in OFFICIAL if not isinstance(files.get(name), Verified)]


def _from_cache(sweep: bool = False) -> Dataset | None:
    """The data set in the cache, or None where files are missing or, with a warning, damaged.

    With `sweep`, what a killed process left half-done is removed.
    """
    folder = cache_folder()
    files = _read_cache(folder)
    for file in files.values():
        if isinstance(file, DataError):
            logger.warning("the cache is damaged and will be mended: %s", file)
    if sweep and not _lacking(files) and unfinished(folder):
        with suppress(CacheUnwritable), writing(folder):
            pass  # the killed process's work is swept away
    return None if _lacking(files) else _dataset(_whole(files), "cache", folder)


def _fill_cache() -> Dataset:
    folder = cache_folder()
    found = _from_other_tools()
    try:
        with writing(folder) as workshop:
            lacking = _lacking(_read_cache(folder))  # another process may have filled it meanwhile
            if lacking and found:
                store(folder, {name: found.files[name].content for name in lacking}, workshop)
            elif lacking:
                fetched = _fetch(lacking, workshop, folder)
                store(folder, {name: file.content for name, file in fetched.items()}, workshop)
    except CacheUnwritable as error:
        if not found:
            raise
        logger.warning("%s; the data set is read from %s every time", error, found.folder)
        return _in_memory(found)
    dataset = _from_cache()
    if dataset is None:
        raise DataError(f"the cache {folder} does not hold what was just written; check its disk")
    return dataset


@dataclass(frozen=True)
class Found:
    """The four files as another tool left them."""

    tool: str
    folder: Path
    files: Mapping[str, Verified]


def _as_other_tools_left_it() -> Dataset:
    found = _from_other_tools()
    if found is None:
        raise DataError(f"it is neither in {cache_folder()} nor where other tools leave it")
    return _in_memory(found)


def _in_memory(found: "Found") -> Dataset:
    return _dataset(found.files, f"{found.tool}, unpacked into memory", found.folder)


def _from_other_tools() -> Found | None:
    for tool, folder in folders.other_tools():
        if not folders.present(folder):
            continue
        try:
            files = _whole(verify_all(folders.locate(folder)))
        except DataError as error:
            logger.warning("skipped the files that %s left: %s", tool, error)
            continue
        logger.info("found the files that %s left in %s", tool, folder)
        return Found(tool, folder, files)
    return None


def _fetch(names: list[str], workshop: Path, folder: Path) -> Mapping[str, Verified]:
    """The named files, from the mirrors or from apt; DataError says what each answered."""
    remedy = (
        f"put {', '.join(f'{name}.gz' for name in OFFICIAL)} into a folder"
        " and name it with --data-dir or FMNIST_DATA"
    )
    what = (
        "Fashion-MNIST is"
        if len(names) == len(OFFICIAL)
        else f"{' and '.join(names)} of Fashion-MNIST is"
    )
    lack = f"{what} not whole in {folder} nor where other tools leave it"
    if os.environ.get("FMNIST_OFFLINE", "") not in ("", "0"):
        raise DataError(f"{lack}, and FMNIST_OFFLINE forbids to fetch it; {remedy}")
    failures = []
    for fetch in (mirrors.download, apt.download):
        try:
            return fetch(names, workshop)
        except DataError as error:
            failures.append(str(error))
        except OSError as error:
            raise unwritable(folder, error) from error
    raise DataError(f"{lack}, and could not be fetched ({'; '.join(failures)}); {remedy}")
