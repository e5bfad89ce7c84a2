"""Checkpoints: the whole state of a training, so that going on equals never having stopped.

A checkpoint is one safetensors file: tensors, and a JSON text in its header. Its name ends in the
first 16 hex digits of its SHA-256, so a damaged file is known by its own name. The newest two are
kept; nothing is ever written over.
"""

import hashlib
import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from fmnist.files import write_whole

log = logging.getLogger("fmnist")

KEPT = 2
_NAME = re.compile(r"step-(\d{8})-([0-9a-f]{16})\.safetensors")
_TEXT = "fmnist"


@dataclass(frozen=True)
class Checkpoint:
    """Tensors by name, and what is not a tensor as plain JSON values."""

    tensors: dict[str, torch.Tensor]
    values: dict[str, Any]


def save_checkpoint(folder: Path, step: int, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint, whole and on disk before this returns, then drop the oldest."""
    content = save(portable(checkpoint.tensors), metadata={_TEXT: json.dumps(checkpoint.values)})
    path = folder / f"step-{step:08d}-{hashlib.sha256(content).hexdigest()[:16]}.safetensors"
    write_whole(path, content)
    for old in _newest_first(folder)[KEPT:]:
        old.unlink()
    return path


def portable(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return copies as safetensors takes them: on the CPU, rows in a row, no two sharing memory."""
    return {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in tensors.items()
    }


def load_checkpoint(folder: Path) -> Checkpoint | None:
    """Return the newest whole checkpoint, or None; a damaged one is skipped with a warning."""
    for path in _newest_first(folder):
        try:
            content = path.read_bytes()
        except OSError as error:
            log.warning("%s: left out", error)
            continue
        if not path.stem.endswith(hashlib.sha256(content).hexdigest()[:16]):
            log.warning("%s is damaged and left out", path)
            continue
        try:
            return Checkpoint(load(content), json.loads(_metadata(content)))
        except (SafetensorError, ValueError, KeyError) as error:
            log.warning("%s cannot be read (%s) and is left out", path, error)
    return None


def remove_leftovers(folder: Path) -> None:
    """Delete the temporary files of a process that was killed while it wrote."""
    for path in folder.glob(".*.tmp"):
        path.unlink()


def _newest_first(folder: Path) -> list[Path]:
    return sorted((p for p in folder.glob("step-*") if _NAME.fullmatch(p.name)), reverse=True)


def _metadata(content: bytes) -> str:
    """Return our text from the header, which is 8 bytes of length and then JSON."""
    length = int.from_bytes(content[:8], "little")
    return str(json.loads(content[8 : 8 + length])["__metadata__"][_TEXT])
