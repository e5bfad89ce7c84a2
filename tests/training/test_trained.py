"""A finished run answers the same, whichever engine trained it and whichever loads it."""

from pathlib import Path

import numpy as np
import pytest

from finished import finished_run, random_network
from fmnist.data import Dataset
from fmnist.errors import ModelError, RunError
from fmnist.evaluation import evaluate
from fmnist.models import NETWORKS
from fmnist.recipes import CLASSIC, STANDARD, Recipe
from fmnist.runs import open_run
from fmnist.training.device import Device
from fmnist.training.inference import infer
from fmnist.training.trained import ask, load_keras_model, load_network, network_facts
from tiny import Tiny

CPU = Device("cpu", "float32")


@pytest.mark.parametrize("engine", ["torch", "keras"])
@pytest.mark.parametrize("recipe", [CLASSIC, STANDARD], ids=["classic", "standard"])
def test_a_run_is_asked_as_its_recipe_says(
    engine: str, recipe: Recipe, garments: Dataset, tmp_path: Path
) -> None:
    run = finished_run(tmp_path / "run", recipe, engine, garments)
    images = garments.split("test").images
    network = random_network(str(recipe.network))
    expected = infer(network, images, CPU, flip=recipe.flip_at_test)
    told = ask(run, images, batch_size=50)
    assert told.dtype == np.float32
    np.testing.assert_allclose(told, expected, atol=1e-4)


@pytest.mark.parametrize("engine", ["torch", "keras"])
def test_the_network_of_either_engine_loads_in_pytorch(
    engine: str, garments: Dataset, tmp_path: Path
) -> None:
    run = finished_run(tmp_path / "run", STANDARD, engine, garments)
    images = garments.split("test").images
    expected = infer(random_network("standard"), images, CPU)
    np.testing.assert_allclose(infer(load_network(run), images, CPU), expected, atol=1e-6)


def test_evaluate_judges_a_keras_run(garments: Dataset, tmp_path: Path) -> None:
    runs = [finished_run(tmp_path / e, CLASSIC, e, garments) for e in ("torch", "keras")]
    ours, theirs = (evaluate(run, garments)["splits"]["test"] for run in runs)
    assert theirs["confusion"] == ours["confusion"]
    assert theirs["loss"] == pytest.approx(ours["loss"], abs=1e-5)


def test_a_keras_run_is_on_the_device_that_keras_has(garments: Dataset, tmp_path: Path) -> None:
    run = finished_run(tmp_path / "run", CLASSIC, "keras", garments)
    with pytest.raises(RunError, match="Keras computes on cpu here, not on cuda"):
        ask(run, garments.test_images, device="cuda")


def test_somebody_elses_file_is_refused_with_its_reason(garments: Dataset, tmp_path: Path) -> None:
    run = finished_run(tmp_path / "run", CLASSIC, "keras", garments)
    other = finished_run(tmp_path / "other", STANDARD, "keras", garments)
    run.weights.write_bytes(other.weights.read_bytes())
    for load in (load_network, load_keras_model):
        with pytest.raises(
            ModelError, match=r"run/model\.keras is refused: its config\.json is not"
        ):
            load(run)


def test_a_network_that_keras_does_not_know_is_no_keras_run(
    garments: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = finished_run(tmp_path / "run", CLASSIC, "keras", garments)
    facts = run.read()
    run.write({**facts, "recipe": {**facts["recipe"], "network": "os:abort"}})
    with pytest.raises(RunError, match="code outside fmnist"):
        load_network(run)
    monkeypatch.setitem(NETWORKS, "tiny", Tiny)
    run.write({**facts, "recipe": {**facts["recipe"], "network": "tiny"}})
    with pytest.raises(ModelError, match="is tiny; Keras has classic, runner, sprinter"):
        load_network(run)


def test_a_keras_run_that_is_not_finished_says_how_to_go_on(
    garments: Dataset, tmp_path: Path
) -> None:
    run = finished_run(tmp_path / "run", CLASSIC, "keras", garments)
    run.weights.unlink()
    for use in (load_network, load_keras_model, lambda run: ask(run, garments.test_images)):
        with pytest.raises(RunError, match=r"model\.keras is missing.*fmnist train --resume"):
            use(run)


@pytest.mark.parametrize("engine", ["abacus", None, ["keras"]])
def test_a_run_of_an_unknown_engine_is_not_opened(
    engine: object, garments: Dataset, tmp_path: Path
) -> None:
    run = finished_run(tmp_path / "run", CLASSIC, "torch", garments)
    run.write({**run.read(), "engine": engine})
    with pytest.raises(RunError, match="is of another engine than torch and keras"):
        open_run(run.folder)


def test_a_run_from_before_photos_has_none(garments: Dataset, tmp_path: Path) -> None:
    run = finished_run(tmp_path / "run", CLASSIC, "torch", garments)
    judged = {"temperature": 1.0, "temperature_source": "tests", "splits": {}}
    expected = network_facts(run, judged)
    assert expected["photos"] is None
    run.write({name: fact for name, fact in run.read().items() if name != "photos"})
    assert network_facts(run, judged) == expected
