"""One run judged and shown: logits, then metrics.json, then report.html."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fmnist.data import CLASS_NAMES, Dataset, SplitName, load_dataset
from fmnist.errors import DataError, RunError
from fmnist.evaluation.calibration import calibration_error, fit_temperature, reliability
from fmnist.evaluation.logits import save_logits
from fmnist.evaluation.metrics import cross_entropy, score
from fmnist.files import write_whole
from fmnist.recipes import Recipe, differing_fields
from fmnist.reporting import render, worst_mistakes
from fmnist.runs import Run, SplitLogits, open_run

JUDGED: tuple[SplitName, ...] = ("validation", "test")


def evaluate(
    run: Run | str | os.PathLike[str],
    data: Dataset | None = None,
    *,
    splits: Sequence[SplitName] = JUDGED,
    recipe: Recipe | None = None,
    temperature_from: Run | str | os.PathLike[str] | None = None,
    device: str = "auto",
    batch_size: int = 1000,
) -> dict[str, Any]:
    """Judge a run on `splits`, write their logits and metrics.json, and return their metrics.

    This is the only place that reads the test split. A run that was trained on all 60,000 images
    has no validation split to be judged on, and that one is left out; `temperature_from` names a
    run of the same recipe, trained on 55,000, whose validation logits give the temperature.
    `recipe` is needed for a network that is not part of fmnist. Raises RunError, ModelError or
    DataError.
    """
    began = time.perf_counter()
    run = _opened(run)
    data = data or load_dataset()
    fitted_on = run if temperature_from is None else _opened(temperature_from)
    _check_data(run, data)
    all_data = run.read()["all_data"]
    kept = [split for split in splits if not (all_data and split == "validation")]
    if not kept:
        raise RunError(f"{run.folder} was trained on all images and has no validation split")
    _check_temperature_source(run, fitted_on)
    phases = {}
    for name in kept:
        asked = time.perf_counter()
        save_logits(run, data.split(name), recipe=recipe, device=device, batch_size=batch_size)
        if name == "test":
            phases["predict"] = time.perf_counter() - asked
    metrics = measure(run, fitted_on)
    run.write_metrics(metrics)
    phases["evaluate"] = time.perf_counter() - began - phases.get("predict", 0.0)
    run.set_seconds(**phases)
    return {**metrics, "splits": {name: metrics["splits"][name] for name in kept}}


def measure(run: Run, temperature_from: Run) -> dict[str, Any]:
    """Return the metrics of every split whose logits the run holds.

    The temperature is fitted on the validation logits of `temperature_from`; without any it is 1.
    """
    saved = {
        name: run.read_logits(name)
        for name in JUDGED
        if (run.folder / f"logits-{name}.npz").exists()
    }
    temperature, source = _temperature(run, temperature_from)
    return {
        "temperature": temperature,
        "temperature_source": source,
        "splits": {name: _measure_split(part, temperature) for name, part in saved.items()},
    }


def _temperature(run: Run, other: Run) -> tuple[float, str]:
    if run is other and run.read()["all_data"]:
        return 1.0, "none: trained on all images, so no validation logits to fit it on"
    if other is run and not (run.folder / "logits-validation.npz").exists():
        return 1.0, "none: not judged on validation"
    validation = other.read_logits("validation")
    source = "validation logits of this run" if other is run else f"validation of {other.folder}"
    return fit_temperature(validation.logits, validation.labels), source


def _check_temperature_source(run: Run, other: Run) -> None:
    """Raise RunError or DataError where the temperature of `other` cannot be that of `run`."""
    if other is run:
        return
    facts, others = run.read(), other.read()
    if differing_fields(facts["recipe"], others["recipe"]):
        raise RunError(f"{other.folder} is of another recipe than {run.folder}")
    if others["all_data"]:
        raise RunError(f"{other.folder} was trained on all images too, so it fits no temperature")
    if facts["data"]["sha256"] != others["data"]["sha256"]:
        raise DataError(f"{other.folder} was trained on other data files than {run.folder}")
    other.read_logits("validation")


def _measure_split(part: SplitLogits, temperature: float) -> dict[str, Any]:
    logits, labels = part.logits, part.labels
    tempered = logits.astype(np.float64) / temperature  # float32 could round two logits to a tie
    return {
        **score(logits, labels, CLASS_NAMES),
        "calibration_error": calibration_error(logits, labels),
        "reliability": reliability(logits, labels),
        "calibrated": {
            "loss": cross_entropy(tempered, labels),
            "calibration_error": calibration_error(tempered, labels),
        },
    }


def report(run: Run | str | os.PathLike[str], data: Dataset | None = None) -> Path:
    """Write report.html from what the run directory holds, and return its path.

    Raises RunError if the run has not been evaluated, DataError if `data` is not what it was
    trained on.
    """
    began = time.perf_counter()
    run = _opened(run)
    data = data or load_dataset()
    _check_data(run, data)
    metrics = run.read_metrics()
    shown: SplitName = "test" if "test" in metrics["splits"] else "validation"
    saved = run.read_logits(shown)
    images = data.test_images if shown == "test" else data.train_images
    mistakes = worst_mistakes(
        images[saved.indices],
        saved.labels,
        saved.logits,
        CLASS_NAMES,
        temperature=metrics["temperature"],
    )
    try:
        page = render(run.read(), run.read_history(), metrics, mistakes)
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(
            f"what {run.folder} holds is damaged ({type(error).__name__}: {error}); "
            f"run: {run.evaluate_command()}"
        ) from error
    write_whole(run.report, page.encode())
    run.set_seconds(report=time.perf_counter() - began)
    return run.report


def _opened(run: Run | str | os.PathLike[str]) -> Run:
    return run if isinstance(run, Run) else open_run(run)


def _check_data(run: Run, data: Dataset) -> None:
    """Raise DataError if the run was trained on other files: its numbers would mean nothing."""
    if run.read()["data"]["sha256"] != data.sha256:
        raise DataError(
            f"{run.folder} was trained on other data files than {data.folder} holds; "
            "name theirs with --data-dir"
        )
