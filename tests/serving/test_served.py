"""The classifier behind the doors: places for pictures, deadlines, and work off the event loop."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from numpy.typing import NDArray

from fmnist import answers
from fmnist.answers import draw_heat
from fmnist.classifier import Classifier
from fmnist.errors import MissingExtra, PhotoError, PhotoTooLarge
from fmnist.photos import Prepared, prepare
from fmnist.serving import served as module
from fmnist.serving.metrics import Metrics
from fmnist.serving.refusal import Refusal
from fmnist.serving.served import Served, open_served
from fmnist.serving.settings import Settings
from servers import FACTS, Held, fake_classifier
from uploads import encoded, image, shirt
from waiting import PATIENCE

T = TypeVar("T")
PNG = encoded(image(3))
PHOTO = encoded(shirt(), "jpeg")


def run(
    work: Callable[[Served], Awaitable[None]],
    settings: Settings | None = None,
    classifier: Classifier | None = None,
    metrics: Metrics | None = None,
) -> None:
    """Do `work` in an event loop with a served classifier, one thread preparing pictures."""

    async def main() -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "physical_cores", lambda: 1)
            patient = settings or Settings(deadline_seconds=PATIENCE)
            given = (classifier or fake_classifier(), patient, metrics or Metrics())
            with open_served(*given) as served:
                await work(served)

    asyncio.run(main())


def test_a_picture_is_judged_as_the_classifier_alone_judges_it() -> None:
    async def work(served: Served) -> None:
        for content in (PNG, PHOTO):
            answer, expected = await served.judge(content), fake_classifier().predict(content)
            assert answer.to_json(10) == expected.to_json(10)
            assert answer.prepared is not None
            np.testing.assert_array_equal(answer.image, expected.image)

    run(work)


def test_the_limits_of_the_settings_hold() -> None:
    async def work(served: Served) -> None:
        with pytest.raises(PhotoTooLarge, match="240 x 300"):
            await served.judge(PHOTO)
        with pytest.raises(PhotoTooLarge, match="MB"):
            await served.judge(bytes(20_001))

    run(work, Settings(pixels=70_000, body_bytes=20_000))


def test_what_cannot_be_prepared_is_the_pictures_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("fmnist.photos.prepared._prepared", fail)

    async def work(served: Served) -> None:
        with pytest.raises(PhotoError, match="could not be prepared"):
            await served.judge(PHOTO)

    run(work)


# Places


def test_there_are_places_for_those_that_wait_and_one_for_each_thread() -> None:
    async def work(served: Served) -> None:
        with served.room(2), served.room(1):
            with pytest.raises(Refusal, match="too many pictures wait") as refused:
                served.check_room()
            assert refused.value.status == 503
            assert refused.value.headers == {"Retry-After": "1"}
            with pytest.raises(Refusal), served.room(1):
                pytest.fail("there was room")
        with pytest.raises(RuntimeError), served.room(3):
            raise RuntimeError
        served.check_room(3)

    run(work, Settings(waiting_photos=2))


def test_an_idle_server_takes_a_request_of_any_size() -> None:
    async def work(served: Served) -> None:
        with served.room(16), pytest.raises(Refusal):
            served.check_room()

    run(work, Settings(waiting_photos=0))


def test_work_that_has_not_begun_is_dropped_with_its_request() -> None:
    async def work(served: Served) -> None:
        begun: list[int] = []
        release = threading.Event()
        running = asyncio.create_task(served.in_worker(lambda: release.wait(PATIENCE)))
        waiting = asyncio.create_task(served.in_worker(lambda: begun.append(1)))
        await asyncio.sleep(0)  # both are handed over
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        release.set()
        assert await running
        await served.in_worker(lambda: begun.append(2))
        assert begun == [2]

    run(work)


# Deadlines, and the event loop


def test_a_deadline_is_a_refusal() -> None:
    async def work(served: Served) -> None:
        for asking in (served.batcher.ask(image(3)[None]), _within(served, served.judge(PNG))):
            with pytest.raises(Refusal, match=r"no answer within 0\.1 seconds") as refused:
                await asking
            assert refused.value.status == 504
        held.let_go.set()

    held = Held()
    run(work, Settings(deadline_seconds=0.1), held.classifier)


async def _within(served: Served, work: Awaitable[T]) -> T:
    async with served.deadline():
        return await work


def test_the_event_loop_turns_while_pictures_are_prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, turned = threading.Event(), threading.Event()

    def waiting(*arguments: Any) -> Prepared:
        begun.set()
        assert turned.wait(PATIENCE)
        return prepare(*arguments)

    monkeypatch.setattr(module, "prepare", waiting)

    async def work(served: Served) -> None:
        judging = asyncio.create_task(served.judge(PHOTO))
        while not begun.is_set():
            await asyncio.sleep(0.001)
        turned.set()
        assert (await judging).label

    run(work)


def test_the_event_loop_has_little_work_with_a_picture() -> None:
    large = encoded(shirt(2400, 3000), "jpeg")

    async def work(served: Served) -> None:
        began = time.thread_time()
        await asyncio.gather(*(served.judge(large) for _ in range(6)))
        # To prepare them takes about 0.1 seconds each.
        assert time.thread_time() - began < 0.2

    run(work)


# What explains


def test_an_explanation_is_drawn_over_the_photo() -> None:
    heat = np.linspace(-1, 1, 784, dtype=np.float32).reshape(28, 28)
    asked: list[tuple[int, str]] = []

    def find(pixels: NDArray[np.uint8], class_index: int) -> NDArray[np.float32]:
        asked.append((class_index, threading.current_thread().name))
        return heat

    async def work(served: Served) -> None:
        served.heat = find
        answer = await served.judge(PHOTO)
        expected = draw_heat(answer, lambda image, index: heat)
        np.testing.assert_array_equal(await served.explained(answer), expected)
        assert asked[0][0] == answer.class_index

    run(work)
    assert [name.partition("_")[0] for _, name in asked] == ["fmnist-photo"]


def test_a_run_is_asked_by_one_thread_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run without the extra `explain` is asked by covering, which asks its network."""
    meeting = threading.Barrier(2)
    meeting.abort()  # nobody waits there yet
    threads, met = set(), []

    def ask(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        threads.add(name := threading.current_thread().name.partition("_")[0])
        with contextlib.suppress(threading.BrokenBarrierError):
            meeting.wait(1.0)  # the first waits for the second, which must not come
            met.append(name)
        return np.tile(np.arange(10, dtype=np.float32), (len(images), 1))

    def load_heat(classifier: Classifier, path: Path | None = None) -> object:
        if path is not None:
            raise MissingExtra("captum", "explain")
        return answers.load_heat(classifier)

    monkeypatch.setattr(module, "load_heat", load_heat)

    async def work(served: Served) -> None:
        answer = await served.judge(PHOTO)
        meeting.reset()
        await asyncio.gather(served.explained(answer), served.batcher.ask(image(3)[None]))

    settings = Settings(model=tmp_path, deadline_seconds=PATIENCE)
    run(work, settings, Classifier(ask, FACTS))
    assert met == []
    assert threads == {"fmnist-network", "fmnist-photo"}


# Numbers


def test_pictures_and_answers_are_counted() -> None:
    metrics = Metrics()

    def count(name: str) -> float:
        lines = metrics.text()[0].decode().splitlines()
        return float(next(line for line in lines if line.startswith(name)).split()[-1])

    async def work(served: Served) -> None:
        waiting = 'fmnist_waiting{queue="photos"}'
        with served.room(3):
            assert count(waiting) == 2
        assert count(waiting) == 0
        await served.judge(PNG)
        assert count('fmnist_predictions_total{accepted="true",label="Dress"}') == 1

    run(work, metrics=metrics)
