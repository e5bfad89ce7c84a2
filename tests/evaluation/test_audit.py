import csv
import dataclasses
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import pairwise_distances
from sklearn.model_selection import StratifiedKFold
from torch import nn

import label_audit
from fmnist.cli import main
from fmnist.data import Dataset
from fmnist.errors import DataError, ModelError, RunError, missing_extra
from fmnist.evaluation import evaluate
from fmnist.evaluation.audit import Audit, audit, clean_test_score, open_audit
from fmnist.evaluation.audit.folds import ask_folds, embed
from fmnist.evaluation.audit.suspects import Suspects, find_suspects
from fmnist.evaluation.audit.twins import SAME_PICTURE, find_neighbours, find_pairs
from fmnist.evaluation.comparison.intervals import describe
from fmnist.models import make_network
from fmnist.recipes import Recipe
from fmnist.runs import Bench, Run, SeedRuns, claim_folder
from fmnist.training.estimator import FashionClassifier
from pages import commands
from tiny import TINY

AUDITOR = dataclasses.replace(TINY, name="auditor", epochs=4)
FOLDS = 3


@pytest.fixture(scope="module")
def noisy(data: Dataset) -> tuple[Dataset, np.ndarray]:
    """The garments with forty training labels in 480 made wrong, and which these are."""
    random = np.random.default_rng(0)
    labels = np.array(data.train_labels)
    wrong = random.choice(len(labels), 40, replace=False)
    labels[wrong] = (labels[wrong] + random.integers(1, 10, 40)) % 10
    return dataclasses.replace(data, train_labels=labels), wrong


@pytest.fixture(scope="module")
def made(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Audit:
    """An audit of the garments, the first test image a training image moved by a pixel."""
    folder = tmp_path_factory.mktemp("audits") / "audit"
    test_images = np.array(data.test_images)
    test_images[0] = np.roll(data.train_images[7], 1, axis=1)
    test_labels = np.array(data.test_labels)
    test_labels[0] = data.train_labels[7]
    twinned = dataclasses.replace(data, test_images=test_images, test_labels=test_labels)
    audit(twinned, out=folder, recipe=AUDITOR, folds=FOLDS, device="cpu")
    return open_audit(folder)


@pytest.fixture
def judged(run: Run, data: Dataset) -> Run:
    """A run of the recipe `small`, judged on test."""
    evaluate(run, data, splits=["test"])
    return run


def flag(made: Audit, folder: Path, *rows: str) -> Audit:
    """A copy of an audit that found just these rows."""
    copy = Audit(folder)
    copy.write(made.read())
    header = "split,index,label,suggested,score,kind,partner"
    (folder / "audit.csv").write_text("\n".join([header, *rows]) + "\n")
    return copy


def test_planted_noise_is_found(noisy: tuple[Dataset, np.ndarray]) -> None:
    data, wrong = noisy
    said = ask_folds(AUDITOR, data, FOLDS, device="cpu")
    suspects = find_suspects(data.train_labels, said.train)
    first = np.argsort(suspects.ranks())
    assert np.isin(first[:20], wrong).mean() >= 0.95
    assert np.isin(first[: len(wrong)], wrong).mean() >= 0.85
    assert np.isin(suspects.ranked()[:20], first[:30]).all()


def test_an_image_is_judged_by_networks_that_did_not_learn_from_it(data: Dataset) -> None:
    said = ask_folds(AUDITOR, data, FOLDS, seed=3, device="cpu")
    images, labels = np.asarray(data.train_images), np.asarray(data.train_labels)
    test = np.zeros_like(said.test)
    for fold, (learned, held_out) in enumerate(
        StratifiedKFold(FOLDS, shuffle=True, random_state=3).split(images, labels)
    ):
        judge = FashionClassifier(AUDITOR, random_state=3 + fold, device="cpu")
        judge.fit(images[learned], labels[learned])
        assert (said.train[held_out] == judge.predict_proba(images[held_out])).all()
        test += judge.predict_proba(data.test_images) / FOLDS
    np.testing.assert_allclose(said.test, test, rtol=1e-12)
    np.testing.assert_allclose(said.train.sum(axis=1), 1, rtol=1e-5)


def test_an_image_and_its_mirror_image_have_one_embedding(data: Dataset) -> None:
    network = make_network("sprinter")
    images = np.asarray(data.test_images)
    embeddings = embed(network, images, "cpu")
    assert embeddings.shape == (len(images), 256)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(embed(network, images[:, :, ::-1], "cpu"), embeddings, atol=1e-5)


def test_neighbours_are_the_nearest_and_strangeness_their_mean_cosine_distance() -> None:
    random = np.random.default_rng(1)
    points = random.normal(size=(60, 5))
    points = (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)
    found = find_neighbours(points)
    distances = pairwise_distances(points.astype(np.float64), metric="cosine")
    np.fill_diagonal(distances, np.inf)
    order = np.argsort(distances, axis=1)[:, :10]
    assert (found.indices == order).all()
    expected = np.take_along_axis(distances, order, axis=1).mean(axis=1)
    np.testing.assert_allclose(found.strangeness, expected, atol=1e-6)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("shift", [(0, 0), (1, 0), (-1, 1)])
def test_copies_are_found_mirrored_and_moved_and_others_are_not(
    data: Dataset, mirrored: bool, shift: tuple[int, int]
) -> None:
    images = np.array(data.train_images[:40])
    images[:, [0, -1]] = 0
    images[:, :, [0, -1]] = 0  # so that moving loses nothing
    copy = images[3, :, ::-1] if mirrored else images[3]
    copy = np.roll(copy, shift, axis=(0, 1))
    speckled = np.clip(
        copy.astype(int) + np.random.default_rng(0).integers(-3, 4, (28, 28)), 0, 255
    )
    images = np.concatenate([images, speckled[None].astype(np.uint8)])
    everyone = np.stack([np.delete(np.arange(41), i) for i in range(41)])
    (pair,) = find_pairs(images, everyone)
    assert (pair.first, pair.second) == (3, 40)
    assert (pair.mirrored, pair.shift) == (mirrored, shift)
    assert 0 < pair.distance < SAME_PICTURE


def test_the_same_pixels_are_no_distance_apart_and_black_images_are_no_trouble() -> None:
    images = np.zeros((3, 28, 28), np.uint8)
    images[2, 5:9, 5:9] = 200
    everyone = np.array([[1, 2], [0, 2], [0, 1]])
    (pair,) = find_pairs(images, everyone)
    assert (pair.first, pair.second, pair.distance) == (0, 1, 0)


def test_the_files_agree(made: Audit, data: Dataset) -> None:
    facts, findings = made.read(), made.read_findings()
    with open(made.folder / "audit.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(findings)
    assert list(rows[0]) == ["split", "index", "label", "suggested", "score", "kind", "partner"]
    for kind, name in (("label", "suspects"), ("outlier", "outliers")):
        for split, count in facts[name].items():
            assert sum((r["kind"], r["split"]) == (kind, split) for r in rows) == count
    assert 2 * sum(facts["duplicates"].values()) == sum(r["kind"] == "duplicate" for r in rows)
    with np.load(made.folder / "probabilities.npz", allow_pickle=False) as saved:
        train, test = saved["train"], saved["test"]
    assert (train.shape, test.shape) == ((480, 10), (120, 10))
    assert facts["held_out_accuracy"]["train"] == np.mean(train.argmax(axis=1) == data.train_labels)
    for found in findings:
        assert 0 <= found.score <= 1
        if found.kind == "label" and found.split == "train":
            assert found.label == data.train_labels[found.index]
            assert found.suggested == train[found.index].argmax() != found.label
            assert found.score == pytest.approx(1 - train[found.index, found.label], abs=1e-5)
    assert facts["known"] is None  # it is known of Fashion-MNIST, not of these


def test_the_twin_across_the_splits_is_found_and_flagged(made: Audit) -> None:
    twins = [each for each in made.read_findings() if each.kind == "duplicate"]
    assert ("test", 0, "train 7") in [(t.split, t.index, t.partner) for t in twins]
    assert ("train", 7, "test 0") in [(t.split, t.index, t.partner) for t in twins]
    assert 0 in made.flagged("duplicate")
    assert made.read()["repeated_test_images"] == len(made.flagged("duplicate"))


def test_a_finished_audit_is_held_no_more(made: Audit) -> None:
    names = {path.name for path in made.folder.iterdir()}
    assert names == {"audit.json", "audit.csv", "audit.html", "probabilities.npz"}


def test_the_page_shows_each_thing_found_and_loads_nothing(made: Audit) -> None:
    page, facts = made.page.read_text("utf-8"), made.read()
    shown = page.count("<img ")
    labels, odd = sum(facts["suspects"].values()), sum(facts["outliers"].values())
    assert shown == labels + odd + 2 * sum(facts["duplicates"].values())
    assert page.count("data:image/png;base64,") == shown
    assert not re.search(r"https?://|<script|url\(", page)
    assert "train 7, test 0" in page
    assert f"{facts['suspects']['train']} + {facts['suspects']['test']} labels in doubt" in page


def test_the_clean_score_stands_beside_the_official(
    made: Audit, judged: Run, tmp_path: Path
) -> None:
    rows = ["test,3,1,2,0.9,label,", "test,5,1,,0.99,duplicate,train 8"]
    ignored = [
        "test,9,1,,0.99,duplicate,test 10",
        "test,11,1,,0.5,outlier,",
        "train,4,1,2,1,label,",
    ]
    scored = clean_test_score(judged.folder, flag(made, tmp_path / "a", *rows, *ignored))
    saved = judged.read_logits("test")
    right = saved.logits.argmax(axis=1) == saved.labels
    assert scored["official"]["accuracy"] == right.mean()
    metrics = judged.read_metrics()["splits"]["test"]
    counted = {key: metrics[key] for key in ("images", "accuracy", "accuracy_interval")}
    assert scored["official"] == {**counted, "sd": None}
    assert scored["runs"] == 1
    assert scored["without_suspects"]["accuracy"] == np.delete(right, 3).mean()
    assert scored["without_duplicates"]["accuracy"] == np.delete(right, 5).mean()
    assert scored["clean"]["accuracy"] == np.delete(right, [3, 5]).mean()
    assert scored["clean"]["images"] == 118
    assert scored["flagged"]["accuracy"] == right[[3, 5]].mean()
    assert scored["same_network"] is False
    assert "does not replace the official score" in scored["bias"]


def test_nothing_flagged_leaves_the_official_score(
    made: Audit, judged: Run, tmp_path: Path
) -> None:
    scored = clean_test_score(judged.folder, flag(made, tmp_path / "a"))
    assert scored["clean"] == scored["official"]
    nothing = {"images": 0, "accuracy": None, "sd": None, "accuracy_interval": None}
    assert scored["flagged"] == nothing


@pytest.fixture
def seeds(judged: Run, tmp_path: Path) -> SeedRuns:
    """Three seeds of a recipe, of which each has another share of the test images right."""
    group = SeedRuns(tmp_path / "seeds")
    plan: dict[str, Any] = {**dict.fromkeys(SeedRuns.PLAN), "named": "small", "seeds": [0, 1, 2]}
    saved = judged.read_logits("test")
    for seed in plan["seeds"]:
        shutil.copytree(judged.folder, group.run(seed).folder)
        logits = np.eye(10, dtype=np.float32)[saved.labels]
        logits[: 10 + 10 * seed] *= -1
        group.run(seed).write_logits("test", dataclasses.replace(saved, logits=logits))
    group.write(plan)
    return group


def test_of_seeds_the_mean_is_scored(made: Audit, seeds: SeedRuns, tmp_path: Path) -> None:
    flags = flag(made, tmp_path / "a", "test,3,1,2,0.9,label,", "test,50,1,2,0.9,label,")
    scored = clean_test_score(seeds.folder, flags)
    each = [clean_test_score(seeds.run(seed).folder, flags) for seed in range(3)]
    assert (scored["run"], scored["runs"]) == (str(seeds.folder), 3)
    official = [one["official"]["accuracy"] for one in each]
    assert official == [110 / 120, 100 / 120, 90 / 120]
    assert scored["official"]["accuracy"] == pytest.approx(100 / 120)
    assert scored["official"]["sd"] == pytest.approx(10 / 120)
    clean = [one["clean"]["accuracy"] for one in each]
    assert scored["clean"] == {
        "images": 118,
        "accuracy": pytest.approx(np.mean(clean)),
        "sd": pytest.approx(np.std(clean, ddof=1)),
        "accuracy_interval": describe(clean)["interval"],
    }
    assert scored["flagged"]["accuracy"] == 0.5
    assert scored["flagged"]["sd"] == 0


def test_seeds_that_are_not_all_there_are_not_scored(
    made: Audit, seeds: SeedRuns, tmp_path: Path
) -> None:
    last = seeds.run(2)
    last.write({**last.read(), "state": "training"})
    with pytest.raises(RunError, match=r"has 2 of 3 seeds; go on with: fmnist train --resume"):
        clean_test_score(seeds.folder, flag(made, tmp_path / "a"))


def test_score_goes_with_no_option_of_the_training(
    made: Audit, judged: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scoring = ["audit", "--score", str(judged.folder), "--out", str(made.folder)]
    for options in (["--recipe", "sprint"], ["--folds", "5"], ["--data-dir", "."]):
        monkeypatch.setattr("sys.argv", ["fmnist", *scoring, *options])
        with pytest.raises(SystemExit) as exit_:
            main()
        assert exit_.value.code == 2
        said = capsys.readouterr().err
        assert options[0] in said
        assert "trains nothing" in said


def test_a_network_without_a_linear_layer_is_taken_by_its_logits(data: Dataset) -> None:
    network = nn.Sequential(nn.Conv2d(1, 10, 28), nn.Flatten())
    images = np.asarray(data.test_images[:5])
    found = embed(network, images, "cpu")
    assert found.shape == (5, 10)
    np.testing.assert_allclose(embed(network, images[:, :, ::-1], "cpu"), found, atol=1e-6)


def test_the_recipe_that_flagged_is_not_scored(
    made: Audit, judged: Run, recipe: Recipe, tmp_path: Path
) -> None:
    own = flag(made, tmp_path / "a")
    own.write({**made.read(), "recipe": {**recipe.to_json(), "name": "also", "source": "-"}})
    with pytest.raises(RunError, match=r"recipe that flagged images, also; .* another --recipe"):
        clean_test_score(judged.folder, own)
    own.write({**made.read(), "recipe": {**recipe.to_json(), "epochs": 9}})
    assert clean_test_score(judged.folder, own)["same_network"] is True


def test_what_bench_left_is_scored(made: Audit, judged: Run, tmp_path: Path) -> None:
    bench = Bench(tmp_path / "bench")
    facts = {"name": "theirs", "target": "theirs.csv", "command": "fmnist bench theirs.csv"}
    bench.write({**facts, "data": judged.read()["data"]})
    bench.write_logits("test", judged.read_logits("test"))
    ours, theirs = (clean_test_score(each, made) for each in (judged.folder, bench.folder))
    assert {**theirs, "run": ours["run"]} == ours
    bench.write({**bench.read(), "recipe": made.read()["recipe"]})  # as of a file of ours
    with pytest.raises(RunError, match="is of the recipe that flagged images, auditor"):
        clean_test_score(bench.folder, made)


def test_what_cannot_be_scored_is_refused(
    made: Audit, run: Run, data: Dataset, tmp_path: Path
) -> None:
    with pytest.raises(RunError, match=r"logits-test\.npz is missing; run: fmnist evaluate"):
        clean_test_score(run.folder, made)
    with pytest.raises(RunError, match=r"make one with: fmnist audit --out .*nowhere"):
        clean_test_score(run.folder, tmp_path / "nowhere")
    evaluate(run, data, splits=["test"])
    other = flag(made, tmp_path / "a")
    other.write({**made.read(), "data": {"sha256": {}}})
    with pytest.raises(DataError, match="was judged on other data files than"):
        clean_test_score(run.folder, other)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("audit.json", "{", "is damaged .*; audit again"),
        ("audit.json", "[]", "was not written by fmnist audit"),
        ("audit.csv", "split,index\ntest,1\n", "is damaged .*; audit again"),
        (
            "audit.csv",
            "split,index,label,suggested,score,kind,partner\ntest,1,2,,x,label,\n",
            "is dam",
        ),
        (
            "audit.csv",
            "split,index,label,suggested,score,kind,partner\ntest,1,2,,1,odd,\n",
            "is dam",
        ),
    ],
)
def test_damaged_files_are_named(
    made: Audit, judged: Run, tmp_path: Path, name: str, content: str, said: str
) -> None:
    damaged = flag(made, tmp_path / "a")
    (damaged.folder / name).write_text(content)
    with pytest.raises(RunError, match=said):
        clean_test_score(judged.folder, damaged.folder)


def test_a_folder_that_is_taken_is_left_alone(data: Dataset, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="name a new directory with --out"):
        audit(data, out=tmp_path, recipe=AUDITOR)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    claim_folder(tmp_path / "a", "audit")
    with pytest.raises(RunError, match="name a new directory with --out"):
        audit(data, out=tmp_path / "a", recipe=AUDITOR)


def test_what_cannot_be_trained_leaves_no_folder(data: Dataset, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="recipe photo is made for photos"):
        audit(data, out=tmp_path / "a", recipe="photo")
    broken = dataclasses.replace(AUDITOR, network="no such")
    with pytest.raises(ModelError, match="there is no network"):
        audit(data, out=tmp_path / "a", recipe=broken)
    for folds in (1, 49):
        with pytest.raises(RunError, match=f"{folds} folds cannot be made .*; use 2 to 48"):
            audit(data, out=tmp_path / "a", recipe=AUDITOR, folds=folds)
    assert not (tmp_path / "a").exists()


def test_without_cleanlab_the_extra_is_named() -> None:
    told = missing_extra(ModuleNotFoundError(name="cleanlab.filter"))
    assert str(told) == "cleanlab is not installed; run: pip install 'fmnist[audit]'"


def test_the_commands_of_the_page(
    garments: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)

    def run(words: list[str]) -> Any:
        monkeypatch.setattr("sys.argv", ["fmnist", *words])
        with pytest.raises(SystemExit) as exit_:
            main()
        assert exit_.value.code == 0, capsys.readouterr()
        return capsys.readouterr().out

    said = [run(words) for words in commands("docs/audit.md")]
    assert "suspects" in said[0]
    assert any("without both" in out for out in said)
    assert json.loads(Path("audit/audit.json").read_bytes())["folds"] == 5


def test_the_benchmark_counts_what_was_planted() -> None:
    labels = np.repeat(np.arange(10, dtype=np.uint8), 20)
    noisy, wrong = label_audit.plant(labels, 0.04, seed=5)
    assert wrong.sum() == 8
    assert ((noisy != labels) == wrong).all()
    assert noisy.max() < 10
    scores = wrong * 0.5 + np.linspace(0.1, 0, 200)
    scores[wrong.nonzero()[0][:2]] = 0  # two that are missed
    found = label_audit.found_of_planted(Suspects(scores, wrong, labels.astype(np.int64)), wrong)
    assert [part["first"] for part in found] == [4, 8, 16]
    assert [part["precision"] for part in found] == [1, 6 / 8, 6 / 16]
    assert [part["recall"] for part in found] == [0.5, 0.75, 0.75]
