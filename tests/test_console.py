import csv
import io
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


@pytest.mark.parametrize("text", ["a\x85b", "a\u2028b", "\udcff", "\u202eb"])
def test_json_stays_one_line_and_writable_whatever_is_in_it(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    console.print_json({"path": text})
    told = capsys.readouterr().out
    assert len(told.splitlines()) == 1
    assert told.isascii()
    assert json.loads(told) == {"path": text}


def test_csv_keeps_cells_apart(capsys: pytest.CaptureFixture[str]) -> None:
    cells = ["a,b", 'c"d', "e\nf\rg", "", " h "]
    console.print_csv(cells)
    console.print_csv(["\udcff"])
    told = capsys.readouterr().out
    assert list(csv.reader(io.StringIO(told, newline=""), strict=True)) == [cells, ["\\udcff"]]


def test_what_moves_a_cursor_is_escaped() -> None:
    assert console.printable("ä b/服.jpg") == "ä b/服.jpg"
    assert console.printable("a\n\t\x1b[31m\u202e\udcff") == r"a\n\t\x1b[31m\u202e\udcff"


def both_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    for stream in (sys.stdout, sys.stderr):
        monkeypatch.setattr(stream, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("TERM", "xterm")


def test_pictures_are_counted_below_their_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    both_terminals(monkeypatch)
    with console.picture_progress(3, lines_for_people=True) as progress:
        progress.out.print("Coat  a.jpg")
        print("fmnist: b.jpg: broken", file=sys.stderr)
        progress.advance()
    told = capsys.readouterr()
    assert "Coat  a.jpg" in told.out
    assert "fmnist: b.jpg: broken" in told.out + told.err
    assert "1/3" in told.out


def test_pictures_are_counted_on_stderr_beside_a_pipe(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    both_terminals(monkeypatch)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: False)
    with console.picture_progress(3, lines_for_people=False) as progress:
        console.print_json({"path": 200 * "x"})
        progress.advance()
    told = capsys.readouterr()
    assert json.loads(told.out) == {"path": 200 * "x"}
    assert "1/3" in told.err


@pytest.mark.parametrize(
    ("stdout", "stderr", "pictures"), [(True, True, 3), (False, False, 3), (False, True, 0)]
)
def test_no_bar_where_it_would_be_in_the_way(
    stdout: bool,
    stderr: bool,
    pictures: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Among lines of JSON on a terminal, in a file of messages, and for a few pictures."""
    both_terminals(monkeypatch)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: stdout)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: stderr)
    with console.picture_progress(pictures, lines_for_people=False) as progress:
        progress.advance()
    assert capsys.readouterr() == ("", "")
