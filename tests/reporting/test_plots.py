import re
import sys
from typing import Any
from xml.etree import ElementTree

import pytest

from fmnist.errors import MissingExtra
from fmnist.reporting import plots

HISTORY = [
    {"epoch": 1, "train_loss": 0.9, "validation_loss": 0.5},
    {"epoch": 2, "train_loss": 0.4, "validation_loss": 0.3},
]
BINS: list[dict[str, Any]] = [
    {"confidence": 0.62, "accuracy": 0.55, "images": 90},
    {"confidence": None, "accuracy": None, "images": 0},
    {"confidence": 0.97, "accuracy": 0.99, "images": 91},
]


def test_plots_are_whole_xml_with_the_pages_colours_only() -> None:
    drawings = (
        plots.learning_curve(HISTORY, "loss"),
        plots.reliability(BINS),
        plots.reliability(BINS, BINS),
        plots.risk_coverage([[0.5, 0.0], [1.0, 0.1]], 0.9, {"0.90": 0.97}),
    )
    for drawing in drawings:
        assert ElementTree.fromstring(drawing).tag == "svg"
        assert set(re.findall(r"#[0-9a-f]{6}\b", drawing)) == set()
        assert {"var(--ink)", "var(--muted)", "var(--blue)"} <= set(
            re.findall(r"var\(.*?\)", drawing)
        )


def test_reliability_shows_what_the_temperature_did_where_there_was_one() -> None:
    assert "before the temperature" in plots.reliability(BINS, BINS)
    assert "temperature" not in plots.reliability(BINS)


def test_risk_and_coverage_are_spoken_and_marked() -> None:
    drawing = plots.risk_coverage([[0.5, 0.0], [1.0, 0.1]], 0.9, {"0.90": 0.97, "0.95": 0.94})
    assert "3.00\u00a0% wrong at 90\u00a0% coverage; 6.00\u00a0% wrong at 95\u00a0%" in drawing
    assert "97.0\u00a0% right" in drawing


def test_a_histogram_is_of_shares_so_that_small_sets_are_seen() -> None:
    edges = [0.0, 0.5, 1.0]
    few: dict[str, list[float]] = {"edges": edges, "inliers": [0, 1000], "outliers": [3, 1]}
    many: dict[str, list[float]] = few | {"outliers": [3000, 1000]}
    drawing = plots.score_histogram("set", "energy", few)
    assert drawing == plots.score_histogram("set", "energy", many)
    assert drawing != plots.score_histogram("set", "energy", few | {"outliers": [1, 3]})
    assert ElementTree.fromstring(drawing).attrib["aria-label"].startswith("Histogram of energy")


def test_what_a_plot_refers_to_is_inside_it() -> None:
    drawing = plots.learning_curve(HISTORY, "loss")
    ids = re.findall(r'\bid="([^"]*)"', drawing)
    references = re.findall(r'(?:href="|url\()#([^")]*)', drawing)
    assert references
    assert set(references) <= set(ids)
    assert all(name.startswith("loss-") for name in ids)


def test_text_stays_text_and_the_label_speaks_the_numbers() -> None:
    drawing = plots.learning_curve(HISTORY, "loss")
    assert "validation</text>" in drawing
    assert "train from 0.900 in epoch 1 to 0.400 in epoch 2" in drawing


@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
def test_a_line_without_values_is_left_out(value: float | None) -> None:
    history = [{"epoch": 1, "train_loss": 0.9, "validation_loss": value}]
    drawing = plots.learning_curve(history, "loss")
    assert "train" in drawing
    assert "validation" not in drawing


def test_a_persons_own_matplotlib_settings_change_nothing() -> None:
    import matplotlib

    before = plots.learning_curve(HISTORY, "loss")
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "text.color": "green"}):
        assert plots.learning_curve(HISTORY, "loss") == before
        assert matplotlib.rcParams["font.size"] == 30


def test_without_matplotlib_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtra, match=r"matplotlib.*fmnist\[train\]"):
        plots.learning_curve(HISTORY, "loss")
