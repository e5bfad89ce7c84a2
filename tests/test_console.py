import json
import sys
from typing import Any

import pytest

from fmnist import console
from fmnist.training import Progress

PROGRESS = Progress(
    epoch=2,
    epochs=3,
    step=20,
    steps=30,
    loss=0.41236,
    accuracy=0.8512,
    images_per_second=5432.1,
    validation_accuracy=0.87,
    epoch_ended=True,
)


def test_json_is_one_line_of_utf_8_and_never_nan(capsys: pytest.CaptureFixture[str]) -> None:
    console.print_json({"sd": "± 0.1\n"})
    told = capsys.readouterr().out
    assert told.count("\n") == 1
    assert "±" in told
    assert json.loads(told) == {"sd": "± 0.1\n"}
    with pytest.raises(ValueError, match="not JSON compliant"):
        console.print_json({"loss": float("nan")})
    assert capsys.readouterr().out == ""


def test_a_table_off_a_terminal_cuts_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    path, title = "/runs/" + 300 * "x", "a title " * 30 + "[bold]"
    console.print_table(["what", "[red]where[/red]"], [["report", path], ["run", "[b]"]], title)
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert title in lines
    assert "what [red]where[/red]" in lines
    assert f"report {path}" in lines
    assert "run [b]" in lines


def test_a_table_in_a_narrow_terminal_cuts_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("FORCE_COLOR", "1")
    console.print_table(["", ""], [["report", "/runs/" + 100 * "x"]])
    told = capsys.readouterr().out
    assert told.count("x") == 100
    assert "…" not in told


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0412, "0.04 s"),
        (12.34, "12.3 s"),
        (59.94, "59.9 s"),
        (125.9, "2 min 06 s"),
        (119.7, "2 min 00 s"),
    ],
)
def test_seconds_read_as_a_person_says_them(value: float, text: str) -> None:
    assert console.seconds(value) == text


def test_percent() -> None:
    assert console.percent(0.92543) == "92.54 %"


def test_progress_off_a_terminal_is_a_line_an_epoch(capsys: pytest.CaptureFixture[str]) -> None:
    with console.training_progress(quiet=False) as show:
        show(Progress(**{**vars(PROGRESS), "epoch_ended": False}))
        show(PROGRESS)
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err == (
        "epoch 2/3  step 20/30  loss 0.4124  accuracy 85.12 %  validation 87.00 %  5,432 images/s\n"
    )


def test_progress_in_a_long_epoch_is_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "LINE_SECONDS", 0.0)
    unjudged: dict[str, Any] = {**vars(PROGRESS), "validation_accuracy": None}
    with console.training_progress(quiet=False) as show:
        show(Progress(**{**unjudged, "epoch_ended": False}))
    assert capsys.readouterr().err.endswith("accuracy 85.12 %  5,432 images/s\n")


def test_progress_on_a_terminal_is_a_bar(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")
    with console.training_progress(quiet=False) as show:
        show(PROGRESS)
    told = capsys.readouterr()
    assert told.out == ""
    for part in ("epoch 2/3", "━", "loss 0.412", "val 87.00 %", "5,432 images/s"):
        assert part in told.err


def test_quiet_progress_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with console.training_progress(quiet=True) as show:
        show(PROGRESS)
    assert capsys.readouterr() == ("", "")
