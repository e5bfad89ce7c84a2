"""README: its commands and its Python run, its numbers are in the results files."""

import re
from pathlib import Path

import pytest
import requests

from fmnist.cli import main
from fmnist.data import CLASS_NAMES, Dataset
from pages import ROOT, blocks, commands, take_pictures
from servers import running

README = (ROOT / "README.md").read_text("utf-8")


def test_it_is_short() -> None:
    assert len(README.splitlines()) <= 150


def test_the_two_make_commands_exist() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = [
        line.split()[1]
        for text in blocks("README.md", "sh")
        for line in text.splitlines()
        if "make " in line
    ]
    assert targets == ["train", "test"]
    assert all(re.search(rf"^{target}:", makefile, re.M) for target in targets)


def test_its_links_lead_somewhere() -> None:
    links = re.findall(r"\]\((?!http)([^)#]+)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_its_commands_run(
    garments: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    take_pictures(tmp_path)
    assert len(commands("README.md")) >= 8
    for command in commands("README.md"):
        if command[0] == "serve":
            with running(*command[1:]) as server:
                assert requests.get(server.url, timeout=10).ok
            continue
        monkeypatch.setattr("sys.argv", ["fmnist", *command])
        with pytest.raises(SystemExit) as exit_:
            main()
        assert exit_.value.code == 0, (command, capsys.readouterr().err)


def test_its_python_runs(
    garments: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (code,) = (text for text in blocks("README.md", "python") if text.startswith("import fmnist"))
    exec(compile(code, "README.md", "exec"), {})
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"{garments.split('train').images.shape} uint8"
    assert 0 <= float(said[1]) <= 1
    assert Path(said[2]).is_file()
    assert said[3] in CLASS_NAMES
