"""Directories as judging leaves them, made in a moment: who is right on which image is chosen."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist.data import CLASS_NAMES
from fmnist.data.official import OFFICIAL
from fmnist.evaluation.metrics import score
from fmnist.recipes import SPRINT, Recipe
from fmnist.runs import Bench, Judged, Run, SplitLogits

IMAGES = 1000  # a hundred of each class, in turn


def answers(wrong: NDArray[np.integer[Any]] | list[int], n: int = IMAGES) -> SplitLogits:
    """Logits that are right on all images but `wrong`, whose next class they say."""
    labels = (np.arange(n) % 10).astype(np.uint8)
    said = labels.astype(int)
    said[wrong] = (said[wrong] + 1) % 10
    logits = np.full((n, 10), -2.0, np.float32)
    logits[np.arange(n), said] = 2.0
    return SplitLogits(logits, labels, np.arange(n))


def some_wrong(count: int, seed: int) -> NDArray[np.int64]:
    """`count` of the images, drawn by `seed`."""
    return np.random.default_rng(seed).choice(IMAGES, count, replace=False)


def judged_run(
    folder: Path,
    wrong: NDArray[np.integer[Any]] | list[int],
    seed: int = 0,
    recipe: Recipe = SPRINT,
    splits: tuple[str, ...] = ("test",),
    **facts: Any,
) -> Run:
    """A finished run of the official data that is wrong on the images `wrong`."""
    run = Run(folder)
    seconds = {"data": 0.1, "setup": 0.1, "train": 5.0 + seed, "checkpoint": 0.1, "predict": 0.5}
    run.write(
        {
            "named": recipe.name,
            "recipe": recipe.to_json(),
            "seed": seed,
            "engine": "torch",
            "all_data": False,
            "state": "finished",
            "resumed": 0,
            "versions": {"fmnist": "0"},
            "machine": {"processor": "a processor", "cores": 2},
            "git_commit": None,
            "device": "cpu",
            "precision": "bfloat16",
            "threads": 2,
            "parameters": 173770,
            "data": data_facts(),
            "seconds": {**seconds, "to_predictions": sum(seconds.values())},
            **facts,
        }
    )
    judge(run, answers(wrong), splits)
    return run


def judged_bench(folder: Path, wrong: NDArray[np.integer[Any]] | list[int], name: str) -> Bench:
    """What `fmnist bench` leaves of a model that is wrong on the images `wrong`."""
    bench = Bench(folder)
    command = f"fmnist bench {name}.onnx"
    bench.write({"name": name, "target": "a.onnx", "command": command, "data": data_facts()})
    judge(bench, answers(wrong), ("test",))
    return bench


def judge(judged: Judged, said: SplitLogits, splits: tuple[str, ...]) -> None:
    """Write the logits and what they score."""
    for split in splits:
        judged.write_logits(split, said)
    scores = score(said.logits, said.labels, CLASS_NAMES)
    judged.write_metrics({"temperature": 1.0, "splits": dict.fromkeys(splits, scores)})


def data_facts() -> dict[str, Any]:
    """What run.json says of the official files."""
    return {"sha256": {name: file.sha256 for name, file in OFFICIAL.items()}, "source": "tests"}
