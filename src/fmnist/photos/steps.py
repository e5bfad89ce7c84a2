"""Every step from a picture to the 28x28 image, as files to look at."""

import io
import os
import re
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fmnist.files import write_whole
from fmnist.photos.prepared import Prepared

ENLARGED = 10  # times: 280 x 280
LONGEST = 120  # bytes of a stem; file systems take 255 for a name
_UNSAFE = re.compile(r"[^\w-]+")  # dots too: no hidden file, no second suffix, no ".."


class StepsFolder:
    """A folder that takes the steps of any number of pictures, each under a name of its own."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self._taken: set[str] = set()
        self._numbers: Counter[str] = Counter()  # by stem, the last that was tried

    def write(
        self, name: str, prepared: Prepared, explained: NDArray[np.uint8] | None = None
    ) -> list[Path]:
        """Write the steps of a picture as PNG and return the files, in the order of the steps.

        They are STEM-original, STEM-mask (white: the garment), STEM-cutout, STEM-image (28x28,
        what a network sees), STEM-enlarged (the same, each pixel a square) and STEM-explained (the
        picture `explained` (h, w, 3) RGB, if there is one), where STEM is
        `safe_stem` of `name`, the picture's path. Of pictures called alike the second gets
        "STEM-2" and so on. Files of these names from before are replaced. Raises OSError where the
        folder cannot be written.
        """
        stem = self._claim(safe_stem(name))
        steps = _steps(prepared)
        if explained is not None:
            steps["explained"] = explained
        paths = [self.folder / f"{stem}-{step}.png" for step in steps]
        for path, pixels in zip(paths, steps.values(), strict=True):
            write_whole(path, _png(pixels))
        return paths

    def _claim(self, stem: str) -> str:
        """Return `stem`, or with the first number that makes it new, also where case is ignored."""
        claimed = stem
        while claimed.casefold() in self._taken:
            self._numbers[stem.casefold()] += 1
            claimed = f"{stem}-{self._numbers[stem.casefold()] + 1}"
        self._taken.add(claimed.casefold())
        return claimed


def safe_stem(name: str) -> str:
    """Return the last part of a path without suffix, as letters, digits, "_" and "-" only.

    It is never empty, stays in any folder and below every file system's longest name.
    """
    last = re.split(r"[/\\]", name.rstrip("/\\"))[-1]
    stem = os.path.splitext(last)[0]
    words = _UNSAFE.sub("-", unicodedata.normalize("NFC", stem)).strip("-")
    return words.encode()[:LONGEST].decode(errors="ignore") or "picture"


def _steps(prepared: Prepared) -> dict[str, NDArray[np.uint8]]:
    enlarged = prepared.image.repeat(ENLARGED, axis=0).repeat(ENLARGED, axis=1)
    return {
        "original": prepared.original,
        "mask": np.where(prepared.mask, np.uint8(255), np.uint8(0)),
        "cutout": prepared.cutout,
        "image": prepared.image,
        "enlarged": enlarged,
    }


def _png(pixels: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="png")
    return file.getvalue()
