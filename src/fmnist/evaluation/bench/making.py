"""Other people's models judged as ours are: asked or read, doubted, measured, shown."""

import dataclasses
import logging
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from fmnist.classifier.pixels import Assumption, Pixels, Wishes
from fmnist.data import Dataset, SplitName, load_dataset
from fmnist.environment import git_commit, machine, physical_cores, versions
from fmnist.errors import DataError, MissingExtra, ModelError, RunError
from fmnist.evaluation.bench import doubts
from fmnist.evaluation.bench.scores import (
    LEAST,
    Kind,
    Wished,
    check_scores,
    read_scores,
    tell_kind,
    to_logits,
)
from fmnist.evaluation.bench.targets import Answer, Target, name_of, open_target
from fmnist.evaluation.calibration import fit_temperature
from fmnist.evaluation.embedding import read_embedding, save_embedding
from fmnist.evaluation.metrics import accuracy
from fmnist.evaluation.report_page import report
from fmnist.evaluation.subject import Subject, Watch
from fmnist.evaluation.suite import Suite, measure_full, measure_splits
from fmnist.runs import Bench, SplitLogits, claim_folder

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
    validation_held_out: bool = False,
    suite: Suite = "basic",
    outliers: Sequence[str | os.PathLike[str]] = (),
    watch: Watch = lambda doing: None,
) -> dict[str, Any]:
    """Judge a model that was made elsewhere, and return what `fmnist bench --json` prints.

    `target` is an .onnx or .keras file, a function of images (n, 28, 28) uint8 to scores (n, 10) or
    its name as "module:function", or predictions of the test images as .npz or .csv; without it the
    classifier that comes with fmnist. `wishes` say how a file's network takes its images where the
    file does not; labels never decide that. `validation_held_out` says that the model did not learn
    from our validation images, so that it is judged on these too and they give the temperature.
    Written into `out` (by default runs/bench-<name>-<time>): bench.json, logits, metrics.json and,
    where matplotlib is installed, report.html. Raises ModelError, DataError and RunError for what
    cannot be judged, and for answers that are plainly not what was meant
    (`fmnist.evaluation.bench.doubts`).
    """
    began = time.perf_counter()
    strangers = tuple(map(Path, outliers))
    target = target if target is None or callable(target) else os.fspath(target)
    text = name_of(target) if callable(target) else target
    order = _Order(text, out, wishes or Wishes(), scores, validation_held_out, suite, strangers)
    _check_order(order)
    data = data or load_dataset()
    found = open_target(target, order.wishes, threads=physical_cores())
    _check_target(order, found)
    judged = _judge(order, found, data)
    metrics = _measure(judged)
    seconds = {"predict": judged.seconds, "total": time.perf_counter() - began}
    named, began = name or found.name, time.perf_counter()
    if suite == "full":
        metrics |= _measure_full(order, _subject(named, judged), judged, data, watch)
        seconds["suite"] = time.perf_counter() - began
    facts = {**_facts(named, order, judged, data), "seconds": seconds}
    place = _place(order, named)
    _write(place, facts, metrics, judged)
    mapped = suite == "full" and judged.kind != "classes"
    return _told(place, facts, metrics, _report(place, data, watch, with_map=mapped))


@dataclass(frozen=True)
class _Order:
    """What the caller asks for."""

    text: str | None  # the target as a command line names it; None: what comes with fmnist
    out: str | os.PathLike[str] | None
    wishes: Wishes
    scores: Wished
    held_out: bool
    suite: Suite
    outliers: tuple[Path, ...]

    @property
    def target(self) -> str:
        """The target in words."""
        return self.text or "the classifier that comes with fmnist"

    def command(self, name: str) -> str:
        """Return the command that judges this again, under `name`."""
        options = [("name", name), *self.wishes.words()]
        options += [("scores", self.scores)] * (self.scores != "auto")
        options += [("suite", self.suite)] * (self.suite != "basic")
        options += [("outliers", str(path)) for path in self.outliers]
        options += [] if self.out is None else [("out", os.fspath(self.out))]
        words = [part for option, value in options for part in (f"--{option}", value)]
        words += ["--validation-held-out"] * self.held_out
        return shlex.join(["fmnist", "bench", *([self.text] if self.text else []), *words])


def _check_order(order: _Order) -> None:
    """Raise RunError for what cannot be done whatever the target answers."""
    if order.suite not in get_args(Suite):
        raise RunError(f"there is no suite {order.suite!r}; there are {', '.join(get_args(Suite))}")
    if order.suite == "basic" and order.outliers:
        raise RunError("outliers are part of the full suite; add --suite full")
    if order.out is not None:
        _check_folder(Path(order.out), order.target)


def _check_target(order: _Order, target: Target) -> None:
    """Raise RunError for what cannot be asked of this kind of target."""
    if target.answer is None and order.outliers:
        raise RunError(
            f"{order.target} holds predictions of the test images alone, none of outliers"
        )
    if order.held_out and target.answer is None:
        raise RunError(f"{order.target} holds no predictions of the validation images")
    if order.held_out and target.facts is not None:
        raise RunError(f"{order.target} says itself what it has learned from; leave that out")


def _told(
    place: Bench, facts: Mapping[str, Any], metrics: Mapping[str, Any], page: Path | None
) -> dict[str, Any]:
    """Return what is printed."""
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


def _judge(order: _Order, target: Target, data: Dataset) -> _Judged:
    """Return a target's answers. Raises ModelError and DataError, naming the target."""
    try:
        if target.answer is None:
            judged = _judge_saved(target, data, order.scores)
        else:
            judged = _judge_asked(target, target.answer, data, order)
    except (DataError, ModelError) as error:
        raise type(error)(f"{order.text or target.name}: {error}") from error
    lacking = () if order.suite == "basic" else tuple(_not_measured(judged))
    return dataclasses.replace(judged, warnings=(*judged.warnings, *lacking))


def _not_measured(judged: _Judged) -> Iterator[str]:
    """Yield what the full suite does not tell of such answers."""
    if judged.ask is None:
        yield "corruptions, outliers and speed need the model itself; these are its predictions"
    elif judged.kind == "classes":
        yield "outliers are told by scores, and bare classes have none"


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


def _judge_asked(target: Target, answer: Answer, data: Dataset, order: _Order) -> _Judged:
    """Ask about validation first: what the answers are is told from these images alone."""
    validation = data.split("validation")
    log.info("asking about %s validation images", f"{len(validation):,}")
    values = _asked(answer, validation.images)
    read = read_scores(values, order.scores)

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
    if _held_out(target, order):  # else it may have learned from these images
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


def _held_out(target: Target, order: _Order) -> bool:
    """Tell whether somebody says that the model did not learn from our validation images."""
    return order.held_out if target.facts is None else target.facts.get("all_data") is False


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


def _measure(judged: _Judged) -> dict[str, Any]:
    temperature, source = _temperature(judged)
    metrics = measure_splits(judged.splits, temperature, source)
    if judged.kind == "classes":
        nothing = dict.fromkeys(NEED_PROBABILITIES)
        splits = metrics["splits"]
        metrics["splits"] = {split: {**splits[split], **nothing} for split in splits}
    return metrics


def _temperature(judged: _Judged) -> tuple[float, str]:
    """Return what divides the logits to calibrate them, and where it is from."""
    if judged.kind == "classes":
        return 1.0, "none: bare classes have no probabilities"
    if judged.ask is None:
        return 1.0, "none: saved predictions of the test images alone"
    if judged.target.facts is not None:
        return float(judged.target.facts["temperature"]), "the file's own"
    if "validation" not in judged.splits:
        return 1.0, "none: whether it learned from the validation images is not known"
    validation = judged.splits["validation"]
    return fit_temperature(validation.logits, validation.labels), "validation logits of this model"


def _measure_full(
    order: _Order, subject: Subject, judged: _Judged, data: Dataset, watch: Watch
) -> dict[str, Any]:
    log.info("full suite: corruptions, outliers, speed")
    found = measure_full(subject, data.split("test"), outliers=order.outliers, watch=watch)
    return {**found, "outliers": None} if judged.kind == "classes" else found


def _subject(name: str, judged: _Judged) -> Subject:
    target = judged.target
    is_file = target.kind in ("fmnist", "onnx")  # where others compute is theirs to say
    return Subject(
        name=name,
        ask=judged.ask,
        parameters=target.parameters,
        multiply_adds=target.multiply_adds(),
        file_bytes=target.file_bytes,
        threads=physical_cores() if is_file else None,
        device="cpu" if is_file else None,
    )


def _facts(name: str, order: _Order, judged: _Judged, data: Dataset) -> dict[str, Any]:
    """Return bench.json without its seconds."""
    target = judged.target
    return {
        "name": name,
        "target": order.target,
        "kind": target.kind,
        "scores": judged.kind,
        "command": order.command(name),
        "argv": sys.argv,
        "assumed": [note._asdict() for note in judged.assumed],
        "warnings": list(judged.warnings),
        "sha256": target.sha256,
        **{key: (target.facts or {}).get(key) for key in ("recipe", "all_data")},
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


def _check_folder(folder: Path, target: str) -> None:
    """Raise RunError if `folder` holds anything but an earlier bench of the same target."""
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder} is a file, not a directory; name another with --out")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if not (folder / "bench.json").is_file():
        raise RunError(f"{folder} is not empty; name a new directory with --out")
    earlier = Bench(folder).read().get("target")
    if earlier != target:
        raise RunError(f"{folder} is the bench of {earlier}; name a new directory with --out")


def _place(order: _Order, name: str) -> Bench:
    """Return a directory that is this bench's own, or that of an earlier one of the same target."""
    if order.out is not None and (Path(order.out) / "bench.json").is_file():
        _check_folder(Path(order.out), order.target)
        return Bench(Path(order.out))
    return Bench(claim_folder(order.out, f"bench-{name}"))


def _write(
    place: Bench, facts: Mapping[str, Any], metrics: Mapping[str, Any], judged: _Judged
) -> None:
    """Write what was found, metrics.json last: where it is, all else belongs to it."""
    for stale in ("metrics.json", "report.html", "logits-validation.npz"):
        (place.folder / stale).unlink(missing_ok=True)
    place.write(facts)
    for split, logits in judged.splits.items():
        place.write_logits(split, logits)
    if read_embedding(place) is None:  # of other logits, or there is none
        (place.folder / "embedding-test.npz").unlink(missing_ok=True)
    place.write_metrics(metrics)


def _report(place: Bench, data: Dataset, watch: Watch, *, with_map: bool) -> Path | None:
    """Write the page, where what draws it is installed."""
    try:
        if with_map:
            watch("map of the test images")
            save_embedding(place, data.test_images)
        return report(place, data)
    except MissingExtra as error:
        log.info("no report.html: %s", error)
        return None
