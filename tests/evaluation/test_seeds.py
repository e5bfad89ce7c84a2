"""Many seeds: the same runs as one by one, taken up where they stopped."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from fmnist.data import Dataset
from fmnist.errors import RunError, Stopped
from fmnist.evaluation import seeds as module
from fmnist.evaluation.comparison.compare import compare
from fmnist.evaluation.seeds import train_seeds
from fmnist.files import try_lock
from fmnist.recipes import RECIPES, Recipe
from fmnist.runs import SeedRuns, open_run
from fmnist.training import Progress, train
from fmnist.training.loop import Watch


@pytest.fixture(autouse=True)
def without_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page takes seconds, and is not what is tested here."""
    monkeypatch.setattr(module, "report", lambda run, data: run.report.write_text("a page"))


@pytest.fixture(scope="module")
def whole(
    data: Dataset, recipe: Recipe, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    """Three seeds trained in one go; not to be changed."""
    folder = tmp_path_factory.mktemp("seeds") / "whole"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(module.__dict__, "report", lambda run, data: run.report.write_text("a page"))
        from fmnist.models import NETWORKS
        from tiny import Tiny

        patch.setitem(NETWORKS, "tiny", Tiny)
        return folder, train_seeds(recipe, data, seeds=3, first=4, out=folder, device="cpu")


def untimed(summary: dict[str, Any]) -> dict[str, Any]:
    """What may not depend on the clock, on where it was written, or on how it was called."""
    runs = [{**run, "seconds": None} for run in summary["runs"]]
    return {**summary, "runs": runs, "seconds": None, "folder": None, "argv": None}


@contextmanager
def stops_at(step: int) -> Iterator[Watch]:
    def watch(progress: Progress) -> None:
        if progress.step == step and not progress.epoch_ended:
            os.kill(os.getpid(), signal.SIGINT)

    yield watch


def test_each_run_is_that_of_a_single_training(
    whole: tuple[Path, dict[str, Any]], data: Dataset, recipe: Recipe, tmp_path: Path
) -> None:
    folder, summary = whole
    assert sorted(os.listdir(folder)) == ["lock", "seed-4", "seed-5", "seed-6", "summary.json"]
    for seed in (4, 6):
        alone = train(recipe, data, seed=seed, out=tmp_path / str(seed), device="cpu")
        assert (folder / f"seed-{seed}" / "weights.safetensors").read_bytes() == (
            alone.weights.read_bytes()
        )
    assert [run["seed"] for run in summary["runs"]] == summary["seeds"] == [4, 5, 6]
    assert summary["state"] == "finished"
    assert SeedRuns(folder).read() == {k: v for k, v in summary.items() if k != "folder"}


def test_the_summary_is_the_distribution_of_the_runs(
    whole: tuple[Path, dict[str, Any]],
) -> None:
    folder, summary = whole
    for split in ("test", "validation"):
        runs = [open_run(folder / f"seed-{seed}") for seed in (4, 5, 6)]
        judged = [run.read_metrics()["splits"][split] for run in runs]
        for measure in ("accuracy", "loss"):
            found = [float(scores[measure]) for scores in judged]
            said = summary[split][measure]
            assert said["mean"] == pytest.approx(np.mean(found), abs=1e-12)
            assert said["sd"] == pytest.approx(np.std(found, ddof=1), abs=1e-12)
            bounds = stats.t.interval(0.95, 2, np.mean(found), stats.sem(found))
            most = 1.0 if measure == "accuracy" else np.inf
            assert said["interval"] == pytest.approx(np.clip(bounds, 0.0, most), abs=1e-9)
    trained = [run["seconds"]["train"] for run in summary["runs"]]
    assert summary["seconds"]["train"]["median"] == np.median(trained)
    assert summary["mixed"] == []


@pytest.mark.parametrize("step", [7, 14])  # in the middle, and with the last step
def test_stopped_seeds_go_on_to_the_same(
    step: int, whole: tuple[Path, dict[str, Any]], data: Dataset, recipe: Recipe, tmp_path: Path
) -> None:
    folder = tmp_path / "stopped"
    steps = iter([999, step, 999, 999])  # of the first seed, the second, …

    def go(**how: Any) -> dict[str, Any]:
        return train_seeds(recipe, data, device="cpu", lend=lambda: stops_at(next(steps)), **how)

    said = "stopped in seed 5, 1 of 3 seeds are done; go on with: "
    with pytest.raises(Stopped, match=said) as stop:
        go(seeds=3, first=4, out=folder)
    assert stop.value.signal == signal.SIGINT
    assert str(stop.value).endswith(f"fmnist train YOUR_MODULE:RECIPE --resume {folder}")
    before = SeedRuns(folder).read()
    assert (before["state"], len(before["runs"]), before["seeds"]) == ("training", 1, [4, 5, 6])
    summary = go(resume=folder)
    assert untimed(summary) == untimed(whole[1])
    for seed in (4, 5, 6):
        name = f"seed-{seed}/weights.safetensors"
        assert (folder / name).read_bytes() == (whole[0] / name).read_bytes()


def test_stopped_while_judging(
    data: Dataset, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "evaluate", interrupted)
        with pytest.raises(Stopped, match="stopped in seed 0, 0 of 1 seeds are done"):
            train_seeds(recipe, data, seeds=1, out=tmp_path / "a", device="cpu")
    trained_at = (tmp_path / "a" / "seed-0" / "weights.safetensors").stat().st_mtime_ns
    summary = train_seeds(recipe, data, resume=tmp_path / "a")
    assert summary["test"]["accuracy"]["n"] == 1
    assert (tmp_path / "a" / "seed-0" / "weights.safetensors").stat().st_mtime_ns == trained_at


def test_more_seeds_can_be_asked_for_later_but_not_fewer(
    data: Dataset, recipe: Recipe, tmp_path: Path
) -> None:
    folder = tmp_path / "a"
    first = train_seeds(recipe, data, seeds=1, out=folder, device="cpu")
    assert (first["test"]["accuracy"]["sd"], first["test"]["accuracy"]["interval"]) == (None, None)
    more = train_seeds(recipe, data, seeds=2, resume=folder)
    assert more["runs"][0] == first["runs"][0]
    assert more["test"]["accuracy"]["n"] == 2
    with pytest.raises(RunError, match="is of 2 seeds; --seeds can only ask for more"):
        train_seeds(recipe, data, seeds=1, resume=folder)


def test_without_judging_the_test_split_stays_unread(
    data: Dataset, recipe: Recipe, tmp_path: Path
) -> None:
    folder = tmp_path / "a"
    train_seeds(recipe, data, seeds=1, out=folder, device="cpu", judge=False)
    summary = train_seeds(recipe, data, seeds=2, resume=folder)  # as the one seed before
    assert (summary["state"], summary["test"], summary["judge"]) == ("finished", None, False)
    assert summary["validation"]["accuracy"]["n"] == summary["validation"]["loss"]["n"] == 2
    assert {path.name for path in folder.rglob("logits-*")} == {"logits-validation.npz"}
    assert not list(folder.rglob("report.html"))
    with pytest.raises(RunError, match="seed-0 was not judged on the test split"):
        compare([folder, folder / "seed-0"])
    pair = compare([folder / "seed-0", folder / "seed-1"], "validation")["pairs"]
    assert len(pair) == 1
    judged = train_seeds(recipe, data, resume=folder, judge=True)
    assert (judged["test"]["accuracy"]["n"], judged["judge"]) == (2, True)


def test_the_way_on_leaves_the_test_split_unread_too(
    data: Dataset, recipe: Recipe, tmp_path: Path
) -> None:
    folder = tmp_path / "a"
    with pytest.raises(Stopped, match=f"--resume {folder}$"):
        train_seeds(
            recipe,
            data,
            seeds=2,
            out=folder,
            judge=False,
            device="cpu",
            lend=lambda: stops_at(7),
        )
    with pytest.raises(RunError, match=f"has 0 of 2 seeds; go on with: .* --resume {folder}$"):
        compare([folder, folder], "validation")
    assert train_seeds(recipe, data, resume=folder)["test"] is None
    assert not list(folder.rglob("logits-test.npz"))


def test_without_a_split_to_judge_on_seeds_are_only_trained(
    data: Dataset, recipe: Recipe, tmp_path: Path
) -> None:
    how: dict[str, Any] = {"all_data": True, "judge": False, "device": "cpu"}
    summary = train_seeds(recipe, data, seeds=1, out=tmp_path / "a", **how)
    assert (summary["state"], summary["test"], summary["validation"]) == ("finished", None, None)


def test_seeds_from_before_the_choice_are_judged(whole: tuple[Path, dict[str, Any]]) -> None:
    older = SeedRuns(whole[0].parent / "older")
    older.write({k: v for k, v in SeedRuns(whole[0]).read().items() if k != "judge"})
    assert older.read()["judge"] is True


def test_all_data_has_no_validation(data: Dataset, recipe: Recipe, tmp_path: Path) -> None:
    summary = train_seeds(recipe, data, seeds=1, all_data=True, out=tmp_path / "a", device="cpu")
    assert (summary["validation"], summary["all_data"]) == (None, True)
    assert summary["test"]["accuracy"]["n"] == 1
    assert open_run(tmp_path / "a" / "seed-0").read()["all_data"] is True


def test_what_would_not_be_the_same_training_is_refused(
    whole: tuple[Path, dict[str, Any]], data: Dataset, recipe: Recipe, tmp_path: Path
) -> None:
    import dataclasses

    folder = whole[0]
    for changed, why in (
        (dataclasses.replace(recipe, epochs=2), r"epochs differ\)"),
        (RECIPES["classic"], "is of the recipe small, not of classic"),
    ):
        with pytest.raises(RunError, match=why):
            train_seeds(changed, data, resume=folder)
    with pytest.raises(RunError, match="is of the engine torch; leave out --engine"):
        train_seeds(recipe, data, resume=folder, engine="keras")
    with pytest.raises(RunError, match="device differ"):
        train_seeds(recipe, data, resume=folder, device="cuda")
    with pytest.raises(RunError, match=r"holds seeds that go on with: fmnist train .* --resume"):
        train_seeds(recipe, data, seeds=3, out=folder)
    with pytest.raises(RunError, match=r"holds no summary\.json"):
        train_seeds(recipe, data, resume=folder / "seed-4")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine.txt").touch()
    with pytest.raises(RunError, match="is not empty; name a new directory"):
        train_seeds(recipe, data, seeds=3, out=tmp_path / "taken")
    with pytest.raises(RunError, match="is a file, not a directory"):
        train_seeds(recipe, data, seeds=3, out=tmp_path / "taken" / "mine.txt")
    with try_lock(folder / "lock"), pytest.raises(RunError, match="another training is using"):
        train_seeds(recipe, data, resume=folder)


def test_nothing_is_written_or_read_without_the_lock(
    data: Dataset, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def taken(path: Path) -> Iterator[bool]:
        yield False

    monkeypatch.setattr(module, "try_lock", taken)
    with pytest.raises(RunError, match="another training is using"):
        train_seeds(recipe, data, seeds=1, out=tmp_path / "a", device="cpu")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["lock"]


def test_a_field_that_came_later_is_no_other_recipe(
    data: Dataset, recipe: Recipe, tmp_path: Path
) -> None:
    """Recipes gain fields, whose default is what was before."""
    train_seeds(recipe, data, seeds=1, out=tmp_path / "a", device="cpu")
    run = open_run(tmp_path / "a" / "seed-0")
    older = {key: value for key, value in run.read()["recipe"].items() if key != "strangers"}
    run.write({**run.read(), "recipe": older})
    assert train_seeds(recipe, data, seeds=2, resume=tmp_path / "a")["test"]["accuracy"]["n"] == 2


def test_a_claim_that_a_kill_left_is_taken_again(
    data: Dataset, recipe: Recipe, tmp_path: Path
) -> None:
    train_seeds(recipe, data, seeds=1, out=tmp_path / "a", device="cpu")
    (tmp_path / "a" / "seed-1" / "checkpoint").mkdir(parents=True)
    summary = train_seeds(recipe, data, seeds=2, resume=tmp_path / "a")
    assert summary["test"]["accuracy"]["n"] == 2


def test_a_directory_of_seeds_is_no_run(whole: tuple[Path, dict[str, Any]]) -> None:
    with pytest.raises(RunError, match="holds many seeds; name one of them"):
        open_run(whole[0])
    (whole[0].parent / "other").mkdir()
    (whole[0].parent / "other" / "summary.json").write_text("{}")
    with pytest.raises(RunError, match="was not written by fmnist"):
        SeedRuns(whole[0].parent / "other").read()
