import json
import shutil
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import classic_corruptions
from fmnist.data import Dataset
from fmnist.evaluation.corruptions import KINDS
from fmnist.evaluation.robustness import (
    CLASSIC,
    corrupted_accuracies,
    mean_accuracy,
    mean_corruption_error,
    measure_corruptions,
    stratified,
)
from fmnist.evaluation.subject import Subject, run_subject
from fmnist.runs import Run

EVERY = [(name, severity) for name, kind in KINDS.items() for severity in kind.severities]


def test_what_a_subject_answers_is_counted(garments: Dataset) -> None:
    """It answers the class of the uncorrupted image that an image is, if any."""
    test = garments.split("test")
    known = {
        image.tobytes(): int(label) for image, label in zip(test.images, test.labels, strict=True)
    }

    def ask(images: Any) -> Any:
        logits = np.zeros((len(images), 10), np.float32)
        for row, image in enumerate(images):
            # Mirror images are known too; anything else is a T-shirt.
            found = known.get(image.tobytes(), known.get(image[:, ::-1].tobytes(), 0))
            logits[row, found] = 1
        return logits

    subject = Subject("parrot", ask)
    told = measure_corruptions(subject, test, ask(test.images), lambda doing: None)
    assert told["clean_error"] == 0
    assert told["images"] == len(test)
    by_kind = {row["kind"]: row for row in told["kinds"] if row["fashion_mnist_c"]}
    assert len(by_kind) == 15
    assert by_kind["flip_sides"]["accuracy"] == 1
    assert by_kind["impulse_noise"]["accuracy"] == pytest.approx(0.1)
    shares = [row["accuracy"] for row in by_kind.values()]
    assert told["mean_accuracy"] == pytest.approx(sum(shares) / 15)
    assert [(row["kind"], row["severity"]) for row in told["kinds"]] == EVERY


def test_the_sample_has_as_many_of_each_class() -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(10), 300)).astype(np.uint8)
    chosen = stratified(labels, 2000)
    assert np.bincount(labels[chosen]).tolist() == [200] * 10
    assert (np.diff(chosen) > 0).all()
    assert len(stratified(labels[:50], 2000)) == 50


def rows_of(error: float) -> list[dict[str, Any]]:
    return [
        {
            "kind": kind,
            "severity": severity,
            "fashion_mnist_c": severity == KINDS[kind].usual,
            "accuracy": 1 - error * (1 + (severity or 1)),
        }
        for kind, severity in EVERY
    ]


def test_corruption_error_is_relative_and_summed_over_severities_first() -> None:
    reference = rows_of(0.1)
    assert mean_corruption_error(reference, reference) == pytest.approx(1)
    assert mean_corruption_error(rows_of(0.05), reference) == pytest.approx(0.5)
    worse = rows_of(0.1)
    worse[4]["accuracy"] -= 0.2  # one severity of five, whose errors sum to 2.0
    expected = (14 + 2.2 / 2.0) / 15
    assert mean_corruption_error(worse, reference) == pytest.approx(expected)
    assert mean_accuracy(worse) == pytest.approx(mean_accuracy(reference) - 0.2 / 15)


def test_the_reference_is_a_results_file_of_classic() -> None:
    text = resources.files("fmnist.evaluation").joinpath(CLASSIC).read_text("utf-8")
    reference = json.loads(text)
    assert [(row["kind"], row["severity"]) for row in reference["kinds"]] == EVERY
    assert {row["images"] for row in reference["kinds"]} == {2000, 10000}
    assert reference["relative_to"].startswith("classic, ")
    assert reference["command"].startswith("python benchmarks/classic_corruptions.py ")
    assert len(reference["runs"]) == len({run["seed"] for run in reference["runs"]}) >= 1
    assert mean_corruption_error(reference["kinds"], reference["kinds"]) == pytest.approx(1)
    assert 0.915 < reference["accuracy"] < 0.93
    assert mean_accuracy(reference["kinds"]) < reference["accuracy"] - 0.2


def test_rows_do_not_depend_on_who_asked_before(garments: Dataset) -> None:
    test = garments.split("test")
    constant = Subject("constant", lambda images: np.eye(10, dtype=np.float32)[[0] * len(images)])
    assert corrupted_accuracies(constant, test) == corrupted_accuracies(constant, test)
    assert {row["accuracy"] for row in corrupted_accuracies(constant, test)} == {0.1}


def test_the_reference_was_made_from_a_clean_commit() -> None:
    reference = json.loads(
        resources.files("fmnist.evaluation").joinpath(CLASSIC).read_text("utf-8")
    )
    assert not reference["git_commit"].endswith("-dirty")
    assert reference["all_data"] in (True, False)
    seeds = [run["seed"] for run in reference["runs"]]
    assert reference["relative_to"].endswith(", ".join(map(str, seeds)))


@pytest.fixture
def of_classic(run: Run, tmp_path: Path) -> list[Run]:
    """Two runs that say they are of `classic`, of the seeds 0 and 1."""
    runs = []
    for seed in (0, 1):
        shutil.copytree(run.folder, tmp_path / f"seed-{seed}")
        runs.append(Run(tmp_path / f"seed-{seed}"))
        facts = run.read()
        recipe = {**facts["recipe"], "name": "classic"}
        runs[-1].write({**facts, "seed": seed, "recipe": recipe})
    return runs


def make_reference(runs: list[Run], out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [str(run.folder) for run in runs]
    monkeypatch.setattr("sys.argv", ["classic_corruptions.py", *folders, "--out", str(out)])
    classic_corruptions.main()


def test_the_reference_is_made_from_runs_of_classic(
    of_classic: list[Run], garments: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_reference(of_classic, tmp_path / "errors.json", monkeypatch)
    made = json.loads((tmp_path / "errors.json").read_text("utf-8"))
    assert made["relative_to"] == "classic, mean of seeds 0, 1"
    assert made["all_data"] is False
    expected = corrupted_accuracies(run_subject(of_classic[0]), garments.split("test"))
    assert made["kinds"] == expected


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"recipe": "other"}, "seed-1 is not of the recipe classic"),
        ({"seed": 0}, "seed 0 is there more than once"),
        ({"all_data": True}, "some runs are of all images, some are not"),
    ],
)
def test_runs_that_do_not_belong_together_make_no_reference(
    of_classic: list[Run],
    changed: dict[str, Any],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    facts = of_classic[1].read()
    if "recipe" in changed:
        changed = {"recipe": {**facts["recipe"], "name": changed["recipe"]}}
    of_classic[1].write({**facts, **changed})
    with pytest.raises(SystemExit):
        make_reference(of_classic, tmp_path / "errors.json", monkeypatch)
    assert said in capsys.readouterr().err
    assert not (tmp_path / "errors.json").exists()
