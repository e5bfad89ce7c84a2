import asyncio
from collections.abc import Callable
from typing import Any

from fmnist.serving.alarm import Alarm


class Loop:
    """An event loop's clock, and the calls that it was asked for."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[Call] = []

    def time(self) -> float:
        return self.now

    def call_later(self, seconds: float, callback: Callable[[], None]) -> "Call":
        self.calls.append(Call(self.now + seconds, callback))
        return self.calls[-1]

    def go_on_to(self, now: float) -> None:
        for call in sorted(self.calls, key=Call.when):
            if self.now < call.due <= now and not call.is_cancelled:
                self.now = call.due
                call.callback()
        self.now = now


class Call:
    def __init__(self, due: float, callback: Callable[[], None]) -> None:
        self.due = due
        self.callback = callback
        self.is_cancelled = False

    def when(self) -> float:
        return self.due

    def cancel(self) -> None:
        self.is_cancelled = True


def made() -> tuple[Alarm, Any, list[float]]:
    loop: Any = Loop()
    rung: list[float] = []
    return Alarm(loop, lambda: rung.append(loop.now)), loop, rung


def test_it_rings_once_when_what_is_expected_is_late() -> None:
    alarm, loop, rung = made()
    alarm.set(10)
    assert alarm.is_set()
    loop.go_on_to(100)
    assert rung == [10]
    assert not alarm.is_set()


def test_what_comes_in_time_rings_nothing() -> None:
    alarm, loop, rung = made()
    alarm.set(10)
    alarm.stop()
    assert not alarm.is_set()
    loop.go_on_to(100)
    assert rung == []


def test_a_later_time_takes_the_place_of_an_earlier_and_the_reverse() -> None:
    alarm, loop, rung = made()
    alarm.set(10)
    loop.go_on_to(5)
    alarm.set(75)
    loop.go_on_to(60)
    assert rung == []
    alarm.set(2)
    loop.go_on_to(100)
    assert rung == [62]


def test_a_thousand_things_in_time_are_two_calls_of_the_loop() -> None:
    alarm, loop, rung = made()
    for n in range(1000):
        loop.go_on_to(n / 100)
        alarm.set(75)
        alarm.stop()
        alarm.set(30)
        alarm.stop()
    assert len(loop.calls) == 2
    assert rung == []


def test_one_that_is_cancelled_leaves_no_call() -> None:
    alarm, loop, rung = made()
    alarm.set(10)
    alarm.cancel()
    assert all(call.is_cancelled for call in loop.calls)
    loop.go_on_to(100)
    assert rung == []


def test_it_rings_on_a_real_loop() -> None:
    async def wait() -> None:
        rung = asyncio.Event()
        alarm = Alarm(asyncio.get_running_loop(), rung.set)
        alarm.set(60)
        alarm.set(0.01)
        async with asyncio.timeout(10):
            await rung.wait()

    asyncio.run(wait())
