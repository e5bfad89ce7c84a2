"""The page from real directories; what stands on it is tested in tests/reporting."""

import dataclasses
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from fmnist.data import CLASS_NAMES, Dataset
from fmnist.errors import DataError, MissingExtra, RunError
from fmnist.evaluation import embedding, evaluate, report, report_page
from fmnist.evaluation.corruptions import KINDS
from fmnist.evaluation.embedding import save_embedding
from fmnist.runs import Bench, Run
from parsed import Parsed


def _measure_as_full(run: Run, data: Dataset) -> None:
    """Put in what the full suite measures, as far as the page needs pictures for it."""
    metrics = evaluate(run, data, splits=["test"])
    kinds = [
        {"kind": name, "severity": severity, "accuracy": 0.5, "images": 10}
        | {"fashion_mnist_c": severity == kind.usual}
        for name, kind in KINDS.items()
        for severity in kind.severities
    ]
    corruptions = {"images": 10, "seed": 0, "source": "them", "clean_error": 0.1, "kinds": kinds}
    corruptions |= {"mean_accuracy": 0.5, "mean_corruption_error": 1.0, "relative_to": "it"}
    run.write_metrics({**metrics, "corruptions": corruptions, "outliers": None, "speed": None})
    save_embedding(run, data.test_images)


def test_each_corruption_is_shown_at_each_of_its_severities(run: Run, data: Dataset) -> None:
    _measure_as_full(run, data)
    page = Parsed(report(run, data).read_text("utf-8"))
    shown = [attrs["alt"] or "" for attrs in page.tags("img")]
    assert len([alt for alt in shown if alt.startswith("One image with")]) == len(KINDS)
    severities = [kind.severities for kind in KINDS.values() if kind.usual is not None]
    assert len([alt for alt in shown if alt.startswith("Severity")]) == sum(map(len, severities))


def test_the_map_knows_every_test_image_and_its_answer(run: Run, data: Dataset) -> None:
    _measure_as_full(run, data)
    page = Parsed(report(run, data).read_text("utf-8"))
    (names,) = page.values("data-names")
    assert json.loads(names) == list(CLASS_NAMES)
    assert f"All {len(data.test_images)} test images on a map" in page.text


def test_without_the_full_suite_there_is_no_map_and_no_script(run: Run, data: Dataset) -> None:
    evaluate(run, data)
    page = Parsed(report(run, data).read_text("utf-8"))
    assert not page.tags("script")
    assert not page.tags("canvas")


def test_a_bench_is_shown_as_a_run_is(run: Run, data: Dataset, tmp_path: Path) -> None:
    metrics = evaluate(run, data, splits=["test"])
    bench = Bench(tmp_path / "bench")
    bench.write({"name": "theirs", "target": "net.onnx", "command": "fmnist bench net.onnx"})
    with pytest.raises(RunError, match=r"bench\.json was not written by fmnist"):
        report(bench.folder, data)
    bench.write({**bench.read(), "data": {"sha256": data.sha256}})
    with pytest.raises(RunError, match=r"run again: fmnist bench net\.onnx"):
        report(bench.folder, data)
    bench.write_metrics(metrics)
    bench.write_logits("test", run.read_logits("test"))
    page = report(bench.folder, data).read_text("utf-8")
    assert "<code>fmnist bench net.onnx</code>" in page
    bench.write({**bench.read(), "data": {"sha256": {}}})
    with pytest.raises(DataError, match="bench was judged on other data files"):
        report(bench, data)


def test_damage_is_told_with_what_to_do(run: Run, data: Dataset) -> None:
    metrics = evaluate(run, data, splits=["test"])
    del metrics["splits"]["test"]["confusion"]
    metrics["splits"]["test"]["accuracy_interval"] = None
    run.write_metrics(metrics)
    with pytest.raises(RunError, match=rf"is damaged.*run: fmnist evaluate {run.folder}"):
        report(run, data)


@pytest.mark.usefixtures("accepted")
def test_what_lies_beside_a_run_cannot_spoil_its_page(
    run: Run, data: Dataset, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate(run, data, splits=["test"])
    shutil.copytree(run.folder, run.folder.parent / "odd")
    odd = Run(run.folder.parent / "odd")
    odd.write_metrics({"splits": {"test": {"accuracy": "high"}}})
    assert "small" in report(run, data).read_text("utf-8")

    def fail(judged: Run) -> None:
        raise KeyError("recipe")

    monkeypatch.setattr(report_page, "find_peers", fail)
    assert "small" in report(run, data).read_text("utf-8")
    assert f"what lies beside {run.folder} cannot be read (KeyError: 'recipe')" in caplog.text


def test_the_page_of_ten_thousand_images_is_small(
    run: Run, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Noise, of which no two images are alike, is the worst for any format of pictures."""
    random = np.random.default_rng(0)
    monkeypatch.setattr(
        embedding, "lay_out", lambda seen: random.random((len(seen), 2), np.float32)
    )
    images = random.integers(0, 256, (10_000, 28, 28), dtype=np.uint8)
    labels = np.arange(10_000, dtype=np.uint8) % 10
    many = dataclasses.replace(data, test_images=images, test_labels=labels)
    _measure_as_full(run, many)
    assert report(run, many).stat().st_size <= 5_000_000


def test_examples_of_pairs_are_the_images_of_the_split(run: Run, data: Dataset) -> None:
    metrics = evaluate(run, data, splits=["validation"])["splits"]["validation"]
    page = Parsed(report(run, data).read_text("utf-8"))
    pairs = metrics["most_confused"]
    examples = [alt for alt in page.values("alt") if alt.startswith("#")]
    assert len(examples) == sum(min(pair["images"], 8) for pair in pairs)
    saved = run.read_logits("validation")
    wrong = np.flatnonzero(saved.logits.argmax(axis=1) != saved.labels)
    assert {int(alt[1:].split(",")[0]) for alt in examples} <= set(wrong.tolist())


@pytest.mark.usefixtures("accepted")
@pytest.mark.parametrize("library", ["matplotlib", "scipy.special"])
def test_what_is_not_installed_is_named(
    run: Run, data: Dataset, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    evaluate(run, data)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtra, match=r"run: pip install 'fmnist\[train\]'"):
        report(run, data)
