"""What the tensors of the Open Inference Protocol hold here: images, or the files of pictures.

Each comes as JSON, in binary behind the JSON, or as a body of nothing else. In binary an element of
BYTES has its length before it; in JSON, which has no bytes, a file is in base64.
"""

import binascii
import math
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist.serving.protocol_messages import BYTES_OF_LENGTH, Buffer, malformed

SIDE = 28  # px
IMAGE = SIDE * SIDE  # bytes
BASE64_PART = 2**18  # characters, by fours; half a millisecond of work


# Images: UINT8 [-1, 28, 28]


def images_from_binary(content: Buffer, number: int) -> NDArray[np.uint8]:
    """Return images (n, 28, 28) of their bytes, row by row."""
    if len(content) != number * IMAGE:
        raise malformed(f"{number} images have {number * IMAGE} bytes, not {len(content)}")
    return np.frombuffer(content, np.uint8).reshape(number, SIDE, SIDE)


def images_from_raw(content: bytes) -> NDArray[np.uint8]:
    """Return as many images (n, 28, 28) as there are in a body."""
    if not content or len(content) % IMAGE:
        raise malformed(f"the body must be images of {IMAGE} bytes each, not {len(content)} bytes")
    return images_from_binary(content, len(content) // IMAGE)


def images_from_json(data: Any, number: int) -> NDArray[np.uint8]:
    """Return images (n, 28, 28) of numbers, nested as the shape says or one after the other."""
    pixels = _flat(data, (number, SIDE, SIDE))
    if not set(map(type, pixels)) <= {int}:
        raise malformed("the data must be whole numbers 0..255")
    try:
        return np.frombuffer(bytes(pixels), np.uint8).reshape(number, SIDE, SIDE)
    except ValueError as error:
        raise malformed("the data must be whole numbers 0..255") from error


def _flat(data: Any, shape: tuple[int, ...]) -> list[Any]:
    """Return the values of nested or flat data in their order; raise Refusal for other numbers."""
    if not isinstance(data, list):
        raise malformed("the input needs data, a list, or a binary_data_size")
    if data and isinstance(data[0], list):
        for length in shape[1:]:
            if not all(isinstance(each, list) and len(each) == length for each in data):
                raise malformed(f"the data are nested otherwise than the shape {list(shape)}")
            data = list(chain.from_iterable(data))
    values: list[Any] = data
    total = math.prod(shape)
    if len(values) != total:
        raise malformed(f"the shape is of {total} values, and there are {len(values)} in the data")
    return values


# Files: BYTES [-1]


def files_from_binary(content: Buffer, number: int) -> list[bytes]:
    """Return the files of a tensor; each has its length before it."""
    files: list[bytes] = []
    at = 0
    while at < len(content):
        if len(files) == number or at + BYTES_OF_LENGTH.size > len(content):
            break
        (length,) = BYTES_OF_LENGTH.unpack_from(content, at)
        start = at + BYTES_OF_LENGTH.size
        at = start + length
        files.append(bytes(content[start:at]))
    if len(files) != number or at != len(content):
        raise malformed(
            f"the binary data are not {number} elements, each behind its length in 4 bytes"
        )
    return files


def files_from_raw(content: bytes) -> list[bytes]:
    """Return a body as the one file that it is."""
    return [content]


def files_from_json(data: Any, number: int) -> list[bytes]:
    """Return the files of strings in base64, broken into lines or not: JSON has no bytes."""
    files = []
    for index, text in enumerate(_flat(data, (number, 1))):  # [n], or a column
        try:
            files.append(_from_base64(text))
        except (TypeError, ValueError) as error:  # binascii.Error is a ValueError
            raise malformed(f"data[{index}] is not a string in base64") from error
    return files


def _from_base64(text: Any) -> bytes:
    if not isinstance(text, str):
        raise TypeError
    if "\n" in text:  # as MIME breaks it
        text = "".join(text.split())
    # In parts, between which other threads go on.
    starts = range(0, len(text), BASE64_PART)
    parts = (text[at : at + BASE64_PART] for at in starts)
    return b"".join(binascii.a2b_base64(part, strict_mode=True) for part in parts)
