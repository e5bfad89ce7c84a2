"""One connection: the limits of time and size that HTTP itself needs, and its ends.

uvicorn parses (llhttp, through httptools) and answers. It sets no limit to a request's time and
size, and it closes a connection whose body is still arriving, which takes the answer with it.
"""

import asyncio
from collections.abc import Iterator
from enum import Enum, auto
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from fmnist.serving.batching import LARGEST
from fmnist.serving.gate import GONE, TASK, Gate
from fmnist.serving.refusal import BROKEN, Refusal, overloaded
from fmnist.serving.settings import Settings

if TYPE_CHECKING:
    from uvicorn.config import Config
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
    from uvicorn.server import ServerState

HEAD_BYTES: Final = 2**16  # of a request's line and headers, or of what follows a chunked body
HEADERS: Final = 100  # of one request; Apache's LimitRequestFields
# So many times the limit of a body is read on after its refusal, and thrown away: a client may not
# look for an answer before it has sent everything.
DISCARDED: Final = 8
LINGER_SECONDS: Final = 2.0  # for a client to take the last answer and close
NETWORK: Final = b"/v2/models/fmnist/"  # what begins so asks the network
STOP_SECONDS: Final = 0.5  # for requests that are on their way when the server is told to stop


class Stage(Enum):
    """What a connection expects of its client."""

    request = auto()  # any, or none
    head = auto()  # the rest of a request's line and headers
    body = auto()  # the rest of a body
    nothing = auto()  # what still comes is thrown away


class Crowd:
    """The connections of one server."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.stopping = False
        self.asking = 0  # whole requests for the network that are not answered yet
        self._most_asking = settings.waiting_tensors + LARGEST
        # Those that wait for a request or the rest of one, the longest waiting first.
        self.waiting: dict[Connection, None] = {}

    def is_busy(self) -> bool:
        """Tell whether the network's queue is full, or will be once what has come is looked at."""
        return self.asking >= self._most_asking

    def make_room(self, connections: int) -> bool:
        """Tell whether so many connections may be open, if need be by ending the longest waiting.

        Without it, clients that say nothing would keep out the others.
        """
        if connections <= self.settings.connections:
            return True
        longest = next(iter(self.waiting), None)
        if longest is None:
            return False
        del self.waiting[longest]  # it is lost only later; until then others may come
        longest.abort()
        return True


def protocol(settings: Settings) -> type[asyncio.Protocol]:
    """Return what uvicorn makes of each connection: its setting `http`."""
    return cast("type[asyncio.Protocol]", partial(Connection, Crowd(settings)))


class Connection(HttpToolsProtocol):
    """uvicorn's protocol, with limits; the application must be a Gate."""

    def __init__(
        self,
        crowd: Crowd,
        config: "Config",
        server_state: "ServerState",
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        assert isinstance(self.app, Gate)
        self._gate = self.app
        self._crowd = crowd
        self._limits = crowd.settings
        self.timeout_keep_alive = crowd.settings.idle_seconds  # type: ignore[assignment]
        self._stage = Stage.request
        self._clock: asyncio.TimerHandle | None = None  # for the rest of what is expected
        self._write_clock: asyncio.TimerHandle | None = None  # for the client to take an answer
        self._began = 0.0  # when the connection, or its latest request, began, by the loop's clock
        self._unread = 0  # bytes since the last of which something was made
        self._discarded = 0  # bytes of a body that was answered before its end
        self._asks = False  # the latest request is for the network, ...
        self._counted = False  # ... and the crowd has counted it
        self._upgrade = False  # the request being parsed asks for another protocol
        self._ending = False  # no further request is answered
        self._last_words: bytes | None = None  # wait for the answers to earlier requests

    # The transport's callbacks

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, or say that there is no room."""
        self._wire = transport
        super().connection_made(cast("asyncio.Transport", _Lingering(transport, self)))
        self._began = self.loop.time()
        if not self._crowd.make_room(len(self.connections)):
            self._refuse(overloaded("too many connections"))
            return
        self._crowd.waiting[self] = None
        self._set_clock(self._limits.header_seconds)
        if self._crowd.stopping:
            self.shutdown()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection, and cancel the work for it."""
        self._stage, self._ending = Stage.nothing, True
        self._stop_clock()
        self.resume_writing()
        self._unset_keepalive_if_required()
        self._crowd.waiting.pop(self, None)
        self._uncount()
        if self.cycle is not None and not self.cycle.response_complete:
            scope = cast("dict[str, Any]", self.cycle.scope)
            scope[GONE] = True
            if TASK in scope:
                scope[TASK].cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what came, and see to it that the rest comes in time."""
        self._unset_keepalive_if_required()
        if self._stage is Stage.nothing:
            return
        if self._stage is Stage.request:
            self._stage, self._unread = Stage.head, 0
            if self._clock is None:  # else the connection's first request
                self._began = self.loop.time()
        self._unread += len(data)
        try:
            self._feed(data)
            if self._unread > HEAD_BYTES:
                raise _too_long()
        except httptools.HttpParserError as error:
            self._refuse(_reason(error))
        except Refusal as refusal:
            self._refuse(refusal)
        else:
            self._expect_rest()

    def pause_writing(self) -> None:
        """Give a client that does not take its answer as long as for a body."""
        super().pause_writing()
        self._write_clock = self.loop.call_later(self._limits.body_seconds, self.abort)

    def resume_writing(self) -> None:
        """Go on with an answer."""
        super().resume_writing()
        if self._write_clock is not None:
            self._write_clock.cancel()
            self._write_clock = None

    # The parser's callbacks

    def on_message_begin(self) -> None:
        """Begin a request, which may have come with the end of the one before."""
        super().on_message_begin()
        if self._stage is Stage.request:
            self._stage = Stage.head

    def on_headers_complete(self) -> None:
        """Hand a request to the application; raise Refusal where it is no sound HTTP."""
        if self._stage is Stage.nothing:
            return
        self._check_head()
        self._upgrade = self.parser.should_upgrade()
        if self._upgrade:
            return
        self._asks = self.url.startswith(NETWORK) and not self._is_answering()
        if self._asks and self._crowd.is_busy() and self.parser.should_keep_alive():
            self._turn_away()
            return
        super().on_headers_complete()
        self.headers = []  # fields behind a chunked body are not mixed with those before it
        self._stage, self._unread, self._discarded = Stage.body, 0, 0
        self._stop_clock()
        # Who asked whether to send a body and is refused may send it or not: nobody could say where
        # the next request begins.
        if self._crowd.stopping or self.expect_100_continue:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """Hand on a part of a body, or throw it away where the answer was given without it."""
        if self._stage is Stage.nothing:
            return
        self._unread = 0
        super().on_body(body)
        if self.cycle.response_complete:
            self._discarded += len(body)
            if self._discarded > DISCARDED * self._limits.body_bytes:
                self._wire.abort()

    def on_message_complete(self) -> None:
        """Note that a request is whole."""
        if self._stage is Stage.nothing or self._upgrade:
            return
        super().on_message_complete()
        if self._asks and not self.cycle.response_complete:
            self._counted = True
            self._crowd.asking += 1
        self._stage, self._unread = Stage.request, 0
        self._stop_clock()
        self._crowd.waiting.pop(self, None)
        if self._ending:
            self._close()

    # uvicorn's callbacks

    def on_response_complete(self) -> None:
        """Go on to the next request, or end."""
        self._uncount()
        if self._last_words is not None and not self.pipeline:
            self._wire.write(self._last_words)
            self.end()
        super().on_response_complete()
        if self._stage is Stage.request and not self._ending and not self.pipeline:
            self._crowd.waiting[self] = None

    def shutdown(self) -> None:
        """Answer what has come and what is on its way, and end."""
        self._crowd.stopping = True
        if self._is_answering():
            self.cycle.keep_alive = False
        elif self._ending or self._stage is Stage.body:  # of a body that was answered
            self.end()
            self._set_clock(LINGER_SECONDS)
        else:
            self.loop.call_later(STOP_SECONDS, self._end_if_idle)

    def end(self) -> None:
        """Close, but only once the client has had the time to read what was said.

        To close while it sends would reset the connection, and the answer be lost.
        """
        if self._ending:
            return
        self._ending = True
        self._unset_keepalive_if_required()
        self.flow.resume_reading()
        if self._stage is Stage.request:
            self._close()
            return
        self._wire.write_eof()
        if self._stage is not Stage.body or self._clock is None:
            self._stage = Stage.nothing
            self._set_clock(self._patience())

    def is_ending(self) -> bool:
        """Tell whether no further request is answered."""
        return self._ending

    def abort(self) -> None:
        """End at once."""
        self._wire.abort()

    # Parts of the above

    def _feed(self, data: bytes) -> None:
        """Parse; a request that asks for another protocol is parsed again without that wish.

        RFC 9110 (7.8) lets a server ignore it, but llhttp would take its body for that protocol.
        """
        while data:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as pause:
                data = b"".join(self._without_upgrade()) + data[pause.args[0] :]
                self._upgrade = False
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)

    def _without_upgrade(self) -> Iterator[bytes]:
        version = self.parser.get_http_version().encode()
        yield b"%s %s HTTP/%s\r\n" % (self.parser.get_method(), self.url, version)
        for name, value in self.headers:
            if name != b"upgrade":
                yield b"%s: %s\r\n" % (name, value)
        yield b"\r\n"

    def _check_head(self) -> None:
        """Raise Refusal for what llhttp lets through and a proxy might read otherwise."""
        size, codings = len(self.url), []
        for name, value in self.headers:
            size += len(name) + len(value)
            if name == b"transfer-encoding":
                codings.append(value.lower())
        if size > HEAD_BYTES or len(self.headers) > HEADERS:
            raise _too_long()
        version = self.parser.get_http_version()
        if version not in ("1.1", "1.0"):
            raise Refusal(400, "the request is not HTTP/1.1 or HTTP/1.0")
        if codings and (codings != [b"chunked"] or version == "1.0"):
            raise Refusal(400, "the request's Transfer-Encoding must be chunked, once, in HTTP/1.1")
        if self.parser.get_method() == b"CONNECT":
            raise Refusal(405, "the server is no proxy", {"Allow": "GET, HEAD, POST"})

    def _turn_away(self) -> None:
        """Answer a request that would find the queue full, and throw its body away.

        Here it costs a tenth of what the application would need for it: under twice the load that
        a server can bear, that is what leaves the time for the others.
        """
        self.headers = []
        self.cycle = cast("RequestResponseCycle", _Answered())
        self._stage, self._unread, self._discarded = Stage.body, 0, 0
        self._stop_clock()
        self._wire.write(self._gate.busy())

    def _uncount(self) -> None:
        if self._counted:
            self._counted = False
            self._crowd.asking -= 1

    def _expect_rest(self) -> None:
        """Set the clock where a request is not whole, or the one for the next where it is."""
        if self._stage in (Stage.head, Stage.body):
            if self._clock is None:
                limits = self._limits
                head = self._stage is Stage.head
                self._set_clock(limits.header_seconds if head else limits.body_seconds)
                self._crowd.waiting.pop(self, None)
                self._crowd.waiting[self] = None
        elif self._stage is Stage.request and not self._is_answering() and not self._ending:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )
            self._crowd.waiting[self] = None

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _refuse(self, refusal: Refusal) -> None:
        """Answer what is no HTTP or too slow, after the requests before it."""
        stage, self._stage = self._stage, Stage.nothing
        self._stop_clock()
        if stage is Stage.body:
            self._refuse_body(refusal)
            return
        words = self._gate.turned_away(refusal, self.loop.time() - self._began)
        if self._is_answering():
            self._last_words = words
        else:
            self._wire.write(words)
            self.end()

    def _refuse_body(self, refusal: Refusal) -> None:
        """Leave the refusal to whoever reads the body; where that was answered, end."""
        if not self._is_answering():
            self.end()
            return
        cast("dict[str, Any]", self.cycle.scope)[BROKEN] = refusal
        self.cycle.keep_alive = False
        self.cycle.more_body = False
        self.cycle.message_event.set()

    def _is_late(self) -> None:
        """End or refuse what was to come and did not."""
        self._clock = None
        if self._ending:
            self.abort()
        elif self._stage is Stage.request:
            self.end()
        else:
            what = "headers" if self._stage is Stage.head else "body"
            self._refuse(Refusal(408, f"the request's {what} did not arrive in time"))

    def _end_if_idle(self) -> None:
        if self._stage is Stage.request and not self._is_answering():
            self.end()

    def _close(self) -> None:
        self._stage = Stage.nothing
        self._wire.close()
        self._set_clock(self._patience())

    def _patience(self) -> float:
        """Seconds for a client to take what it was sent and close."""
        unsent = self._wire.get_write_buffer_size()
        return self._limits.body_seconds if unsent else LINGER_SECONDS

    def _set_clock(self, seconds: float) -> None:
        self._stop_clock()
        self._clock = self.loop.call_later(seconds, self._is_late)

    def _stop_clock(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None


class _Answered:
    """Stands for uvicorn's cycle of a request that never was one: its answer is given."""

    response_complete = True
    keep_alive = True
    message_event = asyncio.Event()


class _Lingering:
    """A transport for uvicorn, whose end is the connection's to time."""

    def __init__(self, transport: asyncio.Transport, connection: Connection) -> None:
        self._transport = transport
        self._connection = connection
        self.write = transport.write

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def is_closing(self) -> bool:
        return self._connection.is_ending() or self._transport.is_closing()

    def close(self) -> None:
        self._connection.end()


def _reason(error: httptools.HttpParserError) -> Refusal:
    """Return why the parser stopped: our own refusal in one of its callbacks, or its own."""
    if isinstance(error.__context__, Refusal):
        return error.__context__
    return Refusal(400, "the request is not sound HTTP/1.1; check its framing and headers")


def _too_long() -> Refusal:
    kilobytes = HEAD_BYTES // 2**10
    return Refusal(431, f"the headers have over {kilobytes} KB or are over {HEADERS}; send fewer")
