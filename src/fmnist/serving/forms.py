"""The files of a multipart form, taken apart in memory: nothing of a request is put on a disk."""

import asyncio
import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from fmnist.serving.refusal import Refusal

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

FORM = "multipart/form-data"
PIECE = 2**14  # bytes between two turns of the event loop; at the worst 5 ms of work
# Of processor time for a form: 20 MB of pictures need 0.03. The parser goes byte by byte through
# what is made for it, such as a boundary with megabytes of blanks behind it.
SECONDS = 0.2
FIELDS = 8  # that are no files; nothing is made of them
HEADER = 1024  # characters of a Content-Type; the time to read it grows with their square

# The parser warns of each damaged form; who sent it is told, and the log is not his.
logging.getLogger("python_multipart").setLevel(logging.CRITICAL)


@dataclass(frozen=True)
class FormFile:
    """A file of a form."""

    name: str  # as sent
    content: bytes


async def form_files(body: bytes, content_type: str, files: int) -> list[FormFile]:
    """Return the files of a multipart body (RFC 7578), at least one and at most `files`.

    The names of fields are of no account, and neither are fields without a file name. Raises
    Refusal: 400 for what is no such form, 413 for more files.
    """
    if len(content_type) > HEADER:
        raise Refusal(400, "the form's Content-Type is too long; let the client set it")
    _, options = parse_options_header(content_type)
    if not options.get(b"boundary"):
        raise Refusal(400, "the form's Content-Type names no boundary; let the client set it")
    form = _Form(files)
    try:
        await _parse(body, MultipartParser(options[b"boundary"], form.callbacks()), form)
    except FormParserError as error:
        raise Refusal(400, "the form is damaged; send multipart/form-data (RFC 7578)") from error
    if not form.ended:
        raise Refusal(400, "the form is cut short: its last boundary is missing")
    if not form.files:
        raise Refusal(400, "the form holds no file; send one, under any field name")
    return form.files


async def _parse(body: bytes, parser: MultipartParser, form: "_Form") -> None:
    """Hand a body to the parser in pieces, and let other requests have their turn between them."""
    seconds = 0.0
    for at in range(0, len(body), PIECE):
        began = time.thread_time()
        parser.write(body[at : at + PIECE])
        seconds += time.thread_time() - began
        if form.ended:  # what follows the last boundary means nothing
            return
        if seconds > SECONDS:
            raise Refusal(400, "the form is made so that it takes very long to read; send another")
        await asyncio.sleep(0)


@dataclass
class _Part:
    """A part while it arrives: its header lines one after the other, then its content."""

    header: bytearray = field(default_factory=bytearray)
    value: bytearray = field(default_factory=bytearray)
    disposition: bytes = b""
    name: str | None = None  # None: no file
    content: bytearray = field(default_factory=bytearray)


class _Form:
    """What the parser calls with what it finds."""

    def __init__(self, limit: int) -> None:
        self.files: list[FormFile] = []
        self.ended = False
        self._limit = limit
        self._fields = 0
        self._part = _Part()

    def callbacks(self) -> "MultipartCallbacks":
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._part.header.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._part.value.extend(data[start:end]),
            "on_header_end": self._end_header,
            "on_headers_finished": self._begin_content,
            "on_part_data": self._take,
            "on_part_end": self._finish,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        self._part = _Part()

    def _end_header(self) -> None:
        part = self._part
        if part.header.lower() == b"content-disposition":
            part.disposition = bytes(part.value)
        part.header.clear()
        part.value.clear()

    def _begin_content(self) -> None:
        _, options = parse_options_header(self._part.disposition)
        if b"filename" in options:
            self._part.name = options[b"filename"].decode(errors="replace")
            return
        self._fields += 1
        if self._fields > FIELDS:
            raise Refusal(400, f"the form has over {FIELDS} fields that are no files; send none")

    def _take(self, data: bytes, start: int, end: int) -> None:
        if self._part.name is not None:
            self._part.content += data[start:end]

    def _finish(self) -> None:
        name, content = self._part.name, bytes(self._part.content)
        self._part.content.clear()
        if name is None or not (name or content):  # a browser's file field that was left empty
            return
        if len(self.files) == self._limit:
            raise Refusal(413, f"the form has over {self._limit} files; send the others apart")
        self.files.append(FormFile(name, content))

    def _end(self) -> None:
        self.ended = True
