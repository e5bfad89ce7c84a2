"""Threads that prepare photos side by side."""

import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import cv2

_counting = threading.Lock()
_lent = 0  # pools that are open now
_threads_before = 0  # OpenCV's number of threads as the first of them found it


@contextlib.contextmanager
def photo_threads(workers: int) -> Iterator[ThreadPoolExecutor]:
    """Lend threads, each of which has OpenCV for itself; what has not begun at the end is dropped.

    OpenCV's own threads would only take the cores from each other.
    """
    with _opencv_on_one_thread():
        pool = ThreadPoolExecutor(workers, thread_name_prefix="fmnist-photo")
        try:
            yield pool
        finally:
            pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _opencv_on_one_thread() -> Iterator[None]:
    """Have OpenCV start no threads while any pool is in here; their number is the process's.

    The first to enter notes it and the last to leave restores it: of two pools at once, the second
    to end could put back what the first had set.
    """
    global _lent, _threads_before
    with _counting:
        _lent += 1
        if _lent == 1:
            _threads_before = cv2.getNumThreads()
            cv2.setNumThreads(1)
    try:
        yield
    finally:
        with _counting:
            _lent -= 1
            if _lent == 0:
                cv2.setNumThreads(_threads_before)
