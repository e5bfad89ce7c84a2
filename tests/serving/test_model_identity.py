"""Which model answers: told by the file that was loaded, and the same in all workers."""

import hashlib
import shutil
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from fmnist.answers import load_classifier
from fmnist.classifier import Classifier
from fmnist.classifier.classifier import SHIPPED
from fmnist.errors import MissingExtra, ModelError, RunError
from fmnist.runs import Run
from fmnist.serving import model_identity
from fmnist.serving.model_identity import Identity, check_same, load_identified


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return Path(shutil.copy(SHIPPED, tmp_path / "mine.onnx"))


def test_a_file_is_told_by_its_hash(model: Path) -> None:
    classifier, who = load_identified(model)
    assert who.sha256 == hashlib.sha256(SHIPPED.read_bytes()).hexdigest()
    assert who.version == metadata.version("fmnist")
    assert load_identified(None)[1] == who
    assert len(classifier.class_names) == 10


def test_a_file_that_is_written_to_meanwhile_is_not_taken(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = load_classifier

    def slow(*arguments: Any, **options: Any) -> Classifier:
        classifier = load(*arguments, **options)
        model.write_bytes(model.read_bytes()[:1000])  # a copy that is under way
        return classifier

    monkeypatch.setattr(model_identity, "load_classifier", slow)
    with pytest.raises(ModelError, match=r"mine\.onnx changed while it was loaded"):
        load_identified(model)


def test_what_cannot_be_loaded_says_why(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        load_identified(tmp_path / "nothing.onnx")
    with pytest.raises(RunError):
        load_identified(tmp_path)


def test_a_run_without_what_it_needs_has_a_way_around(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "my run"
    folder.mkdir()

    def load(*arguments: Any, **options: Any) -> Classifier:
        raise MissingExtra("torch", "train")

    monkeypatch.setattr(model_identity, "load_classifier", load)
    monkeypatch.setattr(model_identity, "_weights", lambda model: SHIPPED)
    monkeypatch.setattr(model_identity, "open_run", Run)
    with pytest.raises(RunError) as refused:
        load_identified(folder)
    assert str(refused.value) == (
        "torch is not installed; run: pip install 'fmnist[train]'; or, where that is installed, "
        "make one file of the run and serve the file: "
        f"fmnist export '{folder}' --format onnx --out 'my run.onnx'"
    )


def test_another_model_than_the_first_workers_is_none() -> None:
    first = Identity("photo", "a" * 64, "0.1.0")
    check_same(first, None)
    check_same(first, first)
    with pytest.raises(ModelError, match="now holds bbbbbbbbbbbb, and other workers"):
        check_same(first._replace(sha256="b" * 64), first)
