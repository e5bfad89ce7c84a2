import gzip
import math
import struct
from collections.abc import Callable
from pathlib import Path
from subprocess import Popen

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fmnist.data.idx import parse_idx, read_content
from fmnist.errors import DataError
from garments import idx_bytes

GOOD = idx_bytes(np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4))


def header(*shape: int) -> bytes:
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, 8, len(shape), *shape)


def test_parse_idx_gives_a_read_only_array_of_the_shape_in_the_header() -> None:
    array = parse_idx(GOOD)
    assert array.shape == (2, 3, 4)
    assert array.dtype == np.uint8
    assert array.ravel().tolist() == list(range(24))
    assert not array.flags.writeable


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "0 bytes are no IDX file"),
        (b"\0\0\x08", "3 bytes are no IDX file"),
        (b"\0\0\x08\x03\0\0", "header is cut at 6 of 16 bytes"),
        (b"\0\0\x0d" + GOOD[3:], "wrong magic number 0x00000d03"),
        (b"\0\0\x08\0", "wrong magic number 0x00000800"),
        (b"\1" + GOOD[1:], "wrong magic number 0x01000803"),
        (GOOD + b"\0", "trailing bytes: 25 bytes"),
        (GOOD[:-1], "truncated: 23 bytes of values where the header says 2 x 3 x 4"),
        (b"  <!DOCTYPE html><title>Log in</title>", "web page"),
        (b"<html>", "web page"),
        (header(0, 28, 28), "one of 3 dimensions is 0"),
        (header(*[1] * 65) + b"x", "65 dimensions"),
        (header(2**32 - 1, 2**32 - 1, 2**32 - 1), "truncated"),
    ],
)
def test_parse_idx_refuses(content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse_idx(content)


@settings(max_examples=1000, deadline=None)
@given(start=st.binary(max_size=40), tail=st.binary(max_size=64))
def test_any_bytes_are_an_array_that_fills_them_or_a_data_error(start: bytes, tail: bytes) -> None:
    content = start + tail
    try:
        array = parse_idx(content)
    except DataError:
        return
    assert array.size == len(content) - 4 - 4 * array.ndim


@settings(max_examples=2000, deadline=None)
@given(
    start=st.sampled_from([GOOD[:4], b"\0\0\x08\x01", b"\0\0\x08\x02", b"\0\0\x08\x04"]),
    shape=st.lists(st.sampled_from([0, 1, 2, 3, 4, 24, 2**31, 2**32 - 1]), max_size=5),
    values=st.integers(0, 30),
)
def test_a_header_that_does_not_fit_is_refused(start: bytes, shape: list[int], values: int) -> None:
    shape = shape[: start[3]]  # what is over would be values
    content = start + struct.pack(f">{len(shape)}I", *shape) + b"\xff" * values
    if start[3] == len(shape) and math.prod(shape) == values > 0:
        assert parse_idx(content).shape == tuple(shape)
    else:  # of 0xff, no values can stand in for a missing dimension
        with pytest.raises(DataError):
            parse_idx(content)


def test_read_content_maps_a_plain_file_and_unpacks_a_gzip(tmp_path: Path) -> None:
    plain, packed = tmp_path / "plain", tmp_path / "packed"
    plain.write_bytes(GOOD)
    packed.write_bytes(gzip.compress(GOOD))
    assert read_content(plain, len(GOOD))[:] == GOOD
    assert not isinstance(read_content(plain, len(GOOD)), bytes)
    assert read_content(packed, len(GOOD)) == GOOD


def test_an_empty_file_is_no_idx_file(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert read_content(tmp_path / "empty", 10) == b""


def test_every_cut_of_a_gzip_is_refused(tmp_path: Path) -> None:
    packed = gzip.compress(GOOD)
    path = tmp_path / "cut.gz"
    for length in range(2, len(packed)):
        path.write_bytes(packed[:length])
        with pytest.raises(DataError, match=r"truncated|damaged"):
            read_content(path, len(GOOD))


def test_every_flipped_byte_of_a_gzip_is_refused_or_harmless(tmp_path: Path) -> None:
    packed = gzip.compress(GOOD)
    path = tmp_path / "flipped.gz"
    refused = 0
    for place in range(2, len(packed)):
        path.write_bytes(packed[:place] + bytes([packed[place] ^ 0x55]) + packed[place + 1 :])
        try:
            assert read_content(path, len(GOOD)) == GOOD  # a byte of the time stamp, say
        except DataError:
            refused += 1
    assert refused > len(packed) // 2


def test_bytes_after_the_gzip_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "more.gz"
    path.write_bytes(gzip.compress(GOOD) + b"more")
    with pytest.raises(DataError, match="damaged"):
        read_content(path, len(GOOD))


def test_a_gzip_of_more_than_the_size_awaited_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "long.gz"
    path.write_bytes(gzip.compress(GOOD))
    with pytest.raises(DataError, match="holds more than the 39 bytes awaited"):
        read_content(path, len(GOOD) - 1)


def test_a_gzip_bomb_costs_little_memory(
    tmp_path: Path, child: Callable[..., "Popen[str]"]
) -> None:
    bomb = tmp_path / "bomb.gz"
    with gzip.open(bomb, "wb", 1) as file:
        for _ in range(256):
            file.write(bytes(1 << 20))
    done = child(f"""
        import resource
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            idx.read_content(pathlib.Path({str(bomb)!r}), 60_008)
        except DataError as error:
            print(error)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    """)
    said, errors = done.communicate(timeout=60)
    message, kibibytes = said.splitlines()
    assert message == "the gzip holds more than the 60,008 bytes awaited", errors
    assert int(kibibytes) < 32 * 1024


def test_what_cannot_be_read_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_content(tmp_path, 10)


def test_headers_are_refused_under_python_o_too(child: Callable[..., "Popen[str]"]) -> None:
    done = child(
        f"""
        import random
        good, refused = bytes.fromhex({GOOD.hex()!r}), 0
        random.seed(1)
        for _ in range(500):
            place = random.randrange(16)
            bad = bytearray(good)
            bad[place] ^= random.randrange(1, 256)
            try:
                idx.parse_idx(bytes(bad))
            except DataError:
                refused += 1
        print(refused, __debug__)
        """,
        "",
        "-O",
    )
    said, errors = done.communicate(timeout=60)
    assert said == "500 False\n", errors
