"""Pages of documentation: their code blocks, and the commands in them."""

import re
import shlex
from pathlib import Path

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
