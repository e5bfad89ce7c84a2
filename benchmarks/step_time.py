"""Milliseconds of a training step: by precision, and with and without keeping freed memory.

    python benchmarks/step_time.py --out benchmarks/results/step_time.json

Each measurement is a process of its own; the variants take turns, several rounds. A round's figure
is the median of its steps, what is quoted is the median of the rounds with the least and the most.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from fmnist.data import load_dataset
from fmnist.environment import git_commit, machine, versions
from fmnist.files import write_whole
from fmnist.models import make_network
from fmnist.recipes import RECIPES
from fmnist.training import device as device_module
from fmnist.training.batches import Batches
from fmnist.training.device import find_device, physical_cores, processor_settings
from fmnist.training.state import State

VARIANTS = ("float32", "bfloat16", "bfloat16 without keeping memory")
STEPS, WARM_UP = 40, 5


def median_step(recipe_name: str, variant: str) -> float:
    """Return the median milliseconds of a step in this process."""
    if variant.endswith("without keeping memory"):
        vars(device_module)["keep_freed_memory"] = lambda: None
    recipe = RECIPES[recipe_name]
    device = find_device("cpu", variant.split()[0])
    split = load_dataset().split("train")
    with processor_settings(physical_cores()):
        batches = Batches(split.images, split.labels, recipe, device.torch)
        network = make_network(recipe.network)
        state = State(network, recipe, sum(batches.lengths), len(split), device)
        seconds = []
        last = time.perf_counter()
        for batch in islice(batches.epoch(0, 0, torch.zeros(len(split))), STEPS + WARM_UP):
            state.advance(batch)
            now = time.perf_counter()
            seconds.append(now - last)
            last = now
    return 1000 * statistics.median(seconds[WARM_UP:])


def measure(rounds: int) -> dict[str, Any]:
    """Return the figures of every recipe and variant, taken in turn."""
    figures: dict[tuple[str, str], list[float]] = {}
    for _ in range(rounds):
        for recipe in RECIPES:
            for variant in VARIANTS:
                command = [sys.executable, __file__, "--once", recipe, variant]
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
                figures.setdefault((recipe, variant), []).append(float(done.stdout))
    return {
        "what": "milliseconds of a training step, batch of the recipe",
        "command": " ".join(["python", *sys.argv]),
        "rounds": rounds,
        "milliseconds": {
            recipe: {
                variant: {
                    "median": round(statistics.median(figures[recipe, variant]), 1),
                    "min": round(min(figures[recipe, variant]), 1),
                    "max": round(max(figures[recipe, variant]), 1),
                }
                for variant in VARIANTS
            }
            for recipe in RECIPES
        },
        "versions": versions(),
        "machine": machine(),
        "git_commit": git_commit(),
    }


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--once", nargs=2, metavar=("RECIPE", "VARIANT"))
    chosen = parser.parse_args()
    if chosen.once:
        print(median_step(*chosen.once))
        return
    text = json.dumps(measure(chosen.rounds), indent=1) + "\n"
    print(text, end="")
    if chosen.out:
        write_whole(chosen.out, text.encode())


if __name__ == "__main__":
    main()
