"""docs/keras.md: its commands and its Python run, and its links lead somewhere."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from finished import finished_run
from fmnist.cli import main
from fmnist.data import Dataset
from fmnist.recipes import CLASSIC
from pages import ROOT, blocks, commands

PAGE = "docs/keras.md"
TEXT = (ROOT / PAGE).read_text("utf-8")


def test_its_commands_and_its_python_run(
    garments: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    finished_run(Path("runs/first"), CLASSIC, "torch", garments)
    assert [command[0] for command in commands(PAGE)] == ["doctor", "train"] + ["export"] * 3
    for command in commands(PAGE):
        monkeypatch.setattr("sys.argv", ["fmnist", *command])
        with pytest.raises(SystemExit) as exit_:
            main()
        assert exit_.value.code == 0, (command, capsys.readouterr().err)
    in_keras, in_torch = blocks(PAGE, "python")
    capsys.readouterr()
    exec(compile(in_keras, PAGE, "exec"), {})
    exec(compile(in_torch, PAGE, "exec"), {})
    said = capsys.readouterr().out.splitlines()
    assert said[2:] == ["(1, 10)", "Ankle boot"]


def test_the_files_it_names_are_there() -> None:
    named = re.findall(r"(?:src|benchmarks)/[\w/]+\.py", TEXT)
    assert len(named) >= 3
    assert [name for name in named if not (ROOT / name).is_file()] == []


def notebook(folder: Path, cwd: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run benchmarks/notebook.py on the garments."""
    code = (
        "import runpy, sys; from pathlib import Path; import garments\n"
        "garments.accept(Path(sys.argv.pop(1)))\n"
        "runpy.run_path(sys.argv.pop(1), run_name='__main__')"
    )
    script = str(ROOT / "benchmarks" / "notebook.py")
    return subprocess.run(
        [sys.executable, "-c", code, str(folder), script, *options],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=200,
        env={**os.environ, "FMNIST_DATA": str(folder), "PYTHONPATH": str(ROOT / "tests")},
    )


def test_the_notebook_as_published_stops_with_the_error_that_is_quoted(
    garments_dir: Path, tmp_path: Path
) -> None:
    done = notebook(garments_dir, tmp_path, "--as-published")
    assert done.returncode == 1
    assert re.search(r"ValueError: Data cardinality is ambiguous.*480\D+120", done.stderr, re.S)
    assert re.search(r"Data\s+cardinality is ambiguous", TEXT)


def test_the_notebook_put_right_trains(garments_dir: Path, tmp_path: Path) -> None:
    done = notebook(garments_dir, tmp_path, "--epochs", "2")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert [epoch["epoch"] for epoch in told["epochs"]] == [1, 2]
    assert told["test_accuracy"] == told["epochs"][-1]["test_accuracy"] > 0.2
    assert 0 < told["epochs"][0]["seconds"] < told["epochs"][1]["seconds"]
    assert told["epochs"][1]["seconds"] <= told["seconds"]["train"]
