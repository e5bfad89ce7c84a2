"""Measure what the recipe `classic` gets wrong of corrupted test images.

    python benchmarks/classic_corruptions.py runs/classic-0 runs/classic-1

Each RUN is of another seed (`fmnist train classic --seed N`), all trained on the same images. The
means over them are written into the package, as the errors that the mean corruption error of other
networks is relative to.
"""

import argparse
import json
import shlex
import statistics
import sys
from pathlib import Path
from typing import Any

from fmnist.data import Split, load_dataset
from fmnist.environment import git_commit, machine, versions
from fmnist.evaluation import robustness
from fmnist.evaluation.subject import run_subject
from fmnist.files import write_whole
from fmnist.recipes import differing_fields
from fmnist.runs import Run, open_run

OUT = Path(robustness.__file__).with_name(robustness.CLASSIC)


def measure_seed(run: Run, test: Split) -> dict[str, Any]:
    """Return the accuracy of a run on the test split, clean and corrupted."""
    subject = run_subject(run)
    clean = subject.logits(test.images)
    rows = robustness.corrupted_accuracies(subject, test)
    return {
        "seed": run.read()["seed"],
        "accuracy": float((clean.argmax(axis=1) == test.labels).mean()),
        "kinds": rows,
    }


def mean_rows(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of the runs with the mean of their accuracies."""
    return [
        {**rows[0], "accuracy": statistics.fmean(row["accuracy"] for row in rows)}
        for rows in zip(*(run["kinds"] for run in runs), strict=True)
    ]


def describe(runs: list[dict[str, Any]]) -> str:
    """Return in a few words whose errors they are."""
    seeds = ", ".join(str(run["seed"]) for run in runs)
    return f"classic, seed {seeds}" if len(runs) == 1 else f"classic, mean of seeds {seeds}"


def misfit(runs: list[Run]) -> str | None:
    """Return why the runs are not seeds of one training of `classic`, if they are not."""
    facts = [run.read() for run in runs]
    for run, of_run in zip(runs, facts, strict=True):
        if of_run["recipe"]["name"] != "classic":
            return f"{run.folder} is not of the recipe classic"
        if differing_fields(of_run["recipe"], facts[0]["recipe"]):
            return f"{run.folder} is of another classic than {runs[0].folder}"
    seeds = [of_run["seed"] for of_run in facts]
    if len(set(seeds)) < len(seeds):
        return f"seed {statistics.mode(seeds)} is there more than once"
    if len({of_run["all_data"] for of_run in facts}) > 1:
        return "some runs are of all images, some are not"
    return None


def main() -> None:
    """Measure the runs that the command line names and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", metavar="RUN")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--data-dir", type=Path)
    chosen = parser.parse_args()
    opened = [open_run(path) for path in chosen.runs]
    if why := misfit(opened):
        parser.error(why)
    test = load_dataset(chosen.data_dir).split("test")
    runs = [measure_seed(run, test) for run in opened]
    result = {
        "relative_to": describe(runs),
        "accuracy": statistics.fmean(run["accuracy"] for run in runs),
        "all_data": opened[0].read()["all_data"],
        "kinds": mean_rows(runs),
        "runs": [{"seed": run["seed"], "accuracy": run["accuracy"]} for run in runs],
        "command": shlex.join(["python", *sys.argv]),
        "versions": versions(),
        "machine": machine(),
        "git_commit": git_commit(),
    }
    write_whole(chosen.out, (json.dumps(result, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
