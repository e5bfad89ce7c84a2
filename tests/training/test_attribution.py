"""Integrated gradients: what they must sum to, and what they must leave at nought."""

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from finished import finished_run
from fmnist.data import Dataset
from fmnist.errors import MissingExtra
from fmnist.recipes import CLASSIC, STANDARD, Recipe
from fmnist.training.attribution import integrated_gradients, load_gradients
from fmnist.training.trained import ask

FLIPPED = dataclasses.replace(CLASSIC, name="flipped", flip_at_test=True)


def log_odds(logits: NDArray[np.float32], classes: NDArray[np.int64]) -> NDArray[np.float64]:
    """log(p / (1 - p)) of a class for each row."""
    shares = np.exp(logits.astype(np.float64))
    shares /= shares.sum(axis=1, keepdims=True)
    asked = shares[np.arange(len(classes)), classes]
    odds: NDArray[np.float64] = np.log(asked / (1 - asked))
    return odds


@pytest.mark.parametrize("recipe", [FLIPPED, STANDARD], ids=lambda recipe: str(recipe.name))
def test_a_map_sums_to_what_the_image_has_over_black(
    recipe: Recipe, garments: Dataset, tmp_path: Path
) -> None:
    """Completeness, which is what makes it integrated gradients (the paper's proposition 1)."""
    run = finished_run(tmp_path / "run", recipe, "torch", garments)
    images = garments.split("test").images[:20]  # more than fit at once
    classes = np.arange(20) % 10
    maps = integrated_gradients(run, images, classes)
    assert maps.shape == (20, 28, 28)
    assert maps.dtype == np.float32
    black = np.zeros_like(images)
    gained = log_odds(ask(run, images), classes) - log_odds(ask(run, black), classes)
    np.testing.assert_allclose(maps.sum(axis=(1, 2)), gained, atol=0.1 * np.abs(gained).max())
    assert (maps[images == 0] == 0).all()
    assert np.count_nonzero(maps) > 0.9 * np.count_nonzero(images)


def test_a_keras_run_is_explained_as_its_twin(garments: Dataset, tmp_path: Path) -> None:
    images, classes = garments.split("test").images[:2], np.array([3, 4], np.uint8)
    ours, theirs = (
        integrated_gradients(
            finished_run(tmp_path / engine, CLASSIC, engine, garments), images, classes
        )
        for engine in ("torch", "keras")
    )
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_the_network_is_loaded_once(garments: Dataset, tmp_path: Path) -> None:
    run = finished_run(tmp_path / "run", CLASSIC, "torch", garments)
    images, classes = garments.split("test").images[:2], np.array([3, 4])
    whole = integrated_gradients(run, images, classes)
    gradients = load_gradients(run)
    run.weights.unlink()
    for number in range(2):
        some = slice(number, number + 1)
        np.testing.assert_allclose(gradients(images[some], classes[some]), whole[some], atol=1e-6)


def test_no_images_give_no_maps(garments: Dataset, tmp_path: Path) -> None:
    run = finished_run(tmp_path / "run", STANDARD, "torch", garments)
    none = np.empty((0, 28, 28), np.uint8)
    assert integrated_gradients(run, none, np.empty(0, np.uint8)).shape == (0, 28, 28)


def test_without_captum_it_says_what_to_install(
    garments: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = finished_run(tmp_path / "run", CLASSIC, "torch", garments)
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(MissingExtra, match=r"captum.*fmnist\[explain\]"):
        integrated_gradients(run, garments.test_images[:1], np.zeros(1, np.uint8))
