"""Other people's models judged as ours are: asked or read, doubted, measured, shown."""

import logging
import os
import re
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist.classifier.pixels import Assumption, Pixels, Wishes
from fmnist.data import Dataset, SplitName, load_dataset
from fmnist.environment import git_commit, machine, physical_cores, versions
from fmnist.errors import DataError, MissingExtra, ModelError, RunError
from fmnist.evaluation import doubts
from fmnist.evaluation.calibration import fit_temperature
from fmnist.evaluation.embedding import save_embedding
from fmnist.evaluation.metrics import accuracy
from fmnist.evaluation.report_page import report
from fmnist.evaluation.scores import (
    LEAST,
    Kind,
    Wished,
    check_scores,
    read_scores,
    tell_kind,
    to_logits,
)
from fmnist.evaluation.subject import Subject
from fmnist.evaluation.suite import Suite, measure_full, measure_splits
from fmnist.evaluation.targets import Answer, Target, name_of, open_target
from fmnist.runs import Bench, SplitLogits

log = logging.getLogger("fmnist")

AT_ONCE = 1000  # images handed to a model together
# What bare classes do not tell.
NEED_PROBABILITIES = (
    *("loss", "brier", "top2_accuracy", "calibration_error", "reliability", "selective"),
    "calibrated",
)


def bench(
    target: str | os.PathLike[str] | Answer | None = None,
    data: Dataset | None = None,
    *,
    out: str | os.PathLike[str] | None = None,
    name: str | None = None,
    wishes: Wishes | None = None,
    scores: Wished = "auto",
    suite: Suite = "basic",
    outliers: Sequence[str | os.PathLike[str]] = (),
) -> dict[str, Any]:
    """Judge a model that was made elsewhere, and return what `fmnist bench --json` prints.

    `target` is an .onnx or .keras file, a function of images (n, 28, 28) uint8 to scores (n, 10) or
    its name as "module:function", or predictions of the test images as .npz or .csv; without it the
    classifier that comes with fmnist. `wishes` say how a file's network takes its images where the
    file does not; labels never decide that. Written into `out` (by default
    runs/bench-<name>-<time>): bench.json, logits, metrics.json and, where matplotlib is installed,
    report.html. Raises ModelError,
    DataError and RunError for what cannot be judged, and for answers that are plainly not what was
    meant (`fmnist.evaluation.doubts`).
    """
    began = time.perf_counter()
    if suite == "basic" and outliers:
        raise RunError("outliers are part of the full suite; add --suite full")
    if target is not None and not callable(target):
        target = os.fspath(target)
    text = name_of(target) if callable(target) else target
    data = data or load_dataset()
    wishes = wishes or Wishes()
    folder = None if out is None else _checked_folder(Path(out))
    found = open_target(target, wishes, threads=physical_cores())
    name = name or found.name
    try:
        judged = _judge(found, data, scores)
    except (DataError, ModelError) as error:
        raise type(error)(f"{text or found.name}: {error}") from error
    metrics = _measure(judged, data)
    if suite == "full":
        subject = _subject(name, judged)
        log.info("full suite: corruptions, outliers, speed")
        metrics |= measure_full(subject, data.split("test"), outliers=[*map(Path, outliers)])
        if judged.kind == "classes":
            metrics["outliers"] = None
    place = Bench(folder or _new_folder(name))
    command = _command(text, out, name, wishes, scores, suite, outliers)
    facts = _facts(name, text, command, judged, data)
    facts["seconds"] = {"predict": judged.seconds, "total": time.perf_counter() - began}
    _write(place, facts, metrics, judged)
    page = _report(place, data, with_map=suite == "full" and judged.kind != "classes")
    return {
        "bench": str(place.folder),
        **{key: facts[key] for key in ("name", "target", "kind", "scores", "assumed", "warnings")},
        **metrics,
        "report": None if page is None else str(page),
    }


@dataclass(frozen=True)
class _Judged:
    """A target's answers: logits by split, and what was noticed on the way."""

    target: Target
    kind: Kind
    splits: dict[str, SplitLogits]
    assumed: tuple[Assumption, ...]
    warnings: tuple[str, ...]
    ask: Callable[[NDArray[np.uint8]], NDArray[np.float32]] | None
    seconds: float | None  # of the test split


def _judge(target: Target, data: Dataset, wished: Wished) -> _Judged:
    if target.answer is None:
        return _judge_saved(target, data, wished)
    return _judge_asked(target, target.answer, data, wished)


def _judge_saved(target: Target, data: Dataset, wished: Wished) -> _Judged:
    values = check_scores(target.saved)
    doubts.check_rows(len(values), data)
    read = read_scores(values, wished)
    doubts.check_answers(read.logits, data)
    note = Assumption("scores", read.kind, read.because)
    return _Judged(
        target,
        read.kind,
        {"test": _split("test", read.logits, data)},
        (*target.assumed, note),
        tuple(_remarks(values, read.logits, read.kind, data)),
        ask=None,
        seconds=None,
    )


def _judge_asked(target: Target, answer: Answer, data: Dataset, wished: Wished) -> _Judged:
    """Ask about validation first: what the answers are is told from these images alone."""
    validation = data.split("validation")
    log.info("asking about %s validation images", f"{len(validation):,}")
    values = _asked(answer, validation.images)
    read = read_scores(values, wished)

    def ask(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return to_logits(_asked(answer, images), read.kind)

    warnings = [*doubts.steadiness(ask, data)]
    hint = _hint(target, read.kind, data)
    log.info("asking about %s test images", f"{len(data.test_labels):,}")
    began = time.perf_counter()
    values = _asked(answer, data.test_images)
    logits = to_logits(values, read.kind)
    seconds = time.perf_counter() - began
    doubts.check_answers(logits, data, [hint] if hint else [])
    warnings += [hint] if hint else []
    splits = {"test": _split("test", logits, data)}
    if not (target.facts or {}).get("all_data"):  # else it has learned from these images
        splits = {"validation": _split("validation", read.logits, data), **splits}
    return _Judged(
        target,
        read.kind,
        splits,
        (*target.assumed, Assumption("scores", read.kind, read.because)),
        (*warnings, *_remarks(values, logits, read.kind, data)),
        ask,
        seconds,
    )


def _asked(answer: Answer, images: NDArray[np.uint8]) -> NDArray[Any]:
    """Return the answers to images (n, 28, 28) as `check_scores` does, a row an image."""
    told = []
    for at in range(0, len(images), AT_ONCE):
        group = images[at : at + AT_ONCE]
        values = check_scores(answer(group))
        if len(values) != len(group):
            raise ModelError(
                f"asked about {len(group):,} images it gives {len(values):,} answers; it must map "
                "images (n, 28, 28) uint8 to scores (n, 10)"
            )
        told.append(values)
    if len({values.ndim for values in told}) > 1:
        raise ModelError("it answers now with scores, now with classes")
    return np.concatenate(told)


def _hint(target: Target, kind: Kind, data: Dataset) -> str | None:
    if target.retried is None or target.pixels is None:
        return None
    retried = target.retried

    def again(images: NDArray[np.uint8], pixels: Pixels) -> NDArray[np.float32]:
        try:
            return to_logits(check_scores(retried(images, pixels)), kind)
        except ModelError:  # in this scale it overflows, so it is not the one that was meant
            return np.zeros((len(images), 10), np.float32)

    return doubts.treatment_hint(again, target.pixels, data)


def _split(split: SplitName, logits: NDArray[np.float32], data: Dataset) -> SplitLogits:
    part = data.split(split)
    return SplitLogits(logits, part.labels, part.indices)


def _remarks(
    values: NDArray[Any], logits: NDArray[np.float32], kind: Kind, data: Dataset
) -> list[str]:
    """Return warnings about answers to the test split that can be judged all the same."""
    labels = data.test_labels
    said = [*doubts.too_good(accuracy(logits, labels))]
    if kind == "classes":
        said.append("bare classes tell accuracy and confusions; loss and calibration need scores")
        return said
    true = values[np.arange(len(labels)), labels]
    if kind == "probabilities" and (none := int((true <= 0).sum())):
        said.append(
            f"{none:,} test images have a probability of 0 for their true class, which counts as "
            f"{LEAST:.0e} in the loss: the true loss is infinite"
        )
    if kind == "logits" and values.min() >= 0 and values.max() <= 1 and tell_kind(values)[1]:
        said.append(
            "the scores lie in 0..1 but do not sum to 1 (ten sigmoids?): they are taken as logits, "
            "so that loss and calibration mean little"
        )
    return said


def _measure(judged: _Judged, data: Dataset) -> dict[str, Any]:
    temperature, source = _temperature(judged, data)
    metrics = measure_splits(judged.splits, temperature, source)
    if judged.kind == "classes":
        nothing = dict.fromkeys(NEED_PROBABILITIES)
        splits = metrics["splits"]
        metrics["splits"] = {split: {**splits[split], **nothing} for split in splits}
    return metrics


def _temperature(judged: _Judged, data: Dataset) -> tuple[float, str]:
    """Return what divides the logits to calibrate them, and where it is from."""
    if judged.kind == "classes":
        return 1.0, "none: bare classes have no probabilities"
    if judged.ask is None:
        return 1.0, "none: saved predictions of the test images alone"
    if judged.target.facts is not None:
        return float(judged.target.facts["temperature"]), "the file's own"
    validation, test = judged.splits["validation"], judged.splits["test"]
    on_validation = accuracy(validation.logits, validation.labels)
    on_test = accuracy(test.logits, test.labels)
    if doubts.seems_leaked(on_validation, on_test, data):
        return 1.0, (
            f"none: {100 * on_validation:.1f} % of the validation images are right and "
            f"{100 * on_test:.1f} % of the test images, so it seems to be trained on the former"
        )
    return fit_temperature(validation.logits, validation.labels), "validation logits of this model"


def _subject(name: str, judged: _Judged) -> Subject:
    target = judged.target
    return Subject(
        name=name,
        ask=judged.ask,
        parameters=target.parameters,
        multiply_adds=target.multiply_adds(),
        file_bytes=target.file_bytes,
        threads=physical_cores(),
    )


def _facts(
    name: str, text: str | None, command: str, judged: _Judged, data: Dataset
) -> dict[str, Any]:
    """Return bench.json without its seconds."""
    target = judged.target
    return {
        "name": name,
        "target": text or "the classifier that comes with fmnist",
        "kind": target.kind,
        "scores": judged.kind,
        "command": command,
        "argv": sys.argv,
        "assumed": [note._asdict() for note in judged.assumed],
        "warnings": list(judged.warnings),
        "sha256": target.sha256,
        "parameters": target.parameters,
        "file_bytes": target.file_bytes,
        "finished": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "versions": versions(),
        "machine": machine(),
        "threads": physical_cores(),
        "git_commit": git_commit(),
        "data": {
            "sha256": data.sha256,
            "source": data.source,
            "validation_sha256": data.validation_sha256,
        },
    }


def _command(
    text: str | None,
    out: str | os.PathLike[str] | None,
    name: str,
    wishes: Wishes,
    scores: Wished,
    suite: Suite,
    outliers: Sequence[str | os.PathLike[str]],
) -> str:
    """Return the command that judges this again."""
    options: list[tuple[str, Any]] = [("name", name), *vars(wishes).items()]
    options += [("scores", scores if scores != "auto" else None)]
    options += [("suite", suite if suite != "basic" else None)]
    options += [("outliers", path) for path in outliers] + [("out", out)]
    given = [(option, value) for option, value in options if value is not None]
    words = [part for option, value in given for part in (f"--{option}", str(value))]
    return shlex.join(["fmnist", "bench", *([text] if text else []), *words])


def _checked_folder(folder: Path) -> Path:
    """Return `folder`; RunError if it holds anything but an earlier bench."""
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder} is a file, not a directory; name another with --out")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "bench.json").is_file():
        raise RunError(f"{folder} is not empty; name a new directory with --out")
    return folder


def _new_folder(name: str) -> Path:
    stem = re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-.") or "model"
    first = Path("runs") / f"bench-{stem}-{time.strftime('%Y%m%d-%H%M%S')}"
    folder, attempt = first, 1
    while folder.exists():
        attempt += 1
        folder = first.with_name(f"{first.name}-{attempt}")
    return folder


def _write(
    place: Bench, facts: Mapping[str, Any], metrics: Mapping[str, Any], judged: _Judged
) -> None:
    place.write(facts)
    for split in ("validation", "test"):
        if split in judged.splits:
            place.write_logits(split, judged.splits[split])
        else:  # of an earlier bench of another target
            (place.folder / f"logits-{split}.npz").unlink(missing_ok=True)
    place.write_metrics(metrics)


def _report(place: Bench, data: Dataset, *, with_map: bool) -> Path | None:
    """Write the page, where what draws it is installed."""
    try:
        if with_map:
            save_embedding(place, data.test_images)
        return report(place, data)
    except MissingExtra as error:
        log.info("no report.html: %s", error)
        place.report.unlink(missing_ok=True)
        return None
