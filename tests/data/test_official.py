import gzip
import hashlib
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fmnist.data import Dataset
from fmnist.data.official import (
    MNIST_COUNTS,
    OFFICIAL,
    PIECE,
    TEST_IMAGES,
    TEST_LABELS,
    TRAIN_IMAGES,
    TRAIN_LABELS,
    HandwrittenDigits,
    tree_sha256,
    verify,
    verify_all,
)
from fmnist.errors import DataError
from garments import idx_bytes


def test_the_sizes_are_those_of_the_official_files() -> None:
    sizes = [OFFICIAL[name].size for name in (TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS)]
    assert sizes == [47_040_016, 60_008, 7_840_016, 10_008]


def test_verify_accepts_the_official_content_plain_or_packed(
    accepted: Path, tmp_path: Path
) -> None:
    for name, official in OFFICIAL.items():
        packed = tmp_path / f"{name}.gz"
        packed.write_bytes(gzip.compress((accepted / name).read_bytes()))
        for path in (accepted / name, packed):
            file = verify(name, path)
            assert file.sha256 == official.sha256
            assert file.array.shape == official.shape


def test_every_one_of_400_single_byte_flips_is_found(accepted: Path, tmp_path: Path) -> None:
    choose = random.Random(20170831)
    for name in OFFICIAL:
        good = (accepted / name).read_bytes()
        for _ in range(100):
            bad = bytearray(good)
            bad[choose.randrange(len(bad))] ^= choose.randrange(1, 256)
            (tmp_path / name).write_bytes(bad)
            with pytest.raises(DataError, match=name):
                verify(name, tmp_path / name)


def test_every_one_of_100_truncations_is_found(accepted: Path, tmp_path: Path) -> None:
    choose = random.Random(20170831)
    for name in OFFICIAL:
        good = (accepted / name).read_bytes()
        for _ in range(25):
            (tmp_path / name).write_bytes(good[: choose.randrange(len(good))])
            with pytest.raises(DataError, match=name):
                verify(name, tmp_path / name)


@settings(
    max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    changes=st.dictionaries(st.integers(0, 7), st.integers(1, 255), max_size=8),
    tail=st.sampled_from([b"", b"\0", b"\0" * 99]),
    cut=st.integers(0, 20),
)
def test_a_mutated_header_or_end_is_a_data_error(
    accepted: Path, tmp_path: Path, changes: dict[int, int], tail: bytes, cut: int
) -> None:
    good = (accepted / TEST_LABELS).read_bytes()
    bad = bytearray(good)
    for place, flips in changes.items():
        bad[place] ^= flips
    (tmp_path / TEST_LABELS).write_bytes(bad[: len(bad) - cut] + tail)
    if (tmp_path / TEST_LABELS).read_bytes() == good:
        assert verify(TEST_LABELS, tmp_path / TEST_LABELS).array.shape == (120,)
    else:
        with pytest.raises(DataError, match=TEST_LABELS):
            verify(TEST_LABELS, tmp_path / TEST_LABELS)


@pytest.mark.real_data
def test_the_real_files_have_the_hashes_that_the_world_quotes(real_data: Dataset) -> None:
    for name, official in OFFICIAL.items():
        content = (real_data.folder / name).read_bytes()
        assert hashlib.sha256(content).hexdigest() == official.sha256 == real_data.sha256[name]
        assert tree_sha256(content) == official.tree_sha256


def test_the_tree_hash_is_that_of_the_pieces_digests() -> None:
    content = bytes(range(256)) * 8193  # two pieces and 256 bytes
    digests = [
        hashlib.sha256(content[start : start + PIECE]).digest() for start in (0, PIECE, 2 * PIECE)
    ]
    assert tree_sha256(content) == hashlib.sha256(b"".join(digests)).hexdigest()


def test_swapped_or_changed_pieces_change_the_tree_hash() -> None:
    one, two, rest = bytes(PIECE), b"\1" * PIECE, b"\2" * 9
    hashes = {
        tree_sha256(b"".join(parts))
        for parts in ([one, two, rest], [two, one, rest], [one, two], [one, two, rest, rest])
    }
    assert len(hashes) == 4


def test_a_changed_content_is_named_with_both_hashes(accepted: Path, tmp_path: Path) -> None:
    content = bytearray((accepted / TEST_LABELS).read_bytes())
    content[-1] ^= 1
    (tmp_path / TEST_LABELS).write_bytes(content)
    with pytest.raises(DataError, match=f"SHA-256 .*, not {OFFICIAL[TEST_LABELS].sha256}") as error:
        verify(TEST_LABELS, tmp_path / TEST_LABELS)
    assert str(tmp_path / TEST_LABELS) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_wrong_count_is_named(tmp_path: Path) -> None:
    path = tmp_path / TRAIN_LABELS
    path.write_bytes(idx_bytes(np.zeros(59_999, dtype=np.uint8)))
    with pytest.raises(DataError, match=r"its shape is \(59999,\), not \(60000,\)"):
        verify(TRAIN_LABELS, path)


@pytest.mark.parametrize(
    ("name", "counts"), list(zip((TRAIN_LABELS, TEST_LABELS), MNIST_COUNTS, strict=True))
)
def test_the_labels_of_mnist_are_recognised(
    tmp_path: Path, name: str, counts: tuple[int, ...]
) -> None:
    labels = np.repeat(np.arange(10, dtype=np.uint8), counts)
    (tmp_path / name).write_bytes(idx_bytes(labels))
    with pytest.raises(HandwrittenDigits, match="handwritten digits of MNIST, not Fashion-MNIST"):
        verify(name, tmp_path / name)


def test_labels_past_nine_are_a_data_error(tmp_path: Path) -> None:
    (tmp_path / TEST_LABELS).write_bytes(idx_bytes(np.full(10_000, 255, dtype=np.uint8)))
    with pytest.raises(DataError, match="SHA-256"):
        verify(TEST_LABELS, tmp_path / TEST_LABELS)


def test_verify_all_tells_the_good_from_the_bad(accepted: Path, tmp_path: Path) -> None:
    shutil.copytree(accepted, tmp_path / "files")
    (tmp_path / "files" / TEST_IMAGES).write_bytes(b"<html>")
    files = verify_all({name: tmp_path / "files" / name for name in OFFICIAL})
    assert [name for name, file in files.items() if isinstance(file, DataError)] == [TEST_IMAGES]
    assert verify_all({}) == {}
