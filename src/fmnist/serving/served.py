"""The classifier behind the doors: tensors in batches, pictures prepared in bounded workers."""

import asyncio
import contextlib
import ctypes
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from fmnist.answers import Heat, draw_heat, load_heat
from fmnist.classifier import Classifier, Prediction
from fmnist.environment import physical_cores
from fmnist.errors import MissingExtra
from fmnist.photos import Limits, prepare
from fmnist.photos.pool import photo_threads
from fmnist.serving.batching import Batcher
from fmnist.serving.metrics import Metrics, timed
from fmnist.serving.refusal import late, overloaded
from fmnist.serving.settings import Settings

P = ParamSpec("P")
T = TypeVar("T")

# Pillow holds a picture in blocks of 16 MB. The C library comes to keep blocks of that size for
# itself: after eight pictures of 50 million pixels 570 MB, with this limit 150.
RETURNED = 8 * 2**20  # bytes: larger blocks go back to the system at once
M_MMAP_THRESHOLD = -3  # glibc's malloc.h
# Of a whole number in JSON; Python's least limit. The time to read one grows with their square, and
# no other thread goes on meanwhile: 4 MB of numbers of 4,300 digits, its default, took 90 ms.
DIGITS = 640


@dataclass
class Served:
    """A classifier that many requests share; of one event loop."""

    classifier: Classifier
    heat: Heat
    batcher: Batcher  # its rows (n, 20): logits, and the probabilities beside them
    workers: ThreadPoolExecutor  # that prepare pictures
    cores: int  # how many they are
    settings: Settings
    metrics: Metrics
    of_run: bool  # or else of an .onnx file
    pictures: int = 0  # whose requests are being answered, waiting ones included

    @contextlib.contextmanager
    def room(self, pictures: int) -> Iterator[None]:
        """Hold places for the pictures of one request; raise Refusal (503) where there are none.

        A server with nothing to do takes any request, however few places it has.
        """
        self.check_room(pictures)
        self._hold(pictures)
        try:
            yield
        finally:
            self._hold(-pictures)

    def _hold(self, pictures: int) -> None:
        self.pictures += pictures
        self.metrics.waiting("photos", max(0, self.pictures - self.cores))

    def check_room(self, pictures: int = 1) -> None:
        """Raise Refusal (503) where `room` would: before a body is read for nothing."""
        places = self.settings.waiting_photos + self.cores
        if self.pictures and self.pictures + pictures > places:
            raise overloaded("too many pictures wait")

    @contextlib.asynccontextmanager
    async def deadline(self) -> AsyncIterator[None]:
        """Raise Refusal (504) where the block takes longer than a request may."""
        seconds = self.settings.deadline_seconds
        try:
            async with asyncio.timeout(seconds):
                yield
        except TimeoutError as error:
            raise late(seconds) from error

    async def judge(self, content: bytes) -> Prediction:
        """Return what is to be said of a picture's file; within `room`. Raises PhotoError."""
        limits = Limits(file_bytes=self.settings.body_bytes, pixels=self.settings.pixels)
        work = timed(prepare, self.metrics.prepared)
        photo = await self.in_worker(partial(work, content, limits))
        scores = await self.batcher.ask(self.classifier.views(photo))
        answer = self.classifier.answer(photo, scores[:, :10])
        self.metrics.predicted(answer.label, answer.accepted)
        return answer

    async def explained(self, answer: Prediction) -> NDArray[np.uint8]:
        """Return a photo (h, w, 3) with what its answer rests on drawn over it; within `room`."""
        find = partial(self.heat, answer.image, answer.class_index)
        heat = await self.in_worker(find)
        drawn = await self.in_worker(partial(draw_heat, answer, lambda image, index: heat))
        assert drawn is not None  # every picture of a file has the steps it is drawn on
        return drawn

    async def in_worker(self, work: Callable[[], T]) -> T:
        """Return what `work` returns, done off the event loop; within `room`.

        Work that has not begun when its request ends is dropped.
        """
        return await asyncio.get_running_loop().run_in_executor(self.workers, work)


@contextlib.contextmanager
def open_served(classifier: Classifier, settings: Settings, metrics: Metrics) -> Iterator[Served]:
    """Lend a classifier to requests, with the threads that work for them."""
    _return_memory()
    sys.set_int_max_str_digits(DIGITS)
    of_run = settings.model is not None and settings.model.is_dir()
    cores = physical_cores()
    with photo_threads(cores) as workers:
        turns = threading.Lock() if of_run else contextlib.nullcontext()
        ask = _in_turn(timed(partial(_scores, classifier), metrics.network), turns)
        batcher = Batcher(ask, settings.waiting_tensors, settings.deadline_seconds, metrics)
        heat = _in_turn(_heat(classifier, settings), turns)
        try:
            yield Served(classifier, heat, batcher, workers, cores, settings, metrics, of_run)
        finally:
            batcher.close()


def _in_turn(
    work: Callable[P, T], turns: contextlib.AbstractContextManager[object]
) -> Callable[P, T]:
    """Return `work` done within `turns`: PyTorch's module of a run is asked by one at a time."""

    def in_turn(*given: P.args, **named: P.kwargs) -> T:
        with turns:
            return work(*given, **named)

    return in_turn


def _scores(classifier: Classifier, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return logits and probabilities (n, 20): for a batch they cost what they do for an image."""
    logits = classifier.logits(images)
    return np.concatenate([logits, classifier.tempered(logits).astype(np.float32)], axis=1)


def _heat(classifier: Classifier, settings: Settings) -> Heat:
    """Return what explains answers; a run without the extra `explain` is asked by covering."""
    try:
        return load_heat(classifier, settings.model)
    except MissingExtra:
        return load_heat(classifier)


def _return_memory() -> None:
    """Have the C library give large blocks back, where it is one that can be told (glibc)."""
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError, OSError):
            ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, RETURNED)
