"""The classifier that comes inside the package: what it is made of, and that it keeps its card."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fmnist
from fmnist.classifier import Classifier
from fmnist.classifier.classifier import SHIPPED
from fmnist.data import CLASS_NAMES, Dataset
from fmnist.errors import ModelError

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "photos.json"


@pytest.fixture(scope="module")
def shipped() -> Classifier:
    return fmnist.load_classifier()


@pytest.fixture(scope="module")
def card() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(RESULTS.read_text("utf-8"))
    return found


def test_it_is_one_small_file_that_knows_where_it_is_from(shipped: Classifier) -> None:
    assert SHIPPED.stat().st_size <= 3_000_000
    facts = shipped.facts
    assert shipped.class_names == CLASS_NAMES
    assert facts["recipe"]["name"] == "photo"
    assert facts["all_data"]
    assert len(facts["git_commit"]) == 40  # and not "-dirty"
    assert facts["photos"]["parts"] == ["train", "fit"]
    assert facts["parity"]["images"] == 5000
    assert 0.1 < shipped.least_probability < 1


def test_a_changed_byte_is_noticed(tmp_path: Path) -> None:
    content = bytearray(SHIPPED.read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "changed.onnx").write_bytes(content)
    with pytest.raises(ModelError, match="damaged"):
        fmnist.load_classifier(tmp_path / "changed.onnx")


def test_the_scores_are_of_this_file_and_of_held_out_senders(
    shipped: Classifier, card: dict[str, Any]
) -> None:
    assert card["part"] == "held-out"
    told = card["networks"]["the model"]
    assert told["sha256"] == hashlib.sha256(SHIPPED.read_bytes()).hexdigest()
    assert told["git_commit"] == shipped.facts["git_commit"]
    assert not card["git_commit"].endswith("-dirty")


@pytest.mark.real_data
def test_it_answers_the_test_split_as_the_card_says(
    shipped: Classifier, card: dict[str, Any], real_data: Dataset
) -> None:
    right = shipped.classes(real_data.test_images) == real_data.test_labels
    # Another processor may sum in another order: a few of 10,000 answers may change.
    assert right.mean() == pytest.approx(card["test"]["accuracy"]["value"], abs=5e-4)


def test_it_is_unsure_about_noise_and_nothing(shipped: Classifier) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (200, 28, 28)).astype(np.uint8)
    accepted = [answer.accepted for answer in shipped.predict(noise)]
    assert np.mean(accepted) < 0.05
    assert not shipped.predict(np.zeros((28, 28), np.uint8)).accepted
