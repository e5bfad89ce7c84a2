"""Log lines on stderr: one JSON object each, or, where that is a terminal, a few words.

A thread of its own writes them: a terminal that is stopped or a pipe that nobody empties delays no
request, and what cannot be written is dropped. What would end a line or move a cursor is escaped.
"""

import contextlib
import functools
import json
import logging
import os
import queue
import sys
import threading
import time
from collections.abc import Mapping
from typing import NamedTuple

WAITING = 20_000  # lines; about 5 MB
CHUNK = 4096  # bytes that a pipe takes whole, so that two workers' lines do not mix (PIPE_BUF)
PAUSE = 0.02  # seconds in which lines gather, so that a busy server writes many at once
FLUSH_SECONDS = 1.0  # that the end of a server waits for its last lines
PAGE = "/page/"  # begins the routes of the page's files

log = logging.getLogger("fmnist.serving")
access = logging.getLogger("fmnist.serving.access")


def configure() -> None:
    """Send what this process logs to stderr: fmnist from info on, others from warning."""
    for name in ("fmnist", "uvicorn"):
        logging.getLogger(name).handlers.clear()
    logging.getLogger("fmnist").setLevel(logging.INFO)
    root = logging.getLogger()
    root.setLevel(logging.WARNING)
    descriptor = _stderr()
    seen = descriptor is not None and os.isatty(descriptor)
    root.handlers[:] = [TerminalHandler(descriptor) if seen else JsonHandler(descriptor)]
    logging.captureWarnings(True)
    # Looked up for each record, and in no line of ours.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False


def flush() -> None:
    """Write the lines that wait, before a process ends that runs nothing at its end."""
    for handler in logging.getLogger().handlers:
        handler.flush()


def event(name: str, **fields: object) -> None:
    """Log one line that says what happened to the server."""
    log.info(name, extra={"fields": fields})


class Answered(NamedTuple):
    """An answered request."""

    request_id: str  # needs no escape in JSON
    route: str  # a template of ours, never a path as asked for
    method: str
    status: int
    seconds: float
    bytes_in: int
    client: str = ""  # who asked, "" where that is not to be kept
    reason: str = ""  # why it was refused, in a word of ours


def request(answered: Answered) -> None:
    """Log an answered request; of the page's files, a dozen each visit, only failures."""
    if not access.isEnabledFor(logging.INFO):
        return
    if answered.route.startswith(PAGE) and answered.status < 400:
        return
    # A LogRecord and an encoder would take four times as long, once a request.
    for handler in logging.getLogger().handlers:
        if isinstance(handler, JsonHandler):
            handler.write(handler.line_of(answered))


@functools.lru_cache(4096)
def _quoted(text: str) -> str:
    return json.dumps(text)


@functools.lru_cache(4096)
def _shown(text: str) -> str:
    """Return text in printable ASCII, the rest as escapes."""
    return "".join(c if " " <= c <= "~" else ascii(c)[1:-1] for c in text)


class Clock:
    """Says the time as RFC 3339 has it, in UTC; the date is made once a second."""

    def __init__(self) -> None:
        self._second = -1
        self._date = ""

    def text(self, seconds: float) -> str:
        """Return a time, given in seconds since 1970."""
        second = int(seconds)
        if second != self._second:
            self._date = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._second = second
        return f"{self._date}.{int(1000 * (seconds - second)):03d}Z"


class JsonFormatter(logging.Formatter):
    """Makes a record one JSON object; `extra={"fields": {…}}` adds to it."""

    def __init__(self) -> None:
        super().__init__()
        self._encode = json.JSONEncoder(default=str).encode
        self._clock = Clock()

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end."""
        content = {
            "time": self._clock.text(record.created),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            content["traceback"] = self.formatException(record.exc_info)
        return self._encode(content)


class TerminalFormatter(logging.Formatter):
    """Makes a record a few words: the time here, what happened, and its fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, or with a traceback the lines, without the last end."""
        level = "" if record.levelno <= logging.INFO else f"{record.levelname.lower()}: "
        fields = getattr(record, "fields", {}).items()
        told = [record.getMessage(), *(f"{name}={value}" for name, value in fields)]
        lines = [f"{_local_time(record.created)} {level}{'  '.join(told)}"]
        if record.exc_info:
            lines += self.formatException(record.exc_info).splitlines()
        return "\n".join(map(_shown, lines))


def _local_time(seconds: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(seconds))


class JsonHandler(logging.Handler):
    """Writes records to a file descriptor as lines, in a thread; None: nowhere."""

    formatter_type: type[logging.Formatter] = JsonFormatter

    def __init__(self, descriptor: int | None) -> None:
        super().__init__()
        self.setFormatter(self.formatter_type())
        self.clock = Clock()
        self._descriptor = descriptor
        self._lines: queue.SimpleQueue[str | threading.Event] = queue.SimpleQueue()
        self._lost = 0
        if descriptor is not None:
            threading.Thread(target=self._write_all, name="fmnist-log", daemon=True).start()

    def line_of(self, answered: Answered) -> str:
        """Return the line of a request."""
        client, reason = answered.client, answered.reason
        who = f', "client": {_quoted(client)}' if client else ""
        why = f', "reason": {_quoted(reason)}' if reason else ""
        return (
            f'{{"time": "{self.clock.text(time.time())}", "level": "info", '
            f'"event": "request", "request_id": "{answered.request_id}", '
            f'"route": {_quoted(answered.route)}, "method": {_quoted(answered.method)}, '
            f'"status": {answered.status}, "milliseconds": {1000 * answered.seconds:.2f}, '
            f'"bytes_in": {answered.bytes_in}{who}{why}}}'
        )

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record as one line."""
        try:
            self.write(self.format(record))
        except Exception:  # a record that cannot be formatted must not end what it is about
            self._lost += 1

    def write(self, line: str) -> None:
        """Hand a line to the thread, or count it as lost where too many wait."""
        if self._descriptor is None:
            return
        if self._lines.qsize() >= WAITING:
            self._lost += 1
        else:
            self._lines.put(line)

    def flush(self) -> None:
        """Wait until the lines so far are written, for FLUSH_SECONDS at most."""
        if self._descriptor is not None:
            written = threading.Event()
            self._lines.put(written)
            written.wait(FLUSH_SECONDS)

    def _write_all(self) -> None:
        while True:
            waiting = self._taken()
            lines = [line for line in waiting if isinstance(line, str)]
            if self._lost:
                lost, self._lost = {"count": self._lost}, 0
                lines.append(self.format(_record(log.name, logging.WARNING, "lines lost", lost)))
            self._write(lines)
            for written in waiting:
                if isinstance(written, threading.Event):
                    written.set()

    def _taken(self) -> list[str | threading.Event]:
        """Wait for a line and return it with those that come soon after it."""
        taken = [self._lines.get()]
        time.sleep(PAUSE)
        with contextlib.suppress(queue.Empty):
            while len(taken) < WAITING:
                taken.append(self._lines.get_nowait())
        return taken

    def _write(self, lines: list[str]) -> None:
        """Write lines in pieces of whole ones."""
        piece = b""
        for line in lines:
            encoded = line.encode("ascii") + b"\n"
            if piece and len(piece) + len(encoded) > CHUNK:
                self._write_piece(piece)
                piece = b""
            piece += encoded
        if piece:
            self._write_piece(piece)

    def _write_piece(self, piece: bytes) -> None:
        assert self._descriptor is not None
        with contextlib.suppress(OSError):  # a full disk, a reader that is gone: requests go on
            while piece:
                piece = piece[os.write(self._descriptor, piece) :]


class TerminalHandler(JsonHandler):
    """Writes lines that a person at a terminal can read."""

    formatter_type = TerminalFormatter

    def line_of(self, answered: Answered) -> str:
        """Return the line of a request."""
        words = f"{_shown(answered.method)} {answered.route} {answered.status}"
        line = f"{_local_time(time.time())} {words} {1000 * answered.seconds:.0f} ms"
        return f"{line} ({answered.reason})" if answered.reason else line


def _record(name: str, level: int, event: str, fields: Mapping[str, object]) -> logging.LogRecord:
    told = {"name": name, "levelno": level, "levelname": logging.getLevelName(level), "msg": event}
    return logging.makeLogRecord({**told, "fields": fields})


def _stderr() -> int | None:
    """Return a descriptor of stderr that is ours; None where there is none."""
    try:
        return os.dup(sys.stderr.fileno())
    except (AttributeError, OSError, ValueError):
        return None
