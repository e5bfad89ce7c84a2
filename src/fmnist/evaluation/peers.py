"""Whom a model's page compares it with: what was judged beside it, and the recipes' own scores."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fmnist.errors import RunError
from fmnist.evaluation.leaderboard import leaderboard
from fmnist.recipes import RECIPES, Score
from fmnist.reporting import Peer
from fmnist.runs import Judged, is_seed_runs

MOST = 12  # rows, besides this model's
MARKS = ("run.json", "bench.json", "summary.json")  # of a run, a bench, the seeds of a recipe


def find_peers(judged: Judged) -> list[Peer]:
    """Return this model, the best of those in the folder beside it, and the recipes as published.

    None where this one was not judged on the official test images: there is nothing to compare.
    """
    mine = [_row(row, is_this=True) for row in _rows([judged.folder])]
    if not mine:
        return []
    others = [_row(row, is_this=False) for row in _rows(_beside(judged))[:MOST]]
    published = [_published(name, made.score) for name, made in RECIPES.items() if made.score]
    return mine + others + published


def _rows(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """Return the rows of a leaderboard, the best first; none where nothing counts."""
    try:
        return list(leaderboard(folders)["rows"]) if folders else []
    except RunError:
        return []


def _beside(judged: Judged) -> list[Path]:
    """Return what lies in the same folder: other runs, or all seeds of which this run is one.

    What lies in folders of folders is not looked for: this one may lie in a person's home.
    """
    mine = judged.folder.absolute()
    if is_seed_runs(mine.parent):
        return [mine.parent]
    folders = [
        other for other in mine.parent.iterdir() if any((other / m).is_file() for m in MARKS)
    ]
    return [folder for folder in sorted(folders) if folder != mine]


def _row(row: Mapping[str, Any], is_this: bool) -> Peer:
    accuracy, seconds = row["accuracy"], row["seconds"].get("train") or {}
    trained_on = {None: "", True: "60,000", False: "55,000"}[row["all_data"]]
    seeds = accuracy["n"]
    return Peer(
        name=row["name"],
        accuracy=accuracy["mean"],
        interval=_pair(accuracy["interval"]),
        basis="the test images" if accuracy["interval_over"] == "images" else f"{seeds} seeds",
        trained_on=trained_on,
        seconds=seconds.get("median"),
        parameters=row["parameters"],
        is_this=is_this,
    )


def _published(name: str, score: Score) -> Peer:
    return Peer(
        name=f"{name}, as published",
        accuracy=score.accuracy,
        interval=_students(score),
        basis=f"{score.seeds} seeds",
        trained_on="60,000",
        seconds=score.seconds,
    )


def _students(score: Score) -> tuple[float, float] | None:
    """Return Student's 95 % interval of the mean over seeds."""
    if score.seeds < 2:
        return None
    from scipy.stats import t

    half = float(t.ppf(0.975, score.seeds - 1)) * score.sd / math.sqrt(score.seeds)
    return score.accuracy - half, score.accuracy + half


def _pair(interval: Sequence[float] | None) -> tuple[float, float] | None:
    return None if interval is None else (interval[0], interval[1])
