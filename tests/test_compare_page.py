"""docs/compare.md: its commands run, and the verbs say what is wrong with others."""

import dataclasses
import json
import os
import shlex
import signal
from pathlib import Path
from typing import Any

import pytest

from fmnist.cli import main
from fmnist.data import Dataset
from fmnist.recipes import CLASSIC, RECIPES
from judged import judged_bench, judged_run, some_wrong
from pages import ROOT, commands

PAGE = "docs/compare.md"
MODULE = """
import os

from fmnist.recipes import Adam, Recipe
from tiny import Tiny


class Stoppable(Tiny):
    '''Sends its own process SIGINT in the batch STOP_AT of those it learns from.'''

    batches = 0

    def forward(self, x):
        Stoppable.batches += self.training
        if self.training and str(Stoppable.batches) == os.environ.get("STOP_AT"):
            os.kill(os.getpid(), 2)
        return super().forward(x)


RECIPE = Recipe("mine", Stoppable, 2, 32, Adam(), source="tests")
"""


class Said:
    """What a command printed, and its exit status."""

    def __init__(self, capsys: pytest.CaptureFixture[str], *words: str) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.argv", ["fmnist", *words])
            with pytest.raises(SystemExit) as exit_:
                main()
        self.status: Any = exit_.value.code
        self.out, self.err = capsys.readouterr()


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test in a folder of its own, and pages of runs, which take seconds, in a word."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "fmnist.evaluation.seeds.report", lambda run, data: run.report.write_text("a page")
    )


def test_its_commands_run(
    garments: Dataset,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(RECIPES, "classic", dataclasses.replace(CLASSIC, epochs=1))
    told = commands(PAGE)
    verbs = [command[0] for command in told]
    tuned = ["train", "train", "compare"]
    assert verbs == [*["train"] * 3, *tuned, "train", *["compare"] * 2, *["leaderboard"] * 2]
    for command in told:
        said = Said(capsys, *command)
        assert said.status == 0, (command, said.err)
    assert len(list((tmp_path / "runs" / "sprint").iterdir())) == 8
    assert (tmp_path / "compare.html").stat().st_size < 1_000_000
    assert json.loads((tmp_path / "runs" / "trial" / "summary.json").read_text())["test"] is None
    assert "| sprint | 60,000 | " in said.out
    assert "left out: runs/trial/seed-0 was not judged on the test split" in said.err


def test_the_pages_it_links_to_are_there() -> None:
    text = (ROOT / PAGE).read_text("utf-8")
    assert [link for link in ("json.md", "bench.md") if f"({link})" not in text] == []


def test_ctrl_c_says_how_all_seeds_go_on(
    garments: Dataset,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "mine.py").write_text(MODULE)
    monkeypatch.setenv("STOP_AT", "40")  # of 28 a seed
    asked = ["train", "mine:RECIPE", "--seeds", "3", "--seed", "5", "--out", "my seeds", "--quiet"]
    stopped = Said(capsys, *asked, "--no-evaluate")
    assert stopped.status == 128 + signal.SIGINT
    assert stopped.err == (
        "fmnist: stopped in seed 6, 1 of 3 seeds are done; go on with: "
        "fmnist train mine:RECIPE --resume 'my seeds'\n"
    )
    monkeypatch.delenv("STOP_AT")
    command = shlex.split(stopped.err.partition("go on with: ")[2])
    told = json.loads(Said(capsys, *command[1:], "--json").out)
    assert (told["folder"], told["state"], told["seeds"]) == ("my seeds", "finished", [5, 6, 7])
    assert told["test"] is None
    assert json.loads(Path("my seeds/seed-6/run.json").read_text())["resumed"] == 1
    unnamed = Said(capsys, "train", "--resume", "my seeds")
    assert unnamed.err == (
        "fmnist: its recipe is not part of fmnist; name it: fmnist train mine:RECIPE "
        "--resume 'my seeds'\n"
    )


def test_seeds_for_people(
    garments: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text(MODULE)
    said = Said(capsys, "train", "mine:RECIPE", "--seeds", "2", "--device", "cpu")
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("mine-seeds-")
    told = json.loads((folder / "summary.json").read_text())["test"]["accuracy"]
    assert (
        f"test accuracy {100 * told['mean']:.2f} ± {100 * told['sd']:.2f} % (sd, n = 2), "
        "95 % interval of the mean "
    ) in said.out
    assert said.out.endswith(f"runs/{folder.name}\n")
    done = [line for line in said.err.splitlines() if line.startswith("epoch 2/2")]
    assert len(done) == 2


def test_bad_usage_of_seeds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    judged_run(tmp_path / "run", [1])
    for words, why in (
        (["--resume", "run", "--seeds", "3"], "--seeds goes on with a directory of seeds; run is"),
        (["sprint", "--seeds", "0"], "should be greater than or equal to 1"),
        (["--resume", "run", "--seed", "3"], "no --out, --seed or --all-data"),
    ):
        said = Said(capsys, "train", *words)
        assert said.status == 2
        assert why in " ".join(said.err.replace("│", " ").split())


def test_compare_for_people(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    judged_run(tmp_path / "a", some_wrong(50, 1))
    judged_bench(tmp_path / "b", some_wrong(120, 2), "theirs")
    said = Said(capsys, "compare", "a", "b")
    assert said.out.startswith("sprint is better than theirs on the test images: 95.00 % against")
    assert "beware: sprint is a single training" in said.out
    assert "they differ on " in said.out
    assert len([line for line in said.out.splitlines() if line.startswith(" Ankle boot ")]) == 1
    assert (said.status, said.err) == (0, "")
    told = json.loads(Said(capsys, "compare", "a", "b", "--json").out)
    assert said.out.startswith(told["sentence"])
    alone = Said(capsys, "compare", "a")
    assert (alone.status, alone.out) == (1, "")
    assert alone.err == "fmnist: a: 1 run of sprint; name two runs, or seeds of two trainings\n"


def test_leaderboard_for_people(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    judged_run(tmp_path / "runs" / "a", some_wrong(50, 1))
    judged_run(tmp_path / "runs" / "b", some_wrong(60, 2), 1)
    judged_run(tmp_path / "runs" / "c", [], recipe=CLASSIC, state="training")
    said = Said(capsys, "leaderboard")
    assert "94.50 ± 0.71" in said.out
    assert "sprint: fmnist train sprint --seeds 2\n" in said.out
    assert said.err.startswith("fmnist: left out: runs/c has not finished training; go on with:")
    told = Said(capsys, "leaderboard", "--json").out
    assert told.count("\n") == 1
    assert json.loads(told)["rows"][0]["warnings"] == []
    os.rename("runs", "elsewhere")
    gone = Said(capsys, "leaderboard")
    assert gone.err == "fmnist: runs is not a directory; name one that holds runs\n"
