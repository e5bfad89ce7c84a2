"""Dynamic batching: requests that wait for the network are asked about together."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from fmnist.serving.refusal import late, overloaded

# An image costs the same from batches of 8 on. But between two batches the network waits until the
# event loop comes to it, which under load takes as long as 32 images (docs/log.md).
LARGEST = 128  # images
FULL = "too many requests wait for the network"

T = TypeVar("T")
Scores: TypeAlias = NDArray[np.float32]  # (n, k), a row for each of n images
Ask: TypeAlias = Callable[[NDArray[np.uint8]], Scores]


class Counts(Protocol):
    """Who is told about batches and the queue."""

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
    that thread asks, the network need not bear several. All methods are for the running event loop.
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
        self._queue: deque[_Asked | _Work] = deque()
        self._images = 0  # of those in the queue
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="fmnist-network")
        self._running: asyncio.Task[None] | None = None
        self._in_hand: Sequence[_Asked | _Work] = ()
        self._began = 0.0  # when what is in hand was taken
        self._clock: asyncio.TimerHandle | None = None  # for the first that may come to be late

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
        self._thread.shutdown(cancel_futures=True)
        if self._clock is not None:
            self._clock.cancel()

    def _wait(self, request: _Asked | _Work) -> None:
        self.check_room()
        self._queue.append(request)
        self._images += request.size
        if self._clock is None:
            self._clock = self._loop.call_at(request.until, self._expire)
        if self._running is None:
            self._running = asyncio.create_task(self._answer_all())
        else:
            self._metrics.waiting("tensors", len(self._queue))

    def _expire(self) -> None:
        """End the requests whose time is over, and come back when that of the next one is.

        One clock serves all: the order in which they came is that in which they become late.
        """
        self._clock = None
        for request in chain(self._in_hand, self._queue):
            if request.answer.done():
                continue
            if request.until > self._loop.time():
                self._clock = self._loop.call_at(request.until, self._expire)
                return
            request.answer.set_exception(late(self._seconds))

    async def _answer_all(self) -> None:
        try:
            while self._queue:
                self._in_hand, self._began = self._taken(), self._loop.time()
                try:
                    self._metrics.waiting("tensors", len(self._queue))
                    await self._answer(self._in_hand)
                except Exception as error:  # not the network's: whoever waits for it is told
                    for request in self._in_hand:
                        if not request.answer.done():
                            request.answer.set_exception(error)
        finally:
            self._running, self._in_hand = None, ()

    def _taken(self) -> list[_Work] | list[_Asked]:
        """Take the first request and those behind it that fit into its batch."""
        first = self._next()
        if isinstance(first, _Work):
            return [first]
        taken, room = [first], LARGEST - first.size
        while self._queue and isinstance(self._queue[0], _Asked) and self._queue[0].size <= room:
            following = self._next()
            assert isinstance(following, _Asked)
            taken.append(following)
            room -= following.size
        return taken

    def _next(self) -> _Asked | _Work:
        request = self._queue.popleft()
        self._images -= request.size
        return request

    async def _answer(self, taken: Sequence[_Work | _Asked]) -> None:
        batch = []
        for request in taken:
            if request.answer.done():  # its client has given up
                continue
            if isinstance(request, _Work):
                await self._answer_one(request.work, request.answer)
            else:
                batch.append(request)
        if batch:
            await self._answer_batch(batch)

    async def _answer_batch(self, batch: list[_Asked]) -> None:
        if len(batch) == 1:
            images, answer, _ = batch[0]
            self._metrics.batch(len(images))
            await self._answer_one(partial(self._ask, images), answer)
            return
        images = np.concatenate([asked.images for asked in batch])
        self._metrics.batch(len(images))
        try:
            rows = await self._in_thread(partial(self._ask, images))
        except Exception:  # the network's, of any kind: who is to blame shows when each is alone
            for asked in batch:
                await self._answer([asked])
            return
        start = 0
        for asked in batch:
            end = start + len(asked.images)
            if not asked.answer.done():
                asked.answer.set_result(rows[start:end])
            start = end

    async def _answer_one(self, work: Callable[[], T], answer: "asyncio.Future[T]") -> None:
        try:
            result = await self._in_thread(work)
        except Exception as error:  # of any kind: whoever asked is told, the next one goes on
            if not answer.done():
                answer.set_exception(error)
        else:
            if not answer.done():
                answer.set_result(result)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await self._loop.run_in_executor(self._thread, work)
