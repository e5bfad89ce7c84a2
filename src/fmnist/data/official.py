"""The four official files, and how a file proves to be one of them."""

import hashlib
import math
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fmnist.data.idx import Content, Images, header_bytes, parse_idx, read_content
from fmnist.errors import DataError

CLASS_NAMES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
STRANGER = len(CLASS_NAMES)  # the label of what is none of them

TRAIN_IMAGES = "train-images-idx3-ubyte"
TRAIN_LABELS = "train-labels-idx1-ubyte"
TEST_IMAGES = "t10k-images-idx3-ubyte"
TEST_LABELS = "t10k-labels-idx1-ubyte"

PIECE = 1 << 20  # bytes that one thread hashes at a time


@dataclass(frozen=True)
class Official:
    """What one unpacked file must be: the hashes of its content and the shape of its array.

    `sha256` is the hash that all the world quotes, `tree_sha256` the one that is checked, on all
    cores at once: half the time, and as sure. A test holds the two together on the real files.
    """

    sha256: str
    tree_sha256: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Bytes of the unpacked file."""
        return header_bytes(len(self.shape)) + math.prod(self.shape)


# The files as replaced on 2017-08-31; the gzip around them differs from mirror to mirror.
OFFICIAL = {
    TRAIN_IMAGES: Official(
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "1d4e2745be69d67cd3ab9f71a0f02a57660c31693fbebd791752bc686197426d",
        (60_000, 28, 28),
    ),
    TRAIN_LABELS: Official(
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "82d5d04be1050bab3d5f2419ef56a7804f4560df107d35bd0c94c1754182cc63",
        (60_000,),
    ),
    TEST_IMAGES: Official(
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "b6392ece98975a78d6640d719d287f4777867fa701c3cbdc9a98b77118892e6a",
        (10_000, 28, 28),
    ),
    TEST_LABELS: Official(
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        "8592e36dde58703a35ad4e6afbca8308b1171f0f59057e6c9a79d64f5c375d7a",
        (10_000,),
    ),
}

# The handwritten digits, which carry the same file names: images per digit, and the hashes of the
# unpacked images.
MNIST_COUNTS = (
    (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949),
    (980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009),
)
MNIST_IMAGES = (
    "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
)


class HandwrittenDigits(DataError):
    """The file is MNIST's, not Fashion-MNIST's."""


@dataclass(frozen=True)
class Verified:
    """The content of an official file: its bytes, and its read-only array on the same memory."""

    content: Content
    array: Images
    sha256: str


def tree_sha256(content: Content) -> str:
    """Hex SHA-256 of the joined SHA-256 digests of the pieces of 1 MiB that make up `content`."""
    view = memoryview(content)
    pieces = [view[start : start + PIECE] for start in range(0, len(view), PIECE)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        digests = pool.map(lambda piece: hashlib.sha256(piece).digest(), pieces)
        return hashlib.sha256(b"".join(digests)).hexdigest()


def verify(name: str, path: Path) -> Verified:
    """Read the file `name` from `path`, plain or packed with gzip, and prove it by its SHA-256.

    Raises DataError naming the path, without the remedy, where it is another file.
    """
    official = OFFICIAL[name]
    try:
        content = read_content(path, official.size)
        array = parse_idx(content)
        if array.shape != official.shape:
            raise DataError(f"its shape is {array.shape}, not {official.shape}")
        if tree_sha256(content) != official.tree_sha256:
            raise _stranger(array, hashlib.sha256(content).hexdigest(), official)
    except DataError as error:
        raise type(error)(f"{path}: {error}") from error
    return Verified(content, array, official.sha256)


def verify_all(paths: Mapping[str, Path]) -> dict[str, Verified | DataError]:
    """`verify` each named path, in threads: hashing and unpacking hold no interpreter lock."""

    def attempt(name: str) -> Verified | DataError:
        try:
            return verify(name, paths[name])
        except DataError as error:
            return error

    with ThreadPoolExecutor(len(paths) or 1) as pool:
        return dict(zip(paths, pool.map(attempt, paths), strict=True))


def _stranger(array: Images, sha256: str, official: Official) -> DataError:
    counts = tuple(np.bincount(array, minlength=10).tolist()) if array.ndim == 1 else ()
    if sha256 in MNIST_IMAGES or counts in MNIST_COUNTS:
        return HandwrittenDigits("these are the handwritten digits of MNIST, not Fashion-MNIST")
    return DataError(
        f"its content has SHA-256 {sha256}, not {official.sha256}: damaged, or another version"
    )
