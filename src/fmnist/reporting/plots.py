"""The report's plots, as inline SVG that takes its colours and its type from the page."""

import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fmnist.errors import MissingExtra
from fmnist.reporting.templates import NBSP, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Stand-ins that matplotlib draws with; the page's CSS says what they are in light and in dark.
INK, MUTED, GRID, BLUE, ORANGE = "#010101", "#020202", "#030303", "#040404", "#050505"
_CSS = {INK: "ink", MUTED: "muted", GRID: "line", BLUE: "blue", ORANGE: "orange"}
_STYLE: Any = {  # matplotlib 3.11 types its keys, 3.9 does not
    "svg.fonttype": "none",
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "legend.fontsize": 10,
    "svg.hashsalt": "fmnist",
    "font.size": 11,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": MUTED,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 4,
}


def learning_curve(history: Sequence[Mapping[str, Any]], measure: str) -> str:
    """Return train and validation `measure` ("loss" or "accuracy") by epoch as an SVG element.

    A value that is missing, null or not finite is left out, a line without values too.
    """
    lines = {side: _points(history, f"{side}_{measure}") for side in ("train", "validation")}

    def paint(axes: "Axes") -> None:
        from matplotlib.ticker import MaxNLocator, PercentFormatter

        for side, color, style in (("train", ORANGE, "o--"), ("validation", BLUE, "s-")):
            if lines[side]:
                axes.plot(*zip(*lines[side], strict=True), style, color=color, label=side)
                axes.legend()
        axes.set(title=measure.capitalize(), xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        if measure == "accuracy":
            axes.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=f"{NBSP}%"))

    spoken = [
        f"{side} from {points[0][1]:.3f} in epoch {points[0][0]} to {points[-1][1]:.3f} "
        f"in epoch {points[-1][0]}"
        for side, points in lines.items()
        if points
    ]
    return _svg(paint, measure, f"{measure.capitalize()} by epoch: {'; '.join(spoken)}.")


def reliability(
    bins: Sequence[Mapping[str, Any]], calibrated: Sequence[Mapping[str, Any]] = ()
) -> str:
    """Return the reliability diagram as an SVG element: accuracy over mean confidence by bin.

    `calibrated` are the bins after the temperature, if there was any. A point under the diagonal
    is a bin that was surer than it was right.
    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", figure 1.
    """
    points, after = _bin_points(bins), _bin_points(calibrated)
    low = math.floor(10 * min(min(point) for point in points + after)) / 10

    def paint(axes: "Axes") -> None:
        said, right = zip(*points, strict=True)
        axes.plot([low, 1], [low, 1], "--", color=MUTED, linewidth=1, label="as sure as right")
        axes.vlines(said, said, right, color=ORANGE, label="gap")
        axes.plot(said, right, "o", color=ORANGE if after else BLUE, markersize=5, label=one)
        if after:
            axes.plot(*zip(*after, strict=True), "s", color=BLUE, markersize=5, label="after")
        axes.set(xlabel="mean confidence of the bin", ylabel="share that was right")
        axes.legend(loc="upper left")

    one = "before the temperature" if after else "one bin of images"
    return _svg(
        paint, "reliability", "Share that was right over mean confidence; table beside.", height=4.6
    )


def risk_coverage(
    points: Sequence[Sequence[float]], accuracy: float, accuracy_at: Mapping[str, float]
) -> str:
    """Return the risk-coverage curve as an SVG element.

    `points` are (coverage, risk): the share of images that are answered, surest first, and the
    share of wrong answers among them, both 0..1. `accuracy` is that of all images, `accuracy_at`
    that at a coverage, such as "0.90".
    """
    marks = [(float(coverage), 1 - right) for coverage, right in accuracy_at.items()]

    def paint(axes: "Axes") -> None:
        from matplotlib.ticker import PercentFormatter

        axes.axhline(1 - accuracy, linestyle="--", color=MUTED, linewidth=1, label="in any order")
        axes.plot(*zip(*points, strict=True), color=BLUE, label="surest first")
        for coverage, risk in marks:
            axes.plot([coverage], [risk], "o", color=ORANGE, markersize=6)
            axes.annotate(
                f"{percent(1 - risk, 1)} right",
                (coverage, risk),
                (-8, 6),
                textcoords="offset points",
                ha="right",
                fontsize=10,
            )
        axes.set(xlabel="coverage: share that is answered", ylabel="risk: wrong among them")
        axes.set(xlim=(0, 1.02), ylim=(0, None))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(PercentFormatter(1.0, symbol=f"{NBSP}%"))
        axes.legend(loc="center left")

    said = "; ".join(
        f"{percent(risk)} wrong at {percent(coverage, 0)} coverage" for coverage, risk in marks
    )
    return _svg(paint, "risk", f"Share of wrong answers over the share answered: {said}.")


def score_histogram(name: str, title: str, histogram: Mapping[str, Sequence[float]]) -> str:
    """Return the scores of clothes and of a set of outliers as two outlines in an SVG element.

    `name` is the plot's own and part of its ids; `histogram` holds `edges` (m + 1) and the counts
    `inliers` and `outliers` (m,), which are drawn as shares of their sums.
    """

    def paint(axes: "Axes") -> None:
        for side, color, style in (("inliers", BLUE, "-"), ("outliers", ORANGE, "--")):
            total = max(sum(histogram[side]), 1)
            shares = [count / total for count in histogram[side]]
            axes.stairs(shares, histogram["edges"], color=color, alpha=0.25, fill=True)
            axes.stairs(shares, histogram["edges"], color=color, linestyle=style)
        axes.set(title=title, yticks=[])
        axes.grid(visible=False)
        axes.spines["left"].set_visible(False)

    return _svg(
        paint, name, f"Histogram of {title} for clothes and for outliers.", width=3.6, height=2.2
    )


def _bin_points(bins: Sequence[Mapping[str, Any]]) -> list[tuple[float, float]]:
    return [(b["confidence"], b["accuracy"]) for b in bins if b["images"]]


def _points(history: Sequence[Mapping[str, Any]], key: str) -> list[tuple[int, float]]:
    values = [(int(line["epoch"]), line.get(key)) for line in history]
    return [(epoch, value) for epoch, value in values if value is not None and math.isfinite(value)]


def _svg(
    paint: "Callable[[Axes], None]",
    name: str,
    spoken: str,
    width: float = 4.9,
    height: float = 3.3,
) -> str:
    """Draw with matplotlib's own defaults, whatever the user's matplotlibrc says."""
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtra("matplotlib", "train") from error
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        figure = Figure(figsize=(width, height), layout="constrained")
        paint(figure.add_subplot())
        drawing = io.StringIO()
        figure.savefig(drawing, format="svg", transparent=True, metadata={"Date": None})
    return _inlined(drawing.getvalue(), name, spoken)


def _inlined(drawing: str, name: str, spoken: str) -> str:
    """Cut an SVG file down to what may stand in a page beside others: own ids, page's colours."""
    drawing = drawing[drawing.index("<svg") :].strip()
    drawing = re.sub(r"<(metadata|style)\b.*?</\1>", "", drawing, flags=re.DOTALL)
    drawing = re.sub(
        r"<svg[^>]*?(viewBox=\"[^\"]*\")[^>]*>",
        rf'<svg class="plot" role="img" aria-label="{spoken}" \1>',
        drawing,
    )
    drawing = re.sub(r'(\bid="|"#|url\(#)', rf"\g<1>{name}-", drawing.replace("xlink:href", "href"))
    for color, variable in _CSS.items():
        drawing = drawing.replace(color, f"var(--{variable})")
    return drawing
