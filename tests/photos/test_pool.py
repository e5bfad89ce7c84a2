"""OpenCV's threads while photos are prepared side by side."""

import contextlib
from collections.abc import Iterator

import cv2
import pytest

from fmnist.photos.pool import photo_threads

THREADS = 3


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = cv2.getNumThreads()
    cv2.setNumThreads(THREADS)
    yield
    cv2.setNumThreads(before)


def test_each_thread_has_opencv_for_itself() -> None:
    with photo_threads(2) as pool:
        assert pool.submit(cv2.getNumThreads).result() == 1
    assert cv2.getNumThreads() == THREADS


@pytest.mark.parametrize("first_to_end", [0, 1])
def test_pools_that_overlap_leave_opencv_as_it_was(first_to_end: int) -> None:
    pools = [contextlib.ExitStack(), contextlib.ExitStack()]
    for pool in pools:
        pool.enter_context(photo_threads(1))
    pools.pop(first_to_end).close()
    assert cv2.getNumThreads() == 1
    pools.pop().close()
    assert cv2.getNumThreads() == THREADS


def test_an_error_inside_and_a_pool_that_cannot_begin_leave_it_too() -> None:
    with pytest.raises(KeyError), photo_threads(1):
        raise KeyError
    with pytest.raises(ValueError, match="max_workers"), photo_threads(0):
        pass
    assert cv2.getNumThreads() == THREADS
