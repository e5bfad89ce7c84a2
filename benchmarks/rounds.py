"""What the benchmarks share: new processes, figures with their spread, where they are from.

Competitors take turns, several rounds: what disturbs a machine then disturbs all of them, and a
ratio is taken within a round before its spread over the rounds.
"""

import json
import os
import shlex
import statistics
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fmnist.environment import git_commit, machine, versions
from fmnist.files import write_whole


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return number, median, quartiles, least and most, to 4 significant digits."""
    low, middle, high = (
        statistics.quantiles(values, n=4, method="inclusive")
        if len(values) > 1
        else [values[0]] * 3
    )
    figures = {"median": middle, "q1": low, "q3": high, "min": min(values), "max": max(values)}
    return {"n": len(values), **{name: float(f"{value:.4g}") for name, value in figures.items()}}


def ratios(theirs: Sequence[float], ours: Sequence[float]) -> dict[str, float]:
    """Return the spread of theirs / ours, round by round."""
    return spread([one / other for one, other in zip(theirs, ours, strict=True)])


def say(figures: dict[str, float], unit: str = "") -> str:
    """Return a spread as a person reads it: "12.1 ms (11.8 to 12.9)"."""
    return f"{figures['median']:.4g}{unit} ({figures['min']:.4g} to {figures['max']:.4g})"


def ask_process(script: str, *arguments: str, **environment: str) -> Any:
    """Return the JSON that a new process of `script` prints on its last line."""
    done = subprocess.run(
        [sys.executable, script, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env={**os.environ, **environment},
    )
    return json.loads(done.stdout.splitlines()[-1])


def provenance(*packages: str) -> dict[str, Any]:
    """Return what every results file ends with; `packages` are those that this one is about too."""
    return {
        "command": shlex.join(["python", *sys.argv]),
        "versions": {**versions(), **{name: version(name) for name in packages}},
        "machine": {**machine(), "load_average": round(os.getloadavg()[0], 2)},
        "git_commit": git_commit(),
    }


def write_results(path: Path, results: dict[str, Any]) -> None:
    """Write a results file."""
    write_whole(path, (json.dumps(results, indent=1) + "\n").encode())
