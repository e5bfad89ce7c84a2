"""A recipe's score is what its results file says, and that file says how it was made."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from fmnist.models import make_network
from fmnist.recipes import RECIPES

ROOT = Path(__file__).parents[1]
SCORED = [recipe for recipe in RECIPES.values() if recipe.score is not None]


def results(recipe: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(
        (ROOT / "benchmarks" / "results" / f"{recipe}.json").read_text("utf-8")
    )
    return content


def test_the_recipes_are_measured() -> None:
    assert {recipe.name for recipe in SCORED} >= {"sprint", "standard", "classic"}


@pytest.mark.parametrize("recipe", SCORED, ids=lambda recipe: recipe.name)
def test_a_score_is_its_results_file(recipe: Any) -> None:
    file = results(recipe.name)
    assert recipe.score.results == f"benchmarks/results/{recipe.name}.json"
    assert recipe.score.accuracy == pytest.approx(file["accuracy"]["mean"], abs=5e-5)
    assert recipe.score.sd == pytest.approx(file["accuracy"]["sd"], abs=5e-5)
    assert recipe.score.loss == pytest.approx(file["loss"]["mean"], abs=5e-4)
    assert recipe.score.seconds == pytest.approx(file["train_seconds"]["median"], abs=0.5)
    assert recipe.score.seeds == file["accuracy"]["n"] == len(file["runs"])
    assert file["machine"]["processor"] in recipe.score.machine
    # A network that was changed has another score than the one that was measured.
    network = make_network(recipe.network)
    assert file["parameters"] == sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("recipe", SCORED, ids=lambda recipe: recipe.name)
def test_a_results_file_says_how_it_was_made(recipe: Any) -> None:
    file = results(recipe.name)
    assert recipe.name in file["command"]
    assert file["seeds"] == [run["seed"] for run in file["runs"]]
    assert file["versions"]["torch"]
    assert not file["git_commit"].endswith("-dirty")
    accuracies = [run["accuracy"] for run in file["runs"]]
    assert file["accuracy"]["mean"] == pytest.approx(sum(accuracies) / len(accuracies))


def test_standard_keeps_its_promise() -> None:
    accuracy = results("standard")["accuracy"]
    assert accuracy["n"] >= 5
    assert accuracy["mean_less_two_standard_errors"] >= 0.94
    assert results("standard")["train_seconds"]["median"] <= 180


def test_sprint_wins_its_race() -> None:
    race = results("time_to_accuracy")
    accuracy = race["sprint"]["accuracy"]
    assert (accuracy["n"], race["notebook"]["train_seconds"]["n"]) == (20, 3)
    assert accuracy["mean_less_two_standard_errors"] >= 0.9254
    assert race["ratio"]["of_medians"] >= 20
    assert not race["git_commit"].endswith("-dirty")
    scores = results("sprint")
    assert [run["accuracy"] for run in scores["runs"]] == [
        run["accuracy"] for run in race["runs"]["sprint"]
    ]
    assert scores["git_commit"] == race["git_commit"]


def _measured(name: str) -> dict[str, Any]:
    """What a benchmark found; the test is skipped where it was not run yet."""
    if not (ROOT / "benchmarks" / "results" / f"{name}.json").exists():
        pytest.skip(f"benchmarks/results/{name}.json is not there")
    return results(name)


def test_the_audit_finds_what_people_found() -> None:
    file = _measured("label_audit")
    assert not file["git_commit"].endswith("-dirty")
    assert [audit["seed"] for audit in file["audits"]] == list(range(len(file["audits"])))
    for audit in file["audits"]:
        assert audit["known"]["in_top_percent"] >= 5
        assert len(audit["known"]["indices"]) == 7
        assert audit["seconds"] < 15 * 60
    first, as_many, _ = file["planted"]["at"]
    assert as_many["first"] == file["planted"]["planted"] == 2 * first["first"]
    assert first["precision"] >= 0.9


def test_the_full_suite_takes_under_five_minutes() -> None:
    file = _measured("full_suite")
    assert not file["git_commit"].endswith("-dirty")
    assert file["machine"]["cores"] <= 2
    assert file["seconds"]["max"] < 5 * 60
    assert file["page_bytes"] <= 5_000_000
    assert file["found"]["corruptions"]["images_asked"] == 15 * 10_000 + 40 * 2_000
    assert len(file["found"]["outliers"]) >= 3  # noise, shapes and a set of others'
    shipped = (ROOT / "src" / "fmnist" / "classifier" / "fmnist.onnx").read_bytes()
    assert file["sha256"] == hashlib.sha256(shipped).hexdigest()


def test_a_server_under_load_does_what_the_page_says() -> None:
    found = results("serving")
    assert not found["git_commit"].endswith("-dirty")
    tensors, photos = found["tensors"], found["photos"]
    assert found["start"]["seconds"]["max"] < 2
    assert tensors["closed_300"]["good_a_second"] >= 1100
    assert tensors["closed_10"]["requests"]["milliseconds"]["p99"] <= 10
    assert tensors["open_1100_by_10"]["requests"]["milliseconds"]["p99"] <= 10
    assert photos["capacity"] >= 10
    assert photos["open_5"]["requests"]["milliseconds"]["p99"] <= 500
    assert found["form"]["ratio"]["min"] >= 20
    memory = found["memory"]
    assert memory["requests"] >= 100_000
    assert memory["mib_at_the_end"] - memory["mib_in_the_middle"] <= 20
    for load in (tensors, photos):
        twice = load["at_twice"]
        assert twice["seconds"] >= 60
        assert set(twice["requests"]["statuses"]) <= {"200", "503"}
        assert twice["requests"]["broken"] == twice["requests"]["unanswered"] == 0
        assert load["goodput_of_capacity"] >= 0.9
        assert twice["health"]["milliseconds"]["p99"] <= 50
