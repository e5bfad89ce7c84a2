"""Requests that meet at the network: together, in order, none mixed up and none hurt by another."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from fmnist.serving.batching import LARGEST, Ask, Batcher
from fmnist.serving.refusal import Refusal
from waiting import PATIENCE

Images = NDArray[np.uint8]
Logits = NDArray[np.float32]
POISON = 65_535


def numbered(*numbers: int) -> Images:
    """Images that carry a number each."""
    images = np.zeros((len(numbers), 28, 28), np.uint8)
    images[:, 0, 0], images[:, 0, 1] = np.divmod(numbers, 256)
    return images


def numbers_of(images: Images) -> list[int]:
    pixels = images[:, 0].astype(int)
    return [int(number) for number in pixels[:, 0] * 256 + pixels[:, 1]]


def logits_of(*numbers: int) -> Logits:
    """What `Network` says of `numbered` images."""
    return np.outer(numbers, np.arange(1, 11)).astype(np.float32)


class Network:
    """Notes what it is asked; while `open` is not set it does not answer."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.threads: set[int] = set()
        self.open = threading.Event()
        self.open.set()

    def ask(self, images: Images) -> Logits:
        self.threads.add(threading.get_ident())
        numbers = numbers_of(images)
        self.batches.append(numbers)
        assert self.open.wait(PATIENCE)
        if POISON in numbers:
            raise ValueError("poison")
        return logits_of(*numbers)


class Noted:
    """What a batcher tells those who count."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.queue: list[int] = []

    def batch(self, images: int) -> None:
        self.batches.append(images)

    def waiting(self, queue: Literal["tensors"], n: int) -> None:
        self.queue.append(n)


def in_loop(test: Coroutine[Any, Any, None]) -> None:
    async def with_deadline() -> None:
        async with asyncio.timeout(PATIENCE):
            await test

    asyncio.run(with_deadline())


@contextlib.contextmanager
def batching(
    ask: Ask, waiting: int = 1024, metrics: Noted | None = None, seconds: float = 15.0
) -> Any:
    batcher = Batcher(ask, waiting, seconds, metrics or Noted())
    try:
        yield batcher
    finally:
        batcher.close()


@contextlib.asynccontextmanager
async def busy(network: Network, batcher: Batcher) -> AsyncIterator["asyncio.Task[Logits]"]:
    """A batcher whose network has a request in hand, numbered 0, until the block ends."""
    network.open.clear()
    first = asyncio.create_task(batcher.ask(numbered(0)))
    await until(lambda: network.batches == [[0]])
    try:
        yield first
    finally:
        network.open.set()


async def until(done: Callable[[], bool]) -> None:
    while not done():
        await asyncio.sleep(0.001)


async def asked(batcher: Batcher, *requests: Images) -> "list[asyncio.Task[Logits]]":
    """Requests that have reached the queue."""
    tasks = [asyncio.create_task(batcher.ask(images)) for images in requests]
    await asyncio.sleep(0)
    return tasks


def test_a_request_that_finds_the_network_idle_waits_for_nobody() -> None:
    network = Network()

    async def test() -> None:
        with batching(network.ask) as batcher:
            for number in range(3):
                answer = await batcher.ask(numbered(number))
                np.testing.assert_array_equal(answer, logits_of(number), strict=True)

    in_loop(test())
    assert network.batches == [[0], [1], [2]]


def test_what_waits_while_the_network_works_is_asked_about_together_and_in_order() -> None:
    network, many = Network(), LARGEST + 18

    async def test() -> None:
        with batching(network.ask) as batcher:
            async with busy(network, batcher) as first:
                tasks = await asked(batcher, *(numbered(n) for n in range(1, many)))
            answers = await asyncio.gather(first, *tasks)
        np.testing.assert_array_equal(np.concatenate(answers), logits_of(*range(many)), strict=True)

    in_loop(test())
    assert network.batches == [[0], list(range(1, 1 + LARGEST)), list(range(1 + LARGEST, many))]


def test_a_batch_is_never_too_large_but_for_one_request_that_is() -> None:
    network = Network()
    sizes = [LARGEST - 2, 2, 1, LARGEST + 8, 1, LARGEST, 1]
    requests = [numbered(*range(200 * i, 200 * i + size)) for i, size in enumerate(sizes, 1)]

    async def test() -> None:
        with batching(network.ask) as batcher:
            async with busy(network, batcher):
                tasks = await asked(batcher, *requests)
            answers = await asyncio.gather(*tasks)
        for images, answer in zip(requests, answers, strict=True):
            np.testing.assert_array_equal(answer, logits_of(*numbers_of(images)), strict=True)

    in_loop(test())
    assert [len(batch) for batch in network.batches] == [1, LARGEST, 1, LARGEST + 8, 1, LARGEST, 1]


def test_of_1000_requests_at_once_none_is_mixed_up() -> None:
    """Half of them wait while the network works; half come while it works through those."""
    network = Network()

    async def ask(batcher: Batcher, number: int) -> Logits:
        await asyncio.sleep(number % 7 / 1000)
        return await batcher.ask(numbered(number))

    async def test() -> None:
        with batching(network.ask) as batcher:
            async with busy(network, batcher) as first:
                waiting = await asked(batcher, *(numbered(number) for number in range(1, 500)))
            coming = [ask(batcher, number) for number in range(500, 1000)]
            answers = await asyncio.gather(first, *waiting, *coming)
        np.testing.assert_array_equal(np.concatenate(answers), logits_of(*range(1000)), strict=True)

    in_loop(test())
    assert sorted(number for batch in network.batches for number in batch) == list(range(1000))
    assert [len(batch) for batch in network.batches[:4]] == [1, LARGEST, LARGEST, LARGEST]
    assert len(network.threads) == 1


def test_of_10_that_come_while_8_may_wait_exactly_2_are_refused_at_once() -> None:
    """Triton's L0_model_queue: a batch of 8 in hand, and max_queue_size 8."""
    network = Network()

    async def test() -> None:
        with batching(network.ask, waiting=8) as batcher:
            async with busy(network, batcher) as first:
                tasks = await asked(batcher, *(numbered(n) for n in range(1, 11)))
                await until(lambda: sum(task.done() for task in tasks) == 2)
                assert network.batches == [[0]]  # the network has not answered meanwhile
                with pytest.raises(Refusal):
                    batcher.check_room()
            await first
            answers = await asyncio.gather(*tasks, return_exceptions=True)
            batcher.check_room()
        refused = answers[8:]
        assert [type(answer) for answer in refused] == [Refusal, Refusal]
        for refusal in refused:
            assert isinstance(refusal, Refusal)
            assert (refusal.status, refusal.headers["Retry-After"]) == (503, "1")
        for number, answer in enumerate(answers[:8], 1):
            np.testing.assert_array_equal(np.asarray(answer), logits_of(number))

    in_loop(test())


def test_large_requests_fill_the_queue_sooner() -> None:
    network = Network()

    async def test() -> None:
        with batching(network.ask, waiting=4) as batcher:
            async with busy(network, batcher):
                tasks = await asked(batcher, numbered(*range(3 * LARGEST)))
                batcher.check_room()
                tasks += await asked(batcher, numbered(*range(LARGEST)))
                with pytest.raises(Refusal):
                    batcher.check_room()
            await asyncio.gather(*tasks)
            batcher.check_room()

    in_loop(test())


def test_a_request_that_makes_the_network_fail_fails_alone() -> None:
    network = Network()
    requests = [numbered(1), numbered(2, POISON), numbered(3), numbered(4, 5)]

    async def test() -> None:
        with batching(network.ask) as batcher:
            async with busy(network, batcher) as first:
                tasks = await asked(batcher, *requests)
            answers = await asyncio.gather(first, *tasks, return_exceptions=True)
            np.testing.assert_array_equal(await batcher.ask(numbered(6)), logits_of(6))
        assert [type(answer) for answer in answers].count(ValueError) == 1
        assert isinstance(answers[2], ValueError)
        right = [logits_of(0), logits_of(1), None, logits_of(3), logits_of(4, 5)]
        for answer, expected in zip(answers, right, strict=True):
            if expected is not None:
                np.testing.assert_array_equal(np.asarray(answer), expected)

    in_loop(test())


def test_requests_given_up_while_they_wait_are_not_asked_about() -> None:
    network = Network()

    async def test() -> None:
        with batching(network.ask) as batcher:
            async with busy(network, batcher):
                tasks = await asked(batcher, *(numbered(n) for n in range(1, 6)))
                for task in tasks[::2]:
                    task.cancel()
            answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert [isinstance(answer, asyncio.CancelledError) for answer in answers] == [
            *(True, False, True, False, True)
        ]
        np.testing.assert_array_equal(np.asarray(answers[1]), logits_of(2))
        np.testing.assert_array_equal(np.asarray(answers[3]), logits_of(4))

    in_loop(test())
    assert network.batches == [[0], [2, 4]]


def test_requests_given_up_while_they_are_in_hand_do_no_harm() -> None:
    network = Network()

    async def test() -> None:
        with batching(network.ask) as batcher:
            async with busy(network, batcher) as first:
                first.cancel()
                (second,) = await asked(batcher, numbered(1))
            np.testing.assert_array_equal(await second, logits_of(1))
            async with busy_with(network, batcher, numbered(2), numbered(3)) as (third, fourth):
                third.cancel()
            np.testing.assert_array_equal(await fourth, logits_of(3))
            np.testing.assert_array_equal(await batcher.ask(numbered(5)), logits_of(5))

    in_loop(test())


@contextlib.asynccontextmanager
async def busy_with(
    network: Network, batcher: Batcher, *requests: Images
) -> "AsyncIterator[list[asyncio.Task[Logits]]]":
    """A batcher whose network has these requests in hand, together, until the block ends."""
    network.batches.clear()
    async with busy(network, batcher):
        tasks = await asked(batcher, *requests)
        again = threading.Event()
        first, network.open = network.open, again
        first.set()
        await until(lambda: len(network.batches) == 2)
        try:
            yield tasks
        finally:
            again.set()


def test_all_given_up_leaves_nothing_to_ask() -> None:
    network = Network()

    async def test() -> None:
        with batching(network.ask) as batcher:
            async with busy(network, batcher):
                tasks = await asked(batcher, numbered(1), numbered(2))
                for task in tasks:
                    task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            np.testing.assert_array_equal(await batcher.ask(numbered(3)), logits_of(3))

    in_loop(test())
    assert network.batches == [[0], [3]]


def test_batches_and_the_queue_are_counted() -> None:
    network, noted = Network(), Noted()

    async def test() -> None:
        with batching(network.ask, metrics=noted) as batcher:
            async with busy(network, batcher):
                tasks = await asked(batcher, numbered(1), numbered(2, 3))
            await asyncio.gather(*tasks)

    in_loop(test())
    assert noted.batches == [1, 3]
    assert noted.queue == [1, 0, 1, 2, 0]


def test_each_waits_no_longer_than_it_may_in_the_queue_or_in_hand() -> None:
    network = Network()

    async def late(batcher: Batcher, number: int, after: float) -> float:
        await asyncio.sleep(after)
        began = asyncio.get_running_loop().time()
        with pytest.raises(Refusal, match=r"no answer within 0\.2 seconds") as refused:
            await batcher.ask(numbered(number))
        assert refused.value.status == 504
        return asyncio.get_running_loop().time() - began

    async def test() -> None:
        with batching(network.ask, seconds=0.2) as batcher:
            network.open.clear()
            took = await asyncio.gather(*(late(batcher, n, n / 10) for n in range(4)))
            assert all(seconds > 0.19 for seconds in took)
            network.open.set()
            batcher._seconds = PATIENCE  # on a busy machine an answer may take more than 0.2
            np.testing.assert_array_equal(await batcher.ask(numbered(9)), logits_of(9))

    in_loop(test())
    assert network.batches == [[0], [9]]


def test_it_tells_how_long_the_network_has_been_at_its_work() -> None:
    network = Network()

    async def test() -> None:
        with batching(network.ask) as batcher:
            assert batcher.busy_seconds() == 0
            async with busy(network, batcher) as first:
                await until(lambda: batcher.busy_seconds() > 0.05)
            await first
            await until(lambda: batcher.busy_seconds() == 0)

    in_loop(test())


@pytest.mark.parametrize("broken", ["batch", "waiting"])
def test_a_fault_beside_the_network_is_told_to_those_it_hits_and_the_others_go_on(
    broken: str,
) -> None:
    network, noted = Network(), Noted()
    count = getattr(noted, broken)

    def count_or_fail(*counted: object) -> None:
        if threading.current_thread() is not threading.main_thread() and len(noted.batches) == 1:
            noted.batches.append(0)
            raise OSError("no space left")
        count(*counted)

    setattr(noted, broken, count_or_fail)

    async def test() -> None:
        with batching(network.ask, metrics=noted) as batcher:
            async with busy(network, batcher) as first:
                tasks = await asked(batcher, numbered(1, 2), numbered(*range(LARGEST)))
            answers = await asyncio.gather(first, *tasks, return_exceptions=True)
        assert isinstance(answers[1], OSError)
        np.testing.assert_array_equal(np.asarray(answers[2]), logits_of(*range(LARGEST)))

    in_loop(test())


def test_what_waits_when_it_is_closed_is_cancelled() -> None:
    network = Network()

    async def test() -> None:
        with batching(network.ask) as batcher:
            network.open.clear()
            in_hand = asyncio.create_task(batcher.ask(numbered(0)))
            await until(lambda: network.batches == [[0]])
            (waiting,) = await asked(batcher, numbered(1))
            network.open.set()
        results = await asyncio.gather(in_hand, waiting, return_exceptions=True)
        assert isinstance(results[1], asyncio.CancelledError)

    in_loop(test())
    assert network.batches in ([[0]], [[0], [1]])
