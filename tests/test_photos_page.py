"""docs/photos.md and docs/model-card.md: their commands and their Python run, links are there."""

import dataclasses
import re
from pathlib import Path

import pytest

import photos
from fmnist.cli import main
from fmnist.data import CLASS_NAMES, Dataset
from fmnist.recipes import PHOTO, RECIPES
from pages import ROOT, blocks, commands, take_pictures

PAGE = "docs/photos.md"


def test_its_commands_run(
    garments: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The recipe is cut short: what is tested are the commands."""
    quick = dataclasses.replace(PHOTO, epochs=1, strangers=20)
    monkeypatch.setitem(RECIPES, "photo", quick)
    monkeypatch.chdir(tmp_path)
    take_pictures(tmp_path)
    assert len(commands(PAGE)) == 3
    for command in commands(PAGE):
        monkeypatch.setattr("sys.argv", ["fmnist", *command])
        with pytest.raises(SystemExit) as exit_:
            main()
        assert exit_.value.code == 0, command
    assert (tmp_path / "answers.html").is_file()
    (line,) = (
        line
        for code in blocks(PAGE, "sh")
        for line in code.splitlines()
        if line.startswith("python benchmarks/photos.py")
    )
    monkeypatch.setattr("sys.argv", [*line.split()[1:], "--simulated", "3"])
    capsys.readouterr()
    photos.main()
    assert "2 photos of 2 senders" in capsys.readouterr().out


def test_its_python_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    take_pictures(tmp_path)
    (code,) = blocks(PAGE, "python")
    exec(compile(code, PAGE, "exec"), {})
    assert capsys.readouterr().out.startswith(CLASS_NAMES)


@pytest.mark.parametrize("page", [PAGE, "docs/model-card.md"])
def test_links_and_pictures_are_there(page: str) -> None:
    text = (ROOT / page).read_text("utf-8")
    links = re.findall(r"\]\((?!http)([^)#]+)", text)
    assert links
    assert [link for link in links if not (ROOT / "docs" / link).exists()] == []


def test_the_card_names_scripts_that_are_there() -> None:
    scripts = re.findall(r"^python (\S+)", (ROOT / "docs/model-card.md").read_text(), re.M)
    assert scripts == ["scripts/ship.py", "benchmarks/photos.py"]
    assert all((ROOT / script).is_file() for script in scripts)
