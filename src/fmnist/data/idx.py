"""IDX files: bytes to arrays, packed with gzip or not.

The format is the one of LeCun's MNIST page: two zero bytes, a byte for the type (0x08 is uint8, the
only one here), a byte for the number of dimensions, each dimension as a big-endian uint32, then the
values in C order.
"""

import gzip
import math
import mmap
import struct
import zlib
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from fmnist.errors import DataError

Images: TypeAlias = npt.NDArray[np.uint8]
Content: TypeAlias = bytes | mmap.mmap

UINT8 = 0x08
GZIP_MAGIC = b"\x1f\x8b"


def header_bytes(rank: int) -> int:
    """Bytes before the first value of an IDX file with `rank` dimensions."""
    return 4 + 4 * rank


def parse_idx(content: Content) -> Images:
    """A read-only uint8 array of the shape that the header names, on the memory of `content`.

    Raises DataError, without naming a file, where `content` is not exactly one IDX file of bytes.
    """
    start = content[:4]
    if len(start) < 4:
        raise DataError(f"{len(content)} bytes are no IDX file")
    if start[:2] != b"\0\0" or start[2] != UINT8 or start[3] == 0:
        raise DataError(f"wrong magic number 0x{start.hex()}{_guess(content[:256])}")
    offset = header_bytes(start[3])
    if len(content) < offset:
        raise DataError(f"the header is cut at {len(content)} of {offset} bytes")
    shape = struct.unpack(f">{start[3]}I", content[4:offset])
    if 0 in shape:
        raise DataError(f"no values: one of {len(shape)} dimensions is 0")
    wanted, found = math.prod(shape), len(content) - offset
    if wanted != found:
        sizes = " x ".join(map(str, shape))
        problem = "trailing bytes" if found > wanted else "truncated"
        raise DataError(f"{problem}: {found:,} bytes of values where the header says {sizes}")
    return _array(content, offset, shape)


def _array(content: Content, offset: int, shape: tuple[int, ...]) -> Images:
    try:  # numpy knows at most 64 dimensions
        array = np.frombuffer(content, dtype=np.uint8, offset=offset).reshape(shape)
    except ValueError as error:
        raise DataError(f"its header has {len(shape)} dimensions: {error}") from error
    array.flags.writeable = False
    return array


def _guess(start: bytes) -> str:
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<body")):
        return ": this is a web page, not data"
    return ""


def read_content(path: Path, size: int) -> Content:
    """The unpacked content of `path`: a read-only map of a plain file, or what its gzip holds.

    `size` is the number of bytes awaited; unpacking stops one byte after it, so that memory stays
    bounded. Raises DataError, without naming the file, where it cannot be read or unpacked.
    """
    try:
        with path.open("rb") as file:
            packed = file.read(2) == GZIP_MAGIC
            if not packed:
                return _map(file.fileno())
        return _unpack(path, size)
    except OSError as error:
        raise DataError(f"it cannot be read ({error.strerror or error})") from error


def _map(descriptor: int) -> Content:
    try:
        return mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
    except ValueError:  # an empty file cannot be mapped
        return b""


def _unpack(path: Path, size: int) -> bytes:
    try:
        with gzip.open(path) as file:
            content = file.read(size + 1)
    except EOFError as error:
        raise DataError("the gzip is truncated") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"the gzip is damaged ({error})") from error
    if len(content) > size:
        raise DataError(f"the gzip holds more than the {size:,} bytes awaited")
    return content
