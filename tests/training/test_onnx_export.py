"""A run to the file of a classifier, through the command that people use."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save

from finished import finished_run
from fmnist import load_classifier
from fmnist.classifier import export as classifier_export
from fmnist.data import Dataset
from fmnist.errors import ModelError, RunError
from fmnist.recipes import CLASSIC, SPRINT
from fmnist.runs import Run
from fmnist.training.export import export
from fmnist.training.trained import ask

METRICS: dict[str, Any] = {
    "temperature": 1.25,
    "temperature_source": "tests",
    "splits": {"validation": {"accuracy": 0.1}},
}


@pytest.fixture
def run(garments: Dataset, tmp_path: Path) -> Run:
    """A judged run of `classic` with random weights."""
    made = finished_run(tmp_path / "run", CLASSIC, "torch", garments)
    made.write_metrics(METRICS)
    return made


def test_a_run_becomes_a_classifier(run: Run, garments: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "new" / "classic.onnx"
    result = export(run, "onnx", out, garments)
    assert result["differing_labels"] == 0
    assert result["largest_difference"] < 1e-3
    assert result["accuracy"] == result["accuracy_of_run"]
    classifier, facts = load_classifier(out), run.read()
    assert classifier.temperature == 1.25
    for name in ("recipe", "seed", "git_commit", "engine", "all_data"):
        assert classifier.facts[name] == facts[name]
    assert classifier.facts["data_sha256"] == garments.sha256
    assert classifier.facts["accuracy_of_run"] == {"validation": 0.1}
    parity = {k: v for k, v in result.items() if k in classifier.facts["parity"]}
    assert classifier.facts["parity"] == parity
    images = garments.split("test").images
    np.testing.assert_allclose(classifier.logits(images), ask(run, images), atol=1e-3)


def test_in_8_bits_only_accuracy_counts(
    run: Run, garments: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(classifier_export, "INT8_TOLERANCE", -1.0)
    with pytest.raises(ModelError, match="export it without int8"):
        export(run, "onnx", tmp_path / "small.onnx", garments, int8=True)
    assert not (tmp_path / "small.onnx").exists()
    monkeypatch.setattr(classifier_export, "INT8_TOLERANCE", 1.0)
    result = export(run, "onnx", tmp_path / "small.onnx", garments, int8=True)
    assert (result["int8"], result["images"]) == (True, 40)
    assert load_classifier(tmp_path / "small.onnx").facts["precision"] == "int8"
    assert export(run, "onnx", tmp_path / "full.onnx", garments)["int8"] is False
    assert (tmp_path / "small.onnx").stat().st_size * 3 < (tmp_path / "full.onnx").stat().st_size


@pytest.mark.parametrize(
    "option",
    [{"int8": True}, {"mirror": False}, {"least_probability": 0.5}, {"ensemble_with": ["run"]}],
    ids=str,
)
def test_other_formats_have_no_such_options(
    run: Run,
    garments: Dataset,
    tmp_path: Path,
    option: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunError, match="are for the format onnx, not safetensors"):
        export(run, "safetensors", tmp_path / "small.safetensors", garments, **option)


def test_several_runs_become_one_classifier(run: Run, garments: Dataset, tmp_path: Path) -> None:
    """Its logits are the mean; the second run's network is the first's with other weights."""
    other = Run(tmp_path / "other")
    other.write({**run.read(), "seed": 5})
    other.write_metrics(METRICS)
    weights = {name: -0.5 * value for name, value in load_file(run.weights).items()}
    other.weights.write_bytes(save(weights))
    out = tmp_path / "both.onnx"
    result = export(run, "onnx", out, garments, ensemble_with=[other.folder])
    assert result["ensemble_with"] == [str(other.folder)]
    assert result["differing_labels"] == 0
    classifier, images = load_classifier(out), garments.split("test").images
    assert classifier.facts["seeds"] == [0, 5]
    mean = (ask(run, images) + ask(other, images)) / 2
    assert not np.allclose(ask(run, images), mean, atol=1e-2)
    np.testing.assert_allclose(classifier.logits(images), mean, atol=1e-3)
    small = export(run, "onnx", tmp_path / "small.onnx", garments, int8=True, ensemble_with=[other])
    assert small["largest_difference"] < 1


def test_the_mirror_image_can_be_left_out(garments: Dataset, tmp_path: Path) -> None:
    flipping = finished_run(tmp_path / "run", SPRINT, "torch", garments)
    flipping.write_metrics(METRICS)
    images = garments.split("test").images
    for mirror in (True, False):
        out = tmp_path / f"{mirror}.onnx"
        export(flipping, "onnx", out, garments, mirror=mirror)
        classifier = load_classifier(out)
        assert classifier.facts["flip_at_test"] is mirror
        expected = ask(flipping, images, flip=mirror)
        np.testing.assert_allclose(classifier.logits(images), expected, atol=1e-3)
    assert not np.allclose(ask(flipping, images, flip=False), ask(flipping, images), atol=1e-2)


def test_what_is_unsure_goes_into_the_file(run: Run, garments: Dataset, tmp_path: Path) -> None:
    export(run, "onnx", tmp_path / "sure.onnx", garments, least_probability=0.75)
    assert load_classifier(tmp_path / "sure.onnx").least_probability == 0.75
    with pytest.raises(RunError, match=r"least_probability is 1\.5, not in 0\.\.1"):
        export(run, "onnx", tmp_path / "never.onnx", garments, least_probability=1.5)


def test_a_run_that_was_not_judged_has_no_temperature(
    run: Run, garments: Dataset, tmp_path: Path
) -> None:
    (run.folder / "metrics.json").unlink()
    with pytest.raises(RunError, match=r"metrics\.json is missing; run: fmnist evaluate"):
        export(run, "onnx", tmp_path / "classic.onnx", garments)


def test_the_verb(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from fmnist.cli import main

    out = str(tmp_path / "classic.onnx")
    command = ["export", str(run.folder), "--format", "onnx", "--out", out]
    monkeypatch.setattr("sys.argv", ["fmnist", *command, "--json"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["format"], told["int8"], told["out"]) == ("onnx", False, out)
    assert told["differing_labels"] == 0
    monkeypatch.setattr("sys.argv", ["fmnist", *command, "--format", "keras", "--int8"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
