"""The folders where the four files may lie already, and finding the files in one."""

import os
from collections.abc import Iterator
from pathlib import Path

from fmnist.data.official import OFFICIAL
from fmnist.errors import DataError

# Where the files lie below the folder that a person would name: itself, torchvision's root, a clone
# of Zalando's repository, a Keras home, a Debian root.
BELOW = (
    "",
    "FashionMNIST/raw",
    "raw",
    "fashion",
    "data/fashion",
    "fashion-mnist",
    "datasets/fashion-mnist",
    "share/datasets/fashion-mnist",
)


def other_tools() -> Iterator[tuple[str, Path]]:
    """Tool and folder, wherever Debian's package, Keras and torchvision leave the files."""
    for prefix in ("/usr", "/usr/local"):
        yield "Debian's package", Path(prefix, "share/datasets/fashion-mnist")
    home = os.path.expanduser("~")
    keras = os.environ.get("KERAS_HOME") or os.path.join(home, ".keras")
    yield "Keras", Path(keras, "datasets/fashion-mnist")
    for root in ("data", ".", os.path.join(home, "data"), os.path.join(home, ".torch/data")):
        yield "torchvision", Path(root, "FashionMNIST/raw").absolute()


def present(folder: Path) -> dict[str, Path]:
    """Those of the official files that lie in `folder`, by name, a plain one before its .gz."""
    found = {}
    for name in OFFICIAL:
        for path in (folder / name, folder / f"{name}.gz"):
            if os.path.isfile(path):  # False, not an error, where it may not be looked at
                found[name] = path
                break
    return found


def locate(folder: Path) -> dict[str, Path]:
    """The path of each official file, in `folder` or where a tool would put it below.

    Raises DataError where `folder` does not exist or one of the four is missing.
    """
    if not os.path.isdir(folder):
        raise DataError(f"{folder}: there is no such folder")
    found = max((present(folder / below) for below in BELOW), key=len)
    missing = [name for name in OFFICIAL if name not in found]
    if missing:
        where = next((path.parent for path in found.values()), folder)
        raise DataError(f"{where}: {' and '.join(missing)} (or .gz) is missing")
    return found
