import io
import os
import struct
import sys
import threading
import time
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, ImageDraw, features

from fmnist.errors import PhotoError, PhotoTooLarge
from fmnist.photos import decode
from fmnist.photos.decode import SIDE, Limits, Picture, Source, read_picture

PNGSUITE = Path(__file__).parents[2].parent / "shared" / "odd-images" / "pngsuite"
FORMATS = ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"] + ["AVIF"] * bool(features.check("avif"))


def garment(width: int = 96, height: int = 72) -> Image.Image:
    """A red shirt with a gradient on light grey; no two of its eight orientations are alike."""
    image = Image.new("RGB", (96, 72), (225, 225, 230))
    draw = ImageDraw.Draw(image)
    for y in range(12, 64):
        draw.line([(34, y), (62, y)], fill=(120 + y, 30, 200 - 2 * y))
    draw.rectangle((12, 14, 34, 26), fill=(150, 40, 150))
    draw.rectangle((62, 14, 76, 40), fill=(60, 90, 40))
    return image.resize((width, height))


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def grey(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    return np.asarray(pixels @ np.array([0.299, 0.587, 0.114]))


def difference(picture: Picture, image: Image.Image, *, colour: bool) -> float:
    """Mean difference of the pixels, 0 to 255, in colour or in grey."""
    there, here = picture.pixels, np.asarray(image.convert("RGB"))
    assert there.shape == here.shape
    assert there.dtype == np.uint8
    if not colour:
        return float(np.abs(grey(there) - grey(here)).mean())
    return float(np.abs(there.astype(int) - here).mean())


def refusal(source: Any, limits: Limits | None = None) -> str:
    with pytest.raises(PhotoError) as caught:
        read_picture(source, limits or Limits())
    assert "\n" not in str(caught.value)
    return str(caught.value)


def deep(mode: str, white: float) -> Image.Image:
    """The garment in grey, where `white` stands for 255, in a mode of 16 or 32 bits."""
    values = np.asarray(garment().convert("L")).astype(float) * (white / 255)
    dtype = {"I;16": "<u2", "I;16B": ">u2", "I": "<i4", "F": "<f4"}[mode]
    image = Image.fromarray(values.astype(dtype))
    assert image.mode == mode
    return image


def with_alpha() -> Image.Image:
    image = garment().convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    return image


# Formats and modes


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_shows_the_same_garment(kind: str) -> None:
    content = saved(garment(), kind)
    assert difference(read_picture(content), garment(), colour=True) < 6
    assert read_picture(content).alpha is None
    assert read_picture(content).warnings == ()


COLOUR_MODES: dict[str, Callable[[], bytes]] = {
    "PNG P": lambda: saved(garment().quantize(200), "PNG"),
    "PNG P of 4 bits": lambda: saved(garment().quantize(16), "PNG", bits=4),
    "PNG interlaced": lambda: saved(garment(), "PNG", interlace=1),
    "JPEG CMYK": lambda: saved(garment().convert("CMYK"), "JPEG", quality=95),
    "JPEG progressive": lambda: saved(garment(), "JPEG", quality=95, progressive=True),
    "TIFF CMYK": lambda: saved(garment().convert("CMYK"), "TIFF"),
    "TIFF YCbCr": lambda: saved(garment().convert("YCbCr"), "TIFF", compression="tiff_lzw"),
    "TIFF LAB": lambda: saved(garment().convert("LAB"), "TIFF"),
    "TIFF P": lambda: saved(garment().quantize(200), "TIFF"),
    "TIFF LZW": lambda: saved(garment(), "TIFF", compression="tiff_lzw"),
    "TIFF JPEG": lambda: saved(garment(), "TIFF", compression="jpeg"),
    "TIFF with wide offsets": lambda: saved(garment(), "TIFF", big_tiff=True),
}
GREY_MODES: dict[str, Callable[[], bytes]] = {
    "PNG L": lambda: saved(garment().convert("L"), "PNG"),
    "JPEG L": lambda: saved(garment().convert("L"), "JPEG"),
    "PNG I;16": lambda: saved(deep("I;16", 65535), "PNG"),
    "TIFF I;16": lambda: saved(deep("I;16", 65535), "TIFF"),
    "TIFF I;16B": lambda: saved(deep("I;16B", 65535), "TIFF"),
    "TIFF I of 8 bits": lambda: saved(deep("I", 255), "TIFF"),
    "TIFF I of 16 bits": lambda: saved(deep("I", 65535), "TIFF"),
    "TIFF I of 31 bits": lambda: saved(deep("I", 2**31 - 1), "TIFF"),
    "TIFF F to 1": lambda: saved(deep("F", 1), "TIFF"),
    "TIFF F to 255": lambda: saved(deep("F", 255), "TIFF", compression="tiff_adobe_deflate"),
}


@pytest.mark.parametrize("mode", COLOUR_MODES)
def test_colour_modes_show_the_same_garment(mode: str) -> None:
    assert difference(read_picture(COLOUR_MODES[mode]()), garment(), colour=True) < 3


@pytest.mark.parametrize("mode", GREY_MODES)
def test_grey_modes_show_the_same_garment(mode: str) -> None:
    picture = read_picture(GREY_MODES[mode]())
    reference = garment().convert("L")
    if mode == "TIFF I of 31 bits":  # whose white is not known: its largest value stands for it
        top = np.asarray(reference).max()
        reference = reference.point(lambda value: value * 255 / top)
    assert difference(picture, reference, colour=False) < 1.5


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "GIF"])
def test_one_bit_is_black_and_white(kind: str) -> None:
    image = garment().convert("1")
    picture = read_picture(saved(image, kind))
    np.testing.assert_array_equal(picture.pixels[..., 0], np.asarray(image) * np.uint8(255))


def test_twelve_bits_are_scaled_by_twelve() -> None:
    packed = bytes([0xFF, 0xF8, 0x00]) * 8 * 16  # pairs of 4095 and 2048
    content = tiff(width=16, height=16, bits=12, compression=1, strip=packed)
    assert set(read_picture(content).pixels.ravel().tolist()) == {255, 128}


def test_floats_that_are_no_numbers_do_not_spoil_the_rest() -> None:
    values = np.asarray(deep("F", 1)).copy()
    values[0, :3] = [np.nan, np.inf, -np.inf]
    picture = read_picture(saved(Image.fromarray(values), "TIFF"))
    assert difference(picture, garment().convert("L"), colour=False) < 1.5
    values[0, :2] = [3e38, -3e38]  # whose difference is no 32-bit float
    assert set(read_picture(Image.fromarray(values)).pixels[0].ravel()) == {255, 0, 128}


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_alpha_is_kept(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    picture = read_picture(saved(with_alpha(), kind, **options))
    assert picture.alpha is not None
    np.testing.assert_array_equal(picture.alpha, np.asarray(with_alpha().getchannel("A")))


def test_alpha_of_grey_and_of_palettes_is_kept() -> None:
    grey_alpha = read_picture(saved(with_alpha().convert("LA"), "PNG"))
    assert grey_alpha.alpha is not None
    np.testing.assert_array_equal(grey_alpha.alpha, np.asarray(with_alpha().getchannel("A")))
    palette = garment().quantize(4)
    for kind in ("PNG", "GIF"):
        clear = read_picture(saved(palette, kind, transparency=0))
        assert clear.alpha is not None
        np.testing.assert_array_equal(clear.alpha == 0, np.asarray(palette) == 0)


def test_the_clear_colour_of_a_16_bit_picture_is_alpha() -> None:
    values = np.full((20, 20), 65535, np.uint16)
    values[5:10] = 65000  # the same in 8 bits as 253 * 257, yet another colour
    picture = read_picture(saved(Image.fromarray(values), "PNG", transparency=65535))
    assert picture.alpha is not None
    np.testing.assert_array_equal(picture.alpha == 0, values == 65535)


def test_wholly_opaque_alpha_is_none() -> None:
    assert read_picture(saved(garment().convert("RGBA"), "PNG")).alpha is None


def srgb_profile() -> bytes:
    return bytes(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())


def swapping_profile() -> bytes:
    """A profile whose use is seen: red and blue change places, and greys, of gamma 1, lighten."""
    profile = srgb_profile().replace(b"rXYZ", b"tmp!", 1).replace(b"bXYZ", b"rXYZ", 1)
    profile = profile.replace(b"tmp!", b"bXYZ", 1)
    profile = profile.replace("sRGB".encode("utf-16-be"), "test".encode("utf-16-be"))
    start = profile.index(b"para")  # a parametric curve, the function's number 3, then gamma 2.4
    assert profile[start + 12 : start + 16] == b"\0\2ff"
    return profile[: start + 12] + b"\0\1\0\0" + profile[start + 16 :]


def test_a_colour_profile_is_heeded() -> None:
    linear = np.asarray(garment())[..., ::-1] / 255 / 1.055 + 0.055 / 1.055  # the curve's line
    values = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    expected = Image.fromarray(np.rint(255 * values).astype(np.uint8))
    plain = read_picture(saved(garment(), "PNG", icc_profile=srgb_profile()))
    assert difference(plain, garment(), colour=True) == 0
    for image in (garment(), with_alpha()):
        swapped = read_picture(saved(image, "PNG", icc_profile=swapping_profile()))
        assert difference(swapped, expected, colour=True) < 1.5
        assert (swapped.alpha is not None) == (image.mode == "RGBA")


@pytest.mark.parametrize("profile", [b"nonsense", bytes(200)])
def test_a_broken_colour_profile_is_left_out(profile: bytes) -> None:
    picture = read_picture(saved(garment(), "PNG", icc_profile=profile))
    assert difference(picture, garment(), colour=True) == 0


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "GIF"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_fashion_mnist_images_keep_their_bytes(kind: str, mode: str) -> None:
    values = np.random.default_rng(0).integers(0, 256, (28, 28), np.uint8)
    options = {"icc_profile": swapping_profile()} if kind in ("PNG", "TIFF") else {}
    picture = read_picture(saved(Image.fromarray(values).convert(mode), kind, **options))
    np.testing.assert_array_equal(picture.pixels, np.dstack([values] * 3))
    assert picture.alpha is None


# Orientation

STORED = {  # how a camera stores what EXIF's Orientation then says
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(9))
def test_pictures_stand_upright(kind: str, orientation: int) -> None:
    turn = STORED.get(orientation)
    image = garment() if turn is None else garment().transpose(turn)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    picture = read_picture(saved(image, kind, exif=exif))
    assert difference(picture, garment(), colour=True) < 6


def test_large_pictures_stand_upright_too() -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    stored = garment(1920, 1440).transpose(STORED[6])
    picture = read_picture(saved(stored, "JPEG", exif=exif))
    assert difference(picture, garment(640, 480), colour=True) < 6


def test_orientation_in_xmp_alone_is_heeded() -> None:
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="3"/></x:xmpmeta>'
    stored = garment().transpose(STORED[3])
    assert difference(read_picture(saved(stored, "JPEG", xmp=xmp)), garment(), colour=True) < 6


def test_damaged_exif_is_left_out() -> None:
    for exif in (b"Exif\0\0II*\0\xff\xff", b"Exif\0\0nonsense", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"):
        picture = read_picture(saved(garment(), "JPEG", exif=exif))
        assert difference(picture, garment(), colour=True) < 6


# Frames


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF", *FORMATS[6:]])
def test_of_several_frames_the_first_is_used_and_said(kind: str) -> None:
    other = Image.new("RGB", garment().size, "black")
    content = saved(garment(), kind, save_all=True, append_images=[other])
    picture = read_picture(content)
    assert difference(picture, garment(), colour=True) < 6
    assert [("first" in warning) for warning in picture.warnings] == [True]


def test_the_depth_map_behind_a_phone_s_jpeg_is_no_frame() -> None:
    content = saved(garment(), "MPO", save_all=True, append_images=[garment(48, 36)])
    picture = read_picture(content)
    assert difference(picture, garment(), colour=True) < 6
    assert picture.warnings == ()


# Size


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_large_pictures_are_reduced(kind: str) -> None:
    picture = read_picture(saved(garment(2000, 1500), kind))
    assert picture.pixels.shape == (480, SIDE, 3)
    assert difference(picture, garment(640, 480), colour=True) < 3


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "LAB", "I", "F", "I;16"])
def test_large_pictures_of_any_mode_are_reduced(mode: str) -> None:
    image = Image.new(mode, (1500, 700))
    picture = read_picture(image)
    assert picture.pixels.shape == (299, SIDE, 3)
    assert image.size == (1500, 700)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((1, 1), (1, 1)),
        ((1, 65000), (1, SIDE)),
        ((20000, 3), (SIDE, 1)),
        ((640, 640), (640, 640)),
        ((641, 640), (640, 639)),
    ],
)
def test_no_side_shrinks_to_nothing(size: tuple[int, int], expected: tuple[int, int]) -> None:
    for kind in ("PNG", "JPEG", "BMP"):
        height, width, _ = read_picture(saved(Image.new("RGB", size), kind)).pixels.shape
        assert (width, height) == expected


def test_a_large_jpeg_is_not_decoded_in_full() -> None:
    content = saved(garment(8000, 6000), "JPEG")
    ours, whole = [], []
    for _ in range(5):  # the least of each: other programs take cache and memory from some
        start = time.thread_time()
        read_picture(content)
        middle = time.thread_time()
        Image.open(io.BytesIO(content)).convert("RGB")
        ours.append(middle - start)
        whole.append(time.thread_time() - middle)
    assert min(ours) < 0.75 * min(whole)


# Limits


def test_the_limit_on_bytes_holds_for_files_and_bytes(tmp_path: Path) -> None:
    content = saved(garment(), "PNG")
    path = tmp_path / "shirt.png"
    path.write_bytes(content)
    for source in (content, path, str(path)):
        read_picture(source, Limits(file_bytes=len(content)))
        assert "over the limit" in refusal(source, Limits(file_bytes=len(content) - 1))
    read_picture(garment(), Limits(file_bytes=1))


def test_the_limit_on_pixels_holds_for_what_the_header_says() -> None:
    for source in (saved(garment(2000, 1500), "JPEG"), saved(garment(2000, 1500), "PNG"),
                   garment(2000, 1500)):  # fmt: skip
        read_picture(source, Limits(pixels=3_000_000))
        assert "2000 x 1500" in refusal(source, Limits(pixels=2_999_999))


def test_a_bomb_is_refused_before_it_is_decoded() -> None:
    for width, height in ((30_000, 30_000), (10_000, 10_000), (2**31 - 1, 2**31 - 1)):
        content = png(width, height, chunk(b"IDAT", zlib.compress(bytes(2**20))))
        resident, start = peak_mib(), time.thread_time()
        with pytest.raises(PhotoTooLarge, match="too large"):
            read_picture(content)
        assert time.thread_time() - start < 0.1
        assert peak_mib() - resident < 20


def peak_mib() -> float:
    if sys.platform == "win32":
        return 0.0
    import resource

    scale = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale


def chunk(name: bytes, content: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(name + content))
    return struct.pack(">I", len(content)) + name + content + checksum


def png(width: int, height: int, *chunks: bytes) -> bytes:
    """A PNG of 1-bit grey with these chunks, well-formed whether or not they make a picture."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IEND", b"")


def tiff(*, width: int, height: int, bits: int, compression: int, strip: bytes,
         more: tuple[tuple[int, int], ...] = (), offsets: int = 1) -> bytes:  # fmt: skip
    """A little-endian grey TIFF whose strips all lie at one place, with `more` long tags."""
    values = {256: width, 257: height, 258: bits, 259: compression, 262: 1, 277: 1,
              278: max(1, height // offsets), 279: len(strip), **dict(more)}  # fmt: skip
    start = 8 + 2 + 12 * (len(values) + 1) + 4
    place = start + len(strip) if offsets > 1 else start
    entries = {tag: struct.pack("<HHII", tag, 4, 1, value) for tag, value in values.items()}
    entries[273] = struct.pack("<HHII", 273, 4, offsets, place)
    table = b"".join(entries[tag] for tag in sorted(entries))
    directory = struct.pack("<H", len(entries)) + table + bytes(4)
    behind = struct.pack("<I", start) * offsets if offsets > 1 else b""
    return b"II*\0" + struct.pack("<I", 8) + directory + strip + behind


def test_text_bombs_are_refused() -> None:
    bomb = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**20 - 1)))
    data = chunk(b"IDAT", zlib.compress(b"\0\0"))
    read_picture(png(8, 1, data))
    assert "damaged" in refusal(png(8, 1, *[bomb] * 80, data))


@pytest.mark.parametrize("segments", ["PNG", "JPEG", "GIF"])
def test_a_flood_of_segments_is_refused_in_time(
    segments: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decode, "SECONDS", 0.1)
    content = saved(garment(), segments)
    place, flood = {
        "PNG": (33, chunk(b"prVt", b"")),
        "JPEG": (2, b"\xff\xfe\0\2"),
        "GIF": (13 + 3 * 64, b"!\xf9\x04\0\0\0\0\0"),  # behind the 64 colours
    }[segments]
    read_picture(content[:place] + flood * 10 + content[place:])
    start = time.thread_time()
    assert "very long" in refusal(content[:place] + flood * 500_000 + content[place:])
    assert time.thread_time() - start < 1


def test_a_tiff_of_a_million_strips_is_refused_at_once() -> None:
    strips = {"width": 8, "bits": 8, "compression": 1, "strip": bytes(8)}
    read_picture(tiff(height=100, offsets=100, **strips))  # type: ignore[arg-type]
    start = time.thread_time()
    content = tiff(height=10**6, offsets=10**6, **strips)  # type: ignore[arg-type]
    assert "too many strips" in refusal(content)
    assert time.thread_time() - start < 0.5


def test_a_tiff_of_one_huge_tile_is_refused() -> None:
    tiles = ((322, 60_000), (323, 60_000), (324, 8), (325, 8))
    content = tiff(width=8, height=8, bits=8, compression=8, strip=bytes(8), more=tiles)
    assert "tiles of 60000 x 60000" in refusal(content)


# Damage


def read_or_refuse(content: bytes) -> bool:
    """Tell whether a picture came back; anything but that and PhotoError fails the test."""
    try:
        picture = read_picture(content)
    except PhotoError:
        return False
    assert max(picture.pixels.shape) <= SIDE
    return True


def encodings() -> dict[str, bytes]:
    small = garment(48, 36)
    content = {kind: saved(small, kind) for kind in FORMATS}
    content["JPEG progressive"] = saved(small, "JPEG", progressive=True, exif=b"Exif\0\0MM\0*\0\0")
    content["PNG P"] = saved(small.quantize(16), "PNG", transparency=0)
    for name in ("tiff_lzw", "tiff_adobe_deflate", "jpeg"):
        content[f"TIFF {name}"] = saved(small, "TIFF", compression=name)
    return content


@pytest.mark.parametrize("name", encodings())
def test_a_truncated_file_is_refused_or_read(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    content = encodings()[name]
    outcomes = [read_or_refuse(content[: len(content) * part // 20]) for part in range(20)]
    assert not any(outcomes[:4])
    assert read_or_refuse(content)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", encodings())
def test_a_file_with_a_flipped_bit_is_refused_or_read(
    name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    content = encodings()[name]
    random = np.random.default_rng(20)
    with warnings.catch_warnings(record=True) as given:
        warnings.simplefilter("always")
        for place in random.integers(0, 8 * len(content), 200):
            damaged = bytearray(content)
            damaged[place // 8] ^= 1 << (place % 8)
            read_or_refuse(bytes(damaged))
    assert given == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "AVIF"])
def test_half_a_file_is_said_to_be_cut_short(kind: str) -> None:
    if kind not in FORMATS:
        pytest.skip("this Pillow has no AVIF")
    content = saved(garment(), kind)
    message = refusal(content[: len(content) // 2])
    assert kind in message
    assert "send" in message


def test_a_wrong_checksum_in_a_png_is_refused() -> None:
    content = bytearray(saved(garment(), "PNG"))
    content[-13] ^= 1  # the last byte of the last IDAT's checksum
    assert "checksum" in refusal(bytes(content))


# What is no picture


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"\0", "not a picture"),
        (b"hello", "not a picture"),
        (b"%PDF-1.7\n", "PDF"),
        (b"<!doctype html><title>404</title>", "web page"),
        (b"\xef\xbb\xbf \n<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        (b"PK\x03\x04" + bytes(50), "not a picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a picture"),
        (b"BM", "BMP"),
        (b"GIF89a", "GIF"),
        (b"\xff\xd8\xff", "JPEG"),
        (b"RIFF\0\0\0\0WEBP", "WEBP"),
        (b"II*\0", "TIFF"),
        (b"MM\0+", "TIFF"),
    ],
)
def test_what_is_no_picture_is_named(content: bytes, reason: str) -> None:
    message = refusal(content)
    assert message.startswith("the picture is ")
    assert reason in message


@pytest.mark.parametrize("kind", ["PPM", "ICO", "TGA", "EPS", "PCX", "SGI", "DDS", "JPEG2000"])
def test_other_formats_of_pillow_are_refused(kind: str) -> None:
    assert "send JPEG" in refusal(saved(garment(), kind))


def test_what_is_no_file_is_said(tmp_path: Path) -> None:
    assert "a folder" in refusal(tmp_path)
    assert refusal(tmp_path / "none.jpg").startswith(f"{tmp_path / 'none.jpg'}: cannot be read (No")
    for name in ("a\0b.jpg", "n" * 5000):
        assert "cannot be read" in refusal(name)
    assert "a NoneType" in refusal(None)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_that_no_one_writes_to_is_empty(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "empty" in refusal(tmp_path / "pipe")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads any file")
def test_a_file_that_may_not_be_read_is_said(tmp_path: Path) -> None:
    path = tmp_path / "shirt.png"
    path.write_bytes(saved(garment(), "PNG"))
    path.chmod(0)
    assert "Permission denied" in refusal(path)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows allows no such names")
def test_a_message_is_one_line_whatever_the_name(tmp_path: Path) -> None:
    path = tmp_path / "a\n\x1b[31m\u202eb\udcff.png"
    path.write_bytes(b"%PDF")
    assert refusal(path).isprintable()


# Pillow images


def test_an_image_is_left_as_it_is() -> None:
    for image in (with_alpha(), garment(1000, 800), garment().quantize(9), deep("I;16", 65535)):
        image.info["icc_profile"] = b"nonsense"
        mode, size, content, info = image.mode, image.size, image.tobytes(), dict(image.info)
        read_picture(image)
        assert (image.mode, image.size, image.tobytes(), image.info) == (mode, size, content, info)


def test_an_image_opened_but_not_loaded_is_read(tmp_path: Path) -> None:
    path = tmp_path / "shirt.jpg"
    path.write_bytes(saved(garment(2000, 1500), "JPEG"))
    with Image.open(path) as image:
        assert difference(read_picture(image), garment(640, 480), colour=True) < 3
        assert image.size == (2000, 1500)
    path.write_bytes(path.read_bytes()[:3000])
    with Image.open(path) as image:
        assert "the picture is cut short" in refusal(image)


def test_an_image_without_pixels_is_refused() -> None:
    assert "without pixels" in refusal(Image.new("RGB", (0, 5)))


# Collections


@pytest.mark.skipif(not PNGSUITE.is_dir(), reason=f"PngSuite is not at {PNGSUITE}")
def test_pngsuite_is_read_but_for_the_broken_files() -> None:
    paths = sorted(PNGSUITE.glob("*.png"))
    refused = set()
    for path in paths:
        try:
            read_picture(path)
        except PhotoError:
            refused.add(path.name)
    assert len(paths) == 175
    assert refused == {path.name for path in paths if path.name.startswith("x")}
    assert len(refused) == 14


# Threads


def test_threads_read_at_once_and_leave_the_warnings_as_they_were() -> None:
    broken_exif = saved(garment(), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff")
    sources: list[Source] = [*encodings().values(), broken_exif, broken_exif[:900]] * 10
    alone = [outcome(source) for source in sources]
    with warnings.catch_warnings(record=True) as given:
        warnings.simplefilter("always")
        before = list(warnings.filters)
        with ThreadPoolExecutor(8) as pool:
            together = list(pool.map(outcome, sources))
        assert warnings.filters == before
    assert given == []
    assert together == alone


def outcome(source: Source) -> bytes | str:
    try:
        return read_picture(source).pixels.tobytes()
    except PhotoError as error:
        return str(error)


@pytest.mark.parametrize(
    ("limit", "expected"),
    [(1, 80 * 60), (80 * 60, 80 * 60), (80 * 60 + 40 * 30, 80 * 60 + 40 * 30)],
)
def test_threads_together_decode_as_many_pixels_as_there_is_memory_for(
    limit: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting, now, most, load = threading.Lock(), 0, 0, decode._load

    def watched(image: Image.Image) -> None:
        nonlocal now, most
        pixels = image.width * image.height
        with counting:
            now += pixels
            most = max(most, now)
        time.sleep(0.01)
        try:
            load(image)
        finally:
            with counting:
                now -= pixels

    small, large = saved(garment(40, 30), "PNG"), saved(garment(80, 60), "PNG")
    sources: list[Source] = [large, small, large[: len(large) // 2], small, small, large] * 3
    alone = [outcome(source) for source in sources]
    monkeypatch.setattr(decode, "_load", watched)
    monkeypatch.setattr(decode, "AT_ONCE", limit)
    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(outcome, sources)) == alone
    assert (most, now) == (expected, 0)
