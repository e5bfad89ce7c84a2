"""The leaderboard: who counts, in which row, with which numbers."""

import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from fmnist.errors import RunError
from fmnist.evaluation.audit import Audit
from fmnist.evaluation.audit.findings import FACTS
from fmnist.evaluation.comparison.leaderboard import leaderboard
from fmnist.evaluation.metrics import wilson_interval
from fmnist.recipes import CLASSIC, Recipe
from fmnist.reporting.leaderboard import as_markdown, render_leaderboard, write_page
from fmnist.runs import SeedRuns
from judged import IMAGES, data_facts, judged_bench, judged_run

FEW, MANY = [50, 54, 49], [80, 71]


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Seeds of two trainings, a single run, a model made elsewhere, and what does not count."""
    folder = tmp_path / "runs"
    for seed, wrong in enumerate(FEW):
        judged_run(folder / "sprint" / f"seed-{seed}", list(range(wrong)), seed)
    for seed, wrong in enumerate(MANY, 3):
        judged_run(folder / f"classic-{seed}", list(range(wrong)), seed, CLASSIC, all_data=True)
    judged_run(folder / "deep" / "er" / "one", list(range(60)), seed=7, recipe=CLASSIC)
    judged_bench(folder / "theirs", list(range(30)), "theirs")
    judged_run(folder / "unfinished", [], recipe=CLASSIC, state="training")
    judged_run(folder / "unjudged", [], recipe=CLASSIC, splits=("validation",))
    judged_run(folder / "stranger", [], recipe=CLASSIC, data={"sha256": {"old": "files"}})
    judged_run(folder / "twice", list(range(20)), seed=1)
    (judged_run(folder / "torn", [], recipe=CLASSIC).folder / "metrics.json").write_text("{")
    return folder


def test_rows_are_trainings_the_best_first(runs: Path) -> None:
    rows = leaderboard([runs])["rows"]
    assert [(row["rank"], row["name"], row["accuracy"]["n"]) for row in rows] == [
        (1, "theirs", 1),
        (2, "sprint", 3),
        (3, "classic (on 55,000)", 1),
        (4, "classic (on 60,000)", 2),
    ]
    assert [(row["kind"], row["all_data"], row["seeds"]) for row in rows] == [
        ("bench", None, []),
        ("run", False, [0, 1, 2]),
        ("run", False, [7]),
        ("run", True, [3, 4]),
    ]


def test_the_numbers_of_a_row(runs: Path) -> None:
    _, sprint, single, _ = leaderboard([runs])["rows"]
    found = [1 - wrong / IMAGES for wrong in FEW]
    assert sprint["accuracies"] == pytest.approx(found)
    assert sprint["accuracy"]["mean"] == pytest.approx(np.mean(found), abs=1e-12)
    assert sprint["accuracy"]["sd"] == pytest.approx(np.std(found, ddof=1), abs=1e-12)
    bounds = stats.t.interval(0.95, 2, np.mean(found), stats.sem(found))
    assert sprint["accuracy"]["interval"] == pytest.approx(bounds, abs=1e-9)
    assert sprint["accuracy"]["interval_over"] == "seeds"
    assert sprint["seconds"]["train"] == {"median": 6.0, "least": 5.0, "most": 7.0}
    assert sprint["seconds"]["to_predictions"]["median"] == pytest.approx(6.8)
    assert (single["accuracy"]["sd"], single["accuracy"]["interval_over"]) == (None, "images")
    assert single["accuracy"]["interval"] == pytest.approx(wilson_interval(940, 1000))
    assert sprint["machine"] == "a processor, cpu, 2 threads, bfloat16"


def test_the_command_of_a_row_makes_its_runs(runs: Path) -> None:
    said = {row["name"]: row["command"] for row in leaderboard([runs])["rows"]}
    assert said == {
        "theirs": "fmnist bench theirs.onnx",
        "sprint": "fmnist train sprint --seeds 3",
        "classic (on 55,000)": "fmnist train classic --seed 7",
        "classic (on 60,000)": "fmnist train classic --all-data --seed 3 --seeds 2",
    }


def test_commands_of_scattered_seeds_other_engines_and_photos(tmp_path: Path) -> None:
    photos = {"folder": "/my photos", "senders": "s.csv", "parts": ["a", "b"], "strangers": ["Hat"]}
    how: dict[str, Any] = {"engine": "keras", "photos": {**photos, "count": 3, "sha256": "x"}}
    for seed in (2, 5):
        judged_run(tmp_path / str(seed), [1], seed, **how)
    (row,) = leaderboard([tmp_path])["rows"]
    options = "--senders s.csv --part a --part b --stranger Hat"
    assert row["command"] == (
        f"for s in 2 5; do fmnist train sprint --engine keras --photos '/my photos' {options} "
        "--seed $s; done"
    )
    assert shlex.split(row["command"])


def test_what_does_not_count_is_told(runs: Path) -> None:
    said = {Path(each["path"]).name: each["reason"] for each in leaderboard([runs])["left_out"]}
    assert said.keys() == {"unfinished", "unjudged", "stranger", "twice", "torn"}
    assert "has not finished training; go on with: fmnist train --resume" in said["unfinished"]
    assert "was not judged on the test split; run: fmnist evaluate" in said["unjudged"]
    assert "is of other data files than the official ones" in said["stranger"]
    assert "is seed 1 of the same training as" in said["twice"]
    assert "metrics.json is damaged" in said["torn"]


def test_nothing_that_counts_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="nowhere is not a directory"):
        leaderboard([tmp_path / "nowhere"])
    with pytest.raises(RunError, match=r"no run under .* was judged on the test split$"):
        leaderboard([tmp_path])
    judged_run(tmp_path / "a", [], splits=("validation",))
    with pytest.raises(RunError, match=r"no run under .*; .*/a was not judged .* run: fmnist"):
        leaderboard([tmp_path])


def test_notes(tmp_path: Path) -> None:
    judged_run(tmp_path / "seed-0", [1])
    other = {"processor": "another", "cores": 2}
    judged_run(tmp_path / "seed-1", [1], 1, machine=other, git_commit="abc")
    plan = dict.fromkeys(SeedRuns.PLAN)
    SeedRuns(tmp_path).write({**plan, "seeds": [0, 1, 2, 3], "runs": []})
    (row,) = leaderboard([tmp_path])["rows"]
    assert row["seconds"] == {}
    assert row["machine"].count("bfloat16") == 2
    assert row["notes"] == [
        "2 machines or settings, so no times",
        "2 of 4 seeds so far",
        "the runs differ in git commit",
    ]


def test_what_nobody_should_believe_has_no_rank(runs: Path) -> None:
    doubt = "it answers differently when asked twice"
    bench = judged_bench(runs / "labels", [], "labels")
    bench.write({**bench.read(), "warnings": [doubt]})
    rows = leaderboard([runs])["rows"]
    assert [(row["rank"], row["name"]) for row in rows] == [
        (1, "theirs"),
        (2, "sprint"),
        (3, "classic (on 55,000)"),
        (4, "classic (on 60,000)"),
        (None, "labels"),
    ]
    assert rows[-1]["warnings"][0] == doubt
    assert "are these the labels themselves?" in rows[-1]["warnings"][1]
    assert all(row["warnings"] == [] for row in rows[:-1])
    told = as_markdown(leaderboard([runs]))
    assert "| labels (not ranked) |" in told
    assert f"- labels: {doubt}; 100.00 % is above what anybody has shown" in told


def test_a_damaged_neighbour_does_not_end_it(runs: Path) -> None:
    (runs / "sprint" / "summary.json").write_text('{"recipe": ')
    for name, odd in (("odd", {"seconds": None}), ("nameless", {"seed": []})):
        run = judged_run(runs / name, [], 9, CLASSIC)
        run.write({**run.read(), "named": "odd", **odd, "engine": "keras"})
    board = leaderboard([runs])
    assert [row["name"] for row in board["rows"]][:2] == ["theirs", "sprint"]
    (note,) = board["rows"][1]["notes"]
    assert re.search(r"summary\.json is damaged .*; make the run again", note)
    said = {Path(each["path"]).name: each["reason"] for each in board["left_out"]}
    for name in ("odd", "nameless"):
        assert "is damaged, or was not written by fmnist (TypeError" in said[name]


def audit_that_flags(folder: Path, indices: range, recipe: Recipe) -> Audit:
    """An audit by `recipe` that doubts the labels of these test images."""
    audit = Audit(folder)
    audit.write({**dict.fromkeys(FACTS), "recipe": recipe.to_json(), "data": data_facts()})
    rows = [f"test,{index},{index % 10},0,0.9,label," for index in indices]
    header = "split,index,label,suggested,score,kind,partner"
    (folder / "audit.csv").write_text("\n".join([header, *rows]) + "\n")
    return audit


def test_beside_each_accuracy_that_without_flagged_images(runs: Path, tmp_path: Path) -> None:
    folder = audit_that_flags(tmp_path / "audit", range(40), CLASSIC).folder
    board = leaderboard([runs], folder)
    theirs, sprint, single, many = board["rows"]
    assert (theirs["clean"]["mean"], theirs["clean"]["images"]) == (1.0, 960)
    assert theirs["clean"]["interval"] == pytest.approx(wilson_interval(960, 960))
    found = [1 - (wrong - 40) / 960 for wrong in FEW]
    assert sprint["clean"]["mean"] == pytest.approx(np.mean(found), abs=1e-12)
    assert sprint["clean"]["sd"] == pytest.approx(np.std(found, ddof=1), abs=1e-12)
    assert single["clean"] is many["clean"] is None  # of the recipe that flagged
    assert "no score without flagged images: " in single["notes"][0]
    head, _, first, *_ = as_markdown(board).splitlines()
    assert "| without flagged images, % |" in head
    assert "| 97.00 | 95.75 to 97.89 | 1 | 100.00 |" in first
    assert "every model scores too high" in as_markdown(board)
    assert "without flagged images 98.85 ± 0.28&nbsp;%" in render_leaderboard(board)
    with pytest.raises(RunError, match="holds no audit; make one with: fmnist audit"):
        leaderboard([runs], tmp_path)


def test_markdown(runs: Path) -> None:
    lines = as_markdown(leaderboard([runs])).splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[:6]]
    assert {len(row) for row in cells} == {10}
    assert cells[3][:7] == [
        "sprint",
        "55,000",
        "94.90 ± 0.26",
        "94.24 to 95.56",
        "3",
        "6.0\u00a0s",
        "6.8\u00a0s",
    ]
    assert cells[2][:3] == ["theirs", "\u2013", "97.00"]
    assert cells[5][-1] == "`fmnist train classic --all-data --seed 3 --seeds 2`"


def test_the_page_has_every_row_and_loads_nothing(runs: Path, tmp_path: Path) -> None:
    judged_bench(runs / "evil", [1], "<script>alert(1)</script>")
    board = leaderboard([runs])
    write_page(tmp_path / "board.html", board)
    page = (tmp_path / "board.html").read_text("utf-8")
    assert page == render_leaderboard(board)
    for row in board["rows"]:
        assert f"{100 * row['accuracy']['mean']:.2f}" in page
    assert "&lt;/script&gt; (not ranked)</h2>" in page
    assert page.count('class="strip"') == len(board["rows"]) - 1
    assert "99.90 % is above what anybody has shown" in page
    assert "94.90 ± 0.26" in page
    assert "5 directories were left out" in page
    assert not re.search(r"<script|https?://|<link|url\(", page)
    # Every dot and bar lies on its strip.
    places = [float(place) for place in re.findall(r"(?:left|right):([-\d.]+)%", page)]
    assert len(places) >= 15
    assert all(0 <= place <= 100 for place in places)
