"""Make the sample pictures of the web page: phone photos made small, and a bag that is drawn.

Usage: python scripts/page_samples.py PHOTOS, where PHOTOS is a folder with the photos that
src/fmnist/serving/page/SAMPLES.md names (phone/ and not_a_class/). They are of senders that took no
part in training (benchmarks/photo_senders.csv), so what the page shows is no recital.
"""

import io
import sys
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageOps

from fmnist.files import write_whole
from fmnist.photos import prepare

PAGE = Path(__file__).parents[1] / "src/fmnist/serving/page"
PHOTOS = {
    "t-shirt": "phone/0_T-shirt_top/f4323b73",
    "trouser": "phone/1_Trouser/6e70492a",
    "pullover": "phone/2_Pullover/69e7ec12",
    "dress": "phone/3_Dress/123cedc9",
    "coat": "phone/4_Coat/2ea87992",
    "sandal": "phone/5_Sandal/0dd87e47",
    "shirt": "phone/6_Shirt/10e51a41",
    "sneaker": "phone/7_Sneaker/32c9aaa7",
    "ankle-boot": "phone/9_Ankle_boot/16fd381e",
    "shorts": "not_a_class/249788eb",
}
EXAMPLE = "coat"  # whose steps the page shows before anything was asked
SIDE = 320  # px, the longest side
MOST_BYTES = 15_000
FINER = 4  # times as large the bag is drawn, so that its edges are smooth


def main(photos: Path) -> None:
    """Write the samples into the page's folder."""
    for name, start in PHOTOS.items():
        (source,) = photos.glob(f"{start}*.jpg")
        with Image.open(source) as photo:
            write_whole(PAGE / f"sample-{name}.jpg", small(ImageOps.exif_transpose(photo)))
    write_whole(PAGE / "sample-bag.jpg", small(draw_bag()))
    steps = prepare(PAGE / f"sample-{EXAMPLE}.jpg")
    write_whole(PAGE / "example-cutout.jpg", small(Image.fromarray(steps.cutout)))
    write_whole(PAGE / "example-image.png", png(steps.image))


def small(picture: Image.Image) -> bytes:
    """Return a picture as JPEG, at most SIDE px and MOST_BYTES, with nothing else in the file."""
    picture = picture.convert("RGB")
    picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    bare = Image.fromarray(np.asarray(picture))  # without EXIF and colour profile
    for quality in range(85, 30, -1):
        file = io.BytesIO()
        bare.save(file, "jpeg", quality=quality, optimize=True, progressive=True)
        if file.tell() < MOST_BYTES:
            return file.getvalue()
    raise AssertionError("no picture of this size is so large")


def png(pixels: NDArray[np.uint8]) -> bytes:
    """Return grey pixels (h, w) as PNG."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png", optimize=True)
    return file.getvalue()


def draw_bag() -> Image.Image:
    """Return a drawing of a brown handbag on a light table, 256 x 320."""
    shadow = Image.new("L", (256 * FINER, 320 * FINER))
    ImageDraw.Draw(shadow).ellipse(_fine(38, 262, 222, 290), fill=150)
    table = Image.new("RGB", shadow.size, "#ded8cc")
    table.paste("#8b8172", mask=shadow.filter(ImageFilter.GaussianBlur(9 * FINER)))
    pen = ImageDraw.Draw(table)
    _draw_handles(pen)
    _draw_body(pen)
    grained = _with_grain(np.asarray(table))
    return Image.fromarray(grained).resize((256, 320), Image.Resampling.LANCZOS)


def _draw_handles(pen: ImageDraw.ImageDraw) -> None:
    for dx, dy, colour in ((8, -8, "#5d3620"), (0, 0, "#7b4a2c")):
        pen.arc(_fine(82 + dx, 48 + dy, 174 + dx, 220 + dy), 180, 360, colour, 9 * FINER)


def _draw_body(pen: ImageDraw.ImageDraw) -> None:
    body, seam, brass = "#8f5733", "#6b3f24", "#d9b45f"
    pen.polygon(_fine(52, 128, 204, 128, 220, 268, 36, 268), body)
    pen.rounded_rectangle(_fine(36, 252, 220, 278), 10 * FINER, body)
    pen.rounded_rectangle(_fine(48, 120, 208, 140), 7 * FINER, seam)
    pen.polygon(_fine(64, 138, 192, 138, 176, 196, 80, 196), "#9d6139", seam, 2 * FINER)
    pen.line(_fine(44, 240, 212, 240), seam, 2 * FINER)
    pen.rounded_rectangle(_fine(114, 184, 142, 208), 4 * FINER, brass)
    pen.rounded_rectangle(_fine(121, 191, 135, 201), 2 * FINER, seam)
    for x in (84, 172):
        pen.ellipse(_fine(x - 5, 126, x + 5, 136), brass)


def _fine(*at: int) -> list[int]:
    """Return px of the finished drawing as px of the large one."""
    return [FINER * each for each in at]


def _with_grain(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return pixels (h, w, 3) lit from the left, with the grain of a photo."""
    height, width = pixels.shape[:2]
    light = np.linspace(1.05, 0.9, width)[None, :, None]
    noise = np.random.default_rng(0).normal(0, 12, (height // FINER, width // FINER, 1))
    grain = cv2.resize(noise, (width, height))[..., None]
    return (pixels * light + grain).clip(0, 255).astype(np.uint8)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
