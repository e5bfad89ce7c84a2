"""scripts/ship.py: from photos and senders to a classifier that knows when it is not sure."""

import dataclasses
import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

import fmnist
from fmnist.data import Dataset
from fmnist.errors import DataError, RunError
from fmnist.recipes import PHOTO, RECIPES

SCRIPT = Path(__file__).parents[1] / "scripts" / "ship.py"
QUICK = dataclasses.replace(PHOTO, network="sprinter", epochs=2, strangers=20, photo_epochs=1)


@pytest.fixture
def ship(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("ship", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setitem(RECIPES, "photo", QUICK)
    return module


@pytest.fixture
def photos(garments: Dataset, tmp_path: Path) -> Path:
    """Garments of the validation split as photos: dark on a light page, by three senders."""
    split = garments.split("validation")
    rows = ["path,class_index,sender_id,source_label"]
    for number, (image, label) in enumerate(zip(split.images[:30], split.labels, strict=False)):
        enlarged = Image.fromarray(253 - (image * 0.8).astype(np.uint8)).resize((140, 140))
        enlarged.save(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,{label},{'abc'[number % 3]},kind")
    rows += ["0.png,,c,Hat", "1.png,,c,Skirt"]
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "senders.csv").write_text("sender_id,part\na,train\nb,fit\nc,held-out\n")
    return tmp_path


def test_it_ships_a_classifier_and_trains_nothing_twice(
    ship: ModuleType, garments: Dataset, photos: Path
) -> None:
    out = photos / "shipped.onnx"
    told = ship.make(photos, photos / "senders.csv", photos / "runs", [3, 4], out)
    classifier = fmnist.load_classifier(out)
    assert classifier.facts["precision"] == "int8"
    assert classifier.facts["seeds"] == [3, 4]
    assert not classifier.facts["flip_at_test"]
    assert classifier.facts["all_data"]
    assert classifier.facts["photos"]["parts"] == ["train", "fit"]
    assert classifier.facts["photos"]["count"] == 20  # of a and b; c is not read
    assert classifier.least_probability == told["least_probability"] > 0.1
    first = fmnist.open_run(photos / "runs" / "fit").read()
    assert first["photos"]["count"] == 10
    assert not first["all_data"]
    before = [run.stat().st_mtime_ns for run in (photos / "runs").glob("*/weights.safetensors")]
    assert len(before) == 3
    assert ship.make(photos, photos / "senders.csv", photos / "runs", [3, 4], out) == told
    after = [run.stat().st_mtime_ns for run in (photos / "runs").glob("*/weights.safetensors")]
    assert after == before
    with pytest.raises(RunError, match="fit was made with other seed; name other --runs"):
        ship.make(photos, photos / "senders.csv", photos / "runs", [5], out)


def test_the_threshold_keeps_the_right_answers_that_it_says(
    ship: ModuleType, garments: Dataset, photos: Path
) -> None:
    ship.make(photos, photos / "senders.csv", photos / "runs", [3, 4], photos / "shipped.onnx")
    folder = ship.PhotoFolder(photos, photos / "senders.csv", ("fit",))
    shown = ship.prepare_photos(folder.read())
    first = fmnist.load_classifier(photos / "runs" / "fit")
    probabilities = first.photo_probabilities(shown.images)
    right = probabilities.argmax(1) == shown.labels
    kept = (
        probabilities[right].max(1)
        >= fmnist.load_classifier(photos / "shipped.onnx").least_probability
    )
    assert right.sum() >= 1
    assert kept.mean() >= ship.KEPT - 1 / right.sum()


def test_a_folder_without_the_senders_is_refused(
    ship: ModuleType, garments: Dataset, photos: Path
) -> None:
    (photos / "senders.csv").write_text("sender_id,part\nz,train\n")
    with pytest.raises(DataError, match=r"lists no photo by a sender that .*calls 'train'"):
        ship.make(photos, photos / "senders.csv", photos / "runs", [3, 4], photos / "shipped.onnx")
