"""docs/bench.md: its commands and its Python run, and its links lead somewhere."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from fmnist.cli import main
from fmnist.data import Dataset
from foreign import linear, write_onnx
from pages import ROOT, blocks, commands

PAGE = "docs/bench.md"


def test_its_commands_and_its_python_run(
    garments: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "theirs", raising=False)
    weights = linear(garments)
    # The file's network was trained on (x / 255 - 0.286) / 0.353.
    scaled = np.concatenate([weights[:784] * 0.353, weights[784:] + 0.286 * weights[:784].sum(0)])
    write_onnx(Path("theirs.onnx"), scaled)
    np.save("pattern.npy", weights[:784])
    own, saving, naming = blocks(PAGE, "python")
    Path("theirs.py").write_text(own)
    exec(compile(saving, PAGE, "exec"), {})
    said = []
    for command in commands(PAGE):
        monkeypatch.setattr("sys.argv", ["fmnist", *command])
        with pytest.raises(SystemExit) as exit_:
            main()
        told = capsys.readouterr()
        assert exit_.value.code == 0, (command, told.err)
        said.append(told.out)
    assert len(said) == 4
    assert re.search(r"mean +0.286 +as you say", said[0])
    assert said[1].splitlines()[-1] == "runs/mine/report.html"
    assert "whether it learned from the validation images is not known" in said[1]
    assert "saved predictions of the test images alone" in said[2]
    assert json.loads(said[3])["scores"] == "classes"
    exec(compile(naming, PAGE, "exec"), {})
    monkeypatch.setattr("sys.argv", ["fmnist", "bench", "theirs.onnx"])
    with pytest.raises(SystemExit) as exit_:
        main()
    assert exit_.value.code == 0
    assert re.search(r"mean +0.286 +its metadata", capsys.readouterr().out)


def test_its_links_lead_somewhere() -> None:
    links = re.findall(r"\]\((?!http)([^)#]+)", (ROOT / PAGE).read_text("utf-8"))
    assert links
    assert [link for link in links if not (ROOT / "docs" / link).exists()] == []


def test_a_wrong_option_is_bad_usage(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (["--scale", "0"], ["--std", "-1"], ["--layout", "chwn"], ["--suite", "half"]):
        monkeypatch.setattr("sys.argv", ["fmnist", "bench", "x.onnx", *words])
        with pytest.raises(SystemExit) as exit_:
            main()
        assert exit_.value.code == 2
        assert words[0] in capsys.readouterr().err
