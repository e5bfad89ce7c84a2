"""Defects of photos: in 0..1, repeatable, on some images more than on others."""

import numpy as np
import pytest
import torch
from torch import Tensor

from fmnist.training import defects
from fmnist.training.defects import with_defects

SHIRT, BOOT = 6, 9


def seed(number: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def garments(n: int) -> Tensor:
    """Images (n, 1, 28, 28) of a block that is not its own mirror image."""
    images = torch.zeros(n, 1, 28, 28)
    images[:, :, 4:24, 6:18] = 0.6
    images[:, :, 4:10, 18:22] = 0.4
    return images


def worn(n: int, label: int, *, real: bool, number: int = 0) -> Tensor:
    labels = torch.full((n,), label)
    return with_defects(garments(n), labels, torch.full((n,), real), seed(number))


def test_the_same_seed_gives_the_same_images_of_the_same_range() -> None:
    one, again, other = (worn(64, SHIRT, real=False, number=number) for number in (0, 0, 1))
    assert one.shape == (64, 1, 28, 28)
    assert one.dtype == torch.float32
    assert 0 <= one.min() <= one.max() <= 1
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_some_images_are_left_as_they_are_or_mirrored_and_photos_are_always_varied() -> None:
    def share_untouched(images: Tensor) -> float:
        plain = garments(1)
        same = (images == plain).all((1, 2, 3)) | (images == plain.flip(3)).all((1, 2, 3))
        return float(same.float().mean())

    assert share_untouched(worn(600, SHIRT, real=False)) == pytest.approx(
        defects.UNTOUCHED, abs=0.06
    )
    assert share_untouched(worn(600, SHIRT, real=True)) < 0.02


def test_shoes_alone_are_shown_in_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []
    pair = defects._pair

    def watched(images: Tensor, luck: defects.Luck) -> Tensor:
        seen.append(pair(images, luck))
        return seen[-1]

    monkeypatch.setattr(defects, "_pair", watched)
    shirts = worn(200, SHIRT, real=False)
    boots = worn(200, BOOT, real=False)
    # The same luck for both: what differs are the shoes in pairs.
    assert 0.1 < float((shirts != boots).any((1, 2, 3)).float().mean()) < defects.PAIRS
    # Side by side: as high as before, and with something on both halves.
    pairs = seen[-1]
    assert (pairs[..., :14].amax((1, 2, 3)) > 0).float().mean() > 0.9
    assert (pairs[..., 14:].amax((1, 2, 3)) > 0).float().mean() > 0.9


def test_background_is_only_touched_where_residue_is_left() -> None:
    luck = defects.Luck(seed(), 100, torch.device("cpu"))
    images = garments(100)
    lit = defects._light(images, defects._close(images), luck)
    assert lit[images.expand_as(lit) == 0].max() == 0
    assert (defects._bite(images, luck) <= images).all()


def test_moving_keeps_what_is_there() -> None:
    moved = defects._move(garments(50), defects.Luck(seed(), 50, torch.device("cpu")))
    mass = moved.sum((1, 2, 3)).numpy() / garments(1).sum().item()
    assert np.median(mass) == pytest.approx(1, abs=0.15)
    assert mass.min() > 0.5
