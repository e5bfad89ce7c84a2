"""Dynamic batching: requests that wait for the network are asked about together."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import accumulate
from threading import Condition, Thread
from typing import Literal, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fmnist.serving.refusal import late, overloaded

# An image costs the same from batches of 8 on; after a larger batch the event loop has more to do
# in one turn, for which a question about health waits (docs/log.md).
LARGEST = 32  # images
FULL = "too many requests wait for the network"

Scores: TypeAlias = NDArray[np.float32]  # (n, k), a row for each of n images
Ask: TypeAlias = Callable[[NDArray[np.uint8]], Scores]


class Counts(Protocol):
    """Who is told about batches and the queue, from any thread."""

    def batch(self, images: int) -> None:
        """Note that the network is asked about so many images at once."""

    def waiting(self, queue: Literal["tensors"], n: int) -> None:
        """Note how many requests wait now."""


class _Asked(NamedTuple):
    images: NDArray[np.uint8]  # (n, 28, 28)
    answer: "asyncio.Future[Scores]"
    until: float  # by the loop's clock

    @property
    def size(self) -> int:
        """How many images it is about."""
        return len(self.images)


class Batcher:
    """Asks a network in one thread of its own; while it works, requests gather for the next batch.

    A request that finds the network idle waits for nobody. The order of requests is kept. The
    thread takes the next batch by itself: were it handed over, the network would stand still until
    the event loop came to it. All methods are for the running event loop.
    """

    def __init__(self, ask: Ask, waiting: int, seconds: float, metrics: Counts) -> None:
        """Take a function of images (n, 28, 28) to rows (n, k), and how many requests may wait.

        Fewer may where they are of more than LARGEST images each. None is answered later than so
        many seconds after it came.
        """
        self._ask = ask
        self._limit = waiting
        self._seconds = seconds
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._unanswered: deque[_Asked] = deque()  # as they came, which is as they become late
        self._clock: asyncio.TimerHandle | None = None  # for the first of them
        self._began: float | None = None  # when the network was asked, if it is at work
        self._changed = Condition()  # guards changes of what follows
        self._queue: deque[_Asked] = deque()  # what the thread has yet to take
        self._images = 0  # of those in the queue
        self._closed = False
        self._thread = Thread(target=self._answer_all, name="fmnist-network", daemon=True)
        self._thread.start()

    def check_room(self) -> None:
        """Raise Refusal (503) where `ask` would: ask before a body is read for nothing."""
        if len(self._queue) >= self._limit or self._images >= self._limit * LARGEST:
            raise overloaded(FULL)

    def busy_seconds(self) -> float:
        """Return for how long the network has been at its present work; 0: it has none."""
        began = self._began
        return 0.0 if began is None else time.monotonic() - began

    async def ask(self, images: NDArray[np.uint8]) -> Scores:
        """Return rows (n, k) for images (n, 28, 28).

        Raises Refusal where too many wait, or this request waits too long, and what the network
        raises if these images alone make it do so.
        """
        self.check_room()
        asked = _Asked(images, self._loop.create_future(), self._loop.time() + self._seconds)
        with self._changed:
            self._queue.append(asked)
            self._images += asked.size
            self._metrics.waiting("tensors", len(self._queue))
            self._changed.notify()
        self._unanswered.append(asked)
        if self._clock is None:
            self._clock = self._loop.call_at(asked.until, self._expire)
        return await asked.answer

    def close(self) -> None:
        """End the thread, once it has done what it does now, and cancel the requests that wait."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()
        if self._clock is not None:
            self._clock.cancel()
        for asked in self._unanswered:
            asked.answer.cancel()

    def _expire(self) -> None:
        """End the requests whose time is over, and come back when that of the next one is."""
        self._clock = None
        self._forget_answered()
        while self._unanswered:
            first = self._unanswered[0]
            if first.until > self._loop.time():
                self._clock = self._loop.call_at(first.until, self._expire)
                return
            first.answer.set_exception(late(self._seconds))
            self._forget_answered()

    def _forget_answered(self) -> None:
        while self._unanswered and self._unanswered[0].answer.done():
            self._unanswered.popleft()

    def _tell(self, batch: Sequence[_Asked], results: Sequence[Scores | Exception]) -> None:
        """Give requests what the thread has found."""
        for asked, result in zip(batch, results, strict=True):
            if asked.answer.done():  # its client has given up, or its time is over
                continue
            if isinstance(result, Exception):
                asked.answer.set_exception(result)
            else:
                asked.answer.set_result(result)
        self._forget_answered()

    def _answer_all(self) -> None:
        """Work through the queue, in the thread, until it is closed."""
        while batch := self._taken():
            wanted = [asked for asked in batch if not asked.answer.done()]
            if wanted:
                self._began = time.monotonic()
                results = self._results(wanted)
                self._began = None
                self._loop.call_soon_threadsafe(self._tell, wanted, results)

    def _taken(self) -> list[_Asked]:
        """Wait for requests and take those that fit into a batch; none once it is closed."""
        batch: list[_Asked] = []
        images = 0
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closed)
            while self._queue and not self._closed:
                images += self._queue[0].size
                if batch and images > LARGEST:
                    break
                batch.append(self._queue.popleft())
                self._images -= batch[-1].size
        return batch

    def _results(self, batch: Sequence[_Asked]) -> Sequence[Scores | Exception]:
        """Return the rows of each request, or the error of one that has none."""
        try:
            return self._rows(batch)
        except Exception as error:  # of any kind: who is to blame shows when each is alone
            if len(batch) == 1:
                return [error]
            return [self._results([asked])[0] for asked in batch]

    def _rows(self, batch: Sequence[_Asked]) -> list[Scores]:
        with self._changed:
            self._metrics.waiting("tensors", len(self._queue))
        images = np.concatenate([asked.images for asked in batch])
        self._metrics.batch(len(images))
        rows = self._ask(images)
        ends = accumulate(asked.size for asked in batch)
        return [rows[end - asked.size : end] for asked, end in zip(batch, ends, strict=True)]
