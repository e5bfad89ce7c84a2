"""The wheel alone, in an environment of its own: what a user has after `pip install fmnist`."""

import csv
import io
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from installed import ROOT, Installed

SHARED = ROOT.parent / "shared"
KEYS = ["path", "label", "class_index", "probability", "accepted", "top", "warnings"]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return Installed(tmp_path_factory.mktemp("installed"))


def answers(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    assert done.stderr == ""
    return [json.loads(line) for line in done.stdout.splitlines()]


def check_answer(answer: dict[str, Any]) -> None:
    assert list(answer) == KEYS
    best = answer["top"][0]
    assert (best["label"], best["class_index"]) == (answer["label"], answer["class_index"])
    assert 0.1 <= answer["probability"] == best["probability"] <= 1
    assert len(answer["top"]) == 3


def test_it_has_no_torch_and_is_small(installed: Installed, tmp_path: Path) -> None:
    code = "import importlib.util as u; print([n for n in ('torch', 'keras') if u.find_spec(n)])"
    done = subprocess.run(
        [str(installed.python), "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.stdout.strip() == "[]"
    assert installed.wheel.stat().st_size < 4 * 2**20


def test_it_predicts_from_an_empty_folder(installed: Installed, tmp_path: Path) -> None:
    pixels = np.full((200, 160, 3), 253, np.uint8)
    pixels[20:180, 40:70] = pixels[20:180, 90:120] = pixels[20:60, 40:120] = (30, 40, 70)
    Image.fromarray(pixels).save(tmp_path / "trousers.jpg")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    done = installed.run("predict", "trousers.jpg", "broken.png", "--json", cwd=tmp_path)
    assert done.returncode == 1
    good, bad = answers(done)
    check_answer(good)
    assert good["label"] == "Trouser"
    assert list(bad) == ["path", "error"]
    code = (
        "import fmnist; a = fmnist.load_classifier().predict('trousers.jpg');"
        "print(a.label, a.prepared.image.shape)"
    )
    python = subprocess.run(
        [str(installed.python), "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    assert (python.stdout, python.stderr) == ("Trouser (28, 28)\n", "")


def test_what_needs_torch_says_how_to_get_it(installed: Installed, tmp_path: Path) -> None:
    done = installed.run("train", "sprint", cwd=tmp_path)
    assert done.returncode == 1
    assert "pip install 'fmnist[train]'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(not (SHARED / "photos").is_dir(), reason="../shared/photos is not there")
def test_every_phone_photo_gets_an_answer(installed: Installed, tmp_path: Path) -> None:
    with (SHARED / "photos" / "labels.csv").open(encoding="utf-8", newline="") as file:
        listed = {str(SHARED / "photos" / row["path"]) for row in csv.DictReader(file)}
    done = installed.run("predict", SHARED / "photos", "--json", cwd=tmp_path)
    assert done.returncode == 0
    told = answers(done)
    assert {answer["path"] for answer in told} == listed
    for answer in told:
        check_answer(answer)


@pytest.mark.skipif(not (SHARED / "odd-images").is_dir(), reason="../shared/odd-images is absent")
def test_pngsuite_is_answered_and_its_broken_files_refused(
    installed: Installed, tmp_path: Path
) -> None:
    folder = SHARED / "odd-images" / "pngsuite"
    files = sorted(folder.glob("*.png"))
    done = installed.run("predict", *files, "--json", cwd=tmp_path)
    assert done.returncode == 1
    told = answers(done)
    assert [answer["path"] for answer in told] == [str(file) for file in files]
    refused = [Path(answer["path"]).name for answer in told if "error" in answer]
    assert refused == [file.name for file in files if file.name.startswith("x")]
    assert len(refused) == 14
    for answer in told:
        if "error" not in answer:
            check_answer(answer)
    as_csv = installed.run("predict", *files, "--csv", cwd=tmp_path)
    rows = list(csv.DictReader(io.StringIO(as_csv.stdout)))
    assert [row["path"] for row in rows] == [str(file) for file in files]
    assert [bool(row["error"]) for row in rows] == ["error" in answer for answer in told]
