"""The report: what a run is, how good it is and where it fails, as one HTML file."""

import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from fmnist.reporting import plots
from fmnist.reporting.mistakes import Mistake, data_uri
from fmnist.reporting.templates import DASH, NBSP, decimals, load_template, percent, whole


class Headline(NamedTuple):
    """One of the numbers on top: what it is, its value, and two lines that put it in place."""

    label: str
    value: str
    detail: str
    beside: str


def render(
    run: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]],
    metrics: Mapping[str, Any],
    mistakes: Sequence[Mistake],
) -> str:
    """Return the whole report.html; the same arguments give the same text.

    The arguments are what run.json, history.jsonl and metrics.json hold; each may be empty or
    lack parts, as those of an interrupted run do. The page shows the test split in full and the
    validation split beside it, or the validation split alone; `mistakes` are of the split shown,
    their probabilities at the temperature of `metrics`. Raises MissingExtra without matplotlib.
    """
    splits = metrics.get("splits", {})
    split = next((name for name in ("test", "validation") if name in splits), None)
    scores = splits[split] if split else {}
    pictures = [(mistake, data_uri(mistake.image)) for mistake in mistakes]
    page: str = load_template("template.html").render(
        run=run,
        recipe=_name(run),
        split=split,
        scores=scores,
        result=_result(split, scores),
        training=_training(run),
        headlines=[*_score_headlines(split, splits, metrics), *_cost_headlines(run, history)],
        curves=_curves(history),
        history=history,
        rows=_confusion_rows(scores),
        pairs=_pairs(scores, pictures),
        mistakes=pictures,
        reliability=plots.reliability(scores["reliability"]) if scores else "",
        temperature=metrics.get("temperature"),
        temperature_source=metrics.get("temperature_source"),
        facts=_facts(run),
        command=_command(run),
    )
    return page


def duration(seconds: float | None) -> str:
    """Return 110.2 as "1 min 50 s"; under a minute with one decimal."""
    if seconds is None or not math.isfinite(seconds):
        return DASH
    if seconds < 59.95:
        return f"{seconds:.1f}{NBSP}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = [f"{hours}{NBSP}h"] if hours else []
    return NBSP.join([*parts, f"{minutes}{NBSP}min", *([] if hours else [f"{rest}{NBSP}s"])])


def _recipe(run: Mapping[str, Any]) -> Mapping[str, Any]:
    return run.get("recipe") or {}


def _name(run: Mapping[str, Any]) -> str:
    return str(_recipe(run).get("name", "unnamed recipe"))


def _interval(scores: Mapping[str, Any]) -> str:
    low, high = scores["accuracy_interval"]
    return f"{decimals(100 * low, 2)}{DASH}{percent(high)}"


def _result(split: str | None, scores: Mapping[str, Any]) -> str:
    """Return the one sentence that says the result plainly."""
    if split is None:
        return "Not evaluated yet: there is only the training to show."
    right, images = round(scores["accuracy"] * scores["images"]), scores["images"]
    return (
        f"It names the right class for {whole(right)} of the {whole(images)} {split} images: "
        f"{percent(scores['accuracy'])}, with a 95{NBSP}% interval of {_interval(scores)}."
    )


def _training(run: Mapping[str, Any]) -> str:
    """Return what was trained, in one line."""
    facts = [
        "Trained on all training images, validation included"
        if run.get("all_data")
        else "Trained on the train split",
        f"seed {run['seed']}" if "seed" in run else "",
        str(run.get("machine", {}).get("processor") or ""),
        str(run.get("started") or "")[:10],
    ]
    return " \u00b7 ".join(fact for fact in facts if fact)


def _score_headlines(
    split: str | None, splits: Mapping[str, Any], metrics: Mapping[str, Any]
) -> Iterator[Headline]:
    if split is None:
        return
    scores, calibrated = splits[split], splits[split].get("calibrated") or {}
    other = splits.get("validation") if split == "test" else None

    def headline(name: str, key: str, detail: str) -> Headline:
        show = percent if "accuracy" in key else decimals
        beside = f"validation {show(other[key])}" if other else ""
        return Headline(name.format(split.capitalize()), show(scores[key]), detail, beside)

    temperature, scaled = metrics.get("temperature"), ("natural log", "the mean gap shown below")
    if calibrated and temperature not in (None, 1):
        after = f"at temperature {decimals(temperature, 2)}: "
        loss, error = calibrated["loss"], calibrated["calibration_error"]
        scaled = (after + decimals(loss), after + decimals(error))
    yield headline("{} accuracy", "accuracy", f"95{NBSP}% interval {_interval(scores)}")
    yield headline("{} loss", "loss", scaled[0])
    yield headline("Top-2 accuracy", "top2_accuracy", "right class among the two surest")
    yield headline("Calibration error", "calibration_error", scaled[1])


def _cost_headlines(
    run: Mapping[str, Any], history: Sequence[Mapping[str, Any]]
) -> Iterator[Headline]:
    epochs = f"{len(history)} epoch{'' if len(history) == 1 else 's'}"
    where = [run.get("device"), run.get("precision"), run.get("threads")]
    detail = " \u00b7 ".join(str(fact) for fact in where[:2] if fact)
    threads = f"{where[2]} thread{'' if where[2] == 1 else 's'}" if where[2] else ""
    seconds = run.get("seconds", {}).get("train")
    yield Headline("Training time", duration(seconds), f"{epochs}, {threads}".strip(", "), detail)
    steps = f"{whole(run['steps'])} steps" if run.get("steps") else ""
    yield Headline("Parameters", whole(run.get("parameters")), steps, "")


def _command(run: Mapping[str, Any]) -> str:
    """Return the command that trains this again, or nothing if run.json does not say."""
    if not run.get("named"):
        return ""
    words = ["fmnist", "train", str(run["named"]), "--seed", str(run.get("seed", 0))]
    return shlex.join(words + ["--all-data"] * bool(run.get("all_data")))


def _curves(history: Sequence[Mapping[str, Any]]) -> list[str]:
    return [plots.learning_curve(history, name) for name in ("loss", "accuracy")] if history else []


def _confusion_rows(scores: Mapping[str, Any]) -> list[tuple[str, list[tuple[int, float]]]]:
    """Return by true class its name and, by predicted class, the count and its heat in [0, 1].

    The heat is the square root of the share of the row, so that 1 % is still seen.
    """
    names = [row["name"] for row in scores.get("classes", [])]
    return [
        (name, [(count, round(math.sqrt(count / max(sum(counts), 1)), 3)) for count in counts])
        for name, counts in zip(names, scores.get("confusion", []), strict=True)
    ]


def _pairs(
    scores: Mapping[str, Any], pictures: Sequence[tuple[Mistake, str]]
) -> list[tuple[Mapping[str, Any], float, list[tuple[Mistake, str]]]]:
    """Return the most-confused pairs, each with its share of the true class and three examples."""
    images = {row["name"]: row["images"] for row in scores.get("classes", [])}
    return [
        (
            pair,
            pair["images"] / max(images.get(pair["true"], 0), 1),
            [
                (mistake, picture)
                for mistake, picture in pictures
                if (mistake.true, mistake.predicted) == (pair["true"], pair["predicted"])
            ][:3],
        )
        for pair in scores.get("most_confused", [])
    ]


def _facts(run: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return all that run.json says but the command, as titled tables of name and text."""
    apart = ("recipe", "data", "argv")
    rest = {key: value for key, value in run.items() if key not in apart}
    tables = {"Recipe": _recipe(run), "Data": run.get("data") or {}, "Environment": rest}
    return [(title, list(_flat(values))) for title, values in tables.items() if values]


def _flat(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """Yield every leaf of nested settings as (name, text), in their own order."""
    for key, value in values.items():
        name = f"{before}{key}".replace("_", " ")
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name}: ")
        elif isinstance(value, list | tuple):
            yield name, ", ".join(map(_plain, value)) or DASH
        else:
            yield name, _plain(value)


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return DASH if value is None else str(value)
