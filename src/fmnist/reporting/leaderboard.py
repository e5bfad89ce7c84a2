"""The leaderboard as a page, and as a table for Markdown."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fmnist.files import write_whole
from fmnist.reporting.templates import DASH, duration, load_template, whole

ROUND = 0.002  # accuracy: the scale of the strips ends at a whole multiple


class Strip(NamedTuple):
    """A row of the table, and where its numbers lie on the scale that all share, in percent."""

    row: Mapping[str, Any]
    mean: float
    low: float
    high: float
    runs: tuple[float, ...]


def write_page(path: Path, board: Mapping[str, Any]) -> None:
    """Write the board, as `fmnist leaderboard --json` prints it, as one self-contained page."""
    write_whole(path, render_leaderboard(board).encode())


def render_leaderboard(board: Mapping[str, Any]) -> str:
    """Return the page."""
    low, high = _scale(board)
    page: str = load_template("leaderboard.html").render(
        strips=[_strip(row, low, high) for row in board["rows"]],
        low=low,
        high=high,
        left_out=board["left_out"],
        training=training_set_of,
        audit=board["audit"],
        meaning=WHAT_IT_MEANS,
        bias=BIAS,
        score=accuracy_text,
        clean=clean_text,
        interval=interval_text,
        basis=basis_text,
        remarks=remarks,
        duration=lambda row, span: duration(median_of(row, span)),
    )
    return page


def as_markdown(board: Mapping[str, Any]) -> str:
    """Return the board as a table for a README, with what its numbers mean under it."""
    columns = [*column_names(board), "machine", "command"]
    lines = [_line(columns), _line(["---"] * len(columns))]
    for row in board["rows"]:
        lines.append(_line([*cells(row, board), row["machine"] or DASH, f"`{row['command']}`"]))
    notes = [f"- {row['name']}: {said}" for row in board["rows"] if (said := remarks(row))]
    return "\n".join([*lines, "", legend(board), *([""] if notes else []), *notes])


WHAT_IT_MEANS = (
    "Accuracy is the mean ± standard deviation over n seeds, its interval that of the mean "
    "(Student's t, cut at 0 and 100 %); with n = 1 it is what other test images would change "
    "(Wilson). Times are medians."
)
BIAS = (
    "Without flagged images every model scores too high, and the more so the more it errs where "
    "the auditing recipe errs."
)


def legend(board: Mapping[str, Any]) -> str:
    """Return what the numbers of a board mean, for the line under it."""
    return WHAT_IT_MEANS if board["audit"] is None else f"{WHAT_IT_MEANS} {BIAS}"


def column_names(board: Mapping[str, Any]) -> list[str]:
    """Return the heads of what `cells` returns."""
    names = ["model", "trained on", "test accuracy, %", "95 % interval", "n"]
    names += ["without flagged images, %"] * (board["audit"] is not None)
    return [*names, "training", "to predictions", "parameters"]


def cells(row: Mapping[str, Any], board: Mapping[str, Any]) -> list[str]:
    """Return a row of the board as text."""
    return [
        row["name"] if row["rank"] is not None else f"{row['name']} (not ranked)",
        training_set_of(row),
        accuracy_text(row),
        interval_text(row),
        str(row["accuracy"]["n"]),
        *([clean_text(row)] if board["audit"] is not None else []),
        duration(median_of(row, "train")),
        duration(median_of(row, "to_predictions")),
        whole(row["parameters"]),
    ]


def remarks(row: Mapping[str, Any]) -> str:
    """Return what to beware of, and what to know; "" where there is nothing."""
    return "; ".join([*row["warnings"], *row["notes"]])


def training_set_of(row: Mapping[str, Any]) -> str:
    """Return how many images a row was trained on: "60,000", or a dash where it is not known."""
    return {True: "60,000", False: "55,000"}.get(row["all_data"], DASH)


def accuracy_text(row: Mapping[str, Any]) -> str:
    """Return "94.27 ± 0.05"; of a single run the accuracy alone."""
    return _with_spread(row["accuracy"])


def clean_text(row: Mapping[str, Any]) -> str:
    """Return the accuracy without flagged images likewise, or a dash."""
    return DASH if row["clean"] is None else _with_spread(row["clean"])


def basis_text(row: Mapping[str, Any]) -> str:
    """Return over what the interval is: "5 seeds" or "the test images"."""
    accuracy = row["accuracy"]
    return "the test images" if accuracy["interval_over"] == "images" else f"{accuracy['n']} seeds"


def _with_spread(shares: Mapping[str, Any]) -> str:
    sd = "" if shares["sd"] is None else f" ± {100 * shares['sd']:.2f}"
    return f"{100 * shares['mean']:.2f}{sd}"


def interval_text(row: Mapping[str, Any]) -> str:
    """Return "94.21 to 94.33"."""
    low, high = row["accuracy"]["interval"]
    return f"{100 * low:.2f} to {100 * high:.2f}"


def median_of(row: Mapping[str, Any], span: str) -> float | None:
    """Return the median of a span in seconds, or None."""
    value: float | None = row["seconds"].get(span, {}).get("median")
    return value


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _scale(board: Mapping[str, Any]) -> tuple[float, float]:
    """Return the ends of the scale on which the strips are drawn, 0..1.

    An interval of two seeds may be wider than all the rest; then it is cut at twice their range.
    What is not ranked is not drawn.
    """
    rows = [row for row in board["rows"] if row["rank"] is not None] or board["rows"]
    values = [value for row in rows for value in row["accuracies"]]
    margin = max(max(values) - min(values), ROUND)
    bounds = [bound for row in rows for bound in row["accuracy"]["interval"]]
    low = max(min(bounds), min(values) - margin / 2, 0.0)
    high = min(max(bounds), max(values) + margin / 2, 1.0)
    return ROUND * int(low / ROUND), min(ROUND * (int(high / ROUND) + 1), 1.0)


def _strip(row: Mapping[str, Any], low: float, high: float) -> Strip:
    def place(value: float) -> float:
        return round(100 * min(max((value - low) / (high - low), 0.0), 1.0), 2)

    start, end = row["accuracy"]["interval"]
    runs = tuple(map(place, row["accuracies"])) if len(row["accuracies"]) > 1 else ()
    return Strip(row, place(row["accuracy"]["mean"]), place(start), place(end), runs)
