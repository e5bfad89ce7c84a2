"""docs/serving.md: its commands run, its addresses answer, links are there."""

import re
import shlex
from pathlib import Path

import pytest
import requests

from finished import finished_run
from fmnist.data import Dataset
from fmnist.recipes import RECIPES
from pages import ROOT, blocks
from servers import running

PAGE = "docs/serving.md"
TEXT = (ROOT / PAGE).read_text("utf-8")


def test_its_commands_run(
    garments: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    finished_run(Path("runs/first"), RECIPES["sprint"], "torch", garments)
    lines = [line for code in blocks(PAGE, "sh") for line in code.splitlines()]
    commands = [shlex.split(line, comments=True) for line in lines if "fmnist serve" in line]
    assert len(commands) == 3
    for command in commands:
        variables, options = command[: command.index("fmnist")], command[command.index("serve") :]
        env = dict(variable.split("=") for variable in variables)
        # The port that the page names may be taken here.
        named = [word for word in options[1:] if word not in ("--port", "8080")]
        with running(*named, env=env) as server:
            headers = {"Authorization": f"Bearer {env.get('FMNIST_SERVE_TOKEN')}"}
            asked = f"http://127.0.0.1:{server.port}/api/about"
            assert requests.get(asked, headers=headers, timeout=30).ok, command


def test_its_addresses_answer() -> None:
    table = TEXT.partition("## Doors")[2].partition("## ")[0]
    addresses = [each for each in re.findall(r"`(/[^` ]*)`", table) if "…" not in each]
    assert {"/", "/docs", "/openapi.json", "/metrics", "/v2/health/ready"} <= set(addresses)
    with running() as server:
        for address in addresses:
            assert requests.get(server.url + address, timeout=30).ok, address
        told = requests.get(server.url + "/metrics", timeout=30).text
    part = TEXT.partition("## Metrics")[2].partition("## ")[0]
    named = re.findall(r"`(fmnist_\w+)`", part)
    assert len(named) > 8
    assert [name for name in named if name not in told] == []


def test_links_and_pictures_are_there() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)", TEXT):
        assert (ROOT / "docs" / target).exists(), target
