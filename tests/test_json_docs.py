"""docs/json.md: what each verb prints has the keys and types of the example there."""

import json
import re
import socket
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fmnist.cli import main
from fmnist.data import Dataset
from fmnist.serving.model_identity import Identity
from fmnist.serving.server import Announce
from fmnist.serving.settings import Settings

ROOT = Path(__file__).parents[1]
SECTION = re.compile(r"^## `fmnist (\w+(?: --\w+)?)`\n\n```json\n(.*?)\n```$", re.M | re.S)
EXAMPLES = {
    verb: json.loads(text)
    for verb, text in SECTION.findall((ROOT / "docs" / "json.md").read_text("utf-8"))
}
# Whose keys are names of things: each value has the shape of the example's first.
MAPS = ("splits", "classes", "versions")
EXPORT = ["--format", "safetensors", "--out", "tiny.safetensors"]


def _answer_and_end(settings: Settings, listener: socket.socket, announce: Announce) -> None:
    announce(Identity("photo", "ab" * 32, "0.1.0"))


def differences(example: Any, said: Any, where: str = "$") -> list[str]:
    """Where `said` has other keys or types than the example; null may stand anywhere."""
    if said is None or example is None:
        return []
    if isinstance(example, bool) or isinstance(said, bool):
        return [] if type(example) is type(said) else [f"{where}: {said!r} for {example!r}"]
    if isinstance(example, (int, float)) and isinstance(said, (int, float)):
        return []
    if type(example) is not type(said):
        return [f"{where}: {type(said).__name__} for {type(example).__name__}"]
    if isinstance(example, list):
        return [
            d for i, item in enumerate(said) for d in differences(example[0], item, f"{where}[{i}]")
        ]
    if not isinstance(example, dict):
        return []
    if where.endswith(MAPS):
        first = next(iter(example.values()))
        return [d for key in said for d in differences(first, said[key], f"{where}.{key}")]
    if where.endswith("optimizer"):
        return [] if "name" in said else [f"{where}: no name"]
    missing = [f"{where}: {key}" for key in example.keys() ^ said.keys()]
    shared = example.keys() & said.keys()
    return missing + [d for k in shared for d in differences(example[k], said[k], f"{where}.{k}")]


def test_every_verb_has_an_example() -> None:
    from fmnist.cli import app

    verbs = {command.callback.__name__ for command in app.registered_commands if command.callback}
    assert verbs == {name.split()[0] for name in EXAMPLES}


def test_differences_are_seen() -> None:
    example = {"a": [{"b": 1}], "c": "text", "splits": {"x": {"n": 1}}}
    assert (
        differences(example, {"a": [{"b": 2.5}, {"b": 3}], "c": None, "splits": {"y": {"n": 2}}})
        == []
    )
    assert differences(example, {"a": [], "splits": {}}) == ["$: c"]
    assert differences(example, {**example, "d": 1}) == ["$: d"]
    assert differences(example, {**example, "a": [{"b": "1"}]}) == ["$.a[0].b: str for int"]
    assert differences(example, {**example, "splits": {"y": {"m": 2}}}) != []


def test_the_verbs_print_what_the_page_says(
    garments: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("fmnist.evaluation.speed.SECONDS", 0.0)
    monkeypatch.setattr(import_module("fmnist.cli.serve"), "_serve", _answer_and_end)

    def said(*arguments: str) -> dict[str, Any]:
        monkeypatch.setattr("sys.argv", ["fmnist", *arguments, "--json"])
        with pytest.raises(SystemExit) as exit_:
            main()
        out = capsys.readouterr().out
        assert exit_.value.code == 0, out
        assert out.count("\n") == 1
        parsed: dict[str, Any] = json.loads(out)
        return parsed

    Image.fromarray(garments.test_images[0]).save("garment.png")
    commands = {
        "data": ["data"],
        "recipes": ["recipes"],
        "train": ["train", "tiny:TINY", "--out", "run", "--quiet"],
        "train --seeds": ["train", "tiny:TINY", "--seeds", "2", "--out", "seeds", "--quiet"],
        "compare": ["compare", "seeds/seed-0", "seeds/seed-1"],
        "leaderboard": ["leaderboard", "seeds", "--audit", "audit"],
        "evaluate": ["evaluate", "run", "--recipe", "tiny:TINY", "--suite", "full"],
        "bench": ["bench", "--quiet"],
        "audit": ["audit", "--score", "run"],
        "report": ["report", "run"],
        "export": ["export", "run", "--recipe", "tiny:TINY", *EXPORT],
        "predict": ["predict", "garment.png"],
        "serve": ["serve", "--port", "0"],
        "doctor": ["doctor"],
    }
    assert commands.keys() == EXAMPLES.keys()
    assert differences(EXAMPLES["audit"], said("audit", "--folds", "2"), "audit") == []
    for verb, arguments in commands.items():
        assert differences(EXAMPLES[verb], said(*arguments), verb) == []
