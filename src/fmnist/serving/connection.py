"""One connection: the limits of time and size that HTTP itself needs, and its ends.

llhttp parses (through httptools), by uvicorn's protocol for it. That sets no limit to a request's
time and size, nor to what is sent before an answer is taken, and it closes a connection whose body
is still arriving, which takes the answer with it.
"""

import asyncio
from collections.abc import Iterator
from enum import Enum, auto
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from fmnist.serving import logs
from fmnist.serving.alarm import Alarm
from fmnist.serving.connections import Connections
from fmnist.serving.cycle import Cycle
from fmnist.serving.exchange import EXCHANGE, Exchange
from fmnist.serving.gate import Gate
from fmnist.serving.rates import client_of
from fmnist.serving.refusal import Refusal, overloaded
from fmnist.serving.settings import Settings
from fmnist.serving.transport import Flow, LingeringTransport

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
PIPELINED: Final = 64  # requests of one connection that wait for the answers to those before them
STOP_SECONDS: Final = 0.5  # for requests that are on their way when the server is told to stop


class Stage(Enum):
    """What a connection expects of its client."""

    request = auto()  # any, or none
    head = auto()  # the rest of a request's line and headers
    body = auto()  # the rest of a body
    nothing = auto()  # what still comes is thrown away


def protocol(settings: Settings) -> type[asyncio.Protocol]:
    """Return what uvicorn makes of each connection: its setting `http`."""
    return cast("type[asyncio.Protocol]", partial(Connection, Connections(settings)))


class Connection(HttpToolsProtocol):
    """uvicorn's protocol, with limits; the application must be a Gate."""

    def __init__(
        self,
        all_open: Connections,
        config: "Config",
        server_state: "ServerState",
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        assert isinstance(self.app, Gate)
        self._gate = self.app
        self._backlog = self.app.backlog
        self._all = all_open
        self._limits = all_open.settings
        self.client_name = ""  # the address, or for IPv6 the network, of who connected
        self._stage = Stage.request
        self._alarm = Alarm(self.loop, self._is_late)  # for the rest of what is expected
        self._write_alarm = Alarm(self.loop, self.abort)  # for the client to take an answer
        self._began = 0.0  # when the connection, or its latest request, began
        self._first = True  # the connection's first request has not begun
        self._unread = 0  # bytes since the last of which something was made
        self._received = 0  # bytes at once, the latest
        self._parsed = 0  # bytes that the present request's head may have, at most
        self._ahead = 0  # bytes that came while requests waited for the answer to one before them
        self._discarded = 0  # bytes of a body that was answered before its end
        self._running: Cycle | None = None  # is being answered; `cycle` is the latest that came
        self._task: asyncio.Task[None] | None = None  # that answers
        self._asks = False  # the latest request is for the network, ...
        self._counted = False  # ... and counted in the backlog
        self._upgrade = False  # the request being parsed asks for another protocol
        self._ending = False  # no further request is answered
        self._last_words: bytes | None = None  # wait for the answers to earlier requests

    # The transport's callbacks

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, or say that there is no room."""
        self._wire = transport
        super().connection_made(cast("asyncio.Transport", LingeringTransport(transport, self)))
        self.flow = Flow(transport, self)
        self._began = self.loop.time()
        self.client_name = client_of(self.client[0]) if self.client else ""
        self._gate.metrics.connections(len(self.connections))
        if not self._all.enter(self.client_name):
            self._refuse(overloaded("too many connections"))
            return
        self._all.waiting[self] = None
        self._alarm.set(self._limits.header_seconds)
        if self._all.stopping:
            self.shutdown()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection, and cancel the work for it."""
        self._stage, self._ending = Stage.nothing, True
        self._alarm.cancel()
        self._write_alarm.cancel()
        self._all.leave(self.client_name)
        self._all.waiting.pop(self, None)
        self._uncount()
        self._give_up()
        super().connection_lost(exc)
        self._gate.metrics.connections(len(self.connections))

    def data_received(self, data: bytes) -> None:
        """Parse what came, and see to it that the rest comes in time."""
        if self._stage is Stage.nothing:
            return
        if self._stage is Stage.request:
            self._stage, self._unread = Stage.head, 0
            if not self._first:
                self._alarm.stop()
                self._began = self.loop.time()
        self._received = len(data)
        self._unread += self._received
        self._parsed += self._received
        try:
            self._feed(data)
            if self.pipeline:
                self._read_ahead(self._received)
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
        self._write_alarm.set(self._limits.body_seconds)

    def resume_writing(self) -> None:
        """Go on with an answer."""
        super().resume_writing()
        self._write_alarm.stop()

    # The parser's callbacks

    def on_message_begin(self) -> None:
        """Begin a request, which may have come with the end of the one before."""
        super().on_message_begin()
        if self._stage is Stage.request:
            self._stage = Stage.head

    def on_header(self, name: bytes, value: bytes) -> None:
        """Note a field of a request's head, or behind its body."""
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Hand a request to the application; raise Refusal where it is no sound HTTP."""
        if self._stage is Stage.nothing:
            return
        fields = dict(self.headers)
        self._check_head(fields)
        self._upgrade = self.parser.should_upgrade()
        if self._upgrade:
            return
        self.expect_100_continue = fields.get(b"expect", b"").lower() == b"100-continue"
        if not self._turn_away(fields):
            self._take()
        self._stage, self._unread, self._discarded = Stage.body, 0, 0
        self._first, self._parsed = False, self._received
        self._alarm.stop()
        self.headers = []  # fields behind a chunked body are not mixed with those before it

    def on_body(self, body: bytes) -> None:
        """Hand on a part of a body, or throw it away where the answer was given without it."""
        if self._stage is Stage.nothing:
            return
        self._unread = 0
        if self._is_answering():
            self.cycle.body += body
            if len(self.cycle.body) > HIGH_WATER_LIMIT:
                self.flow.pause_reading()
            self.cycle.message_event.set()
            return
        self._discarded += len(body)
        if self._discarded > DISCARDED * self._limits.body_bytes:
            self._wire.abort()

    def on_message_complete(self) -> None:
        """Note that a request is whole."""
        if self._stage is Stage.nothing or self._upgrade:
            return
        if self._is_answering():
            self.cycle.more_body = False
            self.cycle.message_event.set()
            if self._asks:
                self._counted = True
                self._backlog.add(1)
        self._stage, self._unread = Stage.request, 0
        self._alarm.stop()
        self._all.waiting.pop(self, None)
        if self._ending:
            self._close()

    # uvicorn's callbacks

    def on_response_complete(self) -> None:
        """Go on to the next request, or end."""
        self._uncount()
        self._running = None
        if self.transport.is_closing():
            return
        if self._last_words is not None and not self.pipeline:
            self._wire.write(self._last_words)
            self.end()
            return
        if self.pipeline:
            cycle, _ = self.pipeline.pop()
            self._answer(cast("Cycle", cycle))
        elif self._stage is Stage.request:
            self._expect_request()
        if not self.pipeline:
            self._ahead = 0
        self.flow.resume_reading()

    def shutdown(self) -> None:
        """Answer what has come and what is on its way, and end."""
        self._all.stopping = True
        if self._is_answering():
            self.cycle.keep_alive = False
        elif self._ending or self._stage is Stage.body:  # of a body that was answered
            self.end()
            self._alarm.set(LINGER_SECONDS)
        else:
            self.loop.call_later(STOP_SECONDS, self._end_if_idle)

    def end(self) -> None:
        """Close, but only once the client has had the time to read what was said.

        To close while it sends would reset the connection, and the answer be lost.
        """
        if self._ending:
            return
        self._ending = True
        if self.pipeline:  # the answer that ends the connection was to one before them
            self.pipeline.clear()
            self.cycle, self._ahead = None, 0  # type: ignore[assignment]
        self.flow.resume_reading()
        if self._stage is Stage.request:
            self._close()
            return
        self._wire.write_eof()
        if self._stage is not Stage.body or not self._alarm.is_set():
            self._stage = Stage.nothing
            self._alarm.set(self._patience())

    def is_ending(self) -> bool:
        """Tell whether no further request is answered."""
        return self._ending

    def has_enough(self) -> bool:
        """Tell whether so much waits to be answered that nothing more is to be read."""
        return self._ahead > HIGH_WATER_LIMIT

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

    def _read_ahead(self, size: int) -> None:
        """Read no further where enough waits; until then, to hear of a client that goes."""
        self._ahead += size
        if self.has_enough():
            self.flow.pause_reading()

    def _check_head(self, fields: dict[bytes, bytes]) -> None:
        """Raise Refusal for what llhttp lets through and a proxy might read otherwise."""
        if len(self.headers) > HEADERS or self._head_bytes() > HEAD_BYTES:
            raise _too_long()
        if len(self.pipeline) >= PIPELINED:
            raise Refusal(429, f"over {PIPELINED} requests wait on one connection; read answers")
        version = self.parser.get_http_version()
        if version not in ("1.1", "1.0"):
            raise Refusal(400, "the request is not HTTP/1.1 or HTTP/1.0")
        self.scope["http_version"] = version
        if b"transfer-encoding" in fields:
            codings = [value for name, value in self.headers if name == b"transfer-encoding"]
            if len(codings) > 1 or codings[0].lower() != b"chunked" or version == "1.0":
                raise Refusal(
                    400, "the request's Transfer-Encoding must be chunked, once, in HTTP/1.1"
                )
        method = self.parser.get_method()
        if method == b"CONNECT":
            raise Refusal(405, "the server is no proxy", {"Allow": "GET, HEAD, POST"})
        self.scope["method"] = method.decode()

    def _head_bytes(self) -> int:
        """Return the size of a request's head, or at most so many where those are few."""
        if self._parsed <= HEAD_BYTES:
            return self._parsed
        return len(self.url) + sum(len(name) + len(value) for name, value in self.headers)

    def _turn_away(self, fields: dict[bytes, bytes]) -> bool:
        """Answer a request that would find the network's queue full; False: it takes the long way.

        Here it costs no more than to read it: under twice the load that a server can bear, that
        leaves the time for the others.
        """
        scope = cast("dict[str, Any]", self.scope)
        is_post = scope["method"] == "POST"
        self._asks = is_post and self._backlog.is_for(self.url) and not self._is_answering()
        if not self._asks or not self._backlog.is_full():
            return False
        if self._all.stopping or self.flow.write_paused or self.expect_100_continue:
            return False
        if scope["http_version"] == "1.0" or not self.parser.should_keep_alive():
            return False
        scope["path"] = self.url.decode()
        answer = self._gate.turn_away(scope, fields)
        if answer is not None:
            self._wire.write(answer)
        return answer is not None

    def _take(self) -> None:
        """Have a request answered, once those before it are."""
        scope, url = self.scope, httptools.parse_url(self.url)
        if url.path is None:  # http://host, which no client sends but a proxy's
            raise Refusal(400, "the request's address has no path; send one that begins with /")
        path = url.path.decode("ascii")
        scope["path"] = unquote(path) if "%" in path else path
        scope["raw_path"] = url.path
        scope["query_string"] = url.query or b""
        cast("dict[str, Any]", scope)[EXCHANGE] = Exchange(self._gate.held)
        is_first = not self._is_answering()
        self.cycle = cycle = self._cycle()
        if is_first:
            self._answer(cycle)
        else:
            self.pipeline.appendleft((cycle, self.app))

    def _cycle(self) -> Cycle:
        # Who asked whether to send a body and is refused may send it or not: nobody could say where
        # the next request begins.
        last = self._all.stopping or self.expect_100_continue or self.scope["http_version"] == "1.0"
        return Cycle(
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=not last and self.parser.should_keep_alive(),
            on_response=self.on_response_complete,
        )

    def _answer(self, cycle: Cycle) -> None:
        """Begin to answer a request."""
        self._running = cycle
        self._task = task = self.loop.create_task(cycle.run_asgi(self.app))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def _give_up(self) -> None:
        """Cancel the work for a client that is gone."""
        self.pipeline.clear()
        cycle, self._running = self._running, None
        if cycle is None or cycle.response_complete:
            return
        _exchange(cycle).gone = True
        cycle.disconnected = True
        cycle.message_event.set()
        if self._task is not None:
            self._task.cancel()

    def _uncount(self) -> None:
        if self._counted:
            self._counted = False
            self._backlog.add(-1)

    def _expect_rest(self) -> None:
        """Expect the rest of a request that is not whole, or the next where it is."""
        if self._stage in (Stage.head, Stage.body):
            if not self._alarm.is_set():
                limits = self._limits
                head = self._stage is Stage.head
                self._alarm.set(limits.header_seconds if head else limits.body_seconds)
                self._all.waiting.pop(self, None)
                self._all.waiting[self] = None
        elif self._stage is Stage.request and not self._is_answering() and not self._ending:
            self._expect_request()

    def _expect_request(self) -> None:
        self._alarm.set(self._limits.idle_seconds)
        self._all.waiting[self] = None

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _refuse(self, refusal: Refusal) -> None:
        """Answer what is no HTTP or too slow, after the requests before it."""
        if self._stage is Stage.nothing:  # it came with the last of what was to be thrown away
            return
        stage, self._stage = self._stage, Stage.nothing
        self._alarm.stop()
        if stage is Stage.body:
            self._refuse_body(refusal)
            return
        words = self._gate.refused(refusal, self.loop.time() - self._began, self.client)
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
        _exchange(self.cycle).broken = refusal
        self.cycle.keep_alive = False
        self.cycle.more_body = False
        self.cycle.message_event.set()

    def _is_late(self) -> None:
        """End or refuse what was to come and did not."""
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
        self._alarm.set(self._patience())

    def _patience(self) -> float:
        """Seconds for a client to take what it was sent and close."""
        unsent = self._wire.get_write_buffer_size()
        return self._limits.body_seconds if unsent else LINGER_SECONDS


def _exchange(cycle: "RequestResponseCycle") -> Exchange:
    return cast("Exchange", cast("dict[str, Any]", cycle.scope)[EXCHANGE])


def _reason(error: httptools.HttpParserError) -> Refusal:
    """Return why the parser stopped: a refusal or fault of ours in a callback, or its own."""
    cause = error.__context__
    if isinstance(cause, Refusal):
        return cause
    if cause is None or isinstance(cause, httptools.HttpParserError):
        return Refusal(400, "the request is not sound HTTP/1.1; check its framing and headers")
    logs.log.error("error", exc_info=cause)
    return Refusal(500, "the server failed; its log tells why")


def _too_long() -> Refusal:
    kilobytes = HEAD_BYTES // 2**10
    return Refusal(431, f"the headers have over {kilobytes} KB or are over {HEADERS}; send fewer")
