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
    for drawing in (plots.learning_curve(HISTORY, "loss"), plots.reliability(BINS)):
        assert ElementTree.fromstring(drawing).tag == "svg"
        assert set(re.findall(r"#[0-9a-f]{6}\b", drawing)) == set()
        assert {"var(--ink)", "var(--muted)", "var(--blue)"} <= set(
            re.findall(r"var\(.*?\)", drawing)
        )


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
