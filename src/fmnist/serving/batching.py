"""Dynamic batching: requests that wait for the network are asked about together."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from itertools import accumulate
from threading import Condition, Thread
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from fmnist.serving.refusal import late, overloaded

# An image costs the same from batches of 8 on, but each batch wakes the event loop (docs/log.md).
LARGEST = 128  # images
FULL = "too many requests wait for the network"

T = TypeVar("T")
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


class _Work(NamedTuple):
    work: Callable[[], Any]
    answer: "asyncio.Future[Any]"
    until: float
    size: int = LARGEST  # images that could be asked about meanwhile, at least


class Batcher:
    """Asks a network in one thread of its own; while it works, requests gather for the next batch.

    A request that finds the network idle waits for nobody. The order of requests is kept. As only
    that thread asks, the network need not bear several. The thread takes the next batch by itself:
    were it handed over, the network would stand still until the event loop came to it. All methods
    are for the running event loop.
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
        self._clock: asyncio.TimerHandle | None = None  # for the first that may come to be late
        self._changed = Condition()  # guards what follows
        self._queue: deque[_Asked | _Work] = deque()
        self._images = 0  # of those in the queue
        self._in_hand: Sequence[_Asked | _Work] = ()
        self._began = 0.0  # when what is in hand was taken
        self._closed = False
        self._thread = Thread(target=self._answer_all, name="fmnist-network", daemon=True)
        self._thread.start()

    def check_room(self) -> None:
        """Raise Refusal (503) where `ask` would: ask before a body is read for nothing."""
        if len(self._queue) >= self._limit or self._images >= self._limit * LARGEST:
            raise overloaded(FULL)

    def busy_seconds(self) -> float:
        """Return for how long the network has been at its present work; 0: it has none."""
        return self._loop.time() - self._began if self._in_hand else 0.0

    async def ask(self, images: NDArray[np.uint8]) -> Scores:
        """Return rows (n, k) for images (n, 28, 28).

        Raises Refusal where too many wait, or this request waits too long, and what the network
        raises if these images alone make it do so.
        """
        answer: asyncio.Future[Scores] = self._loop.create_future()
        self._wait(_Asked(images, answer, self._loop.time() + self._seconds))
        return await answer

    async def do(self, work: Callable[[], T]) -> T:
        """Return what `work` returns, done in the network's thread between two batches.

        For whatever asks the network by itself, such as a heat map. Raises as `ask`.
        """
        answer: asyncio.Future[T] = self._loop.create_future()
        self._wait(_Work(work, answer, self._loop.time() + self._seconds))
        return await answer

    def close(self) -> None:
        """End the thread, once it has done what it does now."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()
        if self._clock is not None:
            self._clock.cancel()

    def _wait(self, request: _Asked | _Work) -> None:
        self.check_room()
        with self._changed:
            self._queue.append(request)
            self._images += request.size
            self._changed.notify()
            self._metrics.waiting("tensors", len(self._queue))
        if self._clock is None:
            self._clock = self._loop.call_at(request.until, self._expire)

    def _expire(self) -> None:
        """End the requests whose time is over, and come back when that of the next one is.

        One clock serves all: the order in which they came is that in which they become late.
        """
        self._clock = None
        with self._changed:
            unanswered = [*self._in_hand, *self._queue]
        for request in unanswered:
            if request.answer.done():
                continue
            if request.until > self._loop.time():
                self._clock = self._loop.call_at(request.until, self._expire)
                return
            request.answer.set_exception(late(self._seconds))

    def _tell(self, requests: Sequence[_Asked | _Work], results: list[Any]) -> None:
        """Give requests what the thread has found: results, or errors."""
        for request, result in zip(requests, results, strict=True):
            if request.answer.done():  # its client has given up, or its time is over
                continue
            if isinstance(result, Exception):
                request.answer.set_exception(result)
            else:
                request.answer.set_result(result)

    def _answer_all(self) -> None:
        """Work through the queue, in the thread, until it is closed."""
        while taken := self._taken():
            wanted = [request for request in taken if not request.answer.done()]
            if wanted:
                self._loop.call_soon_threadsafe(self._tell, wanted, self._results(wanted))

    def _taken(self) -> Sequence[_Asked | _Work]:
        """Wait for requests and take the first batch of them; none once it is closed."""
        with self._changed:
            self._in_hand = ()
            self._changed.wait_for(lambda: self._queue or self._closed)
            if not self._closed:
                self._in_hand, self._began = self._next_batch(), self._loop.time()
                self._metrics.waiting("tensors", len(self._queue))
            return self._in_hand

    def _next_batch(self) -> list[_Asked | _Work]:
        """Take the first request and those behind it that fit into its batch."""
        first = self._next()
        taken, room = [first], LARGEST - first.size
        while self._queue and isinstance(self._queue[0], _Asked) and self._queue[0].size <= room:
            taken.append(self._next())
            room -= taken[-1].size
        return taken

    def _next(self) -> _Asked | _Work:
        request = self._queue.popleft()
        self._images -= request.size
        return request

    def _results(self, requests: Sequence[_Asked | _Work]) -> list[Any]:
        """Return the result of each request; the error of one that has none."""
        try:
            return self._together(requests)
        except Exception as error:  # of any kind: who is to blame shows when each is alone
            if len(requests) == 1:
                return [error]
            return [self._results([request])[0] for request in requests]

    def _together(self, requests: Sequence[_Asked | _Work]) -> list[Any]:
        first = requests[0]
        if isinstance(first, _Work):
            return [first.work()]
        batch = [request.images for request in requests if isinstance(request, _Asked)]
        images = batch[0] if len(batch) == 1 else np.concatenate(batch)
        self._metrics.batch(len(images))
        rows = self._ask(images)
        ends = accumulate(len(each) for each in batch)
        return [rows[end - len(each) : end] for each, end in zip(batch, ends, strict=True)]
