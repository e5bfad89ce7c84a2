"""NVIDIA's own client: 26 calls that tell whether a server speaks its protocol, one on photos."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from servers import Server

CALLS = Path(__file__).parents[1] / "triton_calls.py"
PATHS = [str(CALLS.parent), *filter(None, [os.environ.get("PYTHONPATH")])]


@pytest.fixture(scope="module")
def faults(server: Server) -> dict[int, str | None]:
    """What went wrong in each call, all made once."""
    done = subprocess.run(
        [sys.executable, CALLS, server.url.removeprefix("http://")],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(PATHS)},
    )
    assert done.returncode == 0, done.stderr
    calls = [json.loads(line) for line in done.stdout.splitlines()]
    return {call["call"]: call["fault"] for call in calls}


@pytest.mark.parametrize("number", range(1, 28))
def test_call(number: int, faults: dict[int, str | None]) -> None:
    assert faults[number] is None, faults[number]


def test_there_are_no_calls_that_nobody_looks_at(faults: dict[int, str | None]) -> None:
    assert list(faults) == list(range(1, 28))
