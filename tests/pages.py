"""Pages of documentation: their code blocks, and the commands in them."""

import re
import shlex
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[1]


def blocks(page: str, language: str) -> list[str]:
    """The code blocks of a language in a page, named from the root."""
    text = (ROOT / page).read_text("utf-8")
    found = re.findall(r"^```(\w+)\n(.*?)^```", text, re.M | re.S)
    return [code for name, code in found if name == language]


def commands(page: str) -> list[list[str]]:
    """The lines that start with fmnist, as words."""
    lines = [line for code in blocks(page, "sh") for line in code.splitlines()]
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("fmnist ")]


def take_pictures(folder: Path) -> None:
    """The pictures that the pages name, a dark article on a light page each, and labels of some."""
    (folder / "photos").mkdir()
    (folder / "my-photos").mkdir()
    pixels = np.full((120, 100, 3), 250, np.uint8)
    pixels[10:110, 20:80] = (40, 50, 60)
    for name in ("shoe.jpg", "photos/one.jpg", "my-photos/one.jpg", "my-photos/two.jpg"):
        Image.fromarray(pixels).save(folder / name)
    rows = "path,class_index,sender_id\none.jpg,3,anna\ntwo.jpg,8,bert\n"
    (folder / "my-photos" / "labels.csv").write_text(rows)
