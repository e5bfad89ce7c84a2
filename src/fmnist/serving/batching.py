"""Dynamic batching: requests that wait for the network are asked about together."""

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from fmnist.serving.refusal import overloaded

# Larger batches win nothing (0.19 ms an image from 8 on) and make the next request wait.
LARGEST = 32  # images

_Asked: TypeAlias = "tuple[NDArray[np.uint8], asyncio.Future[NDArray[np.float32]]]"


class Batcher:
    """Asks a network in one thread of its own; while it works, requests gather for the next batch.

    A request that finds the network idle waits for nobody. The order of requests is kept.
    """

    def __init__(
        self, ask: Callable[[NDArray[np.uint8]], NDArray[np.float32]], waiting: int
    ) -> None:
        """Take a function of images (n, 28, 28) to logits (n, 10), and how many may wait."""
        self._ask = ask
        self._limit = waiting
        self._queue: deque[_Asked] = deque()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="fmnist-network")
        self._running: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """Requests that wait, those being asked about not counted."""
        return len(self._queue)

    async def ask(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return logits (n, 10) of images (n, 28, 28); raise Refusal where too many wait."""
        if len(self._queue) >= self._limit:
            raise overloaded("too many requests wait for the network")
        answer: asyncio.Future[NDArray[np.float32]] = asyncio.get_running_loop().create_future()
        self._queue.append((images, answer))
        if self._running is None:
            self._running = asyncio.create_task(self._work())
        return await answer

    async def _work(self) -> None:
        try:
            while self._queue:
                await self._answer(self._taken())
        finally:
            self._running = None

    def _taken(self) -> list[_Asked]:
        """Take the first request and those behind it that fit into its batch."""
        taken, images = [self._queue.popleft()], 0
        images = len(taken[0][0])
        while self._queue and images + len(self._queue[0][0]) <= LARGEST:
            taken.append(self._queue.popleft())
            images += len(taken[-1][0])
        return [asked for asked in taken if not asked[1].done()]  # given up by its client

    async def _answer(self, batch: list[_Asked]) -> None:
        if not batch:
            return
        images = batch[0][0] if len(batch) == 1 else np.concatenate([each for each, _ in batch])
        loop = asyncio.get_running_loop()
        try:
            logits = await loop.run_in_executor(self._thread, self._ask, images)
        except Exception as error:  # the network's; whoever asked is told, the next batch goes on
            _fail(batch, error)
            return
        at = 0
        for each, answer in batch:
            if not answer.done():
                answer.set_result(logits[at : at + len(each)])
            at += len(each)

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(cancel_futures=True)


def _fail(batch: list[_Asked], error: Exception) -> None:
    for _, answer in batch:
        if not answer.done():
            answer.set_exception(error)
