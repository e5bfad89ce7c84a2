"""Tokens that change while the server runs: SIGHUP has their file read again."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fmnist.serving.tokens import Tokens
from servers import ENDS_WITHIN, Server, running
from waiting import wait_until

OLD, NEW = "of-yesterday-0123456789", "of-tomorrow-0123456789"
ALONE_OR_TWO = pytest.mark.parametrize("workers", [1, 2])


@pytest.fixture(autouse=True)
def _hangup_as_the_system_has_it() -> Iterator[None]:
    """Servers of these tests do not inherit that it is ignored, as under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file of tokens that holds the old one."""
    file = tmp_path / "tokens"
    file.write_text(f"{OLD}\n")
    return file


def statuses(server: Server, token: str) -> set[int]:
    """What ten requests with a token are answered, each on a connection of its own."""
    ask = {"Authorization": f"Bearer {token}"}
    return {server.get("/api/about", headers=ask).status_code for _ in range(10)}


def events(server: Server, name: str) -> list[dict[str, Any]]:
    """What was logged so far under a name."""
    told = map(json.loads, server.stderr_lines())
    return [each for each in told if each["event"] == name]


def told_of(server: Server, file: Path, content: str, event: str) -> dict[str, Any]:
    """Write the file of tokens, send SIGHUP, and return what is logged of it."""
    before = len(events(server, event))
    file.write_text(content)
    server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: len(events(server, event)) > before)
    return events(server, event)[-1]


@ALONE_OR_TWO
def test_new_tokens_are_taken_and_old_ones_refused(file: Path, workers: int) -> None:
    with running("--token-file", str(file), "--workers", str(workers)) as server:
        wait_until(lambda: len(events(server, "answering")) == workers)
        assert (statuses(server, OLD), statuses(server, NEW)) == ({200}, {401})
        assert told_of(server, file, f"{OLD}\n{NEW}\n", "tokens read")["tokens"] == 2
        wait_until(lambda: (statuses(server, NEW), statuses(server, OLD)) == ({200}, {200}))
        assert told_of(server, file, f"{NEW}\n", "tokens read")["tokens"] == 1
        wait_until(lambda: (statuses(server, NEW), statuses(server, OLD)) == ({200}, {401}))
        assert len(events(server, "answering")) == workers  # the same processes
        assert server.stop() == 0
        printed = server.err.read_text()
    assert OLD not in printed
    assert NEW not in printed


@ALONE_OR_TWO
def test_a_file_that_is_bad_leaves_the_last_good_tokens(file: Path, workers: int) -> None:
    with running("--token-file", str(file), "--workers", str(workers)) as server:
        wait_until(lambda: len(events(server, "answering")) == workers)
        told_of(server, file, f"{NEW}\n", "tokens read")
        wait_until(lambda: (statuses(server, NEW), statuses(server, OLD)) == ({200}, {401}))
        bad = (
            ("", "holds none"),
            ("short\n", "a token must be 16 to 512"),
            (f"{OLD}\n" * 999, "long"),
        )
        for content, reason in bad:
            kept = told_of(server, file, content, "tokens kept")
            assert kept["level"] == "error"
            assert reason in kept["reason"]
        file.unlink()
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: len(events(server, "tokens kept")) == 4)
        assert "cannot be read" in events(server, "tokens kept")[-1]["reason"]
        assert (statuses(server, NEW), statuses(server, OLD)) == ({200}, {401})
        assert server.stop() == 0


def test_a_worker_that_comes_later_takes_the_new_ones(file: Path) -> None:
    with running("--token-file", str(file), "--workers", "2") as server:
        wait_until(lambda: len(events(server, "answering")) == 2)
        told_of(server, file, f"{NEW}\n", "tokens read")
        for worker in events(server, "answering"):
            os.kill(worker["pid"], signal.SIGKILL)
        wait_until(lambda: len(events(server, "answering")) == 4)
        assert (statuses(server, NEW), statuses(server, OLD)) == ({200}, {401})
        assert server.stop() == 0


@ALONE_OR_TWO
def test_without_a_file_of_tokens_a_hangup_ends_it(tmp_path: Path, workers: int) -> None:
    environment = {"FMNIST_SERVE_TOKEN": OLD, "TMPDIR": str(tmp_path)}
    with running("--workers", str(workers), env=environment) as server:
        assert server.stop(signal.SIGHUP) == 0
        assert list(tmp_path.iterdir()) == []


def test_who_asked_for_no_hangup_has_none() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # nohup
    with running() as server:
        server.process.send_signal(signal.SIGHUP)
        assert statuses(server, "") == {200}
        assert server.stop() == 0


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a terminal")
@pytest.mark.parametrize("stream", ["stdin", "stderr"])
def test_a_terminal_that_is_closed_ends_it(file: Path, stream: str) -> None:
    reader, terminal = os.openpty()
    streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    command = [sys.executable, "-m", "fmnist", "serve", "--port", "0", "--token-file", str(file)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, **{**streams, stream: terminal}
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith(b"http://")
            process.send_signal(signal.SIGHUP)
            assert process.wait(ENDS_WITHIN) == 0
        finally:
            process.kill()
    os.close(terminal)
    os.close(reader)


def test_a_file_that_is_slow_to_read_holds_no_request_up(file: Path) -> None:
    with running("--token-file", str(file)) as server:
        file.unlink()
        os.mkfifo(file)  # which nobody writes yet
        server.process.send_signal(signal.SIGHUP)
        assert statuses(server, OLD) == {200}
        file.write_text(f"{NEW}\n")
        wait_until(lambda: (statuses(server, NEW), statuses(server, OLD)) == ({200}, {401}))
        assert server.stop() == 0


def test_a_hangup_while_workers_finish_changes_nothing(file: Path) -> None:
    with running("--token-file", str(file), "--workers", "2") as server:
        wait_until(lambda: len(events(server, "answering")) == 2)
        (first, _) = events(server, "answering")
        os.kill(first["pid"], signal.SIGSTOP)  # so that it does not end
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: events(server, "stopping") != [])
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: events(server, "tokens read") != [])
        assert server.process.poll() is None
        os.kill(first["pid"], signal.SIGCONT)
        assert server.process.wait(ENDS_WITHIN) == 0


def test_any_of_them_opens_and_none_at_all_is_false() -> None:
    tokens = Tokens([OLD, NEW])
    assert tokens
    assert tokens.admit(f"Bearer {NEW}".encode())
    assert tokens.admit(f"bearer  {OLD} ".encode())
    for header in (b"", OLD.encode(), f"Basic {OLD}".encode(), f"Bearer {OLD}x".encode()):
        assert not tokens.admit(header)
    tokens.renew([])
    assert not tokens
    assert not tokens.admit(b"Bearer ")
