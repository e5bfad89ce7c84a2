import dataclasses
import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from fmnist.errors import RunError
from fmnist.models import NETWORKS
from fmnist.recipes import CLASSIC, RECIPES, Adam, Augmentation, Muon, Pruning, Recipe, find_recipe

MINE = """
from fmnist.recipes import Adam, Recipe

RECIPE = Recipe("mine", "classic", 2, 64, Adam(), source="me")
NUMBER = 3
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module `a_recipe_of_mine` in the current directory."""
    module = tmp_path / "a_recipe_of_mine.py"
    module.write_text(MINE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, module.stem, sys)  # so that it is forgotten afterwards
    del sys.modules[module.stem]
    importlib.invalidate_caches()
    return module


def test_recipes_are_found_by_their_own_names() -> None:
    assert [recipe.name for recipe in RECIPES.values()] == list(RECIPES)
    for name, recipe in RECIPES.items():
        assert find_recipe(name) is recipe


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=lambda recipe: recipe.name)
def test_a_recipe_is_whole_and_cannot_be_changed(recipe: Recipe) -> None:
    assert recipe.network in NETWORKS
    assert recipe.source
    assert recipe.epochs >= 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe.epochs = 1  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe.optimizer.learning_rate = 1.0  # type: ignore[misc]
    assert hash(recipe) == hash(dataclasses.replace(recipe))


def test_classic_is_the_recipe_of_the_issue() -> None:
    assert CLASSIC.to_json() == {
        "name": "classic",
        "network": "classic",
        "epochs": 10,
        "batch_size": 128,
        "optimizer": {
            "name": "Adam",
            "learning_rate": 0.001,
            "beta1": 0.9,
            "beta2": 0.999,
            "epsilon": 1e-7,
        },
        "source": CLASSIC.source,
        "schedule": "constant",
        "warmup": 0.0,
        "label_smoothing": 0.0,
        "augmentation": {"flip": False, "shift": 0, "cutout": 0, "photo_defects": False},
        "averaging": 0.0,
        "pruning": None,
        "strangers": 0,
        "photo_repeats": 1,
        "photo_epochs": 1,
        "flip_at_test": False,
    }


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=lambda recipe: recipe.name)
def test_json_holds_every_field_that_decides_the_weights(recipe: Recipe) -> None:
    told = json.loads(json.dumps(recipe.to_json()))
    assert told == recipe.to_json()
    kinds = {"Adam": Adam, "Muon": Muon}
    again = Recipe(
        **{
            **told,
            "optimizer": kinds[told["optimizer"].pop("name")](**told["optimizer"]),
            "augmentation": Augmentation(**told["augmentation"]),
            "pruning": told["pruning"] and Pruning(**told["pruning"]),
        },
        score=recipe.score,
    )
    assert again == recipe


def test_json_names_a_network_of_ones_own_by_its_place() -> None:
    assert dataclasses.replace(CLASSIC, network=Path.cwd).to_json()["network"] == "pathlib:Path.cwd"


def test_a_recipe_of_ones_own_is_read_from_the_current_directory(mine: Path) -> None:
    path = list(sys.path)
    recipe = find_recipe("a_recipe_of_mine:RECIPE")
    assert (recipe.name, recipe.epochs) == ("mine", 2)
    assert sys.path == path


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "clasic",
            "there is no recipe 'clasic'; there are .*classic.*or your own as module:RECIPE",
        ),
        ("", "there is no recipe ''"),
        ("a_recipe_of_mine", "there is no recipe 'a_recipe_of_mine'"),
        (
            "a_recipe_of_yours:RECIPE",
            "from a_recipe_of_yours:RECIPE in .*: ModuleNotFoundError: No module named",
        ),
        ("a_recipe_of_mine:RECEIPT", "from a_recipe_of_mine:RECEIPT in .* no attribute 'RECEIPT'"),
        ("a_recipe_of_mine:", "no recipe can be read from a_recipe_of_mine:"),
        ("a_recipe_of_mine:NUMBER", "is a int, not a fmnist.recipes.Recipe"),
        pytest.param(":RECIPE", "no recipe can be read from :RECIPE"),
        pytest.param(".mine:RECIPE", "no recipe can be read from .mine:RECIPE"),
    ],
)
def test_a_bad_name_says_what_there_is(mine: Path, name: str, message: str) -> None:
    path = list(sys.path)
    with pytest.raises(RunError, match=message):
        find_recipe(name)
    assert sys.path == path


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"epochs": 0}, "epochs must be"),
        ({"epochs": 1.5}, "epochs must be"),
        ({"batch_size": 0}, "batch_size must be"),
        ({"network": 3}, "network must be"),
        ({"optimizer": "adam"}, "optimizer must be"),
        ({"optimizer": Adam(learning_rate=0.0)}, "learning rates must be"),
        ({"optimizer": Adam(learning_rate=float("inf"))}, "learning rates must be"),
        ({"optimizer": Muon(0.1, 0.9, other_learning_rate=-1)}, "learning rates must be"),
        ({"schedule": "cosine"}, "schedule must be"),
        ({"warmup": 2.0}, "warmup must be"),
        ({"label_smoothing": -0.1}, "label_smoothing must be"),
        ({"augmentation": None}, "augmentation must be"),
        ({"augmentation": Augmentation(shift=28)}, "shift must be"),
        ({"augmentation": Augmentation(cutout=29)}, "cutout must be"),
        ({"averaging": 1.0}, "averaging must be"),
        ({"pruning": {}}, "pruning must be"),
        ({"pruning": Pruning(easy=0.5, kept=0.0)}, "the shares of pruning must"),
        ({"pruning": Pruning(easy=0.5, kept=0.5), "strangers": 1}, "pruning must be None where"),
    ],
)
def test_a_recipe_that_makes_no_training_is_refused(change: dict[str, Any], rule: str) -> None:
    with pytest.raises(RunError, match=f"recipe classic: {rule}"):
        dataclasses.replace(CLASSIC, **change)


def test_a_module_that_ends_the_process_is_a_recipe_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("ending_recipe.py").write_text("raise SystemExit('usage: none')")
    with pytest.raises(RunError, match=r"no recipe can be read from .*: SystemExit: usage: none"):
        find_recipe("ending_recipe:RECIPE")
