"""Threads that prepare photos side by side."""

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import cv2


@contextlib.contextmanager
def photo_threads(workers: int) -> Iterator[ThreadPoolExecutor]:
    """Lend threads, each of which has OpenCV for itself; what has not begun at the end is dropped.

    OpenCV's own threads would only take the cores from each other. Their number is the whole
    process's, so it is restored.
    """
    threads_before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="fmnist-photo")
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        cv2.setNumThreads(threads_before)
