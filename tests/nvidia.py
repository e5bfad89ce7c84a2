"""The calls of NVIDIA's client, made by a process of their own."""

import json
import os
import subprocess
import sys
from pathlib import Path

from servers import Server

CALLS = Path(__file__).with_name("triton_calls.py")
PATHS = [str(CALLS.parent), *filter(None, [os.environ.get("PYTHONPATH")])]


def made(server: Server) -> dict[int, str | None]:
    """What went wrong in each call to a server."""
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
