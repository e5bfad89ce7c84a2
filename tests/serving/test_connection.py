import gc
import time
from collections.abc import Iterator

import pytest

from fmnist.serving.connection import HEAD_BYTES, HEADERS, Connection
from fmnist.serving.gate import SECURITY
from fmnist.serving.settings import Settings
from wire import GET, HOST, POST, Answer, Served, served

CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
FIVE = POST + b"Content-Length: 5\r\n\r\nhello"


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    """One with the limits of `fmnist serve`."""
    with served() as server:
        yield server


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
            time.sleep(0.05)
            assert_is_ours(wire.ask(b"zz\r\n"), 400)
            assert wire.ends()

    def test_an_earlier_request_is_answered_first(self, server: Served) -> None:
        server.echo.go_on.clear()
        with server.wire() as wire:
            wire.send(GET.replace(b"/x", b"/slow") + b"\r\n" + b"no HTTP\r\n\r\n")
            time.sleep(0.05)
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
            for _ in range(40):
                wire.send(b"a" * 2**11)
                time.sleep(0.001)
            assert_is_ours(wire.answer(), 431)
            assert wire.ends()

    def test_have_a_limit_of_lines(self, server: Served) -> None:
        assert server.ask(GET + b"X: a\r\n" * (HEADERS - 1) + b"\r\n").status == 200
        assert_is_ours(server.ask(GET + b"X: a\r\n" * HEADERS + b"\r\n"), 431)

    def test_fields_behind_a_body_have_the_same_limit(self, server: Served) -> None:
        with server.wire() as wire:
            wire.send(POST + CHUNKED + b"5\r\nhello\r\n0\r\nX: ")
            for _ in range(40):
                wire.send(b"a" * 2**11)
                time.sleep(0.001)
            assert_is_ours(wire.answer(), 431)
            assert wire.ends()


class TestSlowClients:
    """Each clock runs from a fixed moment: a byte now and then does not wind it up again."""

    @pytest.mark.parametrize("start", [b"", b"\r\n"])
    def test_headers_must_end_in_time(self, start: bytes) -> None:
        with served(header_seconds=0.3) as server, server.wire() as wire:
            seconds = wire.dribble(start + GET * 3)
            assert_is_ours(wire.answer(), 408)
            assert wire.ends()
            assert 0.25 < seconds < 1

    def test_lines_that_are_no_request_do_not_stop_the_clock(self) -> None:
        with served(header_seconds=0.3) as server, server.wire() as wire:
            assert wire.ask(FIVE).status == 200
            assert wire.dribble(b"\r\n" * 100) < 1
            assert_is_ours(wire.answer(), 408)

    def test_bodies_must_end_in_time(self) -> None:
        with served(body_seconds=0.3) as server, server.wire() as wire:
            wire.send(POST + b"Content-Length: 100\r\n\r\n")
            seconds = wire.dribble(b"x" * 99)
            assert_is_ours(wire.answer(), 408)
            assert wire.ends()
            assert 0.25 < seconds < 1

    def test_bodies_that_nobody_reads_must_too(self) -> None:
        with served(body_seconds=0.3) as server, server.wire() as wire:
            early = POST.replace(b"/x", b"/early")
            assert wire.ask(early + b"Content-Length: 100\r\n\r\n").status == 200
            assert wire.dribble(b"x" * 99) < 1
            assert wire.ends()

    def test_a_client_that_says_nothing_is_cut_off(self) -> None:
        with served(header_seconds=0.2) as server, server.wire() as wire:
            assert wire.ends()

    def test_a_client_between_two_requests_has_its_own_time(self) -> None:
        settings = Settings(header_seconds=0.1, body_seconds=0.1, idle_seconds=0.5)
        with served(settings) as server, server.wire() as wire:
            assert wire.ask(FIVE).status == 200
            time.sleep(0.3)
            assert wire.ask(FIVE).status == 200
            began = time.monotonic()
            assert wire.ends()
            assert 0.4 < time.monotonic() - began < 1

    def test_a_body_after_its_answer_does_not_stop_that_clock(self) -> None:
        with served(idle_seconds=0.2) as server, server.wire() as wire:
            early = POST.replace(b"/x", b"/early")
            assert wire.ask(early + b"Content-Length: 5\r\n\r\n").status == 200
            wire.send(b"hello")
            assert wire.ends()

    def test_a_client_that_does_not_take_its_answer_is_cut_off(self) -> None:
        with served(body_seconds=0.2) as server, server.wire() as wire:
            wire.send(GET.replace(b"/x", b"/large") + b"\r\n")
            server.wait_for(1)
            server.wait_for(0)
            with pytest.raises(AssertionError, match="ended"):
                wire.answer()

    def test_others_are_answered_meanwhile(self) -> None:
        with served(header_seconds=2) as server:
            wires = [server.wire() for _ in range(200)]
            for wire in wires:
                wire.send(b"G")
            began = time.monotonic()
            for _ in range(50):
                assert server.ask(FIVE).status == 200
            assert time.monotonic() - began < 1


class TestBodiesOfRefusedRequests:
    """Their client reads its answer, however much of the body is still to come."""

    @pytest.mark.parametrize("close", [b"", b"Connection: close\r\n"])
    def test_are_read_on(self, close: bytes) -> None:
        with served(body_bytes=10**6) as server, server.wire() as wire:
            wire.send(POST + close + b"Content-Length: 7000000\r\n\r\n")
            time.sleep(0.05)
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

    def test_the_work_for_a_client_that_is_gone_is_cancelled(self, server: Served) -> None:
        server.echo.go_on.clear()
        server.echo.cancelled.clear()
        with server.wire() as wire:
            wire.send(GET.replace(b"/x", b"/slow") + b"\r\n")
            time.sleep(0.05)
        assert server.echo.cancelled.wait(5)


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
                wire.send(GET.replace(b"/x", b"/slow") + b"\r\n")
            time.sleep(0.05)
            with server.wire() as wire:
                answer = wire.ask(FIVE)
                assert_is_ours(answer, 503)
                assert answer.headers["retry-after"] == "1"
                assert wire.ends()
            server.echo.go_on.set()
            assert [wire.answer().status for wire in busy] == [200, 200]


class TestStop:
    def test_what_is_on_its_way_is_answered(self) -> None:
        with served() as server:
            running, partial, idle = wires = [server.wire() for _ in range(3)]
            running.send(GET.replace(b"/x", b"/slow") + b"\r\n")
            partial.send(FIVE[:-2])
            assert idle.ask(FIVE).status == 200
            server.wait_for(3)
            server.stop()
            time.sleep(0.3)
            assert idle.ask(FIVE).headers["connection"] == "close"
            partial.send(FIVE[-2:])
            server.echo.go_on.set()
            assert partial.answer().body == b"hello"
            assert running.answer().headers["connection"] == "close"
            assert all(wire.ends() for wire in wires)

    def test_idle_connections_hold_nothing_up(self) -> None:
        with served() as server:
            wires = [server.wire() for _ in range(10)]
            assert all(wire.ask(FIVE).status == 200 for wire in wires)
            began = time.monotonic()
            server.stop()
            assert all(wire.ends() for wire in wires)
            assert time.monotonic() - began < 1.5

    def test_bodies_whose_answer_was_given_hold_nothing_up(self) -> None:
        with served() as server, server.wire() as wire:
            early = POST.replace(b"/x", b"/early")
            assert wire.ask(early + b"Content-Length: 100\r\n\r\n").status == 200
            began = time.monotonic()
            server.stop()
            server.wait_for(0)
            assert time.monotonic() - began < 4

    def test_what_is_not_answered_in_time_is_told_so(self) -> None:
        with served(stop_seconds=1) as server, server.wire() as wire:
            wire.send(GET.replace(b"/x", b"/slow") + b"\r\n")
            time.sleep(0.05)
            server.stop()
            assert_is_ours(wire.answer(), 503)


def connections() -> int:
    gc.collect()
    return sum(isinstance(each, Connection) for each in gc.get_objects())


def test_nothing_is_left_of_connections_that_ended() -> None:
    with served() as server:
        before = connections()
        for _ in range(20):
            with server.wire() as wire:
                wire.ask(FIVE)
        server.wait_for(0)
        assert connections() <= before + 1
