"""Seconds from a cold shell to the end of each verb: its help, and a call where one is quick.

    python benchmarks/start_up.py --out benchmarks/results/start_up.json

Every command is a process of its own; they take turns, several rounds. `predict` is of one photo of
12 megapixels. `python -c pass` is what no program in Python can go below. `--imports` prints the
slowest modules that a command imports.
"""

import argparse
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from rounds import provenance, ratios, say, spread, write_results

FLOOR = "python -c pass"
CALLS = {  # of the verbs that need no run and train nothing
    "data": ["data"],
    "recipes": ["recipes"],
    "doctor": ["doctor"],
    "predict": ["predict", "photo.jpg"],
}
# python -X importtime: "import time: self [us] | cumulative | imported package", nested by spaces
IMPORT = re.compile(r"import time:\s+(\d+) \|\s+(\d+) \| ( *)(\S+)")


def verbs() -> list[str]:
    """Return the verbs of the command line."""
    from typer.main import get_command

    from fmnist.cli import app

    return sorted(get_command(app).commands)  # type: ignore[attr-defined]


def commands() -> dict[str, list[str]]:
    """Return what is measured: how a person writes it, and what is run."""
    fmnist = [str(Path(sys.executable).with_name("fmnist"))]
    arguments = [["--help"], *([verb, "--help"] for verb in verbs()), *CALLS.values()]
    ours = {shlex.join(["fmnist", *each]): [*fmnist, *each] for each in arguments}
    return {FLOOR: [sys.executable, "-c", "pass"], **ours}


def write_photo(folder: str) -> None:
    """Write photo.jpg: something like a dark shirt on a lit wall, 3,000 x 4,000 pixels."""
    light = np.linspace(170, 240, 3000 * 4000).reshape(4000, 3000, 1)
    pixels = np.repeat(light + np.random.default_rng(0).normal(0, 3, light.shape), 3, axis=2)
    pixels[900:3300, 900:2100] = pixels[900:1500, 300:2700] = (40, 60, 110)
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(Path(folder, "photo.jpg"))


def seconds_of(command: list[str], folder: str) -> float:
    """Return the wall time of a command that must succeed."""
    began = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True, cwd=folder)
    return time.perf_counter() - began


def measure(rounds: int) -> dict[str, Any]:
    """Return the results file."""
    wanted = commands()
    spent: dict[str, list[float]] = {name: [] for name in wanted}
    with tempfile.TemporaryDirectory() as folder:
        write_photo(folder)
        for command in wanted.values():  # once before the clock: bytecode, the system's cache
            seconds_of(command, folder)
        for _ in range(rounds):
            for name, command in wanted.items():
                spent[name].append(seconds_of(command, folder))
    return {
        "what": "seconds of wall time from a cold shell",
        "rounds": rounds,
        "seconds": {name: spread(values) for name, values in spent.items()},
        "times_the_floor": {
            name: ratios(values, spent[FLOOR]) for name, values in spent.items() if name != FLOOR
        },
        **provenance("typer", "rich"),
    }


def slowest_imports(command: list[str], count: int = 15) -> list[tuple[float, float, str]]:
    """Return self and cumulative milliseconds and names of the modules that took longest alone."""
    environment = {**os.environ, "PYTHONPROFILEIMPORTTIME": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    rows = [
        (int(alone) / 1000, int(whole) / 1000, name)
        for alone, whole, _, name in IMPORT.findall(done.stderr)
    ]
    return sorted(rows, reverse=True)[:count]


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--imports", action="store_true", help="of the slowest help page as well")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    results = measure(chosen.rounds)
    for name, figures in results["seconds"].items():
        print(f"{name:28s} {say(figures, ' s')}")
    if chosen.imports:
        pages = [name for name in results["seconds"] if name.endswith("--help")]
        slowest = max(pages, key=lambda name: float(results["seconds"][name]["median"]))
        print(f"\n{slowest}: milliseconds alone, with what it imports, module")
        for alone, whole, name in slowest_imports(commands()[slowest]):
            print(f"{alone:8.1f} {whole:8.1f}  {name}")
    if chosen.out:
        write_results(chosen.out, results)


if __name__ == "__main__":
    main()
