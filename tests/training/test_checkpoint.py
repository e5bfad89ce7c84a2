"""Checkpoints: exact round trip, damage is seen, the newest whole one wins."""

import logging
import random
from pathlib import Path

import pytest
import torch

from fmnist.training.checkpoint import (
    Checkpoint,
    load_checkpoint,
    remove_leftovers,
    save_checkpoint,
)


def make(step: int) -> Checkpoint:
    generator = torch.Generator().manual_seed(step)
    tensors = {
        "network.weight": torch.randn(4, 3, generator=generator),
        "count": torch.tensor(step),
        "random.cpu": torch.get_rng_state(),
    }
    return Checkpoint(tensors, {"step": step, "seconds": 0.1 + 0.2, "history": [{"loss": 1 / 3}]})


def test_round_trip_is_exact(tmp_path: Path) -> None:
    saved = make(3)
    save_checkpoint(tmp_path, 3, saved)
    loaded = load_checkpoint(tmp_path)
    assert loaded is not None
    assert loaded.values == saved.values
    assert loaded.tensors.keys() == saved.tensors.keys()
    for name, tensor in saved.tensors.items():
        assert torch.equal(loaded.tensors[name], tensor)
        assert loaded.tensors[name].dtype == tensor.dtype


def test_channels_last_tensors_are_saved(tmp_path: Path) -> None:
    filters = torch.randn(4, 3, 3, 3).to(memory_format=torch.channels_last)
    save_checkpoint(tmp_path, 1, Checkpoint({"filters": filters}, {}))
    loaded = load_checkpoint(tmp_path)
    assert loaded is not None
    assert torch.equal(loaded.tensors["filters"], filters)


def test_none_in_an_empty_or_missing_folder(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path) is None
    assert load_checkpoint(tmp_path / "nowhere") is None


def test_the_newest_two_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 10, 3):
        save_checkpoint(tmp_path, step, make(step))
    assert sorted(int(p.name[5:13]) for p in tmp_path.iterdir()) == [3, 10]


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "swap"])
def test_a_damaged_newest_is_skipped_with_a_warning(
    damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    older, newest = (save_checkpoint(tmp_path, step, make(step)) for step in (1, 2))
    for trial in range(20):
        content = bytearray(make_bytes(tmp_path, 2))
        if damage == "flip":
            content[random.Random(trial).randrange(len(content))] ^= 1 << trial % 8
        elif damage == "truncate":
            del content[random.Random(trial).randrange(len(content)) :]
        elif damage == "empty":
            content.clear()
        else:
            content[:] = older.read_bytes()
        newest.write_bytes(content)
        with caplog.at_level(logging.WARNING, "fmnist"):
            loaded = load_checkpoint(tmp_path)
        assert loaded is not None
        assert loaded.values["step"] == 1
        assert str(newest) in caplog.text
        caplog.clear()


def make_bytes(folder: Path, step: int) -> bytes:
    """The bytes that a whole checkpoint of this step has."""
    return save_checkpoint(folder / "again", step, make(step)).read_bytes()


def test_leftovers_of_a_killed_save_are_removed(tmp_path: Path) -> None:
    kept = save_checkpoint(tmp_path, 1, make(1))
    (tmp_path / ".step-00000002-0.safetensors.x.tmp").write_bytes(b"half")
    remove_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == [kept]
