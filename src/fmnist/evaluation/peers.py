"""Whom a model's page compares it with: what was judged beside it, and the recipes' own scores."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fmnist.errors import RunError
from fmnist.evaluation.comparison.intervals import mean_interval
from fmnist.evaluation.comparison.leaderboard import leaderboard
from fmnist.recipes import RECIPES, Score
from fmnist.reporting import Peer
from fmnist.reporting.leaderboard import basis_text, median_of, training_set_of
from fmnist.runs import Judged, is_seed_runs

MOST = 12  # rows, besides this model's
MARKS = ("run.json", "bench.json", "summary.json")  # of a run, a bench, the seeds of a recipe


def find_peers(judged: Judged) -> list[Peer]:
    """Return this model, the best of those in the folder beside it, and the recipes as published.

    Nobody where this one was not judged on the official test images: there is nothing to compare.
    What of the others is damaged is left out.
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
    return [other for other in sorted(mine.parent.iterdir()) if other != mine and _counts(other)]


def _counts(folder: Path) -> bool:
    try:
        return any((folder / mark).is_file() for mark in MARKS)
    except OSError:  # another person's, who lets nobody look
        return False


def _row(row: Mapping[str, Any], is_this: bool) -> Peer:
    accuracy = row["accuracy"]
    return Peer(
        name=row["name"],
        accuracy=accuracy["mean"],
        interval=_pair(accuracy["interval"]),
        basis=basis_text(row),
        trained_on=training_set_of(row),
        seconds=median_of(row, "train"),
        parameters=row["parameters"],
        is_this=is_this,
        is_ranked=row["rank"] is not None,
        beware="; ".join(row["warnings"]),
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
    return mean_interval(score.accuracy, score.sd, score.seeds) if score.seeds > 1 else None


def _pair(interval: Sequence[float] | None) -> tuple[float, float] | None:
    return None if interval is None else (interval[0], interval[1])
