import asyncio
from typing import Any, cast

import pytest

from fmnist.serving.cycle import Cycle

START = {"type": "http.response.start", "status": 200}


class Client:
    """What a cycle needs of its connection; notes what is written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.is_closed = False
        self.write_paused = False

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def close(self) -> None:
        self.is_closed = True


def answered(
    *messages: dict[str, Any], method: str = "GET", keep_alive: bool = True
) -> tuple[list[bytes], Client]:
    """What is written after each message, and the client."""
    client = Client()
    any_client: Any = client

    async def answer() -> None:
        cycle = Cycle(
            scope=cast(Any, {"method": method}),
            transport=any_client,
            flow=any_client,
            logger=cast(Any, None),
            access_logger=cast(Any, None),
            access_log=False,
            default_headers=[(b"date", b"today")],
            message_event=asyncio.Event(),
            expect_100_continue=False,
            keep_alive=keep_alive,
            on_response=lambda: None,
        )
        for message in messages:
            await cycle.send(message)

    asyncio.run(answer())
    return client.written, client


def start(*headers: tuple[bytes, bytes], status: int = 200) -> dict[str, Any]:
    return {**START, "status": status, "headers": list(headers)}


def body(content: bytes, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": content, "more_body": more}


def test_a_whole_answer_is_one_write() -> None:
    (written,), client = answered(start((b"content-length", b"5")), body(b"hello"))
    assert written == b"HTTP/1.1 200 OK\r\ndate: today\r\ncontent-length: 5\r\n\r\nhello"
    assert not client.is_closed


def test_the_head_goes_out_with_the_first_part_and_each_part_as_it_comes() -> None:
    parts = (body(b"hello", more=True), body(b"", more=True), body(b"you"))
    written, _ = answered(start(), *parts)
    head, _, first = written[0].partition(b"\r\n\r\n")
    assert head.endswith(b"transfer-encoding: chunked")
    assert [first, *written[1:]] == [b"5\r\nhello\r\n", b"3\r\nyou\r\n0\r\n\r\n"]
    written, _ = answered(start((b"content-length", b"8")), *parts)
    assert b"".join(written).endswith(b"\r\n\r\nhelloyou")
    assert answered(start())[0] == []


def test_an_answer_to_head_has_no_body() -> None:
    (written,), _ = answered(start((b"content-length", b"5")), body(b"hello"), method="HEAD")
    assert written.endswith(b"content-length: 5\r\n\r\n")
    (written,), _ = answered(start(), body(b"hello"), method="HEAD")
    assert b"chunked" not in written


@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_without_a_body_says_no_length(status: int) -> None:
    (written,), _ = answered(start(status=status), body(b""))
    assert b"chunked" not in written


@pytest.mark.parametrize(
    ("headers", "keep_alive"),
    [([(b"connection", b"close")], True), ([], False), ([(b"connection", b"close")], False)],
)
def test_the_last_answer_says_so_once(headers: list[tuple[bytes, bytes]], keep_alive: bool) -> None:
    told = start((b"content-length", b"0"), *headers)
    (written,), client = answered(told, body(b""), keep_alive=keep_alive)
    assert written.count(b"connection: close\r\n") == 1
    assert client.is_closed


@pytest.mark.parametrize("content", [b"hell", b"hello!"])
def test_a_body_of_another_length_is_not_sent(content: bytes) -> None:
    with pytest.raises(RuntimeError, match="Content-Length"):
        answered(start((b"content-length", b"5")), body(content))


@pytest.mark.parametrize(
    "header", [(b"x", b"a\r\nevil: b"), (b"x", b"a\n"), (b"x", b"\0"), (b"x: y\r\nz", b"a")]
)
@pytest.mark.parametrize("following", [(), ((b"x", b"fine"),)])
def test_a_header_cannot_end_its_line(
    header: tuple[bytes, bytes], following: tuple[tuple[bytes, bytes], ...]
) -> None:
    with pytest.raises(RuntimeError, match="header"):
        answered(start(header, *following), body(b""))


@pytest.mark.parametrize(
    "messages", [(body(b""),), (start(), start()), (start(), body(b""), body(b""))]
)
def test_messages_have_an_order(messages: tuple[dict[str, Any], ...]) -> None:
    with pytest.raises(RuntimeError, match="out of turn"):
        answered(*messages)
