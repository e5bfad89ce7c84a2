"""docs/evaluation.md: its commands run, its keys are the suite's, its links lead somewhere."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fmnist.cli import main
from fmnist.data import Dataset
from fmnist.recipes import RECIPES
from pages import ROOT, commands, take_pictures

PAGE = "docs/evaluation.md"


def test_its_commands_run_and_give_the_numbers_that_it_names(
    garments: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(RECIPES, "sprint", dataclasses.replace(RECIPES["sprint"], epochs=1))
    monkeypatch.setattr("fmnist.evaluation.speed.SECONDS", 0.0)
    monkeypatch.chdir(tmp_path)
    take_pictures(tmp_path)
    (tmp_path / "photos").rename(tmp_path / "strangers")
    np.savez(tmp_path / "mnist_test.npz", x=garments.test_images[:5] // 4)
    assert len(commands(PAGE)) == 3
    for command in commands(PAGE):
        capsys.readouterr()
        monkeypatch.setattr("sys.argv", ["fmnist", *command])
        with pytest.raises(SystemExit) as exit_:
            main()
        assert exit_.value.code == 0, command
        if "full" in command:
            said = capsys.readouterr().out
            for part in ("mean corruption error", "strangers", "AUROC", "images a second", "AURC"):
                assert part in said
    said = json.loads(capsys.readouterr().out)
    assert {"corruptions", "outliers", "speed"} <= said.keys()
    assert [row["name"] for row in said["outliers"]["sets"]] == [
        *("noise", "shapes"),
        *("mnist_test.npz", "strangers"),
    ]
    known = keys_in(said)
    for cell in re.findall(r"^\| (.*?) \|", (ROOT / PAGE).read_text("utf-8"), re.M):
        for name in re.findall(r"`([\w.]+)`", cell):
            assert set(name.split(".")) <= known, name


def keys_in(value: Any) -> set[str]:
    """All keys in a JSON value, down to the last."""
    if isinstance(value, dict):
        return value.keys() | {key for item in value.values() for key in keys_in(item)}
    if isinstance(value, list):
        return {key for item in value for key in keys_in(item)}
    return set()


def test_the_example_of_a_quote_is_measured() -> None:
    file = json.loads((ROOT / "benchmarks" / "results" / "standard.json").read_text("utf-8"))
    mean, sd, n = (file["accuracy"][key] for key in ("mean", "sd", "n"))
    quote = f"{100 * mean:.2f} ± {100 * sd:.2f} % (sd of {n} seeds)"
    assert quote in (ROOT / PAGE).read_text("utf-8")


def test_links_are_there() -> None:
    links = re.findall(r"\]\((?!http)([^)#]+)", (ROOT / PAGE).read_text("utf-8"))
    assert links
    assert [link for link in links if not (ROOT / "docs" / link).exists()] == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--outliers", "."], "add --suite full"),
        (["--suite", "full", "--split", "validation"], "the full suite is of the test split"),
        (["--suite", "full", "--outliers", "nowhere"], "does not exist"),
    ],
)
def test_bad_usage_is_told_at_once(
    arguments: list[str], says: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("sys.argv", ["fmnist", "evaluate", "runs/mine", *arguments])
    with pytest.raises(SystemExit) as exit_:
        main()
    assert exit_.value.code == 2
    assert says in capsys.readouterr().err
