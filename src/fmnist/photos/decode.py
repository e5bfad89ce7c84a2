"""Any picture file to upright sRGB pixels, or one plain reason why not.

Pillow decodes, from a short list of formats; what a hostile or damaged file can make of that
(memory, time, odd exceptions, warnings) is fenced in here. Several threads may read at once.
"""

import contextlib
import io
import logging
import os
import re
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, TiffImagePlugin, UnidentifiedImageError

from fmnist.errors import PhotoError, PhotoTooLarge, UnreadableFormat

Source: TypeAlias = str | os.PathLike[str] | bytes | Image.Image

SIDE = 640  # pixels: the cut-out works at less, a page shows no more
SECONDS = 5.0  # of processor time to read a file; 50 million pixels of PNG need about one
BLOCK = (
    2**13
)  # bytes between looks at the clock: some 100 JPEG scans, each of all 50 million pixels
OFFSETS = 2**20  # bytes of strip or tile offsets in a TIFF: 262,144 of the usual ones
TILE = 2**24  # pixels in one tile of a TIFF
AT_ONCE = 2**26  # pixels that all threads together decode at a time: a WebP needs 16 bytes for each

_SIGNATURES = {  # what is read; the rest of what Pillow knows never sees a byte
    "JPEG": rb"\xff\xd8\xff",  # and MPO, a JPEG with others behind it, as phones write it
    "PNG": rb"\x89PNG\r\n\x1a\n",
    "WEBP": rb"RIFF....WEBP",
    "GIF": rb"GIF8[79]a",
    "BMP": rb"BM",
    "TIFF": rb"II[*+]\0|MM\0[*+]",
    "AVIF": rb"....ftyp.{0,56}avi[fs]",  # HEIC shares the container, and at times the first brand
}
_STRANGERS = {  # what people send in place of a picture
    "a PDF, not a picture": rb"%PDF",
    "a web page or a drawing (HTML, SVG), not a photo": rb"(\xef\xbb\xbf)?\s*<",
    "a HEIC photo or a video, which cannot be read": rb"....ftyp",
    "not a picture that can be read": rb"",
}
_UPRIGHT = {  # EXIF's Orientation (Exif 2.32, section 4.6.4 A) to what undoes it
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_FIRST_FRAME = "the file holds several pictures (frames or pages): only the first is used"

# Pillow logs an error of its own here and there, and Python prints what no handler takes.
logging.getLogger("PIL").addHandler(logging.NullHandler())


@dataclass(frozen=True)
class Limits:
    """What is read at most; checked before anything is decoded.

    Whatever `pixels` allows, Pillow refuses files over 179 million (twice its MAX_IMAGE_PIXELS).
    """

    file_bytes: int = 20 * 2**20
    pixels: int = 50_000_000  # width x height by the header, before any reduction


@dataclass(frozen=True)
class Picture:
    """A decoded picture, upright, its longest side at most 640."""

    pixels: NDArray[np.uint8]  # (h, w, 3) sRGB
    alpha: NDArray[np.uint8] | None  # (h, w), 255 opaque; None where all of it is
    warnings: tuple[str, ...]


def read_picture(source: Source, limits: Limits = Limits()) -> Picture:
    """Return a file, its bytes or a Pillow image (left as it is) as upright sRGB pixels.

    A larger one is reduced to 640 pixels on its longest side; a grey one of 28x28 keeps its exact
    values. The byte limit does not apply to a Pillow image. Raises PhotoError, and nothing else.
    """
    kind = "picture"
    try:
        with _pillow_warnings_off():
            if isinstance(source, Image.Image):
                kind = source.format or kind
                _check_size(source.size, limits)
                return _picture(source)
            content = _content(source, limits)
            kind = _kind(content)
            return _decode(content, kind, limits)
    except PhotoError as refusal:
        raise type(refusal)(f"{subject(source)} {refusal}") from refusal.__cause__
    except Exception as error:  # damage makes decoders raise nearly anything, MemoryError too
        by_pixels = isinstance(error, Image.DecompressionBombError)
        refusal_of = PhotoTooLarge if by_pixels else PhotoError
        raise refusal_of(f"{subject(source)} {_fault(error, kind)}") from error


def subject(source: Source) -> str:
    """Return what a message begins with, in one line whatever the name; a reason completes it."""
    if not isinstance(source, str | os.PathLike):
        return "the picture is"
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(source)) + ":"


def _fault(error: Exception, kind: str) -> str:
    """Return in one line what is wrong with a picture at which Pillow raised `error`."""
    if isinstance(error, TimeoutError):
        return f"a {kind} made so that it takes very long to read; save it anew"
    if isinstance(error, MemoryError | Image.DecompressionBombError):
        return "too large for the memory; send a smaller copy"
    if isinstance(error, UnidentifiedImageError):
        return f"damaged or cut short ({kind} with a bad header); send the whole file"
    if "truncated" in str(error).lower():
        return f"cut short (truncated {kind}); send the whole file"
    told = isinstance(error, OSError | SyntaxError | ValueError)  # others name Python's troubles
    reason = " ".join(str(error).split())[:100] if told else "its parts do not fit together"
    return f"damaged ({kind}: {reason}); save it anew or send another"


# From a source to bytes of a known format


def _content(source: str | os.PathLike[str] | bytes, limits: Limits) -> bytes:
    """Return the bytes; raise PhotoError if there are none or too many."""
    if not isinstance(source, bytes | str | os.PathLike):
        raise PhotoError(f"a {type(source).__name__}; give a path, bytes or a Pillow image")
    content = source if isinstance(source, bytes) else _file_content(source, limits)
    if not content:
        raise PhotoError("empty (0 bytes); send the whole file")
    if len(content) > limits.file_bytes:
        raise _too_heavy(limits)
    return content


def _file_content(path: str | os.PathLike[str], limits: Limits) -> bytes:
    """Return a file's bytes, or what a pipe gives up to one byte over the limit."""
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            if os.fstat(file.fileno()).st_size > limits.file_bytes:
                raise _too_heavy(limits)
            return file.read(limits.file_bytes + 1)
    except IsADirectoryError as error:
        raise PhotoError("a folder, not a picture; give the files in it") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or error
        raise PhotoError(f"cannot be read ({reason}); check the path") from error


def _open_at_once(path: str, flags: int) -> int:
    """Open, but do not wait until someone opens a named pipe's other end: it reads as empty."""
    if not hasattr(os, "O_NONBLOCK"):  # Windows
        return os.open(path, flags)
    handle = os.open(path, flags | os.O_NONBLOCK)
    os.set_blocking(handle, True)
    return handle


def _too_heavy(limits: Limits) -> PhotoTooLarge:
    return PhotoTooLarge(
        f"over the limit of {limits.file_bytes / 2**20:.3g} MB; send a smaller copy"
    )


def _kind(content: bytes) -> str:
    """Return the format that the first bytes speak of; raise PhotoError if we read no such one."""
    kind = _named(_SIGNATURES, content)
    if kind is None:
        stranger = _named(_STRANGERS, content)
        raise UnreadableFormat(f"{stranger}; send JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF")
    return kind


def _named(patterns: Mapping[str, bytes], content: bytes) -> str | None:
    names = (name for name, pattern in patterns.items() if re.match(pattern, content, re.DOTALL))
    return next(names, None)


# From bytes to a Pillow image


class _ClockedBytes(io.BytesIO):
    """Bytes that can be read for a while only.

    Millions of tiny segments, or a JPEG of thousands of scans, keep Pillow busy for minutes. What
    counts is the thread's own processor time, so that a busy machine refuses no honest picture.
    """

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self._end = time.thread_time() + SECONDS

    def read(self, size: int | None = -1, /) -> bytes:
        if time.thread_time() > self._end:
            raise TimeoutError
        return super().read(size)


class _CheckedTiff(TiffImagePlugin.TiffImageFile):
    """A TIFF whose tags are looked at before Pillow and libtiff believe them."""

    def _setup(self) -> None:
        tags = self.tag.tagdata  # not unpacked yet: ten million offsets would take seconds
        offsets = (TiffImagePlugin.STRIPOFFSETS, TiffImagePlugin.TILEOFFSETS)
        if any(len(tags.get(tag, b"")) > OFFSETS for tag in offsets):
            raise PhotoError("a TIFF in too many strips or tiles; save it anew")
        width, height = (self.tag_v2.get(tag, 1) for tag in _TILE_SIDES)
        if width * height > TILE:
            raise PhotoError(f"a TIFF with tiles of {width} x {height} pixels; save it anew")
        super()._setup()


_TILE_SIDES = (TiffImagePlugin.TILEWIDTH, TiffImagePlugin.TILELENGTH)


def _decode(content: bytes, kind: str, limits: Limits) -> Picture:
    image = _opened(content, kind, limits)
    several = kind != "JPEG" and getattr(image, "is_animated", False)  # behind a JPEG is its depth
    image.draft(None, _fitted(image.size))  # a JPEG is decoded at a half, a quarter or an eighth
    with _turn(image.width * image.height):
        return _picture(image, (_FIRST_FRAME,) if several else ())


_next = threading.Lock()  # held by who waits for memory: a large picture is not passed for ever
_memory = threading.Condition()
_decoded = 0  # pixels, now


@contextlib.contextmanager
def _turn(pixels: int) -> Iterator[None]:
    """Wait until what other threads decode leaves memory for so many pixels, and take it."""
    global _decoded
    with _next, _memory:
        _memory.wait_for(lambda: _decoded == 0 or _decoded + pixels <= AT_ONCE)
        _decoded += pixels
    try:
        yield
    finally:
        with _memory:
            _decoded -= pixels
            _memory.notify()


def _opened(content: bytes, kind: str, limits: Limits) -> Image.Image:
    """Return the picture with its header read and found good, nothing decoded yet."""
    file = _ClockedBytes(content)
    image = _CheckedTiff(file) if kind == "TIFF" else Image.open(file, formats=[kind])
    image.decodermaxblock = BLOCK
    _check_size(image.size, limits)
    if kind == "PNG":  # Pillow looks at checksums only when asked, and then wants it opened anew
        image.verify()
        return Image.open(file, formats=[kind])
    return image


def _check_size(size: tuple[int, int], limits: Limits) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise PhotoError(f"without pixels ({width} x {height}); send another")
    if width * height > limits.pixels:
        raise PhotoTooLarge(
            f"too large: {width} x {height} pixels, where {limits.pixels:,} are allowed;"
            " send a smaller copy"
        )


# From a Pillow image to pixels


def _picture(image: Image.Image, advice: tuple[str, ...] = ()) -> Picture:
    """Return an image, loaded or not, as a Picture; it is not changed."""
    _load(image)
    small = _reduced(_plain(image))
    if small.size != (28, 28):  # whose values are kept
        small = _to_srgb(small, image.info.get("icc_profile"))
    small = _upright(small, image)
    alpha = np.array(small.getchannel("A")) if small.mode == "RGBA" else None
    if alpha is not None and alpha.min() == 255:
        alpha = None
    return Picture(np.array(small.convert("RGB")), alpha, advice)


def _load(image: Image.Image) -> None:
    by_libtiff = getattr(image, "use_load_libtiff", False)
    with _libtiff_output_off() if by_libtiff else contextlib.nullcontext():
        image.load()


def _plain(image: Image.Image) -> Image.Image:
    """Return an image of any mode in one that can be reduced: L, RGB, RGBA, CMYK or LAB."""
    if image.mode.startswith("I") or image.mode == "F":
        return _eight_bit(image)
    if image.has_transparency_data:
        return image.convert("RGBA")
    if image.mode in ("L", "RGB", "CMYK", "LAB"):
        return image
    return image.convert("L" if image.mode == "1" else "RGB")


def _eight_bit(image: Image.Image) -> Image.Image:
    """Return a grey image of 12, 16 or 32 bits or of floats in 8 bits, scaled and not clipped."""
    if not image.mode.startswith("I;16"):
        near = image.reduce(max(1, max(image.size) // (2 * SIDE)))  # floats take much memory
        return Image.fromarray(_scaled(np.asarray(near)))
    values = np.asarray(image)
    grey = (values >> (4 if _is_12_bit(image) else 8)).astype(np.uint8)
    clear = image.info.get("transparency")
    if not isinstance(clear, int):
        return Image.fromarray(grey)
    alpha = np.where(values == clear, 0, 255).astype(np.uint8)
    return Image.fromarray(np.dstack([grey, grey, grey, alpha]))


def _is_12_bit(image: Image.Image) -> bool:
    """Tell whether Pillow's 16 bits are the 12 of a TIFF, which it does not scale."""
    tags: Mapping[int, Any] = getattr(image, "tag_v2", {})
    return tuple(tags.get(TiffImagePlugin.BITSPERSAMPLE, ())) == (12,)


def _scaled(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Return numbers of unknown range from 0 (black, or the least if negative) to 255.

    White is the first of 1, 255 and 65,535 that is not below the largest, else the largest.
    """
    finite = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    black, top = min(0.0, float(finite.min())), float(finite.max())
    white = next((white for white in (1.0, 255.0, 65535.0) if top <= white), top)
    scaled: NDArray[np.float64] = (finite - black) * (255.0 / (white - black))
    return np.rint(scaled).astype(np.uint8)


def _fitted(size: tuple[int, int]) -> tuple[int, int]:
    """Return the size reduced to SIDE on the longest side, no side below a pixel."""
    scale = min(1.0, SIDE / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _reduced(image: Image.Image) -> Image.Image:
    """Return the image in its fitted size: by whole pixels to near it, then by Lanczos."""
    size = _fitted(image.size)
    if size == image.size:
        return image
    return image.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)


def _to_srgb(image: Image.Image, profile: object) -> Image.Image:
    """Return the image in sRGB if it has a colour profile that can be used, else as it is."""
    if not isinstance(profile, bytes):
        return image
    colours = image.convert("RGB") if image.mode == "RGBA" else image
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "sRGB" in ImageCms.getProfileDescription(source):
            return image
        target = ImageCms.createProfile("sRGB")
        result = ImageCms.profileToProfile(colours, source, target, outputMode="RGB")
    except Exception:  # a damaged profile, one for another mode, or a Pillow without LittleCMS
        return image
    converted = cast(Image.Image, result)  # None only where it is asked to work in place
    if image.mode == "RGBA":
        converted.putalpha(image.getchannel("A"))
    return converted


def _upright(image: Image.Image, origin: Image.Image) -> Image.Image:
    """Return the image turned and mirrored as the EXIF or XMP data of `origin` has it."""
    try:
        turn = _UPRIGHT.get(origin.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # damaged EXIF data, which the pixels do not need
        return image
    return image if turn is None else image.transpose(turn)


# What would be written to stderr


_counting = threading.Lock()
_readers = 0  # threads that are reading now
_IGNORED = ("ignore", None, Warning, re.compile(r"PIL\."), 0)  # as `warnings` keeps a filter


@contextlib.contextmanager
def _pillow_warnings_off() -> Iterator[None]:
    """Ignore warnings raised in Pillow's modules, while any thread is in here.

    `warnings.catch_warnings` puts back what it found, so that of two threads in it at once the
    second to leave could restore what the first had set.
    """
    global _readers
    with _counting:
        _readers += 1
        if _readers == 1:
            warnings.filterwarnings("ignore", module=_IGNORED[3].pattern)
    try:
        yield
    finally:
        with _counting:
            _readers -= 1
            if _readers == 0 and _IGNORED in warnings.filters:
                cast(list[Any], warnings.filters).remove(_IGNORED)


_redirecting = threading.Lock()


@contextlib.contextmanager
def _libtiff_output_off() -> Iterator[None]:
    """Send file descriptor 2 to nowhere: libtiff writes there from C, and Pillow leaves it so.

    It is the whole process's, hence for compressed TIFFs alone, one at a time.
    """
    with _redirecting, contextlib.ExitStack() as undo:
        with contextlib.suppress(OSError):  # there is no such descriptor: nothing to silence
            stderr = os.dup(2)
            undo.callback(os.close, stderr)
            undo.callback(os.dup2, stderr, 2)
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), 2)
        yield
