"""Requests with anything wrong about them, each made from its number, so it can be made again."""

import base64
import copy
import gzip
import json
import zlib
from collections.abc import Callable, Sequence
from functools import cache
from random import Random
from typing import Any, NamedTuple, TypeAlias

from uploads import BOUNDARY, CONTENT_TYPE, encoded, part, shirt

Line: TypeAlias = bytes  # of a request's head


class Sound(NamedTuple):
    """What a client could mean."""

    path: bytes
    lines: list[Line]
    body: bytes


class Case(NamedTuple):
    """What one client sends on one connection."""

    pieces: list[bytes]
    # Of each request, where all are framed as HTTP wants it; each of these is to be answered.
    methods: Sequence[bytes] | None


METHODS = (b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"BREW")
MODELS = (b"/v2/models/fmnist", b"/v2/models/fmnist/versions/1", b"/v2/models/fmnist_photo")
PATHS = (
    b"/",
    b"/docs",
    b"/favicon.ico",
    b"/page/page.js",
    b"/page/../app.py",
    b"/metrics",
    b"/openapi.json",
    b"/api/about",
    b"/api/predict?top=3",
    b"/v2",
    b"/v2/",
    b"/v2/health/live",
    b"/v2/health/ready",
    *(model + end for model in MODELS for end in (b"", b"/ready", b"/infer", b"/config")),
    b"/v2/models/fmnist/stats",
    b"/v2/repository/index",
    b"/v2/repository/models/fmnist/unload",
    b"/v2/systemsharedmemory/region/a/register",
)
QUERIES = (
    b"?top=0",
    b"?top=10",
    b"?steps=true",
    b"?explain=maybe",
    b"?top=1&top=x",
    b"?%ff=%00",
    b"?" + b"a" * 3000,
    b"#a",
)
LINES = (  # that leave a request's framing alone
    b"Content-Type: application/json",
    b"Content-Type: multipart/form-data",
    b"Content-Type: multipart/form-data; boundary=" + b"x" * 300,
    b"Content-Type: application/x-www-form-urlencoded",
    b"Content-Type: \xff/\xfe; boundary=%ff",
    b"Content-Encoding: gzip",
    b"Content-Encoding: deflate",
    b"Content-Encoding: br, gzip",
    b"Content-Encoding: identity",
    b"Inference-Header-Content-Length: 2",
    b"Inference-Header-Content-Length: 0",
    b"Inference-Header-Content-Length: 99999999999",
    b"Inference-Header-Content-Length: -1",
    b"Connection: close",
    b"Connection: keep-alive, upgrade",
    b"Expect: 100-continue",
    b"Expect: 200-ok",
    b"Origin: null",
    b"Origin: http://evil.example",
    b"Sec-Fetch-Site: cross-site",
    b"Authorization: Bearer \xe9\xe9\xe9",
    b"X-Request-Id: " + b"a" * 200,
    b"X-Request-Id: a\x01b",
    b"X-Forwarded-For: 1.2.3.4, unknown, ::::",
    b"X-Forwarded-Proto: ftp",
    b"If-None-Match: *",
    b"Range: bytes=0-1,5-,-3",
    b"Cookie: " + b"a=b; " * 200,
    b"Accept: ;;;,*/*;q=x",
    b"Accept-Encoding: gzip;q=2, deflate",
    b"Accept-Encoding: deflate;q=nan, *;q=0.1",
    b"Accept-Encoding: gzip",
)
FRAMING = (  # and what does not
    b"Host: localhost",
    b"Host: a b",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: gzip, chunked",
    b"Content-Length: 7",
    b"Content-Length: -7",
    b"Content-Length: 99999999",
    b"Connection: upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk",
    b"Upgrade: websocket",
    b" folded: line",
    b"no colon",
)
PIECES = (
    b"\r\n",
    b"\n",
    b"\0",
    b":",
    b" ",
    b"\xff",
    b"%00",
    b"-1",
    b"[",
    b'"',
    b"9" * 20,
    b"HTTP/1.1",
    b"--" + BOUNDARY.encode(),
    b"a" * 999,
)
VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    1,
    2**31,
    2**63,
    2**64,
    10**200,
    -0.0,
    1e308,
    float("nan"),
    float("-inf"),
    "",
    "\0",
    "\ud800",
    "UINT8",
    "logits",
    "x" * 2000,
    [],
    {},
    [[[[]]]],
    [0] * 784,
    {"name": "images"},
    {"binary_data_size": 784},
    {"shared_memory_region": "a"},
    {"timeout": 1},
    {"classification": 3},
)
ONE_IN = 25  # sound requests about pictures: they take most time


def case(number: int) -> Case:
    """The case of that number: one to three requests, in pieces or at once."""
    chance = Random(str(number))  # of an integer its sign would not count
    torn = chance.random() < 0.4
    methods, requests = [], []
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        method, request = _request(chance, torn)
        methods.append(method)
        requests.append(_damaged(chance, request, 3) if torn else request)
    return Case(_cut(chance, b"".join(requests)), None if torn else methods)


def _request(chance: Random, torn: bool) -> tuple[bytes, bytes]:
    """A request's method and bytes; framed as it must be unless `torn`."""
    sound = chance.choice(SOUND)(chance)
    path, lines, body = sound._replace(body=_bent(chance, sound.body))
    method = b"POST"
    if chance.random() < 0.3:
        method, path = chance.choice(METHODS), chance.choice(PATHS)
    if chance.random() < 0.1:
        path += chance.choice(QUERIES)
    lines = [b"Host: localhost", *lines]
    body, coding = _coded(chance, body)
    body, framing = _framed(chance, body)
    lines += coding + framing
    lines += chance.sample(LINES, chance.choice((0, 0, 0, 1, 4)))
    if torn:
        lines += chance.sample(FRAMING, chance.choice((0, 1, 2)))
    if chance.random() < 0.9:
        lines = _once(lines)
    chance.shuffle(lines)
    version = b"HTTP/1.0" if torn and chance.random() < 0.1 else b"HTTP/1.1"
    return method, b"\r\n".join([b"%b %b %b" % (method, path, version), *lines, b"", body])


def _once(lines: list[Line]) -> list[Line]:
    """The lines without those that name a header again."""
    named: dict[bytes, Line] = {}
    for line in lines:
        named.setdefault(line.partition(b":")[0], line)
    return list(named.values())


def _coded(chance: Random, body: bytes) -> tuple[bytes, list[Line]]:
    """A body in a coding or none, perhaps damaged, perhaps cut short."""
    name, encode = chance.choice(((b"gzip", gzip.compress), (b"deflate", zlib.compress)))
    if chance.random() < 0.8:
        return body, []
    if chance.random() < 0.05:
        body *= 300  # which unpacks to some hundred times what is sent
    packed = encode(body, 1)
    if chance.random() < 0.5:
        packed = _damaged(chance, packed, 2)
    return packed, [b"Content-Encoding: " + name]


def _framed(chance: Random, body: bytes) -> tuple[bytes, list[Line]]:
    """A body as it is sent, and the line that says how."""
    if chance.random() < 0.75:
        return body, [b"Content-Length: %d" % len(body)]
    chunks = [piece for piece in _cut(chance, body) if piece]
    extension = chance.choice((b"", b"", b";a=b", b';a="b"'))
    sent = [b"%x%b\r\n%b\r\n" % (len(chunk), extension, chunk) for chunk in chunks]
    trailer = chance.choice((b"", b"", b"X-Sum: 1\r\n"))
    return b"".join((*sent, b"0\r\n", trailer, b"\r\n")), [b"Transfer-Encoding: chunked"]


def _bent(chance: Random, body: bytes) -> bytes:
    """A body as it was, or damaged here and there."""
    return _damaged(chance, body, 3) if chance.random() < 0.4 else body


def _damaged(chance: Random, content: bytes, most: int) -> bytes:
    """Bytes with up to so many faults: put in, taken out, repeated, or the end is missing."""
    for _ in range(chance.randint(0, most)):
        at = chance.randint(0, len(content))
        lost = chance.choice((0, 0, 1, 3, 40))
        piece = chance.choice((chance.choice(PIECES), chance.randbytes(chance.randint(0, 4))))
        if chance.random() < 0.1:
            piece = content[at : at + 200] * 2
        content = content[:at] + piece + content[at + lost :]
        if chance.random() < 0.1:
            content = content[: chance.randint(0, len(content))]
    return content


def _cut(chance: Random, content: bytes) -> list[bytes]:
    """Bytes in one piece, or in a few."""
    cuts = sorted(chance.randint(0, len(content)) for _ in range(chance.choice((0, 0, 0, 1, 4))))
    return [content[a:b] for a, b in zip([0, *cuts], [*cuts, len(content)], strict=True)]


# Sound requests; their JSON may have been changed in places


def _images_in_json(chance: Random) -> Sound:
    number = chance.randint(1, 3)
    data = [chance.randrange(256) for _ in range(number * 784)]
    tensor = {"name": "images", "shape": [number, 28, 28], "datatype": "UINT8", "data": data}
    return Sound(_infer(chance), [], _json(chance, {"inputs": [tensor], **_more(chance)}))


def _images_in_binary(chance: Random) -> Sound:
    number = chance.randint(1, 8)
    tensor = {"name": "images", "shape": [number, 28, 28], "datatype": "UINT8"}
    return _binary(chance, _infer(chance), tensor, chance.randbytes(number * 784))


def _images_alone(chance: Random) -> Sound:
    body = chance.randbytes(chance.choice((784, 784, 1568, 783, 0)))
    return Sound(_infer(chance), [b"Inference-Header-Content-Length: 0"], body)


def _photos_in_json(chance: Random) -> Sound:
    data = [base64.b64encode(file).decode() for file in _files(chance)]
    tensor = {"name": "photos", "shape": [len(data)], "datatype": "BYTES", "data": data}
    path = b"/v2/models/fmnist_photo/infer"
    return Sound(path, [], _json(chance, {"inputs": [tensor], **_more(chance)}))


def _photos_in_binary(chance: Random) -> Sound:
    files = _files(chance)
    content = b"".join(len(file).to_bytes(4, "little") + file for file in files)
    tensor = {"name": "photos", "shape": [len(files)], "datatype": "BYTES"}
    return _binary(chance, b"/v2/models/fmnist_photo/infer", tensor, content)


def _picture(chance: Random) -> Sound:
    return Sound(b"/api/predict", [b"Content-Type: image/png"], _files(chance)[0])


def _form(chance: Random) -> Sound:
    parts = [part(chance.choice((b"a.png", b"", b"\xff", b'"')), file) for file in _files(chance)]
    body = b"".join(parts) + b"--%b--\r\n" % BOUNDARY.encode()
    return Sound(b"/api/predict", [b"Content-Type: " + CONTENT_TYPE.encode()], body)


def _nothing(chance: Random) -> Sound:
    return Sound(chance.choice(PATHS), [], b"")


# Images are asked about more often than pictures, each of which is work for a whole core.
SOUND: tuple[Callable[[Random], Sound], ...] = (
    *((_images_in_json, _images_in_binary) * 4),
    *((_images_alone, _nothing) * 2),
    *(_photos_in_json, _photos_in_binary, _picture, _form),
)


def _binary(chance: Random, path: bytes, tensor: dict[str, Any], content: bytes) -> Sound:
    """A request whose tensor comes behind its JSON."""
    tensor = {**tensor, "parameters": {"binary_data_size": len(content)}}
    head = _json(chance, {"inputs": [tensor], **_more(chance)})
    length = len(head) + chance.choice((0, 0, 0, 0, 1, -1))
    return Sound(path, [b"Inference-Header-Content-Length: %d" % length], head + content)


def _infer(chance: Random) -> bytes:
    return chance.choice((b"/v2/models/fmnist/infer", b"/v2/models/fmnist/versions/1/infer"))


def _more(chance: Random) -> dict[str, Any]:
    """What a request may say besides its inputs."""
    outputs = [{"name": "probabilities", "parameters": {"binary_data": chance.random() < 0.5}}]
    more = {
        "id": "a\u00e9",
        "outputs": outputs,
        "parameters": {"binary_data_output": True, "timeout": 9_000_000, "priority": 2},
    }
    return {key: more[key] for key in chance.sample(sorted(more), chance.randint(0, 3))}


def _json(chance: Random, message: dict[str, Any]) -> bytes:
    """A message as JSON, in two of five cases with something in it replaced."""
    for _ in range(chance.choice((0, 0, 0, 1, 2))):
        message = copy.deepcopy(message)
        holder: Any = message
        while True:
            keys = list(holder) if isinstance(holder, dict) else range(len(holder))
            key = chance.choice(keys)
            if not isinstance(holder[key], dict | list) or not holder[key] or chance.random() < 0.3:
                break
            holder = holder[key]
        if chance.random() < 0.2 and len(message) > 1:
            del holder[key]
        else:
            holder[key] = chance.choice(VALUES)
    indent = chance.choice((None, None, None, 1))
    return json.dumps(message, indent=indent, ensure_ascii=chance.random() < 0.9).encode(
        errors="surrogatepass"
    )


def _files(chance: Random) -> list[bytes]:
    """One to three files: now and then all are pictures, else at least one is damaged."""
    files = [chance.choice(_pictures()) for _ in range(chance.choice((1, 1, 3)))]
    if chance.randrange(ONE_IN):
        files[0] = _damaged(chance, files[0][: chance.randint(0, len(files[0]))], 3)
    return files


@cache
def _pictures() -> list[bytes]:
    small = shirt(32, 40)
    return [
        *(encoded(small, kind) for kind in ("png", "jpeg", "gif", "webp", "bmp", "tiff")),
        *(encoded(small.convert(mode)) for mode in ("1", "LA", "P", "RGBA")),
    ]
