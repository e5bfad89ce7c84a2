"""The verb bench: what it makes of its options."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fmnist.classifier.pixels import Wishes
from fmnist.cli import main

Call = Callable[..., tuple[Any, str, dict[str, Any]]]


@pytest.fixture
def call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Call:
    """Run the verb; return its exit status, stderr, and what the judge was asked."""
    monkeypatch.chdir(tmp_path)
    asked: dict[str, Any] = {}

    def judge(target: str | None, data: Any, **options: Any) -> dict[str, Any]:
        asked.update(options, target=target)
        return {}

    monkeypatch.setattr("fmnist.evaluation.bench.making.bench", judge)
    monkeypatch.setattr("fmnist.data.load_dataset", lambda *_: None)

    def run(*words: str) -> tuple[Any, str, dict[str, Any]]:
        monkeypatch.setattr("sys.argv", ["fmnist", "bench", *words, "--json"])
        with pytest.raises(SystemExit) as end:
            main()
        return end.value.code, capsys.readouterr().err, asked

    return run


def test_options_reach_the_judge(call: Call) -> None:
    Path("x.npz").touch()
    words = ("theirs.onnx", "--mean", "0.5,0.4,0.3", "--std", "0.2", "--validation-held-out")
    status, _, asked = call(*words, "--suite", "full", "--outliers", "x.npz")
    assert status == 0
    assert asked["wishes"] == Wishes(mean=(0.5, 0.4, 0.3), std=0.2)
    assert asked["validation_held_out"] is True
    assert asked["outliers"] == [Path("x.npz")]
    asked["watch"]("doing")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--suite", "full", "--outliers", "missing.npz"), "does not exist"),
        (("--outliers", "."), "add --suite full"),
        (("--scale", "0"), "must be above 0"),
        (("--std", "0.2,0,0.2"), "must be above 0"),
        (("--mean", "0.2,0.1"), "one number, or three"),
        (("--mean", "grey"), "no number"),
    ],
)
def test_bad_usage_is_told_apart_from_failure(
    words: tuple[str, ...], said: str, call: Call
) -> None:
    status, err, asked = call(*words)
    assert status == 2
    assert said in " ".join(err.replace("\u2502", " ").split())
    assert not asked
