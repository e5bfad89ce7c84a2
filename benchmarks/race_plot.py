"""Draw test accuracy against seconds, ours and the published notebook's, from the results files.

python benchmarks/race_plot.py --out docs/race.png
"""

import argparse
import json
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

RESULTS = Path(__file__).parent / "results"
OFFSET: dict[str, Any] = {"textcoords": "offset points", "ha": "center", "fontsize": 10}
OURS, THEIRS, CLAIM = "#0b6e8f", "#b4531f", 92.54


def read(name: str) -> dict[str, Any]:
    """Return a results file."""
    content: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text("utf-8"))
    return content


def draw(race: dict[str, Any], standard: dict[str, Any]) -> Figure:
    """Return the plot: a point a training, the notebook's a line over its epochs."""
    figure = Figure(figsize=(8, 4.2), layout="constrained")
    axes = figure.subplots()
    for run in race["runs"]["notebook"]:
        seconds = [epoch["seconds"] for epoch in run["epochs"]]
        accuracies = [100 * epoch["test_accuracy"] for epoch in run["epochs"]]
        axes.plot(seconds, accuracies, color=THEIRS, marker="o", markersize=3, linewidth=1)
    alone = standard.get("timed_runs", standard["runs"])  # with both cores to themselves
    for runs in (race["runs"]["sprint"], alone):
        seconds = [run["seconds"]["to_predictions"] for run in runs]
        axes.scatter(seconds, [100 * run["accuracy"] for run in runs], 14, color=OURS, alpha=0.6)
    axes.axhline(CLAIM, color="0.6", linewidth=1, linestyle="--")
    latest = max(run["epochs"][-1]["seconds"] for run in race["runs"]["notebook"])
    axes.text(latest, CLAIM + 0.05, "published claim 92.54 %", color="0.4", ha="right", va="bottom")
    axes.text(latest, 89.5, "the notebook in Keras,\na point an epoch", color=THEIRS, ha="right")
    _name(axes, "sprint", race["runs"]["sprint"], OURS)
    _name(axes, "standard", alone, OURS)
    axes.set_xscale("log")
    ticks = [5, 10, 20, 50, 100, 200, 400]
    axes.set_xticks(ticks, [f"{tick} s" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlim(4, 1.5 * latest)
    axes.set_ylim(88, 95)
    axes.set_ylabel("test accuracy, %")
    axes.set_xlabel("from loading the images to predictions, on two CPU cores")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _name(axes: Any, name: str, runs: list[dict[str, Any]], color: str) -> None:
    """Write a recipe's name above its points."""
    seconds = [run["seconds"]["to_predictions"] for run in runs]
    best = 100 * max(run["accuracy"] for run in runs)
    place = (sorted(seconds)[len(seconds) // 2], best)
    axes.annotate(f"fmnist train {name}", place, (0, 8), color=color, **OFFSET)


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("docs/race.png"))
    options = parser.parse_args()
    draw(read("time_to_accuracy"), read("standard")).savefig(options.out, dpi=110)


if __name__ == "__main__":
    main()
