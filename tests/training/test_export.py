"""An exported file answers as the run does, in programs that know nothing of fmnist."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import load_file

from finished import finished_run
from fmnist.data import CLASS_NAMES, Dataset
from fmnist.errors import ModelError, RunError
from fmnist.models import NETWORKS, make_network
from fmnist.recipes import CLASSIC, STANDARD, Recipe
from fmnist.training import export as export_module
from fmnist.training.device import Device
from fmnist.training.export import export
from fmnist.training.inference import infer
from fmnist.training.trained import ask
from tiny import Tiny

CPU = Device("cpu", "float32")
CLASSIC_FLIPPED = dataclasses.replace(CLASSIC, name="flipped", flip_at_test=True)

STOCK = """
import sys
import keras, numpy as np
path, images, out = sys.argv[1:]
model = keras.saving.load_model(path)
x = np.load(images)[..., None].astype("float32") / 255
both = keras.Model(model.input, [model.output, model.get_layer("logits").output])
probabilities, logits = both.predict(x, verbose=0)
np.savez(out, classes=probabilities.argmax(1), logits=logits)
assert "fmnist" not in sys.modules
"""


def stock_keras(path: Path, images: NDArray[np.uint8], folder: Path) -> Any:
    """What stock Keras says of images, in a process that does not import fmnist."""
    np.save(folder / "images.npy", images)
    command = [sys.executable, "-c", STOCK, str(path), "images.npy", "answers.npz"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=300)
    assert done.returncode == 0, done.stderr
    return np.load(folder / "answers.npz")


@pytest.mark.parametrize("engine", ["torch", "keras"])
@pytest.mark.parametrize("recipe", [CLASSIC, CLASSIC_FLIPPED, STANDARD], ids=lambda r: str(r.name))
@pytest.mark.parametrize("format", ["keras", "safetensors"])
def test_what_was_written_was_compared(
    format: str, recipe: Recipe, engine: str, garments: Dataset, tmp_path: Path
) -> None:
    run = finished_run(tmp_path / "run", recipe, engine, garments)
    out = tmp_path / f"model.{format}"
    told = export(run.folder, format, out, garments)
    assert told.pop("largest_difference") <= 1e-4
    assert told["accuracy"] == told["accuracy_of_run"]
    assert (told["run"], told["format"], told["out"]) == (str(run.folder), format, str(out))
    assert (told["images"], told["differing_labels"]) == (40, 0)
    assert out.stat().st_size > 4 * run.read()["parameters"]


def test_stock_keras_answers_as_evaluate_does(garments: Dataset, tmp_path: Path) -> None:
    run = finished_run(tmp_path / "run", STANDARD, "torch", garments)
    export(run, "keras", tmp_path / "model.keras", garments)
    images = garments.test_images
    expected, told = ask(run, images), stock_keras(tmp_path / "model.keras", images, tmp_path)
    assert np.array_equal(told["classes"], expected.argmax(1))
    np.testing.assert_allclose(told["logits"], expected, atol=1e-4)


def test_the_weights_say_how_to_use_them(garments: Dataset, tmp_path: Path) -> None:
    run = finished_run(tmp_path / "run", CLASSIC_FLIPPED, "keras", garments)
    path = tmp_path / "model.safetensors"
    export(run, "safetensors", path, garments)
    with safe_open(path, "pt") as file:
        said = file.metadata()
    assert (said["recipe"], said["network"]) == ("flipped", "classic")
    assert "divided by 255" in said["images"]
    assert tuple(json.loads(said["classes"])) == CLASS_NAMES
    network = make_network(said["network"])
    network.load_state_dict(load_file(path))
    logits = infer(network, garments.test_images, CPU, flip=json.loads(said["flip_at_test"]))
    np.testing.assert_allclose(logits, ask(run, garments.test_images), atol=1e-4)


def test_a_network_of_ones_own_is_exported_with_its_recipe_only(
    garments: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(NETWORKS, "tiny", Tiny)
    recipe = dataclasses.replace(CLASSIC, name="own", network="tiny")
    run = finished_run(tmp_path / "run", recipe, "torch", garments)
    with pytest.raises(ModelError, match=r"is tiny; Keras has classic, runner, sprinter"):
        export(run, "keras", tmp_path / "model.keras", garments)
    facts = run.read()
    run.write({**facts, "recipe": {**facts["recipe"], "network": "tiny:Tiny"}})
    with pytest.raises(RunError, match="name its recipe to allow it"):
        export(run, "safetensors", tmp_path / "model.safetensors", garments)
    own = dataclasses.replace(recipe, network=Tiny)
    told = export(run, "safetensors", tmp_path / "model.safetensors", garments, recipe=own)
    assert told["differing_labels"] == 0


@pytest.mark.parametrize(
    ("format", "name", "reason"),
    [
        ("keras", "there.keras", "there.keras exists and is not written over; name another"),
        ("keras", "model.safetensors", r"does not end in \.keras"),
        ("safetensors", "model", r"does not end in \.safetensors"),
        ("h5", "model.h5", "there is no format 'h5'; use one of onnx, keras, safetensors"),
    ],
)
def test_a_target_that_cannot_be_is_refused_before_anything_is_loaded(
    format: str, name: str, reason: str, garments: Dataset, tmp_path: Path
) -> None:
    run = finished_run(tmp_path / "run", CLASSIC, "torch", garments)
    run.weights.unlink()
    (tmp_path / "there.keras").write_text("mine")
    with pytest.raises(RunError, match=reason):
        export(run, format, tmp_path / name, garments)
    assert (tmp_path / "there.keras").read_text() == "mine"


@pytest.mark.parametrize("wrong", [1.1e-4, np.nan])
@pytest.mark.parametrize("format", ["keras", "safetensors"])
def test_a_file_that_answers_otherwise_is_not_written(
    wrong: float,
    format: str,
    garments: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = finished_run(tmp_path / "run", CLASSIC, "torch", garments)
    off = np.zeros((40, 10), np.float32)
    off[17, 3] = wrong
    monkeypatch.setattr(export_module, "ask", lambda *args, **options: ask(*args, **options) + off)
    with pytest.raises(ModelError, match=f"as {format} answers otherwise: . of 40 labels differ"):
        export(run, format, tmp_path / f"model.{format}", garments)
    assert not (tmp_path / f"model.{format}").exists()


@pytest.mark.real_data
def test_both_ways_agree_on_all_test_images(
    real_data: Dataset, garments: Dataset, tmp_path: Path
) -> None:
    images = real_data.test_images
    run = finished_run(tmp_path / "torch", CLASSIC, "torch", garments)
    export(run, "keras", tmp_path / "model.keras", garments)
    expected, told = ask(run, images), stock_keras(tmp_path / "model.keras", images, tmp_path)
    assert int((told["classes"] == expected.argmax(1)).sum()) == 10_000
    assert np.abs(told["logits"] - expected).max() <= 1e-4

    run = finished_run(tmp_path / "keras", CLASSIC, "keras", garments)
    export(run, "safetensors", tmp_path / "model.safetensors", garments)
    network = make_network("classic")
    network.load_state_dict(load_file(tmp_path / "model.safetensors"))
    said, expected = infer(network, images, CPU), ask(run, images)
    assert int((said.argmax(1) == expected.argmax(1)).sum()) == 10_000
    assert np.abs(said - expected).max() <= 1e-4
