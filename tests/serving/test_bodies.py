import asyncio
import gzip
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from starlette.types import Message

from fmnist.serving import bodies
from fmnist.serving.bodies import decompressed, read_body
from fmnist.serving.exchange import EXCHANGE, Exchange, HeldBytes
from fmnist.serving.refusal import Refusal
from waiting import PATIENCE
from wire import POST, Served, served

MIB = 2**20
LIMIT = 20 * MIB
CODINGS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda body: gzip.compress(body, 1),
    "deflate": lambda body: zlib.compress(body, 1),
}


def asked(
    *chunks: bytes,
    limit: int = 100,
    scope: dict[str, Any] | None = None,
    ends: bool = True,
    **headers: str,
) -> bytes:
    """What read_body makes of a request whose body comes in these chunks."""
    messages = [
        {"type": "http.request", "body": chunk, "more_body": not ends or index < len(chunks)}
        for index, chunk in enumerate(chunks, 1)
    ]
    messages.append({"type": "http.disconnect"})

    async def receive() -> Message:
        return messages.pop(0)

    scope = {} if scope is None else scope
    named = [(name.replace("_", "-").encode(), text.encode()) for name, text in headers.items()]
    whole = {"type": "http", "headers": named, EXCHANGE: Exchange(HeldBytes(1000))}
    scope.update({**whole, **scope})
    return asyncio.run(read_body(scope, receive, limit))


def refused(*chunks: bytes, **options: Any) -> Refusal:
    with pytest.raises(Refusal) as refusal:
        asked(*chunks, **options)
    return refusal.value


class TestLimit:
    @pytest.mark.parametrize("sizes", [[100], [50, 50], [1] * 100, [0, 100, 0]])
    def test_is_not_passed_by_a_body_of_its_size(self, sizes: list[int]) -> None:
        assert asked(*(b"x" * size for size in sizes)) == b"x" * 100

    @pytest.mark.parametrize("sizes", [[101], [50, 51], [1] * 101, [0, 101, 0], [100, 1]])
    def test_is_passed_by_a_body_of_one_more(self, sizes: list[int]) -> None:
        assert refused(*(b"x" * size for size in sizes)).status == 413

    @pytest.mark.parametrize("length", ["0", "5", "100"])
    def test_counts_what_comes_and_not_what_was_said(self, length: str) -> None:
        assert refused(b"x" * 60, b"x" * 60, content_length=length).status == 413

    def test_believes_a_length_that_is_too_large(self) -> None:
        assert refused(content_length="101", ends=False).status == 413

    @pytest.mark.parametrize("length", ["-1", "five", "", "1e3", "9" * 30, "٣"])
    def test_a_length_that_is_none_is_refused(self, length: str) -> None:
        assert refused(b"x", content_length=length).status == 400

    @pytest.mark.parametrize("coding", CODINGS)
    def test_counts_after_decompression(self, coding: str) -> None:
        compress = CODINGS[coding]
        assert asked(compress(b"x" * 100), content_encoding=coding) == b"x" * 100
        assert refused(compress(b"x" * 101), content_encoding=coding).status == 413


class TestHeldBytes:
    @pytest.mark.parametrize("chunks", [[99], [50, 49]])
    def test_are_counted_until_the_request_ends(self, chunks: list[int]) -> None:
        held = HeldBytes(100)
        first: dict[str, Any] = {EXCHANGE: Exchange(held)}
        asked(*(b"x" * size for size in chunks), scope=first)
        refusal = refused(b"yy", scope={EXCHANGE: Exchange(held)})
        assert (refusal.status, refusal.headers["Retry-After"]) == (503, "1")
        assert asked(b"y", scope={EXCHANGE: Exchange(held)}) == b"y"
        first[EXCHANGE].release()
        assert asked(b"y" * 99, scope={EXCHANGE: Exchange(held)}) == b"y" * 99

    @pytest.mark.parametrize("coding", CODINGS)
    def test_are_those_that_a_body_unpacks_to(self, coding: str) -> None:
        held = HeldBytes(3 * MIB)
        sent = CODINGS[coding](bytes(2 * MIB))
        options: dict[str, Any] = {"limit": LIMIT, "content_encoding": coding}
        first: dict[str, Any] = {EXCHANGE: Exchange(held)}
        asked(sent, scope=first, **options)
        second: dict[str, Any] = {EXCHANGE: Exchange(held)}
        assert refused(sent, scope=second, **options).status == 503
        for scope in (first, second):
            scope[EXCHANGE].release()
        asked(sent, scope={EXCHANGE: Exchange(held)}, **options)

    def test_of_a_request_alone_are_never_too_many(self) -> None:
        held = HeldBytes(10)
        sent = gzip.compress(bytes(2 * MIB))
        scope = {EXCHANGE: Exchange(held)}
        assert len(asked(sent, limit=LIMIT, content_encoding="gzip", scope=scope)) == 2 * MIB
        assert refused(b"x", scope={EXCHANGE: Exchange(held)}).status == 503


class TestCodings:
    @pytest.mark.parametrize("coding", ["gzip", "deflate"])
    @pytest.mark.parametrize("size", [0, 1, 100_000])
    def test_are_undone(self, coding: str, size: int) -> None:
        body = bytes(range(251)) * size
        sent = CODINGS[coding](body)
        assert asked(sent, limit=LIMIT * 2, content_encoding=coding.upper()) == body

    def test_none_is_one(self) -> None:
        assert asked(b"abc", content_encoding="identity") == b"abc"

    @pytest.mark.parametrize("coding", ["br", "zstd", "gzip, gzip", "gzip,deflate", "x" * 1000])
    def test_that_are_not_known_are_refused(self, coding: str) -> None:
        refusal = refused(b"abc", content_encoding=coding)
        assert refusal.status == 415
        assert refusal.headers["Accept-Encoding"] == "gzip, deflate"
        assert len(str(refusal)) < 100

    @pytest.mark.parametrize("coding", CODINGS)
    def test_damage_is_refused(self, coding: str) -> None:
        whole = CODINGS[coding](bytes(range(256)) * 10)
        flipped = bytearray(whole)
        flipped[-1] ^= 1  # of the check sum, or of the length
        for body in (b"", b"x", whole[:-1], whole[:20], bytes(flipped), whole + b"x", whole * 2):
            with pytest.raises(Refusal) as refusal:
                decompressed(body, coding.encode(), LIMIT)
            assert refusal.value.status == 400

    def test_of_another_name_than_said_is_refused(self) -> None:
        assert refused(gzip.compress(b"x"), content_encoding="deflate").status == 400
        assert refused(zlib.compress(b"x"), content_encoding="gzip").status == 400

    @pytest.mark.parametrize("coding", CODINGS)
    def test_a_bomb_takes_little_memory_and_time(self, coding: str) -> None:
        bomb = CODINGS[coding](bytes(200 * MIB))
        tracemalloc.start()
        began = time.thread_time()
        with pytest.raises(Refusal) as refusal:
            decompressed(bomb, coding.encode(), LIMIT)
        seconds = time.thread_time() - began
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert refusal.value.status == 413
        assert peak < 3 * LIMIT
        assert seconds < 0.5

    def test_much_is_undone_off_the_event_loop(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A server that inflates 20 MB does not keep the others waiting for it."""
        sent = gzip.compress(bytes(LIMIT), 9)
        begun, turned = threading.Event(), threading.Event()

        def waiting(*arguments: Any) -> bytes:
            begun.set()
            assert turned.wait(PATIENCE)
            return decompressed(*arguments)

        async def turn() -> None:
            while not begun.is_set():
                await asyncio.sleep(0.001)
            turned.set()

        async def receive() -> Message:
            return {"type": "http.request", "body": sent, "more_body": False}

        async def ask() -> int:
            turning = asyncio.create_task(turn())
            headers = [(b"content-encoding", b"gzip")]
            scope = {"type": "http", "headers": headers, EXCHANGE: Exchange(HeldBytes(LIMIT))}
            body = await read_body(scope, receive, LIMIT)
            await turning
            return len(body)

        monkeypatch.setattr(bodies, "decompressed", waiting)
        assert asyncio.run(ask()) == LIMIT


class TestEnds:
    def test_a_client_that_goes_away_is_no_body(self) -> None:
        assert refused(b"x" * 10, ends=False).status == 400
        assert refused().status == 400

    def test_what_the_connection_found_wrong_is_raised(self) -> None:
        found = Refusal(408, "late")
        for chunks in ((b"x",), (b"x", b"")):
            exchange = Exchange(HeldBytes(1000), broken=found)
            assert refused(*chunks, scope={EXCHANGE: exchange}) is found

    def test_the_size_is_noted_for_the_log(self) -> None:
        scope: dict[str, Any] = {}
        asked(b"x" * 10, b"y" * 5, scope=scope)
        assert scope[EXCHANGE].bytes_in == 15


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with served() as server:
        yield server


class TestOverTheWire:
    @pytest.mark.parametrize("how", ["length", "chunked", *CODINGS])
    def test_a_mebibyte_below_the_limit_is_taken_and_one_above_is_not(
        self, server: Served, how: str
    ) -> None:
        for size, status in ((LIMIT - MIB, 200), (LIMIT + MIB, 413)):
            answer = server.ask(message(how, bytes(size)))
            assert answer.status == status
            assert len(answer.body) == size if status == 200 else answer.error

    def test_100_damaged_gzip_bodies_leave_nothing(self, server: Served) -> None:
        damaged = gzip.compress(bytes(8 * MIB), 1)[:-9] + b"no gzip here"
        head = b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(damaged)

        def ask(times: int) -> None:
            with server.wire() as wire:
                for _ in range(times):
                    assert wire.ask(POST + head + damaged).status == 400

        ask(5)
        before = resident_bytes()
        ask(100)
        assert resident_bytes() - before < 32 * MIB


def message(how: str, body: bytes) -> bytes:
    """A request with this body, as a client may send it."""
    if how == "chunked":
        pieces = (body[at : at + MIB] for at in range(0, len(body), MIB))
        chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
        return POST + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
    if how in CODINGS:
        body = CODINGS[how](body)
        return POST + b"Content-Encoding: %s\r\n" % how.encode() + sized(body)
    return POST + sized(body)


def sized(body: bytes) -> bytes:
    return b"Content-Length: %d\r\n\r\n%s" % (len(body), body)


def resident_bytes() -> int:
    """The memory of this process, server included."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096
