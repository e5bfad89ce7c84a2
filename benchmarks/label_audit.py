"""Check `fmnist audit`: known wrong labels, planted ones, scores without the flagged images.

    python benchmarks/label_audit.py RUN… --seeds 3 --out benchmarks/results/label_audit.json

The data set is audited once for each seed, by `fmnist audit`. Then training labels drawn at random
are given another class each, and the first suspects looked through for them; as real errors stay
in, what is told of precision is less than the truth. Each RUN, or directory of seeds, is scored on
the test split with and without what the first audit flags.
"""

import argparse
import dataclasses
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist.data import Dataset, load_dataset
from fmnist.evaluation.audit import clean_test_score
from fmnist.evaluation.audit.folds import ask_folds
from fmnist.evaluation.audit.making import FOLDS
from fmnist.evaluation.audit.suspects import Suspects, find_suspects
from fmnist.recipes import find_recipe
from rounds import provenance, write_results

PLANTED = 0.02  # share of the training labels


def audit_seed(recipe: str, seed: int, out: Path) -> dict[str, Any]:
    """Audit in a process of its own and return what `fmnist audit --json` says that is quoted."""
    command = [sys.executable, "-m", "fmnist", "audit", "--recipe", recipe, "--seed", str(seed)]
    done = subprocess.run(
        [*command, "--out", str(out), "--device", "cpu", "--json"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    said = json.loads(done.stdout)
    quoted = ("seed", "suspects", "duplicates", "repeated_test_images", "held_out_accuracy")
    return {key: said[key] for key in (*quoted, "known", "seconds")}


def plant(labels: NDArray[np.uint8], share: float, seed: int) -> tuple[Any, NDArray[np.bool_]]:
    """Return labels (n,) with a share of them made wrong, and which (n,) these are."""
    random = np.random.default_rng(seed)
    wrong = np.zeros(len(labels), bool)
    wrong[random.choice(len(labels), round(share * len(labels)), replace=False)] = True
    noisy = labels.copy()
    noisy[wrong] = (noisy[wrong] + random.integers(1, 10, wrong.sum())) % 10
    return noisy, wrong


def found_of_planted(suspects: Suspects, wrong: NDArray[np.bool_]) -> list[dict[str, float]]:
    """Return precision and recall among the first suspects, up to twice as many as planted."""
    order = np.argsort(suspects.ranks())
    planted = int(wrong.sum())
    return [
        {
            "first": count,
            "precision": float(wrong[order[:count]].mean()),
            "recall": float(wrong[order[:count]].sum() / planted),
        }
        for count in (planted // 2, planted, 2 * planted)
    ]


def measure_planted(recipe: str, data: Dataset, seed: int) -> dict[str, Any]:
    """Return how many labels that were made wrong are found."""
    noisy, wrong = plant(np.array(data.train_labels), PLANTED, seed)
    spoilt = dataclasses.replace(data, train_labels=noisy)
    suspects = find_suspects(
        noisy, ask_folds(find_recipe(recipe), spoilt, FOLDS, seed, "cpu").train
    )
    return {
        "planted": int(wrong.sum()),
        "at": found_of_planted(suspects, wrong),
        "flagged": int(suspects.flagged.sum()),
        "flagged_recall": float(suspects.flagged[wrong].mean()),
    }


def main() -> None:
    """Measure and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="*", metavar="RUN")
    parser.add_argument("--recipe", default="sprint")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, required=True)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        outs = [Path(folder, f"seed-{seed}") for seed in range(chosen.seeds)]
        audits = [audit_seed(chosen.recipe, 0, outs[0])]
        scores = [clean_test_score(run, outs[0]) for run in chosen.runs]  # early, as one may fail
        audits += [audit_seed(chosen.recipe, seed, outs[seed]) for seed in range(1, chosen.seeds)]
    results = {
        "recipe": chosen.recipe,
        "folds": FOLDS,
        "audits": audits,
        "planted": measure_planted(chosen.recipe, load_dataset(), 0),
        "scores": scores,
        **provenance("cleanlab", "scikit-learn"),
    }
    write_results(chosen.out, results)


if __name__ == "__main__":
    main()
