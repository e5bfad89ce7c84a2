"""Log lines: JSON, whole, cheap, and no reason for a request to wait."""

import contextlib
import json
import logging
import os
import re
import select
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmnist.serving import logs
from fmnist.serving.logs import JsonFormatter, JsonHandler
from terminals import everything
from waiting import PATIENCE


@contextlib.contextmanager
def logging_to(descriptor: int) -> Iterator[JsonHandler]:
    """Have this process log as a server does, to a descriptor."""
    names = ("", "fmnist", "uvicorn", "py.warnings")
    loggers = [logging.getLogger(name) for name in names]
    before = [(each, each.level, each.handlers[:]) for each in loggers]
    switches = ("logThreads", "logProcesses", "logMultiprocessing")
    were = {name: getattr(logging, name) for name in switches}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logs, "_stderr", lambda: descriptor)
        try:
            logs.configure()
            (handler,) = logging.getLogger().handlers
            assert isinstance(handler, JsonHandler)
            yield handler
        finally:
            logging.captureWarnings(False)
            for each, level, handlers in before:
                each.setLevel(level)
                each.handlers[:] = handlers
            for name, was in were.items():
                setattr(logging, name, was)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    """The file that this process logs to."""
    path = tmp_path / "log"
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    with logging_to(descriptor):
        yield path
    os.close(descriptor)


def lines(path: Path) -> list[dict[str, Any]]:
    """What was logged so far."""
    logs.flush()
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_request_is_one_line_of_json(file: Path) -> None:
    logs.request(logs.Answered("5973e59eeae3bc74", "/api/predict", "POST", 200, 0.0123456, 20_123))
    (told,) = lines(file)
    written = told.pop("time")
    assert abs(time.time() - _seconds(written)) < 60
    assert told == {
        "level": "info",
        "event": "request",
        "request_id": "5973e59eeae3bc74",
        "route": "/api/predict",
        "method": "POST",
        "status": 200,
        "milliseconds": 12.35,
        "bytes_in": 20_123,
    }


def test_who_asked_is_told_where_it_is_known(file: Path) -> None:
    logs.request(logs.Answered("id", "/", "GET", 200, 0.001, 0, "2001:db8::/64"))
    (told,) = lines(file)
    assert told["client"] == "2001:db8::/64"


def test_a_refusal_says_why(file: Path) -> None:
    logs.request(logs.Answered("id", "/api/predict", "POST", 413, 0.001, 0, reason="size"))
    (told,) = lines(file)
    assert (told["status"], told["reason"]) == (413, "size")


def test_of_the_files_of_the_page_only_failures_are_told(file: Path) -> None:
    for route, status in (("/page/page.js", 200), ("/page/page.js", 304), ("/", 200)):
        logs.request(logs.Answered("id", route, "GET", status, 0.001, 0))
    logs.request(logs.Answered("id", "/page/page.js", "GET", 400, 0.001, 0, reason="host"))
    assert [(each["route"], each["status"]) for each in lines(file)] == [
        ("/", 200),
        ("/page/page.js", 400),
    ]


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a terminal")
def test_a_person_at_a_terminal_reads_words() -> None:
    reader, terminal = os.openpty()
    with logging_to(terminal):
        logs.request(
            logs.Answered("id", "/api/predict", "POST", 200, 0.0123456, 20_123, "127.0.0.1")
        )
        logs.request(
            logs.Answered("id", "/api/predict", "P\x1b[2J\n", 413, 0.001, 0, reason="size")
        )
        logs.event("answering", model="photo", settings={"port": 0})
        try:
            raise ValueError("no\x1b such thing")
        except ValueError:
            logs.log.exception("error", extra={"fields": {"request_id": "abc"}})
        logs.flush()
    os.close(terminal)
    told = everything(reader).splitlines()
    times, words = zip(*(line.split(" ", 1) for line in told[:4]), strict=True)
    assert words == (
        "POST /api/predict 200 12 ms",
        "P\\x1b[2J\\n /api/predict 413 1 ms (size)",
        "answering  model=photo  settings={'port': 0}",
        "error: error  request_id=abc",
    )
    assert all(time.strptime(each, "%H:%M:%S") for each in times)
    assert told[4] == "Traceback (most recent call last):"
    assert told[-1] == "ValueError: no\\x1b such thing"


def test_no_line_a_request_where_that_is_not_wanted(file: Path) -> None:
    logs.access.setLevel(logging.WARNING)
    try:
        logs.request(logs.Answered("id", "/", "GET", 200, 0.001, 0))
    finally:
        logs.access.setLevel(logging.NOTSET)
    assert lines(file) == []


@given(st.text(), st.text(), st.floats(0, 1e6), st.integers(0, 2**40))
def test_no_client_writes_lines_of_its_own(
    method: str, client: str, seconds: float, bytes_in: int
) -> None:
    written: list[str] = []
    handler = JsonHandler(None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(handler, "write", written.append)
        patch.setattr(logging.getLogger(), "handlers", [handler])
        patch.setattr(logs.access, "isEnabledFor", lambda level: True)
        logs.request(logs.Answered("id", "/", method, 200, seconds, bytes_in, client))
    (line,) = written
    assert all(" " <= character <= "~" for character in line)
    told = json.loads(line)
    assert (told["method"], told.get("client", "")) == (method, client)
    assert told["bytes_in"] == bytes_in


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def test_time_has_milliseconds_and_is_in_utc() -> None:
    formatter = JsonFormatter()
    for created, expected in (
        (0.0, "1970-01-01T00:00:00.000Z"),
        (0.9994, "1970-01-01T00:00:00.999Z"),
        (86_400.25, "1970-01-02T00:00:00.250Z"),
        (0.5, "1970-01-01T00:00:00.500Z"),
    ):
        record = logging.makeLogRecord({"msg": "", "created": created})
        assert json.loads(formatter.format(record))["time"] == expected


def test_events_and_their_fields(file: Path) -> None:
    logs.event("stopping", signal="SIGTERM")
    (told,) = lines(file)
    assert (told["level"], told["event"], told["signal"]) == ("info", "stopping", "SIGTERM")


def test_an_error_has_its_traceback_in_the_same_line(file: Path) -> None:
    try:
        raise ValueError("no\nsuch thing")
    except ValueError:
        logs.log.exception("error", extra={"fields": {"request_id": "abc"}})
    (told,) = lines(file)
    assert (told["level"], told["request_id"]) == ("error", "abc")
    assert told["traceback"].startswith("Traceback (most recent call last)")
    assert "ValueError: no\nsuch thing" in told["traceback"]


def test_others_are_heard_from_warnings_on(file: Path) -> None:
    for name in ("uvicorn.error", "asyncio", "somebody"):
        logging.getLogger(name).info("chatter")
        logging.getLogger(name).warning("of %s", name)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old\nways", DeprecationWarning, stacklevel=1)
    told = lines(file)
    assert [each["event"] for each in told[:3]] == ["of uvicorn.error", "of asyncio", "of somebody"]
    assert "old\nways" in told[3]["event"]
    assert len(told) == 4


def test_what_cannot_be_formatted_is_no_reason_to_fail(file: Path) -> None:
    handlers = (each for each in logging.getLogger().handlers if isinstance(each, JsonHandler))
    next(handlers).handle(logging.makeLogRecord({"msg": "%d of %d", "args": (1,)}))
    logs.event("after", thing=object())
    told = lines(file)
    assert [each["event"] for each in told] == ["after", "lines lost"]
    assert told[1]["count"] == 1


@given(st.text())
def test_no_text_ends_a_line_or_moves_a_cursor(text: str) -> None:
    record = logging.makeLogRecord({"msg": text, "fields": {"route": text}})
    line = JsonFormatter().format(record)
    assert all(" " <= character <= "~" for character in line)
    assert json.loads(line)["event"] == text


def test_a_reader_that_stopped_reading_holds_nothing_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "FLUSH_SECONDS", 0.05)
    reader, writer = os.pipe()
    sent = 2 * logs.WAITING + 5_000  # those that wait, and those that the thread has taken

    def send() -> None:
        for _ in range(sent):
            logs.request(logs.Answered("id", "/", "GET", 200, 0.001, 0))
        logs.flush()

    with logging_to(writer):
        sending = threading.Thread(target=send, daemon=True)
        sending.start()
        sending.join(PATIENCE)
        assert not sending.is_alive()
        content = b""
        while sum(told_and_lost(content)) < sent:
            assert select.select([reader], [], [], PATIENCE)[0]
            content += os.read(reader, 2**20)
    told, lost = told_and_lost(content)
    assert told + lost == sent
    assert lost > 0
    assert all(json.loads(line)["event"] for line in content.splitlines())
    os.close(writer)
    os.close(reader)


def told_and_lost(content: bytes) -> tuple[int, int]:
    """How many requests are told of in lines, and how many are told to be lost."""
    lost = re.findall(rb'"lines lost", "count": (\d+)}\n', content)
    return content.count(b"\n") - len(lost), sum(map(int, lost))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a disk that is always full")
@pytest.mark.parametrize("redirection", ["2>/dev/full", "2>&-"])
def test_a_disk_that_is_full_or_no_stderr_at_all_is_no_reason_to_end(redirection: str) -> None:
    code = (
        "from fmnist.serving import logs; logs.configure(); logs.event('a'); logs.flush(); "
        "logs.request(logs.Answered('id', '/', 'GET', 200, 0.1, 0)); logs.flush(); print('alive')"
    )
    done = subprocess.run(
        ["sh", "-c", f'"$0" -c "$1" {redirection}', sys.executable, code],
        stdout=subprocess.PIPE,
        timeout=PATIENCE,
    )
    assert (done.returncode, done.stdout) == (0, b"alive\n")


def test_a_line_costs_little(file: Path) -> None:
    """Measured at 4 µs on one core of a server from 2020; the whole of a request takes 300."""
    costs = []
    for _ in range(5):
        began = time.process_time()
        for _ in range(1000):
            logs.request(
                logs.Answered("5973e59eeae3bc74", "/api/predict", "POST", 200, 0.0123, 20_123)
            )
        logs.flush()
        costs.append((time.process_time() - began) / 1000)
    assert min(costs) < 20e-6
    assert len(lines(file)) == 5000
