"""docs/python.md: its Python runs and says what it promises, and its links lead somewhere."""

import re
from pathlib import Path

import pytest

from fmnist.cli import main
from fmnist.data import CLASS_NAMES, Dataset
from pages import ROOT, blocks, commands

PAGE = "docs/python.md"


def test_its_python_runs(
    garments: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    said = []
    for code in blocks(PAGE, "python"):
        if code.startswith("# mine.py"):
            continue
        exec(compile(code, PAGE, "exec"), {"__name__": "page"})
        said.append(capsys.readouterr().out.splitlines())
    trained, quoted, answered, fitted, searched = said
    assert trained[0] == f"{garments.split('train').images.shape} uint8"
    assert re.fullmatch(r"\d+\.\d% of test right", trained[1])
    assert re.fullmatch(r"\d+\.\d\d% ± \d+\.\d\d% over 2 seeds", quoted[0])
    assert sorted(line.split()[1] for line in quoted[1:3]) == ["page:nearest_mean", "sprint"]
    assert quoted[3].endswith(".")
    assert len(answered) == 3
    assert all(line.startswith(CLASS_NAMES) for line in answered)
    assert fitted[1] == "(3, 10)"
    assert re.fullmatch(r"\d+\.\d% of validation right", fitted[2])
    assert searched[0].startswith("{'fashionclassifier__batch_size': ")
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_the_network_of_ones_own_trains(
    garments: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (own,) = (code for code in blocks(PAGE, "python") if code.startswith("# mine.py"))
    (tmp_path / "mine.py").write_text(own)
    assert len(commands(PAGE)) == 2
    for command in commands(PAGE):
        monkeypatch.setattr("sys.argv", ["fmnist", *command])
        with pytest.raises(SystemExit) as exit_:
            main()
        assert exit_.value.code == 0


def test_its_links_lead_somewhere() -> None:
    links = re.findall(r"\]\((?!http)([^)#]+)", (ROOT / PAGE).read_text("utf-8"))
    assert links
    assert [link for link in links if not (ROOT / "docs" / link).exists()] == []
