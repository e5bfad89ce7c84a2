"""Pictures as clients send them: files of every kind, and forms byte by byte."""

import io
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

BOUNDARY = "----of-the-tests"
CONTENT_TYPE = f"multipart/form-data; boundary={BOUNDARY}"


def part(name: bytes, content: bytes) -> bytes:
    """A file of a form, its name as the raw bytes between the quotes."""
    head = b'Content-Disposition: form-data; name="file"; filename="%b"\r\n' % name
    return b"--%b\r\n%b\r\n%b\r\n" % (BOUNDARY.encode(), head, content)


def form(files: Iterable[tuple[bytes, bytes]]) -> dict[str, Any]:
    """What `requests` sends for files (name, content), each name raw."""
    body = b"".join(part(*file) for file in files) + b"--%b--\r\n" % BOUNDARY.encode()
    return {"data": body, "headers": {"Content-Type": CONTENT_TYPE}}


def image(class_index: int, size: int = 28) -> NDArray[np.uint8]:
    """A grey image of Fashion-MNIST's size, to which `fake_classifier` gives a class."""
    pixels = np.zeros((size, size), np.uint8)
    pixels[0, 0] = 10 * class_index
    pixels[10:20, 10:20] = 200
    return pixels


def encoded(pixels: NDArray[np.uint8] | Image.Image, kind: str = "png", **options: Any) -> bytes:
    """A picture as a file of a kind."""
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def shirt(width: int = 240, height: int = 300) -> Image.Image:
    """A photo, as it were: a dark shirt on a bright wall, not quite even."""
    grain = np.random.default_rng(0).normal(245, 3, (height, width, 3))
    picture = Image.fromarray(grain.clip(0, 255).astype(np.uint8))
    x, y = width / 240, height / 300
    pen = ImageDraw.Draw(picture)
    pen.rectangle((70 * x, 60 * y, 170 * x, 250 * y), (40, 60, 120))
    pen.rectangle((40 * x, 60 * y, 200 * x, 120 * y), (40, 60, 120))
    return picture


def decoded(content: bytes) -> NDArray[np.uint8]:
    """The pixels of a file."""
    with Image.open(io.BytesIO(content)) as opened:
        return np.array(opened)
