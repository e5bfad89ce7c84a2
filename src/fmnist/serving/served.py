"""The classifier behind the doors: tensors in batches, pictures prepared in bounded workers."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from fmnist.classifier import Classifier, Prediction
from fmnist.environment import physical_cores
from fmnist.photos import Limits, prepare
from fmnist.photos.pool import photo_threads
from fmnist.serving.batching import Batcher
from fmnist.serving.refusal import Refusal, overloaded
from fmnist.serving.settings import Settings

if TYPE_CHECKING:
    from fmnist.photos import Prepared

T = TypeVar("T")


@dataclass
class Served:
    """A classifier that many requests share; of one event loop."""

    classifier: Classifier
    batcher: Batcher
    workers: ThreadPoolExecutor
    settings: Settings
    in_hand: int = 0  # pictures that wait or are being prepared

    async def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return logits (n, 10) of images (n, 28, 28) uint8; raise Refusal."""
        return await self._in_time(self.batcher.ask(images))

    async def predict(self, content: bytes) -> Prediction:
        """Return what is to be said of a picture's file; raise PhotoError and Refusal."""
        return await self._in_time(self._predict(content))

    async def _predict(self, content: bytes) -> Prediction:
        photo = await self._prepared(content)
        views = self.classifier.views(photo)
        return self.classifier.answer(photo, await self.batcher.ask(views))

    async def _prepared(self, content: bytes) -> "Prepared":
        limits = Limits(file_bytes=self.settings.body_bytes, pixels=self.settings.pixels)
        return await self.in_worker(partial(prepare, content, limits))

    async def in_worker(self, work: Callable[[], T]) -> T:
        """Return what `work` returns, done off the event loop; raise Refusal where too many wait."""
        if self.in_hand >= self.settings.waiting_photos + physical_cores():
            raise overloaded("too many pictures wait")
        self.in_hand += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self.workers, work)
        finally:
            self.in_hand -= 1

    async def _in_time(self, answer: "asyncio._CoroutineLike[T]") -> T:
        seconds = self.settings.deadline_seconds
        try:
            return await asyncio.wait_for(answer, seconds)
        except TimeoutError as error:
            raise Refusal(504, f"no answer within {seconds:g} seconds; try again later") from error


@contextlib.contextmanager
def open_served(classifier: Classifier, settings: Settings) -> Iterator[Served]:
    """Lend a classifier to requests, with the threads that work for them."""
    with photo_threads(physical_cores()) as workers:
        batcher = Batcher(classifier.logits, settings.waiting_tensors)
        try:
            yield Served(classifier, batcher, workers, settings)
        finally:
            batcher.close()
