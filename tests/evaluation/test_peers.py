import shutil
from pathlib import Path

import numpy as np
import pytest

from fmnist.data import CLASS_NAMES, Dataset
from fmnist.evaluation.metrics import score
from fmnist.evaluation.peers import find_peers
from fmnist.evaluation.suite import evaluate
from fmnist.recipes import RECIPES, SPRINT
from fmnist.runs import Bench, Run, SplitLogits, open_run

pytestmark = pytest.mark.usefixtures("accepted")  # their files count as the official ones


def _others(run: Run) -> list[tuple[str, bool]]:
    published = {f"{name}, as published" for name in RECIPES}
    found = find_peers(run)
    return [(other.name, other.is_this) for other in found if other.name not in published]


def test_a_run_stands_beside_what_lies_beside_it(run: Run, data: Dataset) -> None:
    scores = evaluate(run, data, splits=["test"])["splits"]["test"]
    (mine,) = [other for other in find_peers(run) if other.is_this]
    assert mine.accuracy == scores["accuracy"]
    assert mine.interval == tuple(scores["accuracy_interval"])
    assert (mine.basis, mine.trained_on) == ("the test images", "55,000")
    shutil.copytree(run.folder, run.folder.parent / "again")
    assert _others(run) == [("small", True), ("small", False)]


def test_what_lies_deeper_or_was_not_judged_is_left_out(run: Run, data: Dataset) -> None:
    assert find_peers(run) == []  # itself not judged on test
    evaluate(run, data, splits=["validation"])
    assert find_peers(run) == []
    shutil.copytree(run.folder, run.folder.parent / "unjudged")
    evaluate(run, data, splits=["test"])
    shutil.copytree(run.folder, run.folder.parent / "deeper" / "run")
    assert _others(run) == [("small", True)]


def test_it_is_found_however_its_folder_is_named(
    run: Run, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate(run, data, splits=["test"])
    monkeypatch.chdir(run.folder.parent)
    assert _others(open_run(Path(run.folder.name))) == [("small", True)]
    monkeypatch.chdir(run.folder)
    assert _others(open_run(Path())) == [("small", True)]


def test_published_scores_have_the_interval_of_their_mean(run: Run, data: Dataset) -> None:
    evaluate(run, data, splits=["test"])
    (sprint,) = [n for n in find_peers(run) if n.name == "sprint, as published"]
    score = SPRINT.score
    assert score is not None
    assert sprint.interval is not None
    half = 2.0930240544 * score.sd / score.seeds**0.5  # Student's t, 19 degrees, 97.5 %
    assert score.seeds == 20
    assert sprint.interval == pytest.approx(
        (score.accuracy - half, score.accuracy + half), abs=1e-9
    )


def test_damaged_neighbours_are_left_out(run: Run, data: Dataset) -> None:
    evaluate(run, data, splits=["test"])
    beside = run.folder.parent
    (beside / "torn").mkdir()
    (beside / "torn" / "summary.json").write_text("{")
    shutil.copytree(run.folder, beside / "odd")
    odd = open_run(beside / "odd")
    odd.write({**odd.read(), "recipe": {}, "seed": 9})
    assert _others(run) == [("small", True)]


def test_a_neighbour_that_is_too_good_is_marked(run: Run, data: Dataset) -> None:
    evaluate(run, data, splits=["test"])
    bench = Bench(run.folder.parent / "labels")
    facts = {"name": "labels", "target": "labels.csv", "command": "fmnist bench labels.csv"}
    bench.write({**facts, "data": run.read()["data"], "warnings": ["its answers are the labels"]})
    test = data.split("test")
    logits = np.eye(10, dtype=np.float32)[test.labels]
    bench.write_logits("test", SplitLogits(logits, test.labels, test.indices))
    scores = score(logits, test.labels, CLASS_NAMES)
    bench.write_metrics({"temperature": 1.0, "splits": {"test": scores}})
    (labels,) = [peer for peer in find_peers(run) if peer.name == "labels"]
    assert not labels.is_ranked
    assert labels.beware.startswith("its answers are the labels; 100.00 % is above what anybody")
