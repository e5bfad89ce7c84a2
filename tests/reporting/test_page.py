import re
from typing import Any

import numpy as np
import pytest

from fmnist.reporting import Mistake, render, worst_mistakes
from fmnist.reporting.page import duration
from fmnist.reporting.templates import percent, probability
from parsed import Parsed

NAMES = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"]
NAMES += ["Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]
NBSP = "\u00a0"
PAYLOAD = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"

RUN: dict[str, Any] = {
    "fmnist": "0.1.0",
    "recipe": {"name": "standard", "epochs": 2, "optimizer": {"weight_decay": 0.0}, "flip": True},
    "seed": 0,
    "all_data": False,
    "named": "my module:RECIPE",
    "started": "2026-11-22T08:30:00Z",
    "state": "finished",
    "versions": {"python": "3.11.7", "torch": "2.13.0"},
    "machine": {"processor": "AMD EPYC", "cores": 2},
    "device": "cpu",
    "precision": "bfloat16",
    "threads": 2,
    "data": {"sha256": {"train-images": "3aede38d"}, "source": "cache"},
    "git_commit": None,
    "parameters": 467626,
    "steps": 860,
    "seconds": {"train": 110.2, "total": 118.9},
}
HISTORY: list[dict[str, Any]] = [
    {"epoch": 1, "train_loss": 0.51, "train_accuracy": 0.82, "seconds": 11.2}
    | {"validation_loss": 0.33, "validation_accuracy": 0.881},
    {"epoch": 2, "train_loss": 0.31, "train_accuracy": 0.89, "seconds": 11.1}
    | {"validation_loss": 0.29, "validation_accuracy": 0.902},
]


def _split(images: int, accuracy: float, names: list[str] = NAMES) -> dict[str, Any]:
    confusion = np.full((10, 10), 3) + np.diag([images // 10 - 30] * 10)
    score = {"precision": 0.911, "recall": 0.922, "f1": 0.933}
    return {
        "images": images,
        "accuracy": accuracy,
        "accuracy_interval": [accuracy - 0.0047, accuracy + 0.0044],
        "loss": 0.2414,
        "top2_accuracy": 0.9871,
        "calibration_error": 0.0312,
        "calibrated": {"loss": 0.2013, "calibration_error": 0.0104},
        "macro": score,
        "classes": [
            {"index": i, "name": name, "images": images // 10, **score}
            for i, name in enumerate(names)
        ],
        "confusion": confusion.tolist(),
        "most_confused": [{"true": names[6], "predicted": names[0], "images": 87}],
        "reliability": [
            {"confidence": 0.4 + 0.04 * i, "accuracy": 0.38 + 0.04 * i, "images": images // 15}
            for i in range(15)
        ],
    }


def _metrics(names: list[str] = NAMES) -> dict[str, Any]:
    splits = {"validation": _split(5_000, 0.9418, names), "test": _split(10_000, 0.9432, names)}
    source = "validation logits of this run"
    return {"temperature": 1.31, "temperature_source": source, "splits": splits}


def _mistakes(names: list[str] = NAMES) -> list[Mistake]:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (80, 28, 28), dtype=np.uint8)
    logits = random.standard_normal((80, 10)).astype(np.float32)
    return worst_mistakes(images, np.full(80, 6, np.uint8), logits, names)


@pytest.fixture(scope="module")
def page() -> str:
    return render(RUN, HISTORY, _metrics(), _mistakes())


def test_page_is_well_formed_and_its_ids_are_unique(page: str) -> None:
    ids = Parsed(page).values("id")
    assert len(ids) == len(set(ids))
    assert {"loss", "reliability"} <= {name.partition("-")[0] for name in ids}


def test_page_loads_nothing_from_elsewhere(page: str) -> None:
    parsed = Parsed(page)
    loads = [*parsed.values("src"), *parsed.values("href"), *re.findall(r"url\((.*?)\)", page)]
    assert loads
    assert all(load.startswith(("data:image/png;base64,", "#")) for load in loads)
    assert "default-src 'none'" in page
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in parsed.seen}
    assert "@import" not in page


def test_links_inside_the_page_lead_somewhere(page: str) -> None:
    parsed = Parsed(page)
    assert {link[1:] for link in parsed.values("href")} <= set(parsed.values("id"))
    assert set(parsed.values("aria-labelledby")) <= set(parsed.values("id"))


def test_tables_and_pictures_are_named(page: str) -> None:
    parsed = Parsed(page)
    assert len(parsed.tags("caption")) == len(parsed.tags("table")) > 0
    assert all(attrs.get("scope") in ("row", "col") for attrs in parsed.tags("th"))
    assert all(attrs.get("alt") for attrs in parsed.tags("img"))
    assert all(attrs.get("aria-label") for attrs in parsed.tags("svg"))
    assert len(parsed.tags("svg")) == 3


def test_same_input_same_bytes(page: str) -> None:
    assert render(RUN, HISTORY, _metrics(), _mistakes()) == page
    assert len(page.encode()) < 1_000_000


@pytest.mark.parametrize(
    "expected",
    [
        f"the right class for 9,432 of the 10,000 test images: 94.32{NBSP}%",
        f"95{NBSP}% interval 93.85\u201394.76{NBSP}%",
        "Test loss\n0.241",
        f"98.71{NBSP}%",
        "Calibration error\n0.031",
        "at temperature 1.31: 0.010",
        f"validation 94.18{NBSP}%",
        f"1{NBSP}min{NBSP}50{NBSP}s",
        "467,626",
        "0.911",
        "fmnist train 'my module:RECIPE' --seed 0",
        "training never saw the test split",
        "3aede38d",
    ],
)
def test_every_headline_number_is_there(page: str, expected: str) -> None:
    assert expected in re.sub(r"\s*\n\s*", "\n", re.sub(r"</?d[dt].*?>", "\n", page)).replace(
        "&#39;", "'"
    )


def test_settings_that_are_nought_or_null_read_as_what_they_are(page: str) -> None:
    cells = dict(re.findall(r'<tr><th scope="row">(.*?)</th><td>(.*?)</td></tr>', page))
    assert cells["optimizer: weight decay"] == "0.0"
    assert cells["seed"] == "0"
    assert (cells["flip"], cells["all data"], cells["git commit"]) == ("yes", "no", "\u2013")


def test_mistakes_stand_in_their_order(page: str) -> None:
    shown = re.findall(r'<li id="mistake-(\d+)">', page)
    assert shown == [str(mistake.index) for mistake in _mistakes()]
    assert len(shown) == 40


def test_confusion_cells_keep_their_places() -> None:
    metrics = _metrics()
    metrics["splits"]["test"]["confusion"][6][0] = 4321
    row = re.search(r'<th scope="row">Shirt</th>(.*?)</tr>', render(RUN, HISTORY, metrics, []))
    assert row is not None
    cells = re.findall(r"<td.*?>(\d+)</td>", row[1])
    assert cells == ["4321", "3", "3", "3", "3", "3", "973", "3", "3", "3"]
    assert re.findall(r'<td class="right"', row[1]) == ['<td class="right"']


def test_names_are_text_whatever_they_hold() -> None:
    names = [PAYLOAD, *NAMES[1:6], PAYLOAD + "6", *NAMES[7:]]
    run = RUN | {"recipe": {"name": PAYLOAD, PAYLOAD: PAYLOAD}, "named": PAYLOAD, "seed": PAYLOAD}
    parsed = Parsed(render(run, HISTORY, _metrics(names), _mistakes(names)))
    assert not parsed.tags("script")
    assert not parsed.values("onerror")
    assert PAYLOAD in parsed.text


def test_validation_alone_is_shown_and_test_said_to_be_unread() -> None:
    metrics = _metrics()
    del metrics["splits"]["test"]
    page = render(RUN, HISTORY, metrics, [])
    assert "Validation accuracy" in page
    assert f"94.18{NBSP}%" in page
    assert "has not been read" in page
    assert "Test accuracy" not in page
    assert "None to show" in page


def test_all_data_has_no_validation() -> None:
    history = [line | {"validation_loss": None, "validation_accuracy": None} for line in HISTORY]
    metrics = _metrics() | {"temperature": 1.0, "temperature_source": "1: no validation"}
    del metrics["splits"]["validation"]
    page = render(RUN | {"all_data": True}, history, metrics, [])
    assert "validation included" in page
    assert "temperature 1: no validation" in page
    assert "at temperature" not in page
    assert "validation from" not in page


@pytest.mark.parametrize("run", [{}, RUN | {"state": "interrupted", "seconds": {}}])
@pytest.mark.parametrize("history", [[], HISTORY[:1], [{"epoch": 1}]])
def test_whatever_is_missing_the_page_stands(
    run: dict[str, Any], history: list[dict[str, Any]]
) -> None:
    page = render(run, history, {}, [])
    assert Parsed(page).tags("h1")
    assert "Not evaluated yet" in page
    assert ("not finished" in page) == bool(run)


def test_values_that_are_null_or_not_finite_are_dashes() -> None:
    metrics = _metrics()
    metrics["splits"]["test"]["classes"][0]["precision"] = None
    metrics["splits"]["test"]["classes"][0]["f1"] = float("nan")
    page = render(RUN, HISTORY, metrics, [])
    assert page.count('style="--v:0">\u2013</td>') == 2


def test_numbers_read_as_people_write_them() -> None:
    assert percent(0.94321) == f"94.32{NBSP}%"
    assert percent(None) == percent(float("nan")) == "\u2013"
    assert [duration(s) for s in (4.12, 59.97, 110.2, 7260, None)] == [
        f"4.1{NBSP}s",
        f"1{NBSP}min{NBSP}0{NBSP}s",
        f"1{NBSP}min{NBSP}50{NBSP}s",
        f"2{NBSP}h{NBSP}1{NBSP}min",
        "\u2013",
    ]
    assert [probability(p) for p in (0.9999, 0.976, 0.004, 0.0)] == [
        ">0.99",
        "0.98",
        "<0.01",
        "<0.01",
    ]


def _luminance(color: str) -> float:
    digits = color[1:] if len(color) == 7 else "".join(2 * digit for digit in color[1:])
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
        for c in (int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4))
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_text_has_contrast_in_light_and_dark(page: str) -> None:
    """WCAG 2.2, success criterion 1.4.3: at least 4.5 to 1."""
    schemes = [
        dict(re.findall(r"--([a-z-]+): (#[0-9a-f]+);", block))
        for block in re.findall(r":root \{([^}]*--page[^}]*)\}", page)
    ]
    assert len(schemes) == 2
    pairs = [(text, under) for text in ("ink", "muted") for under in ("page", "card")]
    pairs += [("ink", "blue-heat"), ("ink", "orange-heat"), ("blue", "card"), ("orange", "card")]
    for scheme in schemes:
        for text, under in pairs:
            dark, light = sorted(_luminance(scheme[name]) for name in (text, under))
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (text, under)
