import base64
import hashlib
import re
from typing import Any

import numpy as np
import pytest

from fmnist.reporting import (
    EmbeddingMap,
    Exhibits,
    Mistake,
    Peer,
    confused,
    render,
    worst_mistakes,
)
from fmnist.reporting.templates import duration, percent, probability
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


def _full(names: list[str] = NAMES) -> dict[str, Any]:
    """Metrics as the full suite leaves them."""
    metrics = _metrics(names)
    for split in metrics["splits"].values():
        split["brier"] = 0.1169
        split["selective"] = {
            "aurc": 0.0101,
            "coverage": [[0.5, 0.004], [0.9, 0.0337], [1.0, 0.0568]],
            "accuracy_at": {"0.90": 0.9663, "0.95": 0.9511},
        }
        split["calibrated"] |= {"brier": 0.1062, "reliability": split["reliability"]}
    kinds = [
        ("turn_left", None, True, 0.071),
        *(("shot_noise", degree, degree == 5, 0.9 - 0.05 * degree) for degree in range(1, 6)),
    ]
    keys = ("kind", "severity", "fashion_mnist_c", "accuracy")
    score = {"auroc": 0.954, "aupr": 0.991, "fpr_at_95_tpr": 0.348}
    histogram = {"edges": [0.0, 0.5, 1.0], "inliers": [1, 9], "outliers": [8, 2]}
    return metrics | {
        "corruptions": {
            "images": 10_000,
            "seed": 0,
            "source": "their source",
            "clean_error": 0.0714,
            "kinds": [
                {**dict(zip(keys, kind, strict=True)), "images": 10_000 if kind[2] else 2000}
                for kind in kinds
            ],
            "mean_accuracy": 0.4807,
            "mean_corruption_error": 0.912,
            "relative_to": "classic",
        },
        "outliers": {
            "inliers": 10_000,
            "sets": [
                {
                    "name": names[6],
                    "images": 2000,
                    "scores": {"max_probability": score, "energy": None},
                    "histogram": {"max_probability": histogram, "energy": histogram},
                }
            ],
        },
        "speed": {
            "images_per_second": 3418.2,
            "batch_size": 1000,
            "milliseconds_one_image": 0.774,
            "threads": 1,
            "device": "cpu",
            "parameters": 467626,
            "multiply_adds": 3_400_000,
            "file_bytes": 699_856,
        },
    }


def _exhibits(names: list[str] = NAMES) -> Exhibits:
    """Pictures, a map and peers of the eighty images of `_mistakes`."""
    random = np.random.default_rng(1)
    images = random.integers(0, 256, (80, 28, 28), dtype=np.uint8)
    labels = np.repeat(np.arange(10, dtype=np.uint8), 8)
    logits = random.standard_normal((80, 10)).astype(np.float32)
    return Exhibits(
        mistakes=_mistakes(names),
        confused=confused(images, np.full(80, 6, np.uint8), logits, names, [(names[6], names[0])]),
        corrupted={("turn_left", None): images[0], ("shot_noise", 5): images[1]},
        embedding=EmbeddingMap(
            points=random.standard_normal((80, 2)).astype(np.float32),
            images=images,
            labels=labels,
            predicted=logits.argmax(axis=1).astype(np.uint8),
            confidence=random.random(80),
            made_of="the 256 numbers that its last layer sees",
        ),
        peers=[
            Peer(names[6], 0.9432, (0.9385, 0.9476), "the test images", is_this=True),
            Peer("another", 0.9211, None, "3 seeds", "60,000", 381.0, 467_626),
        ],
    )


def _mistakes(names: list[str] = NAMES) -> list[Mistake]:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (80, 28, 28), dtype=np.uint8)
    logits = random.standard_normal((80, 10)).astype(np.float32)
    return worst_mistakes(images, np.full(80, 6, np.uint8), logits, names)


def _basic(names: list[str] = NAMES) -> Exhibits:
    return Exhibits(mistakes=_mistakes(names))


@pytest.fixture(scope="module")
def page() -> str:
    return render(RUN, HISTORY, _metrics(), _basic())


@pytest.fixture(scope="module")
def full_page() -> str:
    return render(RUN, HISTORY, _full(), _exhibits())


@pytest.fixture(params=["page", "full_page"])
def either(request: pytest.FixtureRequest) -> str:
    """The page of the basic suite, and that of the full one."""
    shown: str = request.getfixturevalue(request.param)
    return shown


def test_page_is_well_formed_and_its_ids_are_unique(either: str) -> None:
    ids = Parsed(either).values("id")
    assert len(ids) == len(set(ids))
    assert {"loss", "reliability"} <= {name.partition("-")[0] for name in ids}


def test_page_loads_nothing_from_elsewhere(either: str) -> None:
    parsed = Parsed(either)
    loads = [*parsed.values("src"), *parsed.values("href"), *re.findall(r"url\((.*?)\)", either)]
    assert loads
    assert all(load.startswith(("data:image/", "#")) for load in loads)
    assert not parsed.tags("link") + parsed.tags("iframe") + parsed.tags("object")
    assert "@import" not in either


def test_nothing_runs_but_the_script_of_the_map(page: str, full_page: str) -> None:
    assert not Parsed(page).tags("script")
    assert "script-src" not in page
    (script,) = re.findall(r"<script>(.*?)</script>", full_page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = [
        tag["content"] or "" for tag in Parsed(full_page).tags("meta") if "content" in tag
    ][:1]
    assert policy.startswith("default-src 'none'; ")
    assert f"script-src 'sha256-{digest}';" in policy
    assert not re.findall(
        r"\son\w+=", re.sub(r"<script>.*?</script>", "", full_page, flags=re.DOTALL)
    )


def test_links_inside_the_page_lead_somewhere(either: str) -> None:
    parsed = Parsed(either)
    ids = set(parsed.values("id"))
    assert {link[1:] for link in parsed.values("href")} <= ids
    assert set(parsed.values("aria-labelledby") + parsed.values("aria-describedby")) <= ids


def test_the_contents_name_every_section(either: str) -> None:
    parsed = Parsed(either)
    sections = {attrs["aria-labelledby"] for attrs in parsed.tags("section")}
    assert sections - {"recipe", "data", "environment"} == {
        (attrs["href"] or "")[1:] for attrs in parsed.tags("a")
    }


def test_tables_and_pictures_are_named(either: str) -> None:
    parsed = Parsed(either)
    assert len(parsed.tags("caption")) == len(parsed.tags("table")) > 0
    assert all(attrs.get("scope") in ("row", "col", "rowgroup") for attrs in parsed.tags("th"))
    assert all(attrs.get("alt") for attrs in parsed.tags("img"))
    assert all(attrs.get("aria-label") for attrs in parsed.tags("svg"))


def test_plots_are_those_of_what_was_measured(page: str, full_page: str) -> None:
    assert len(Parsed(page).tags("svg")) == 3
    # Beside those: risk and coverage, a set of strangers by two scores, and the map.
    assert len(Parsed(full_page).tags("svg")) == 3 + 1 + 2 + 1


def test_same_input_same_bytes(page: str, full_page: str) -> None:
    assert render(RUN, HISTORY, _metrics(), _basic()) == page
    assert render(RUN, HISTORY, _full(), _exhibits()) == full_page
    assert len(page.encode()) < 1_000_000


@pytest.mark.parametrize(
    "expected",
    [
        f"48.07{NBSP}% right on average",
        f"92.86{NBSP}% of the same 10,000 clean images",
        f"91.2{NBSP}% of that of classic",
        "others asked of 2,000 images",
        f"Turn left <span>7.1{NBSP}%</span>",
        f"Shot noise <span>65.0{NBSP}%</span>",
        f"<td>0.954</td><td>0.991</td><td>34.8{NBSP}%</td>",
        f"0.77{NBSP}ms",
        "3,418",
        f"3.4{NBSP}M",
        f"0.70{NBSP}MB",
        '<th scope="row">Brier score</th><td>0.1169</td><td>0.1062</td>',
        f'<th scope="row">90{NBSP}%</th><td>96.63{NBSP}%</td>',
        "(AURC), 0.0101",
        "All 80 test images on a map",
        "the 256 numbers that its last layer sees",
        f"93.85\u201394.76{NBSP}%",
        f"6{NBSP}min{NBSP}21{NBSP}s",
    ],
)
def test_every_number_of_the_full_suite_is_there(full_page: str, expected: str) -> None:
    assert expected in full_page


def test_the_hardest_corruption_comes_first(full_page: str) -> None:
    assert full_page.index("Turn left <span>") < full_page.index("Shot noise <span>")
    bold = re.findall(r'<li class="usual">.*?<span>(.*?)</span>', full_page)
    assert bold == [f"65{NBSP}%"]


def test_a_score_that_tells_nothing_is_dashes(full_page: str) -> None:
    dashes = "<td>\u2013</td>" * 3
    assert f'<th scope="row">energy</th>{dashes}' in full_page


def test_this_model_is_marked_among_its_peers(full_page: str) -> None:
    rows = re.findall(
        r'<tr( class="this" aria-current="true")?><th scope="row">(.*?)</th><td>', full_page
    )
    assert [name for mark, name in rows if mark] == ["Shirt"]
    assert [name for _, name in rows if name in ("Shirt", "another")] == ["Shirt", "another"]


def test_a_model_made_elsewhere_has_no_training_to_show() -> None:
    facts = {
        "name": "theirs",
        "target": "net.onnx",
        "command": "fmnist bench net.onnx",
        "assumed": [{"what": "scale", "value": 255.0, "because": "they are floats"}],
        "warnings": ["it is slow"],
        "data": RUN["data"],
        "machine": RUN["machine"],
    }
    page = render(facts, [], _metrics(), Exhibits())
    assert "made elsewhere" in page
    assert '<tr><th scope="row">scale</th><td>255.0 (they are floats)</td></tr>' in page
    assert '<p class="notice">It is slow.</p>' in page
    assert "<code>fmnist bench net.onnx</code>" in page
    assert "As written in bench.json" in page
    assert not {"Training time", "Trained on the train split", "Learning curves"} & set(
        re.findall(r">([^<>]+)<", page)
    )


def test_bare_classes_leave_out_what_needs_probabilities() -> None:
    metrics = _metrics()
    nothing = ("loss", "top2_accuracy", "calibration_error", "reliability", "calibrated")
    for split in metrics["splits"].values():
        split |= dict.fromkeys((*nothing, "selective", "brier"))
    metrics |= {"temperature": 1.0, "corruptions": None, "outliers": None, "speed": None}
    page = render({"target": "them.csv"}, [], metrics, Exhibits())
    assert f"94.32{NBSP}%" in page
    assert not Parsed(page).tags("svg")
    assert "Test loss" not in page
    assert "Calibration" not in page


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
    row = re.search(
        r'<th scope="row">Shirt</th>(.*?)</tr>', render(RUN, HISTORY, metrics, Exhibits())
    )
    assert row is not None
    cells = re.findall(r"<td.*?>(\d+)</td>", row[1])
    assert cells == ["4321", "3", "3", "3", "3", "3", "973", "3", "3", "3"]
    assert re.findall(r'<td class="right"', row[1]) == ['<td class="right"']


def test_names_are_text_whatever_they_hold() -> None:
    names = [PAYLOAD, *NAMES[1:6], PAYLOAD + "6", *NAMES[7:]]
    run = RUN | {"recipe": {"name": PAYLOAD, PAYLOAD: PAYLOAD}, "named": PAYLOAD, "seed": PAYLOAD}
    parsed = Parsed(render(run, HISTORY, _full(names), _exhibits(names)))
    assert len(parsed.tags("script")) == 1  # the map's
    assert not parsed.values("onerror")
    assert PAYLOAD in parsed.text


def test_validation_alone_is_shown_and_test_said_to_be_unread() -> None:
    metrics = _metrics()
    del metrics["splits"]["test"]
    page = render(RUN, HISTORY, metrics, Exhibits())
    assert "Validation accuracy" in page
    assert f"94.18{NBSP}%" in page
    assert "has not been read" in page
    assert "Test accuracy" not in page
    assert "Worst mistakes" not in page


def test_all_data_has_no_validation() -> None:
    history = [line | {"validation_loss": None, "validation_accuracy": None} for line in HISTORY]
    metrics = _metrics() | {"temperature": 1.0, "temperature_source": "1: no validation"}
    del metrics["splits"]["validation"]
    page = render(RUN | {"all_data": True}, history, metrics, Exhibits())
    assert "validation included" in page
    assert "temperature 1: no validation" in page
    assert "at temperature" not in page
    assert "validation from" not in page


@pytest.mark.parametrize("run", [{}, RUN | {"state": "interrupted", "seconds": {}}])
@pytest.mark.parametrize("history", [[], HISTORY[:1], [{"epoch": 1}]])
def test_whatever_is_missing_the_page_stands(
    run: dict[str, Any], history: list[dict[str, Any]]
) -> None:
    page = render(run, history, {}, Exhibits())
    assert Parsed(page).tags("h1")
    assert "Not evaluated yet" in page
    assert ("not finished" in page) == bool(run)


def test_values_that_are_null_or_not_finite_are_dashes() -> None:
    metrics = _metrics()
    metrics["splits"]["test"]["classes"][0]["precision"] = None
    metrics["splits"]["test"]["classes"][0]["f1"] = float("nan")
    page = render(RUN, HISTORY, metrics, Exhibits())
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
