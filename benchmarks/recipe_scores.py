"""Train a recipe with several seeds on all 60,000 images and judge each once on the test split.

    python benchmarks/recipe_scores.py standard --seeds 5 --out benchmarks/results/standard.json

Each seed is a process of its own, one after the other: `fmnist train RECIPE --all-data --seed N`.
The file holds every seed's accuracy, loss and seconds, their mean and standard deviation, and what
they were made with. It is written anew after each seed, and seeds that it holds are not run again.
Instead of training, `--race` takes the seeds that `time_to_accuracy.py` has run; `--runs` takes
finished run directories, for trainings that are too long to be made in one go, or that shared the
machine: then `--timed` names runs that had it to themselves, and the seconds are those of these.
"""

import argparse
import json
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from fmnist.environment import git_commit, machine, versions
from fmnist.files import write_whole
from fmnist.models import make_network
from fmnist.recipes import RECIPES, differing_fields
from fmnist.runs import open_run

SAME = ("versions", "machine", "git_commit", "threads")  # in all runs of a results file


def run_seed(recipe: str, seed: int) -> dict[str, Any]:
    """Train and judge one seed and return what `fmnist train --json` says."""
    with tempfile.TemporaryDirectory() as folder:
        out = str(Path(folder, "run"))
        command = [sys.executable, "-m", "fmnist", "train", recipe, "--seed", str(seed)]
        command += ["--device", "cpu", "--all-data", "--out", out, "--json", "--quiet"]
        began = time.perf_counter()
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        wall = time.perf_counter() - began
    said = json.loads(done.stdout)
    seconds = said["seconds"]
    return {
        "seed": seed,
        "accuracy": said["test"]["accuracy"],
        "loss": said["test"]["loss"],
        "parameters": said["parameters"],
        "seconds": {**seconds, "process": wall, "starting": wall - seconds["total"]},
    }


def summarise(recipe: str, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the results file: mean, standard deviation and bounds over the seeds."""
    accuracies = [run["accuracy"] for run in runs]
    sd = statistics.stdev(accuracies) if len(runs) > 1 else None
    mean = statistics.fmean(accuracies)
    return {
        "recipe": recipe,
        "split": "test",
        "trained_on": "all 60,000 training images, last epoch",
        "parameters": runs[0]["parameters"],
        "seeds": [run["seed"] for run in runs],
        "accuracy": {
            "mean": mean,
            "sd": sd,
            "n": len(runs),
            "mean_less_two_standard_errors": sd and mean - 2 * sd / len(runs) ** 0.5,
        },
        "loss": {"mean": statistics.fmean(run["loss"] for run in runs)},
        "train_seconds": spread([run["seconds"]["train"] for run in runs]),
        "total_seconds": spread([run["seconds"]["total"] for run in runs]),
        "runs": runs,
        "command": shlex.join(["python", *sys.argv]),
        "versions": versions(),
        "machine": machine(),
        "git_commit": git_commit(),
    }


def earlier_runs(path: Path, recipe: str) -> list[dict[str, Any]]:
    """Return the seeds that a file holds; seeds of other code or another machine do not mix."""
    before = json.loads(path.read_text("utf-8"))
    for what, now in {"recipe": recipe, "machine": machine(), "git_commit": git_commit()}.items():
        if before[what] != now:
            sys.exit(f"{path} is of another {what} ({before[what]}); remove it to start anew")
    runs: list[dict[str, Any]] = before["runs"]
    return runs


def scores_of_race(path: Path, recipe: str) -> dict[str, Any]:
    """Return the seeds of a race as a results file; they were trained by the same command."""
    race = json.loads(path.read_text("utf-8"))
    if race["recipe"] != recipe:
        sys.exit(f"{path} is a race of {race['recipe']}")
    network = make_network(RECIPES[recipe].network)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    runs = [{**run, "parameters": parameters} for run in race["runs"]["sprint"]]
    made = {what: race[what] for what in ("versions", "machine", "git_commit")}
    return {**summarise(recipe, runs), **made}


def scores_of_runs(folders: list[Path], timed: list[Path], recipe: str) -> dict[str, Any]:
    """Return runs that are finished and judged as a results file; `timed` ones give its seconds."""
    facts, runs = told_of(folders, recipe)
    made = {key: facts[key] for key in SAME}
    result = {
        **summarise(recipe, runs),
        **made,
        "each": f"fmnist train {recipe} --all-data --seed N",
    }
    if not timed:
        return result
    alone, timed_runs = told_of(timed, recipe)
    return {
        **result,
        "train_seconds": spread([run["seconds"]["train"] for run in timed_runs]),
        "total_seconds": spread([run["seconds"]["total"] for run in timed_runs]),
        "timed_runs": timed_runs,
        "timed_on": {key: alone[key] for key in SAME},
    }


def told_of(folders: list[Path], recipe: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the facts of the first of finished runs, and what each came to by its seed."""
    opened = [open_run(folder) for folder in folders]
    facts = [run.read() for run in opened]
    for run, known in zip(opened, facts, strict=True):
        differing = differing_fields(known["recipe"], RECIPES[recipe].to_json())
        if differing or not known["all_data"] or not (run.folder / "metrics.json").exists():
            sys.exit(f"{run.folder} is not {recipe} as it is now, trained on all images and judged")
    if any(known[key] != facts[0][key] for known in facts for key in SAME):
        sys.exit(f"the runs differ in one of {', '.join(SAME)}")
    if len({known["seed"] for known in facts}) < len(facts):
        sys.exit("two of the runs are of one seed")
    told = sorted((run.summary() for run in opened), key=lambda run: int(run["seed"]))
    runs = [
        {
            "seed": run["seed"],
            "accuracy": run["test"]["accuracy"],
            "loss": run["test"]["loss"],
            "parameters": run["parameters"],
            "seconds": run["seconds"],
        }
        for run in told
    ]
    return facts[0], runs


def spread(values: list[float]) -> dict[str, float]:
    """Return median, least and most."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe")
    parser.add_argument("--seeds", type=int, default=5, help="seeds 0 .. N - 1")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--runs", type=Path, nargs="+", help="finished runs of the recipe")
    parser.add_argument("--timed", type=Path, nargs="+", default=[], help="runs that ran alone")
    parser.add_argument("--race", type=Path, help="results of time_to_accuracy.py")
    chosen = parser.parse_args()
    if chosen.race:
        result = scores_of_race(chosen.race, chosen.recipe)
        write_whole(chosen.out, (json.dumps(result, indent=1) + "\n").encode())
        return
    if chosen.runs:
        result = scores_of_runs(chosen.runs, chosen.timed, chosen.recipe)
        write_whole(chosen.out, (json.dumps(result, indent=1) + "\n").encode())
        return
    runs = earlier_runs(chosen.out, chosen.recipe) if chosen.out.exists() else []
    for seed in range(chosen.seeds):
        if any(run["seed"] == seed for run in runs):
            continue
        runs.append(run_seed(chosen.recipe, seed))
        result = summarise(chosen.recipe, runs)
        write_whole(chosen.out, (json.dumps(result, indent=1) + "\n").encode())
        last = runs[-1]
        print(f"seed {seed}: {last['accuracy']:.4f}, {last['seconds']['train']:.0f} s", flush=True)
    print(json.dumps(summarise(chosen.recipe, runs)["accuracy"]))


if __name__ == "__main__":
    main()
