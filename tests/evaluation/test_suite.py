import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fmnist.console import percent
from fmnist.data import CLASS_NAMES, Dataset, Split, SplitName
from fmnist.errors import DataError, FmnistError, RunError
from fmnist.evaluation import evaluate, report, speed
from fmnist.evaluation.calibration import fit_temperature
from fmnist.evaluation.metrics import cross_entropy, score
from fmnist.evaluation.subject import Subject
from fmnist.evaluation.suite import NEEDS_MODEL, measure_full, measure_splits
from fmnist.recipes import Recipe
from fmnist.runs import PHASES, Run, open_run
from fmnist.training import train

RATIOS = {"precision": "float", "recall": "float", "f1": "float"}
SPLIT = {
    "images": "int",
    "accuracy": "float",
    "accuracy_interval": ["float"],
    "loss": "float",
    "top2_accuracy": "float",
    "brier": "float",
    "calibration_error": "float",
    "calibrated": {
        "loss": "float",
        "brier": "float",
        "calibration_error": "float",
        "reliability": [{"confidence": "float", "accuracy": "float", "images": "int"}],
    },
    "selective": {
        "aurc": "float",
        "coverage": [["float"]],
        "accuracy_at": {"0.90": "float", "0.95": "float"},
    },
    "macro": RATIOS,
    "classes": [{"index": "int", "name": "str", **RATIOS, "images": "int"}],
    "confusion": [["int"]],
    "most_confused": [{"true": "str", "predicted": "str", "images": "int"}],
    "reliability": [{"confidence": "float", "accuracy": "float", "images": "int"}],
}
TOLD = {"auroc": "float", "aupr": "float", "fpr_at_95_tpr": "float"}
HISTOGRAM = {"edges": ["float"], "inliers": ["int"], "outliers": ["int"]}
BY_SCORE = ("max_probability", "energy", "entropy")
OUTLIERS = {
    "name": "str",
    "images": "int",
    "scores": dict.fromkeys(BY_SCORE, TOLD),
    "histogram": dict.fromkeys(BY_SCORE, HISTOGRAM),
}
SPEED = {
    "images_per_second": "float",
    "batch_size": "int",
    "milliseconds_one_image": "float",
    "threads": "int",
    "device": "str",
    "parameters": "int",
    "multiply_adds": "int",
    "file_bytes": "int",
}
METRICS = {
    "temperature": "float",
    "temperature_source": "str",
    "splits": {"validation": SPLIT, "test": SPLIT},
}


def schema(value: Any) -> Any:
    """Keys and types of a JSON value; the items of a list must all have the same."""
    if isinstance(value, dict):
        return {key: schema(item) for key, item in value.items()}
    if isinstance(value, list):
        kinds = [schema(item) for item in value]
        assert all(kind == kinds[0] for kind in kinds)
        return kinds[:1]
    return type(value).__name__


def copy_of(run: Run, folder: Path) -> Run:
    return open_run(shutil.copytree(run.folder, folder))


def test_metrics_json_has_the_documented_keys_and_is_what_is_returned(
    run: Run, data: Dataset
) -> None:
    told = evaluate(run, data)
    saved = json.loads((run.folder / "metrics.json").read_bytes())
    assert schema(saved) == METRICS
    assert saved == told
    for name, judged in saved["splits"].items():
        images = len(data.split(name))
        assert judged["images"] == images
        assert len(judged["accuracy_interval"]) == 2
        assert [c["name"] for c in judged["classes"]] == list(CLASS_NAMES)
        assert np.array(judged["confusion"]).shape == (10, 10)
        assert sum(bin["images"] for bin in judged["reliability"]) == images
        assert len(judged["reliability"]) == 15


def test_metrics_are_those_of_the_saved_logits(run: Run, data: Dataset) -> None:
    told = evaluate(run.folder, data)
    saved = run.read_logits("test")
    expected = score(saved.logits, saved.labels, CLASS_NAMES)
    assert {key: told["splits"]["test"][key] for key in expected} == expected
    validation = run.read_logits("validation")
    temperature = fit_temperature(validation.logits, validation.labels)
    assert told["temperature"] == temperature
    assert told["temperature_source"] == "validation logits of this run"
    tempered = saved.logits.astype(np.float64) / temperature
    calibrated = told["splits"]["test"]["calibrated"]
    assert calibrated["loss"] == cross_entropy(tempered, saved.labels)


def test_the_full_suite_is_kept_by_a_later_basic_one(
    run: Run, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed, "SECONDS", 0.0)
    np.savez(tmp_path / "dark.npz", x=data.test_images[:9] // 8)
    doing: list[str] = []
    told = evaluate(
        run, data, suite="full", outliers=[tmp_path / "dark.npz"], device="cpu", watch=doing.append
    )
    assert doing[:3] == ["validation", "test", "shot noise"]
    assert doing[-2:] == ["speed", "map of the test images"]
    assert run.read_metrics() == told
    assert told.keys() == {*METRICS, *NEEDS_MODEL}
    assert schema(told["outliers"]) == {"inliers": "int", "sets": [OUTLIERS]}
    assert [row["name"] for row in told["outliers"]["sets"]] == ["noise", "shapes", "dark.npz"]
    assert schema(told["speed"]) == SPEED
    test = told["splits"]["test"]
    assert told["corruptions"]["clean_error"] == pytest.approx(1 - test["accuracy"])
    seconds = run.read()["seconds"]
    assert seconds["suite"] > 0
    assert seconds["total"] == pytest.approx(
        sum(spent for phase, spent in seconds.items() if phase in PHASES)
    )
    assert 0.1 < told["corruptions"]["mean_accuracy"] < test["accuracy"]
    # The run's recipe asks about the mirror image too, so to mirror changes nothing.
    (mirrored,) = (r for r in told["corruptions"]["kinds"] if r["kind"] == "flip_sides")
    assert mirrored["accuracy"] == test["accuracy"]
    assert evaluate(run, data, splits=["validation"], device="cpu").keys() == told.keys()
    assert run.read_metrics() == told
    again = evaluate(run, data, suite="full", device="cpu")
    assert len(again["outliers"]["sets"]) == 2
    assert again["corruptions"] == told["corruptions"]


def test_a_suite_that_cannot_be_is_refused(run: Run, data: Dataset, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is of the test split"):
        evaluate(run, data, suite="full", splits=["validation"])
    with pytest.raises(RunError, match="add --suite full"):
        evaluate(run, data, outliers=[tmp_path])
    with pytest.raises(RunError, match="no suite 'whole'; there are basic, full"):
        evaluate(run, data, suite="whole")  # type: ignore[arg-type]
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no picture"):
        evaluate(run, data, suite="full", outliers=[tmp_path / "empty"])


def test_who_cannot_be_asked_has_no_full_suite(data: Dataset) -> None:
    assert measure_full(Subject("saved", None), data.split("test")) == {
        "corruptions": None,
        "outliers": None,
        "speed": None,
    }


def test_saved_logits_of_others_are_measured_the_same(run: Run, data: Dataset) -> None:
    told = evaluate(run, data)
    saved = {name: run.read_logits(name) for name in ("validation", "test")}
    temperature, source = told["temperature"], told["temperature_source"]
    assert measure_splits(saved, temperature, source) == told


def test_metrics_that_are_damaged_are_made_anew(run: Run, data: Dataset) -> None:
    told = evaluate(run, data)
    (run.folder / "metrics.json").write_text("{")
    assert evaluate(run, data) == told


def test_metrics_do_not_change_with_the_batch_size(run: Run, data: Dataset) -> None:
    one, some, all_at_once = (evaluate(run, data, batch_size=n) for n in (1, 128, 10_000))
    for name in ("validation", "test"):
        for other in (some, all_at_once):
            expected, told = one["splits"][name], other["splits"][name]
            assert told["accuracy"] == expected["accuracy"]
            assert told["confusion"] == expected["confusion"]
            assert told["loss"] == pytest.approx(expected["loss"], abs=1e-6)


def test_training_never_reads_the_test_split(
    run: Run, data: Dataset, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    split = Dataset.split

    def recorded(self: Dataset, name: SplitName) -> Split:
        read.append(name)
        return split(self, name)

    monkeypatch.setattr(Dataset, "split", recorded)
    blind = dataclasses.replace(
        data, test_images=data.test_images[:0], test_labels=data.test_labels[:0]
    )
    again = train(recipe, blind, seed=3, out=tmp_path / "blind", device="cpu")
    assert sorted(set(read)) == ["train", "validation"]
    assert again.weights.read_bytes() == run.weights.read_bytes()
    evaluate(again, data, splits=["test"])
    assert read[-1] == "test"


def test_one_split_is_judged_alone_and_the_other_added_later(run: Run, data: Dataset) -> None:
    test = evaluate(run, data, splits=["test"])
    assert list(test["splits"]) == ["test"]
    assert (test["temperature"], test["temperature_source"]) == (
        1,
        "none: not judged on validation",
    )
    assert test["splits"]["test"]["calibrated"]["loss"] == test["splits"]["test"]["loss"]
    both = evaluate(run, data, splits=["validation"])
    assert list(both["splits"]) == ["validation"]
    assert both["temperature"] != 1
    kept = run.read_metrics()
    assert list(kept["splits"]) == ["validation", "test"]
    assert kept["splits"]["test"]["loss"] == test["splits"]["test"]["loss"]


def test_a_run_on_all_images_is_judged_on_test_at_temperature_one(
    run_on_all: Run, data: Dataset
) -> None:
    told = evaluate(run_on_all, data)
    assert list(told["splits"]) == ["test"]
    assert told["temperature"] == 1
    assert told["temperature_source"].startswith("none: trained on all images")
    with pytest.raises(RunError, match="trained on all images and has no validation split"):
        evaluate(run_on_all, data, splits=["validation"])


def test_a_run_on_all_images_takes_its_temperature_from_a_sibling(
    run_on_all: Run, data: Dataset, trained: Path, tmp_path: Path
) -> None:
    sibling = copy_of(Run(trained), tmp_path / "sibling")
    with pytest.raises(RunError, match=f"run: fmnist evaluate {sibling.folder}"):
        evaluate(run_on_all, data, temperature_from=sibling)
    expected = evaluate(sibling, data, splits=["validation"])["temperature"]
    told = evaluate(run_on_all, data, temperature_from=sibling.folder)
    assert told["temperature"] == expected
    assert told["temperature_source"] == f"validation of {sibling.folder}"
    judged = told["splits"]["test"]
    assert judged["calibrated"]["loss"] != judged["loss"]


def test_a_temperature_from_another_recipe_or_from_nowhere_is_refused(
    run_on_all: Run, data: Dataset, tmp_path: Path
) -> None:
    other = copy_of(run_on_all, tmp_path / "other")
    facts = other.read()
    other.write({**facts, "recipe": {**facts["recipe"], "epochs": 9}})
    with pytest.raises(RunError, match="is of another recipe than"):
        evaluate(run_on_all, data, temperature_from=other)
    with pytest.raises(RunError, match="nowhere is not a directory"):
        evaluate(run_on_all, data, temperature_from=tmp_path / "nowhere")


def test_other_data_than_it_was_trained_on_are_refused(run: Run, data: Dataset) -> None:
    evaluate(run, data)
    other = dataclasses.replace(data, sha256=dict.fromkeys(data.sha256, "0" * 64))
    with pytest.raises(DataError, match="was trained on other data files than"):
        evaluate(run, other)
    with pytest.raises(DataError, match="was trained on other data files than"):
        report(run, other)


def test_data_are_found_when_none_are_given(run: Run, garments: Dataset) -> None:
    assert evaluate(run, splits=["validation"])["splits"]["validation"]["images"] == 40
    assert report(run).is_file()


def test_report_holds_the_numbers_as_they_are_printed(run: Run, data: Dataset) -> None:
    judged = evaluate(run, data)["splits"]["test"]
    path = report(run, data)
    page = path.read_text("utf-8").replace("\u00a0", " ")
    assert path == run.report
    assert percent(judged["accuracy"]) in page
    for bound in judged["accuracy_interval"]:
        assert f"{100 * bound:.2f}" in page
    mistakes = judged["images"] - round(judged["accuracy"] * judged["images"])
    assert page.count("data:image/png;base64,") >= min(40, mistakes) > 0


def test_report_of_a_run_on_validation_alone(run: Run, data: Dataset) -> None:
    judged = evaluate(run, data, splits=["validation"])["splits"]["validation"]
    page = report(run, data).read_text("utf-8").replace("\u00a0", " ")
    assert percent(judged["accuracy"]) in page


def test_report_needs_an_evaluation(run: Run, data: Dataset) -> None:
    with pytest.raises(RunError, match=f"missing; run: fmnist evaluate {run.folder}"):
        report(run, data)
    evaluate(run, data)
    (run.folder / "logits-test.npz").unlink()
    with pytest.raises(RunError, match=f"run: fmnist evaluate {run.folder}"):
        report(run, data)


def test_the_seconds_of_judging_and_showing_are_recorded(run: Run, data: Dataset) -> None:
    evaluate(run, data, splits=["test"])
    report(run, data)
    seconds = run.read()["seconds"]
    assert seconds["evaluate"] > 0
    assert seconds["report"] > 0
    assert seconds["predict"] > 0
    total = seconds.pop("total")
    assert total == pytest.approx(sum(seconds.values()))


@pytest.mark.parametrize("verb", [evaluate, report])
def test_what_is_no_run_is_refused(verb: Any, data: Dataset, tmp_path: Path) -> None:
    with pytest.raises(FmnistError, match=r"holds no run\.json"):
        verb(tmp_path, data)
