"""Damaged and hostile pictures over HTTP: each is answered or refused, and the server lives on."""

import io
import struct
import sys
import zipfile
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, features

from processes import peak_mib, processor_seconds, resident_mib
from servers import Server, running
from uploads import encoded, form, image, shirt

ODD = Path(__file__).parents[3] / "shared" / "odd-images" / "pngsuite"
AT_ONCE = 16  # files in a request

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture(scope="module")
def own_server() -> Iterator[Server]:
    """A server that has seen a photo, so that it has all of its threads and libraries."""
    with running("--deadline", "600") as server:
        assert server.post("/api/predict?explain=1", data=encoded(shirt(), "jpeg")).ok
        yield server


@pytest.fixture
def server(own_server: Server) -> Iterator[Server]:
    """The same, which must be as well after the test as it was before."""
    yield own_server
    assert own_server.get("/v2/health/ready").status_code == 200
    assert own_server.post("/api/predict", data=encoded(image(3))).ok
    faults = ("Traceback", '"level": "error"', "Exception")
    assert not [line for line in own_server.stderr_lines() if any(f in line for f in faults)]


def ask(server: Server, contents: list[bytes]) -> list[dict[str, Any]]:
    """What is said of pictures; the request is answered or refused, with a reason for each."""
    answers = []
    for at in range(0, len(contents), AT_ONCE):
        files = [(b"%d" % number, each) for number, each in enumerate(contents[at : at + AT_ONCE])]
        response = server.post("/api/predict", **form(files))
        assert response.status_code in (200, 413, 415, 422), response.text
        told = response.json()["predictions"]
        assert [each["path"] for each in told] == [name.decode() for name, _ in files]
        answers += told
    for answer in answers:
        assert "label" in answer or answer["error"].startswith("the picture is ")
    return answers


def refusal(server: Server, content: bytes, status: int) -> str:
    response = server.post("/api/predict", data=content)
    assert response.status_code == status, response.text
    return str(response.json()["error"])


def damaged(content: bytes, random: np.random.Generator) -> list[bytes]:
    """A file cut at 20 places, and with one bit turned at 40."""
    cuts = [content[: len(content) * at // 20] for at in range(20)]
    turned = [bytearray(content) for _ in range(40)]
    for each in turned:
        each[random.integers(len(each))] ^= 1 << int(random.integers(8))
    return cuts + [bytes(each) for each in turned]


KINDS: dict[str, dict[str, Any]] = {
    "jpeg": {"exif": b"Exif\0\0II*\0\x08\0\0\0\0\0"},
    "png": {},
    "webp": {},
    "gif": {},
    "bmp": {},
    "tiff": {"compression": "tiff_lzw"},
    **({"avif": {}} if features.check("avif") else {}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_answered_or_refused(server: Server, kind: str) -> None:
    content = encoded(shirt(60, 75), kind, **KINDS[kind])
    answers = ask(server, [content, *damaged(content, np.random.default_rng(1))])
    assert "label" in answers[0]
    refused = [answer["error"] for answer in answers if "error" in answer]
    assert len(refused) >= 15  # of the 20 that were cut
    assert len(set(refused)) >= 2


@pytest.mark.skipif(not ODD.is_dir(), reason="../shared/odd-images is absent")
def test_pngsuite_is_answered_and_its_broken_files_refused(server: Server) -> None:
    broken, whole = sorted(ODD.glob("x*.png")), sorted(ODD.glob("[!x]*.png"))
    assert (len(broken), len(whole)) == (14, 161)
    files = broken + whole[::4]  # tests/test_wheel.py asks about all, without HTTP
    answers = ask(server, [file.read_bytes() for file in files])
    refused = {file.name for file, told in zip(files, answers, strict=True) if "error" in told}
    assert refused == {file.name for file in broken}


# More than meets the eye


def archive() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as written:
        written.writestr("../../evil.py", "raise SystemExit")
    return file.getvalue()


POLYGLOTS = {
    "PNG and ZIP": encoded(image(3)) + archive(),
    "GIF and script": encoded(image(3), "gif") + b"*/=1;alert(1)//",
    "JPEG and page": encoded(shirt(60, 75), "jpeg", comment=b"<script>alert(1)</script>"),
}


@pytest.mark.parametrize("name", POLYGLOTS)
def test_what_is_two_things_at_once_is_a_picture_here(server: Server, name: str) -> None:
    response = server.post("/api/predict", data=POLYGLOTS[name])
    assert response.status_code == 200
    assert b"script" not in response.content


STRANGERS = {
    "zip": archive(),
    "pickle": b"\x80\x04\x95" + bytes(40),
    "script": b"<?php system($_GET[0]); ?>",
    "drawing": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
    "page": b"<!doctype html><script>alert(1)</script>",
    "PDF": b"%PDF-1.7\n",
    "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nquit\n",
    "Photoshop": b"8BPS\0\1" + bytes(40),
    "icon": encoded(shirt(60, 75), "ico"),
    "JPEG 2000": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(40),
    "HEIC": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
    "portable pixmap": encoded(shirt(60, 75), "ppm"),
    "a gigabyte of zeros": zlib.compress(bytes(2**20)),
    "Postgres dump": b"PGDMP\x01",
    "one byte": b"\xff",
}


@pytest.mark.parametrize("name", STRANGERS)
def test_what_is_no_picture_that_is_read_is_415(server: Server, name: str) -> None:
    assert "send JPEG, PNG" in refusal(server, STRANGERS[name], 415)


# Bombs


def chunk(name: bytes, content: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(name + content))
    return struct.pack(">I", len(content)) + name + content + checksum


def png_of_zeros(width: int, height: int) -> bytes:
    """A black PNG of one bit a pixel, which is all there and takes a thousandth of its bytes."""
    packer = zlib.compressobj(1)
    row = bytes(1 + (width + 7) // 8)
    packed = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    body = [chunk(b"IHDR", header), chunk(b"IDAT", packed), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


def png_with(*chunks: bytes) -> bytes:
    """A good PNG with chunks more behind its header."""
    good = encoded(image(3))
    return good[:33] + b"".join(chunks) + good[33:]


def gif_of_frames(count: int) -> bytes:
    frames = [Image.new("L", (500, 500), index) for index in range(count)]
    return encoded(frames[0], "gif", save_all=True, append_images=frames[1:])


def test_a_picture_of_900_million_pixels_is_refused_by_its_header(server: Server) -> None:
    bomb = png_of_zeros(30_000, 30_000)
    assert len(bomb) < 2**20
    before, began = peak_mib(server.pid), processor_seconds(server.pid)
    assert "too large" in refusal(server, bomb, 413)
    assert processor_seconds(server.pid) - began < 0.3
    assert peak_mib(server.pid) - before <= 20


BOMBS = {
    "GIF of 65,535 x 65,535": (b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\x02", 413),
    "BMP of 2^31 pixels": (
        b"BM" + bytes(12) + struct.pack("<IiiHHIIiiII", 40, 2**16, 2**15, 1, 24, *[0] * 6),
        413,
    ),
    "text of a gigabyte": (
        png_with(*[chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**20 - 9)))] * 999),
        422,
    ),
    "200,000 chunks": (png_with(chunk(b"teXt", b"") * 200_000), None),
    "profile of a gigabyte": (
        png_with(chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(2**27)))),
        None,
    ),
    "line of 65,535 pixels": (encoded(Image.new("L", (65_535, 1), 99)), 200),
    "column of 65,535 pixels": (encoded(Image.new("L", (1, 65_535), 99)), 200),
    "one pixel": (encoded(Image.new("L", (1, 1), 99)), 200),
    "no pixels": (png_of_zeros(0, 0), 422),
    "300 frames": (gif_of_frames(300), 200),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_or_answered_in_time_and_memory(server: Server, name: str) -> None:
    content, status = BOMBS[name]
    before, began = peak_mib(server.pid), processor_seconds(server.pid)
    response = server.post("/api/predict", data=content)
    assert response.status_code in ((200, 413, 422) if status is None else (status,)), response.text
    assert processor_seconds(server.pid) - began < 6.0  # the limit is 5 for reading a file
    assert peak_mib(server.pid) - before <= 256


def test_sixteen_animations_are_answered_by_their_first_pictures(server: Server) -> None:
    answers = ask(server, [gif_of_frames(40)] * 16)
    assert len(answers) == 16
    for answer in answers:
        assert any("only the first is used" in advice for advice in answer["warnings"])


def test_pictures_of_50_million_pixels_at_once_do_not_exhaust_the_memory(server: Server) -> None:
    """Each takes 800 MB while it is decoded, so no two are decoded together."""
    large = encoded(Image.new("RGB", (8_000, 6_000), (90, 120, 60)), "webp", method=0)
    with ThreadPoolExecutor(3) as clients:
        sent = [clients.submit(server.post, "/api/predict", data=large) for _ in range(3)]
        assert {each.result().status_code for each in sent} == {200}
    assert peak_mib(server.pid) < 1200
    assert resident_mib(server.pid) < 400
