"""Draw docs/photos/: how photos become answers, one strip a class and one of what is no class.

    python scripts/photo_examples.py --photos ../clothes

The photos are the first of each class in labels.csv by a sender that is held out, whatever the
answer to them: they show what to expect.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

import fmnist
from fmnist.classifier import Prediction
from fmnist.errors import FmnistError
from fmnist.photos.folder import LabelledPhoto, read_labels, read_parts

ROOT = Path(__file__).parents[1]
SENDERS = ROOT / "benchmarks" / "photo_senders.csv"
SIDE, GAP, TEXT = 132, 10, 250  # px
BARS = 3
PAPER, INK, PALE, SURE, UNSURE = "#ffffff", "#1c2430", "#e6e9ee", "#2f6db3", "#b9772a"


def chosen(photos: list[LabelledPhoto], parts: dict[str, str]) -> dict[str, LabelledPhoto]:
    """Return the first photo of each class, and of none, by a held-out sender; by file name."""
    held_out = [photo for photo in photos if parts.get(photo.sender) == "held-out"]
    names = dict(enumerate(fmnist.CLASS_NAMES))
    first: dict[str, LabelledPhoto] = {}
    for photo in sorted(held_out, key=lambda photo: (photo.class_index is None, photo.path)):
        index = photo.class_index
        name = "no-class" if index is None else names[index].lower()
        first.setdefault(name.replace("/", "-").replace(" ", "-"), photo)
    return first


def strip(answer: Prediction) -> Image.Image:
    """Return photo, cut-out, 28x28 and answer side by side."""
    assert answer.prepared is not None
    picture = Image.new("RGB", (3 * (SIDE + GAP) + TEXT, SIDE), PAPER)
    shown = (answer.prepared.original, answer.prepared.cutout, answer.image)
    for at, pixels in enumerate(shown):
        part = fitted(pixels, Image.Resampling.NEAREST if at == 2 else Image.Resampling.LANCZOS)
        left = at * (SIDE + GAP) + (SIDE - part.width) // 2
        picture.paste(part, (left, (SIDE - part.height) // 2))
    draw_answer(ImageDraw.Draw(picture), 3 * (SIDE + GAP), answer)
    return picture


def fitted(pixels: NDArray[np.uint8], filter: Image.Resampling) -> Image.Image:
    """Return pixels (h, w[, 3]) as large as they fit a square of SIDE."""
    image = Image.fromarray(pixels).convert("RGB")
    scale = SIDE / max(image.size)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, filter)


def draw_answer(pen: ImageDraw.ImageDraw, left: int, answer: Prediction) -> None:
    """Draw the likeliest classes as bars, and whether the answer is sure."""
    font, small = ImageFont.load_default(15), ImageFont.load_default(12)
    colour = SURE if answer.accepted else UNSURE
    title = answer.label if answer.accepted else f"not sure: {answer.label}?"
    pen.text((left, 4), title, INK, font)
    for at, guess in enumerate(answer.top[:BARS]):
        top = 36 + 32 * at
        pen.text((left, top), f"{guess.label}  {100 * guess.probability:.0f} %", INK, small)
        pen.rectangle((left, top + 17, left + TEXT - GAP, top + 23), PALE)
        length = max(1, round((TEXT - GAP) * guess.probability))
        pen.rectangle((left, top + 17, left + length, top + 23), colour if at == 0 else "#9aa4b2")


def main() -> None:
    """Draw the strips."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, required=True, help="a folder with a labels.csv")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "photos")
    given = parser.parse_args()
    try:
        photos = chosen(read_labels(given.photos), read_parts(SENDERS))
        classifier = fmnist.load_classifier()
        given.out.mkdir(parents=True, exist_ok=True)
        for name, photo in photos.items():
            strip(classifier.predict(photo.path)).save(given.out / f"{name}.png", optimize=True)
            print(f"{name}: {photo.path.relative_to(given.photos)}")
    except FmnistError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
