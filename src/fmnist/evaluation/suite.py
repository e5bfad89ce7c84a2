"""One run judged and shown: logits, then metrics.json, then report.html."""

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np

from fmnist.data import CLASS_NAMES, Dataset, Split, SplitName, load_dataset
from fmnist.errors import DataError, RunError
from fmnist.evaluation.calibration import (
    brier_score,
    calibration_error,
    fit_temperature,
    reliability,
)
from fmnist.evaluation.embedding import save_embedding
from fmnist.evaluation.metrics import cross_entropy, score
from fmnist.evaluation.outliers import measure_outliers, read_outliers
from fmnist.evaluation.robustness import measure_corruptions
from fmnist.evaluation.selective import measure_selective
from fmnist.evaluation.speed import measure_speed
from fmnist.evaluation.subject import Subject, Watch, run_subject
from fmnist.recipes import Recipe, differing_fields
from fmnist.runs import Run, SplitLogits, open_run

JUDGED: tuple[SplitName, ...] = ("validation", "test")
NEEDS_MODEL = ("corruptions", "outliers", "speed")  # what saved logits do not tell

Suite: TypeAlias = Literal["basic", "full"]


def evaluate(
    run: Run | str | os.PathLike[str],
    data: Dataset | None = None,
    *,
    splits: Sequence[SplitName] = JUDGED,
    suite: Suite = "basic",
    outliers: Sequence[str | os.PathLike[str]] = (),
    recipe: Recipe | None = None,
    temperature_from: Run | str | os.PathLike[str] | None = None,
    device: str = "auto",
    batch_size: int = 1000,
    watch: Watch = lambda doing: None,
) -> dict[str, Any]:
    """Judge a run on `splits`, write their logits and metrics.json, and return their metrics.

    A run that was trained on all 60,000 images has no validation split to be judged on, and that
    one is left out; `temperature_from` names a run of the same recipe, trained on 55,000, whose
    validation logits give the temperature. The suite "full" asks about corrupted test images,
    strangers and time too (`measure_full`, which says what `outliers` may be); its numbers stay
    when the run is judged again without it. `recipe` is needed for a network that is not part of
    fmnist. Raises RunError, ModelError or DataError.
    """
    began = time.perf_counter()
    run = _opened(run)
    _check_suite(suite, splits, outliers)
    data = data or load_dataset()
    fitted_on = run if temperature_from is None else _opened(temperature_from)
    kept = _judgeable(run, data, splits)
    _check_temperature_source(run, fitted_on)
    asking: dict[str, Any] = {"recipe": recipe, "device": device, "batch_size": batch_size}
    spent = _save_logits(run, data, kept, watch, asking)
    metrics = measure(run, fitted_on)
    phases = {"evaluate": time.perf_counter() - began - spent.get("test", 0.0)}
    if "test" in spent:
        phases["predict"] = spent["test"]
    if suite == "full":
        began = time.perf_counter()
        subject = run_subject(run, **asking)
        strangers = [Path(path) for path in outliers]
        metrics |= measure_full(subject, data.split("test"), outliers=strangers, watch=watch)
    run.write_metrics(metrics)
    if suite == "full":  # last, since its page can do without
        watch("map of the test images")
        save_embedding(run, data.test_images, recipe=recipe, device=device)
        phases["suite"] = time.perf_counter() - began
    run.set_seconds(**phases)
    return {**metrics, "splits": {name: metrics["splits"][name] for name in kept}}


def _judgeable(run: Run, data: Dataset, splits: Sequence[SplitName]) -> list[SplitName]:
    """Return those of `splits` that the run can be judged on; RunError if there is none."""
    _check_data(run, data)
    all_data = run.read()["all_data"]
    kept = [split for split in splits if not (all_data and split == "validation")]
    if not kept:
        raise RunError(f"{run.folder} was trained on all images and has no validation split")
    return kept


def _save_logits(
    run: Run, data: Dataset, splits: Sequence[SplitName], watch: Watch, asking: dict[str, Any]
) -> dict[str, float]:
    """Ask the run about the splits and save what it says; return the seconds that each took."""
    from fmnist.evaluation.logits import save_logits

    spent: dict[str, float] = {}
    for name in splits:
        watch(name)
        asked = time.perf_counter()
        save_logits(run, data.split(name), **asking)
        spent[name] = time.perf_counter() - asked
    return spent


def measure(run: Run, temperature_from: Run) -> dict[str, Any]:
    """Return the metrics of every split whose logits the run holds, and what it kept of the rest.

    The temperature is fitted on the validation logits of `temperature_from`; without any it is 1.
    """
    saved: dict[str, SplitLogits] = {
        name: run.read_logits(name)
        for name in JUDGED
        if (run.folder / f"logits-{name}.npz").exists()
    }
    temperature, source = _temperature(run, temperature_from)
    return measure_splits(saved, temperature, source) | _kept(run)


def measure_splits(
    saved: Mapping[str, SplitLogits], temperature: float, temperature_source: str
) -> dict[str, Any]:
    """Return the metrics of saved logits by split: a pure function of its arguments."""
    return {
        "temperature": temperature,
        "temperature_source": temperature_source,
        "splits": {name: _measure_split(part, temperature) for name, part in saved.items()},
    }


def measure_full(
    subject: Subject,
    test: Split,
    *,
    outliers: Sequence[Path] = (),
    watch: Watch = lambda doing: None,
) -> dict[str, Any]:
    """Return what needs the model itself: "corruptions", "outliers" and "speed" of the test split.

    Each is None where the subject cannot be asked. `outliers` are .npz files with `x`, IDX files or
    folders of images of which none is of the ten classes; `watch` is told in a word or two what is
    being done. Raises ModelError where an answer cannot be used, DataError where outliers cannot.
    """
    if subject.ask is None:
        return dict.fromkeys(NEEDS_MODEL)
    strangers = [read_outliers(path) for path in outliers]
    clean = subject.logits(test.images)
    return {
        "corruptions": measure_corruptions(subject, test, clean, watch),
        "outliers": measure_outliers(subject, clean, strangers, watch),
        "speed": measure_speed(subject, test.images, watch),
    }


def _kept(run: Run) -> dict[str, Any]:
    """Return what an earlier full suite measured: the weights of a finished run do not change."""
    try:
        earlier = run.read_metrics()
    except RunError:  # there is none yet, or a damaged one that is about to be replaced
        return {}
    return {name: earlier[name] for name in NEEDS_MODEL if name in earlier}


def _check_suite(suite: Suite, splits: Sequence[SplitName], outliers: Sequence[Any]) -> None:
    if suite not in get_args(Suite):
        raise RunError(f"there is no suite {suite!r}; there are {', '.join(get_args(Suite))}")
    if suite == "full" and "test" not in splits:
        raise RunError("the full suite is of the test split; judge on that too")
    if suite == "basic" and outliers:
        raise RunError("outliers are part of the full suite; add --suite full")


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
        "brier": brier_score(logits, labels),
        "calibration_error": calibration_error(logits, labels),
        "reliability": reliability(logits, labels),
        "selective": measure_selective(logits, labels),
        "calibrated": {
            "loss": cross_entropy(tempered, labels),
            "brier": brier_score(tempered, labels),
            "calibration_error": calibration_error(tempered, labels),
            "reliability": reliability(tempered, labels),
        },
    }


def _opened(run: Run | str | os.PathLike[str]) -> Run:
    return run if isinstance(run, Run) else open_run(run)


def _check_data(run: Run, data: Dataset) -> None:
    """Raise DataError if the run was trained on other files: its numbers would mean nothing."""
    if run.read()["data"]["sha256"] != data.sha256:
        raise DataError(
            f"{run.folder} was trained on other data files than {data.folder} holds; "
            "name theirs with --data-dir"
        )
