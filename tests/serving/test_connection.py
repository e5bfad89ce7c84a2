import contextlib
import dataclasses
import gc
import os
import time
from collections.abc import Iterator
from typing import Any

import pytest

from fmnist.serving import connection as module
from fmnist.serving import gate, logs
from fmnist.serving.alarm import Alarm
from fmnist.serving.backlog import Backlog
from fmnist.serving.connection import HEAD_BYTES, HEADERS, PIPELINED, Connection
from fmnist.serving.gate import SECURITY
from fmnist.serving.settings import Settings
from processes import resident_mib
from waiting import PATIENCE, wait_until
from wire import GET, HOST, POST, Answer, Served, served

TOKEN = "a-token-of-some-length"
CONTENT = b"\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
FIVE = POST + b"Content-Length: 5\r\n\r\nhello"
SLOW = GET.replace(b"/x", b"/slow") + b"\r\n"
FOR_EVER = 600.0  # seconds, which no test waits for
A_MOMENT = 1.0  # seconds that a client waits for a server which may have stopped to read


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    """One with the limits of `fmnist serve`."""
    with served() as server:
        yield server


def reading(server: Served) -> bool:
    """Tell whether all that came of the only connection's body is read, and its rest awaited."""
    return len(server.connections) == 1 and all(
        each._is_answering() and not each.cycle.body for each in server.connections
    )


def limit(server: Served, **limits: Any) -> None:
    """Give the connections that are open other limits from now on."""
    for connection in server.connections:
        connection._limits = dataclasses.replace(connection._limits, **limits)


def assert_is_ours(answer: Answer, status: int) -> None:
    assert answer.status == status
    assert answer.error
    assert (
        SECURITY.items() <= {name.title(): value for name, value in answer.headers.items()}.items()
    )
    assert answer.headers["cache-control"] == "no-store"
    assert "server" not in answer.headers
    assert len(answer.headers["x-request-id"]) == 16


class TestUnsound:
    """What no proxy and we may read in two ways ends the connection, and harms no other."""

    @pytest.mark.parametrize(
        "data",
        [
            POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
            POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
            POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
            POST + b"Content-Length: 5, 5\r\n\r\nhello",
            POST + b"Content-Length: -5\r\n\r\nhello",
            POST + b"Content-Length: +5\r\n\r\nhello",
            POST + b"Content-Length: five\r\n\r\nhello",
            POST + b"Content-Length: 99999999999999999999999\r\n\r\nhello",
            POST + CHUNKED + b"zz\r\nhello\r\n0\r\n\r\n",
            POST + CHUNKED + b"-5\r\nhello\r\n0\r\n\r\n",
            POST + CHUNKED + b"5\r\nhelloXX0\r\n\r\n",
            POST + CHUNKED + b"5\nhello\n0\n\n",
            POST + CHUNKED + b"fffffffffffffffff\r\nhello",
            POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            POST + b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
            POST + b"Transfer-Encoding: identity\r\n\r\nhello",
            POST.replace(b"1.1", b"1.0") + CHUNKED + b"5\r\nhello\r\n0\r\n\r\n",
            GET.replace(b"1.1", b"2.0") + b"\r\n",
            GET.replace(b"1.1", b"0.9") + b"\r\n",
            GET.replace(b"1.1", b"9.9") + b"\r\n",
            GET + b"Folded: a\r\n b\r\n\r\n",
            GET + b"Space : a\r\n\r\n",
            GET + b"Null: a\x00b\r\n\r\n",
            GET + b"Line: a\nFeed: b\r\n\r\n",
            GET.replace(b"\r\n", b"\n") + b"\n",
            GET.replace(b"/x", b"/\xff") + b"\r\n",
            GET.replace(b"/x", b"http://other") + b"\r\n",
            b"CONNECT other:80 HTTP/1.1\r\n" + HOST + b"\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            b"GET / HTTP/1.1\r\n\r\n",
            GET + HOST + b"\r\n",
            b"GET / HTTP/1.1\r\nHost: rebound.example\r\n\r\n",
        ],
    )
    def test_is_refused_as_json_with_the_headers_of_all_answers(
        self, server: Served, data: bytes
    ) -> None:
        with server.wire() as wire:
            assert_is_ours(wire.ask(data), 405 if data.startswith(b"CONNECT") else 400)
        assert server.ask(FIVE).body == b"hello"

    def test_broken_framing_ends_the_connection(self, server: Served) -> None:
        with server.wire() as wire:
            answer = wire.ask(POST + CHUNKED + b"zz\r\n")
            assert answer.headers["connection"] == "close"
            assert wire.ends()

    def test_a_chunk_broken_later_is_refused_too(self, server: Served) -> None:
        with server.wire() as wire:
            wire.send(POST + CHUNKED + b"5\r\nhello\r\n")
            wait_until(lambda: reading(server))
            assert_is_ours(wire.ask(b"zz\r\n"), 400)
            assert wire.ends()

    def test_an_earlier_request_is_answered_first(self, server: Served) -> None:
        server.echo.go_on.clear()
        with server.wire() as wire:
            wire.send(SLOW + b"no HTTP\r\n\r\n")
            server.wait_for_request("/slow")
            server.echo.go_on.set()
            assert wire.answer().status == 200
            assert_is_ours(wire.answer(), 400)
            assert wire.ends()

    def test_fields_behind_a_chunked_body_are_not_mixed_with_the_headers(
        self, server: Served
    ) -> None:
        trailers = b"Host: evil\r\nAuthorization: Bearer x\r\n\r\n"
        assert server.ask(POST + CHUNKED + b"5\r\nhello\r\n0\r\n" + trailers).body == b"hello"
        headers = server.echo.scopes[-1]["headers"]
        assert headers == [(b"host", b"127.0.0.1"), (b"transfer-encoding", b"chunked")]

    def test_is_counted(self, server: Served) -> None:
        server.ask(b"no HTTP\r\n\r\n")
        line = b'fmnist_requests_total{method="other",route="unmatched",status="400"}'
        assert line in server.metrics.text()[0]


class TestHeads:
    def test_have_a_limit_of_bytes(self, server: Served) -> None:
        fits = b"X: " + b"a" * (HEAD_BYTES - 100) + b"\r\n\r\n"
        assert server.ask(GET + fits).status == 200
        assert_is_ours(server.ask(GET + b"X: " + b"a" * HEAD_BYTES + b"\r\n\r\n"), 431)
        assert_is_ours(server.ask(b"GET /" + b"a" * HEAD_BYTES + b" HTTP/1.1\r\n\r\n"), 431)

    def test_are_refused_before_their_end(self, server: Served) -> None:
        with server.wire() as wire:
            wire.send(GET + b"X: ")
            for _ in range(HEAD_BYTES // 2**11):
                wire.send(b"a" * 2**11)
            assert_is_ours(wire.answer(), 431)
            assert wire.ends()

    def test_are_refused_behind_another_request_too(self, server: Served) -> None:
        with server.wire() as wire:
            wire.send(FIVE + GET + b"X: " + b"a" * HEAD_BYTES)
            assert wire.answer().body == b"hello"
            wire.send(b"\r\n\r\n")
            assert_is_ours(wire.answer(), 431)

    def test_have_a_limit_of_lines(self, server: Served) -> None:
        assert server.ask(GET + b"X: a\r\n" * (HEADERS - 1) + b"\r\n").status == 200
        assert_is_ours(server.ask(GET + b"X: a\r\n" * HEADERS + b"\r\n"), 431)

    def test_fields_behind_a_body_have_the_same_limit(self, server: Served) -> None:
        with server.wire() as wire:
            wire.send(POST + CHUNKED + b"5\r\nhello\r\n")
            wait_until(lambda: reading(server))  # what comes with the body is not counted
            wire.send(b"0\r\nX: ")
            for _ in range(HEAD_BYTES // 2**11 + 1):
                wire.send(b"a" * 2**11)
            assert_is_ours(wire.answer(), 431)
            assert wire.ends()


class TestSlowClients:
    """Each clock runs from a fixed moment: a byte now and then does not wind it up again."""

    @pytest.mark.parametrize("start", [b"", b"\r\n"])
    def test_headers_must_end_in_time(self, start: bytes) -> None:
        with served(header_seconds=0.3) as server:
            began = time.monotonic()  # before the clock of the server
            with server.wire() as wire:
                wire.dribble(start + GET * 30)
                assert_is_ours(wire.answer(), 408)
                assert wire.ends()
            assert time.monotonic() - began > 0.29

    def test_lines_that_are_no_request_do_not_stop_the_clock(self) -> None:
        with served() as server, server.wire() as wire:
            assert wire.ask(FIVE).status == 200
            limit(server, header_seconds=0.3)
            wire.dribble(b"\r\n" * 500)
            assert_is_ours(wire.answer(), 408)

    def test_bodies_must_end_in_time(self) -> None:
        with served(body_seconds=0.3) as server, server.wire() as wire:
            began = time.monotonic()
            wire.send(POST + b"Content-Length: 1000\r\n\r\n")
            wire.dribble(b"x" * 999)
            assert_is_ours(wire.answer(), 408)
            assert wire.ends()
            assert time.monotonic() - began > 0.29

    def test_bodies_that_nobody_reads_must_too(self) -> None:
        with served(body_seconds=0.3) as server, server.wire() as wire:
            early = POST.replace(b"/x", b"/early")
            assert wire.ask(early + b"Content-Length: 1000\r\n\r\n").status == 200
            wire.dribble(b"x" * 999)
            assert wire.ends()

    def test_a_client_that_says_nothing_is_cut_off(self) -> None:
        with served(header_seconds=0.2) as server, server.wire() as wire:
            assert wire.ends()

    def test_a_client_between_two_requests_has_its_own_time(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        given: list[float] = []
        set_alarm = Alarm.set

        def note(alarm: Alarm, seconds: float) -> None:
            given.append(seconds)
            set_alarm(alarm, seconds)

        monkeypatch.setattr(Alarm, "set", note)
        settings = Settings(header_seconds=300, body_seconds=400, idle_seconds=500)
        with served(settings) as server, server.wire() as wire:
            assert [wire.ask(FIVE).status for _ in range(3)] == [200] * 3
            wait_until(lambda: given == [300, 500, 500, 500])
            limit(server, idle_seconds=0.2)
            assert wire.ask(FIVE).status == 200
            assert wire.ends()
        assert given[4] == 0.2

    def test_a_body_after_its_answer_does_not_stop_that_clock(self) -> None:
        with served(idle_seconds=0.2) as server, server.wire() as wire:
            early = POST.replace(b"/x", b"/early")
            assert wire.ask(early + b"Content-Length: 5\r\n\r\n").status == 200
            wire.send(b"hello")
            assert wire.ends()

    def test_a_client_that_does_not_take_its_answer_is_cut_off(self) -> None:
        with served(body_seconds=0.2) as server, server.wire() as wire:
            wire.send(GET.replace(b"/x", b"/large") + b"\r\n")
            server.wait_for_request("/large")
            server.wait_for(0)
            with pytest.raises(AssertionError, match="ended"):
                wire.answer()

    def test_two_hundred_are_cut_off_and_others_answered_meanwhile(self) -> None:
        with served(header_seconds=FOR_EVER, body_seconds=1) as server:
            slow = [server.wire() for _ in range(200)]
            for wire in slow:
                wire.send(FIVE[:-1])
            assert all(server.ask(FIVE).status == 200 for _ in range(50))
            assert [wire.answer().status for wire in slow] == [408] * 200
            assert all(wire.ends() for wire in slow)

    def test_a_request_that_comes_whole_needs_no_alarm_of_its_own(self, server: Served) -> None:
        with server.wire() as wire:
            assert wire.ask(FIVE).status == 200
            server.wait_for(1)  # those of earlier tests may be about to end
            (connection,) = server.connections
            call = connection._alarm._call
            assert [wire.ask(FIVE).status for _ in range(5)] == [200] * 5
            assert connection._alarm._call is call is not None


class TestBodiesOfRefusedRequests:
    """Their client reads its answer, however much of the body is still to come."""

    @pytest.mark.parametrize("close", [b"", b"Connection: close\r\n"])
    def test_are_read_on(self, close: bytes) -> None:
        with served(body_bytes=10**6) as server, server.wire() as wire:
            wire.send(POST + close + b"Content-Length: 7000000\r\n\r\n")
            server.wait_for_request("/x")
            for _ in range(70):
                wire.send(b"x" * 10**5)
            assert_is_ours(wire.answer(), 413)
            assert wire.ends()
            server.wait_for(0)

    def test_leave_the_connection_for_the_next_request(self) -> None:
        with served() as server, server.wire() as wire:
            early = POST.replace(b"/x", b"/early")
            wire.send(early + b"Content-Length: 1000000\r\n\r\n" + b"x" * 1000)
            assert wire.answer().body == b""
            wire.send(b"x" * 999_000)
            assert wire.ask(FIVE).body == b"hello"

    def test_that_end_the_connection_may_end_with_what_is_no_http(
        self, server: Served, caplog: pytest.LogCaptureFixture
    ) -> None:
        with server.wire() as wire:
            early = POST.replace(b"/x", b"/early") + b"Expect: 100-continue\r\n"
            assert wire.ask(early + b"Content-Length: 5\r\n\r\n").status == 200
            wire.send(b"hello" + GET + b"\0: \r\n\r\n")
            assert wire.ends()
        server.wait_for(0)
        assert not caplog.records

    def test_are_not_read_for_ever(self) -> None:
        with served(body_bytes=10**5) as server, server.wire() as wire:
            wire.send(POST + b"Content-Length: 90000000\r\n\r\n")
            with pytest.raises(ConnectionError):
                wire.send(bytes(90_000_000))

    def test_need_not_be_sent_by_a_client_that_asks_first(self) -> None:
        head = POST + b"Expect: 100-continue\r\n"
        with served(body_bytes=10) as server:
            with server.wire() as wire:
                assert_is_ours(wire.ask(head + b"Content-Length: 11\r\n\r\n"), 413)
            with server.wire() as wire:
                early = head.replace(b"/x", b"/early") + b"Content-Length: 11\r\n\r\n"
                assert wire.ask(early).headers["connection"] == "close"
                assert wire.ends()
            with server.wire() as wire:
                wire.send(head + b"Content-Length: 5\r\n\r\n")
                assert wire.head().status == 100
                assert wire.ask(b"hello").body == b"hello"


class TestHttp:
    def test_requests_sent_at_once_are_answered_in_order(self, server: Served) -> None:
        with server.wire() as wire:
            bodies = [b"%05d" % n for n in range(50)]
            wire.send(b"".join(FIVE.replace(b"hello", body) for body in bodies))
            assert [wire.answer().body for _ in bodies] == bodies

    def test_a_wish_for_another_protocol_is_ignored(self, server: Served) -> None:
        """Java's own client asks for HTTP/2 in its first request."""
        wish = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA\r\n"
        request = FIVE.replace(HOST, HOST + wish)
        with server.wire() as wire:
            wire.send(request + request)
            assert [wire.answer().body for _ in range(2)] == [b"hello"] * 2
            assert wire.ask(FIVE).body == b"hello"

    @pytest.mark.parametrize("old", [b"Connection: close\r\n\r\n", b"\r\n"])
    def test_a_client_that_wants_one_answer_gets_its_end(self, server: Served, old: bytes) -> None:
        version = b"1.1" if b"close" in old else b"1.0"
        with server.wire() as wire:
            assert wire.ask(GET.replace(b"1.1", version) + old).status == 200
            assert wire.ends()

    @pytest.mark.parametrize("following", [0, 2])
    def test_the_work_for_a_client_that_is_gone_is_cancelled(self, following: int) -> None:
        with served() as server:
            with server.wire() as wire:
                wire.send(SLOW + FIVE * following)
                server.wait_for_request("/slow")
            assert server.echo.cancelled.wait(PATIENCE)
            server.wait_for(0)
            wait_until(lambda: b'status="499"} 1.0' in server.metrics.text()[0])
            assert [scope["path"] for scope in server.echo.scopes] == ["/slow"]


class TestPipelines:
    """Requests that come before the answers to those before them."""

    def test_are_read_no_further_while_some_wait(self) -> None:
        with served() as server, server.wire() as wire:
            large = POST + b"Content-Length: 20000\r\n\r\n" + b"x" * 20_000
            wire.send(SLOW.replace(b"GET", b"POST").replace(b"\r\n\r\n", CONTENT) + large * 30)
            server.wait_for_request("/slow")
            (connection,) = server.connections
            wait_until(lambda: connection.flow.read_paused)
            server.echo.go_on.set()
            assert [len(wire.answer().body) for _ in range(31)] == [5] + [20_000] * 30
            wait_until(lambda: not connection.flow.read_paused)
            assert wire.ask(FIVE).body == b"hello"

    def test_do_not_fill_the_memory(self) -> None:
        with served() as server, server.wire() as wire:
            assert wire.ask(FIVE).status == 200
            before = resident_mib(os.getpid())
            wire.socket.settimeout(A_MOMENT)
            with contextlib.suppress(OSError):
                for _ in range(40):
                    wire.send((GET + b"\r\n") * 6000)
                    assert server.ask(FIVE).status == 200
            assert resident_mib(os.getpid()) - before < 32

    def test_of_too_many_are_answered_as_far_as_they_are_not(self) -> None:
        with served() as server, server.wire() as wire:
            wire.send(SLOW + FIVE * 70)
            server.wait_for_request("/slow")
            server.echo.go_on.set()
            statuses = [wire.answer().status for _ in range(PIPELINED + 1)]
            assert statuses == [200] * (PIPELINED + 1)
            assert_is_ours(wire.answer(), 429)
            assert wire.ends()

    def test_end_with_the_answer_that_says_so(self) -> None:
        close = FIVE.replace(HOST, HOST + b"Connection: close\r\n")
        with served() as server, server.wire() as wire:
            wire.send(close + FIVE + b"no HTTP\r\n\r\n")
            assert wire.answer().headers["connection"] == "close"
            assert wire.ends()


def test_a_fault_of_ours_while_a_head_is_read_is_no_fault_of_the_client(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(connection: Connection, fields: dict[bytes, bytes]) -> None:
        raise KeyError("what a programmer overlooked")

    with served() as server, server.wire() as wire:
        monkeypatch.setattr(Connection, "_check_head", fail)
        wire.send(GET + b"\r\n")
        assert wire.answer().status == 500
    (record,) = (record for record in caplog.records if record.name == logs.log.name)
    assert record.exc_info is not None
    assert record.exc_info[0] is KeyError


class TestFullBacklog:
    """A server with too much to do turns requests away before they cost anything."""

    TARGET = "/v2/models/fmnist/infer"
    ASKING = FIVE.replace(b"/x", TARGET.encode())

    @staticmethod
    def full(most: int = 0) -> Backlog:
        return Backlog([TestFullBacklog.TARGET.encode()], most)

    def test_is_told_at_once_and_the_connection_goes_on(self) -> None:
        with served(backlog=self.full()) as server, server.wire() as wire:
            for _ in range(2):
                answer = wire.ask(self.ASKING)
                assert_is_ours(answer, 503)
                assert answer.headers["retry-after"] == "1"
                assert wire.ask(FIVE).body == b"hello"
            assert [scope["path"] for scope in server.echo.scopes] == ["/x", "/x"]
            line = b'route="/v2/models/{model}/infer",status="503"} 2.0'
            assert line in server.metrics.text()[0]

    def test_is_one_of_requests_that_are_whole_and_not_answered(self) -> None:
        slow = SLOW.replace(b"GET", b"POST")
        with served(backlog=Backlog([b"/slow"], 2)) as server:
            first, second, third = [server.wire() for _ in range(3)]
            first.send(slow)
            server.wait_for_requests(1)
            second.send(slow)
            server.wait_for_requests(2)
            assert third.ask(slow).status == 503
            second.socket.close()  # who leaves counts no longer
            server.wait_for(2)
            third.send(slow)
            server.wait_for_requests(3)
            server.echo.go_on.set()
            assert [wire.answer().status for wire in (first, third)] == [200, 200]
            for _ in range(5):
                assert first.ask(slow).status == 200

    @pytest.mark.parametrize("method", [b"GET", b"HEAD", b"PUT"])
    def test_is_none_of_other_requests(self, method: bytes) -> None:
        with served(backlog=self.full()) as server, server.wire() as wire:
            wire.send(self.ASKING.replace(b"POST", method))
            answer = wire.head() if method == b"HEAD" else wire.answer()
            assert answer.status == 200
            assert wire.ask(self.ASKING.replace(b"/infer", b"/ready")).body == b"hello"

    @pytest.mark.parametrize(
        ("head", "status"),
        [
            (b"Host: rebound.example\r\n", 400),
            (HOST + b"Origin: http://evil.example\r\n", 403),
            (HOST + b"Authorization: Bearer guess\r\n", 401),
            (HOST + b"Authorization: Bearer %b\r\n" % TOKEN.encode(), 503),
        ],
    )
    def test_is_told_only_who_may_ask(self, head: bytes, status: int) -> None:
        with served(backlog=self.full(), token=TOKEN) as server:
            assert_is_ours(server.ask(self.ASKING.replace(HOST, head)), status)

    def test_counts_for_the_rate_of_a_client(self) -> None:
        with served(backlog=self.full(), rate=1e-3, burst=2) as server, server.wire() as wire:
            assert [wire.ask(self.ASKING).status for _ in range(4)] == [503, 503, 429, 429]

    def test_answers_with_the_id_of_the_client(self) -> None:
        with served(backlog=self.full()) as server:
            asking = self.ASKING.replace(HOST, HOST + b"X-Request-Id: mine\r\n")
            assert server.ask(asking).headers["x-request-id"] == "mine"

    @pytest.mark.parametrize("wish", [b"Expect: 100-continue\r\n", b"Connection: close\r\n"])
    def test_leaves_what_ends_the_connection_to_the_application(self, wish: bytes) -> None:
        with served(backlog=self.full()) as server, server.wire() as wire:
            wire.send(self.ASKING.replace(HOST, HOST + wish))
            if b"100" in wish:
                assert wire.head().status == 100
            answer = wire.answer()
            assert (answer.body, answer.headers["connection"]) == (b"hello", "close")
            assert wire.ends()

    def test_does_not_hold_up_a_server_that_stops(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "STOP_SECONDS", FOR_EVER)  # to ask once more
        with served(backlog=self.full()) as server, server.wire() as wire:
            assert wire.ask(self.ASKING).status == 503
            server.stop()
            wait_until(lambda: server.connections[0]._all.stopping)
            assert wire.ask(self.ASKING).headers["connection"] == "close"
            assert wire.ends()

    def test_writes_no_more_than_the_client_takes(self) -> None:
        with served(backlog=self.full()) as server, server.wire() as wire:
            wire.socket.settimeout(A_MOMENT)
            with contextlib.suppress(OSError):
                for _ in range(20):
                    wire.send(self.ASKING * 3000)
                    assert server.ask(FIVE).status == 200
            for connection in server.connections:
                assert connection._wire.get_write_buffer_size() < 2**20

    def test_is_told_in_the_log_once_for_all(self, monkeypatch: pytest.MonkeyPatch) -> None:
        lines: list[tuple[str, Any]] = []
        monkeypatch.setattr(gate, "_TELL_SECONDS", FOR_EVER)
        monkeypatch.setattr(logs, "event", lambda name, **told: lines.append((name, told)))
        with served(backlog=self.full()) as server, server.wire() as wire:
            assert [wire.ask(self.ASKING).status for _ in range(10)] == [503] * 10
            assert lines == []
            monkeypatch.setattr(gate, "_TELL_SECONDS", 0.1)
            server.gate._tell_turned_away()
            assert wire.ask(self.ASKING).status == 503
            wait_until(lambda: len(lines) == 2)
        assert lines == [("turned away", {"count": 10}), ("turned away", {"count": 1})]


class TestRoom:
    def test_the_longest_waiting_makes_room(self) -> None:
        with served(connections=3) as server:
            silent, dribbling, idle = [server.wire() for _ in range(3)]
            server.wait_for(3)
            dribbling.send(b"GET")
            assert idle.ask(FIVE).status == 200
            assert server.ask(FIVE).status == 200
            assert silent.ends()
            assert idle.ask(FIVE).status == 200

    def test_a_thousand_silent_clients_keep_nobody_out(self) -> None:
        with served(connections=50) as server:
            for _ in range(400):
                server.wire()
            for _ in range(20):
                assert server.ask(FIVE).status == 200
            assert len(server.server.server_state.connections) <= 51

    def test_where_all_are_being_answered_there_is_none(self) -> None:
        with served(connections=2) as server:
            busy = [server.wire() for _ in range(2)]
            for wire in busy:
                wire.send(SLOW)
            server.wait_for_requests(2)
            with server.wire() as wire:
                answer = wire.ask(FIVE)
                assert_is_ours(answer, 503)
                assert answer.headers["retry-after"] == "1"
                assert wire.ends()
            server.echo.go_on.set()
            assert [wire.answer().status for wire in busy] == [200, 200]


class TestStop:
    def test_what_is_on_its_way_is_answered(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "STOP_SECONDS", FOR_EVER)  # for the idle one to ask
        with served() as server:
            running, partial, idle = wires = [server.wire() for _ in range(3)]
            running.send(SLOW)
            partial.send(FIVE[:-2])
            assert idle.ask(FIVE).status == 200
            server.wait_for_requests(3)
            server.stop()
            wait_until(lambda: server.connections[0]._all.stopping)
            assert idle.ask(FIVE).headers["connection"] == "close"
            partial.send(FIVE[-2:])
            server.echo.go_on.set()
            assert partial.answer().body == b"hello"
            assert running.answer().headers["connection"] == "close"
            assert all(wire.ends() for wire in wires)

    def test_idle_connections_hold_nothing_up(self) -> None:
        with served(idle_seconds=FOR_EVER, stop_seconds=FOR_EVER) as server:
            wires = [server.wire() for _ in range(10)]
            assert all(wire.ask(FIVE).status == 200 for wire in wires)
            server.stop()
            assert all(wire.ends() for wire in wires)

    def test_bodies_whose_answer_was_given_hold_nothing_up(self) -> None:
        settings = Settings(body_seconds=FOR_EVER, stop_seconds=FOR_EVER)
        with served(settings) as server, server.wire() as wire:
            early = POST.replace(b"/x", b"/early")
            assert wire.ask(early + b"Content-Length: 100\r\n\r\n").status == 200
            server.stop()
            server.wait_for(0)

    def test_what_is_not_answered_in_time_is_told_so(self) -> None:
        with served(stop_seconds=1) as server, server.wire() as wire:
            wire.send(SLOW)
            server.wait_for_request("/slow")
            server.stop()
            assert_is_ours(wire.answer(), 503)


def connections() -> int:
    gc.collect()
    # By type: isinstance would ask each object for its class, at which some of torch warn.
    return sum(type(each) is Connection for each in gc.get_objects())


def test_nothing_is_left_of_connections_that_ended() -> None:
    with served() as server:
        before = connections()
        for _ in range(20):
            with server.wire() as wire:
                wire.ask(FIVE)
        server.wait_for(0)
        wait_until(lambda: connections() <= before + 1)
