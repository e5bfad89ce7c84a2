"""Workers that hang: their event loops fall silent, so they are killed and replaced."""

import contextlib
import json
import os
import signal
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from fmnist.serving import workers
from servers import STARTS_WITHIN, Server, running
from waiting import wait_until

PATIENCE = 6.0  # seconds of the tests' servers: six signs
IMPATIENT = f"import fmnist.serving.workers as w; w.PATIENCE_SECONDS = {PATIENCE}"
# Python runs it first where its folder is in the path, in workers too: at SIGUSR1 the main thread,
# in which the event loop turns, says so and sleeps for good, and the other threads go on.
STUCK = """
import pathlib, signal, time
def sleep(*_):
    pathlib.Path(__file__).with_name("stuck").touch()
    time.sleep(600)
signal.signal(signal.SIGUSR1, sleep)
"""
IMAGE: Any = {"name": "images", "shape": [1, 28, 28], "datatype": "UINT8", "data": [0] * 784}


def events(server: Server, name: str) -> list[dict[str, Any]]:
    """What was logged so far under a name."""
    told = map(json.loads, server.stderr_lines())
    return [each for each in told if each["event"] == name]


def answering(server: Server) -> list[int]:
    """The processes that said that they answer, dead ones too."""
    return [each["pid"] for each in events(server, "answering")]


def ask(server: Server, times: int) -> set[int]:
    """Ask the network, each time on a connection of its own, and return the statuses."""
    path = "/v2/models/fmnist/infer"
    return {server.post(path, json={"inputs": [IMAGE]}).status_code for _ in range(times)}


def answered(server: Server) -> float:
    """The images that all workers were asked about, by their metrics."""
    lines = server.get("/metrics").text.splitlines()
    (line,) = [each for each in lines if each.startswith("fmnist_batch_images_sum")]
    return float(line.rpartition(" ")[2])


def stopped(pid: int) -> bool:
    """Tell whether a process has heeded SIGSTOP, where the system says so."""
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "T"


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGUSR1], ids=["stopped", "stuck"])
def test_a_worker_that_hangs_is_replaced_and_the_other_goes_on(tmp_path: Path, number: int) -> None:
    (tmp_path / "sitecustomize.py").write_text(STUCK)
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    with running("--workers", "2", before=IMPATIENT, env={"PYTHONPATH": path}) as server:
        wait_until(lambda: len(answering(server)) == 2, STARTS_WITHIN)
        assert ask(server, 20) == {200}
        stuck, other = answering(server)
        os.kill(stuck, number)
        # A request that it took before that would never be answered.
        wait_until(
            (tmp_path / "stuck").exists if number == signal.SIGUSR1 else lambda: stopped(stuck)
        )
        assert ask(server, 5) == {200}
        assert events(server, "worker hangs") == []  # not yet
        wait_until(lambda: len(answering(server)) == 3, STARTS_WITHIN)
        (hangs,) = events(server, "worker hangs")
        (died,) = events(server, "worker died")
        assert hangs["pid"] == died["pid"] == stuck
        assert PATIENCE <= hangs["silent_seconds"] < PATIENCE + 1
        assert (died["status"], died["answered"]) == (-signal.SIGKILL, True)
        os.kill(other, signal.SIGSTOP)  # so that it is the new one that answers
        wait_until(lambda: stopped(other))
        assert ask(server, 20) == {200}
        assert answered(server) == 45
        with contextlib.suppress(ProcessLookupError):  # that took long, and it was replaced too
            os.kill(other, signal.SIGCONT)
        assert server.stop() == 0


def test_a_machine_that_slept_loses_no_worker() -> None:
    with running("--workers", "2", before=IMPATIENT) as server:
        wait_until(lambda: len(answering(server)) == 2, STARTS_WITHIN)
        os.killpg(server.pid, signal.SIGSTOP)
        time.sleep(PATIENCE + 1)
        os.killpg(server.pid, signal.SIGCONT)
        time.sleep(PATIENCE + 1)  # in which nothing is asked, which is no silence
        assert ask(server, 10) == {200}
        assert len(answering(server)) == 2
        assert events(server, "worker hangs") == events(server, "worker died") == []
        assert server.stop() == 0


def test_a_parent_that_takes_no_signs_or_is_gone_holds_no_worker_up() -> None:
    pulse, beating = socket.socketpair()
    for end in (pulse, beating):
        end.setblocking(False)
    with beating:
        with pulse:
            assert not workers._beats(pulse)
            for _ in range(100_000):  # more than the system keeps
                workers._beat(beating)
            wait_until(lambda: not workers._beats(pulse))
            workers._beat(beating)
            assert workers._beats(pulse)
        workers._beat(beating)


def test_one_of_which_only_its_death_is_left_is_silent() -> None:
    pulse, beating = socket.socketpair()
    with pulse:
        pulse.setblocking(False)
        beating.close()
        assert not workers._beats(pulse)
