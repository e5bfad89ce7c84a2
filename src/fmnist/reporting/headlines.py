"""The numbers on top of the report: how good, at what price."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from fmnist.reporting.templates import DASH, NBSP, decimals, duration, percent, whole


class Headline(NamedTuple):
    """One of the numbers on top: what it is, its value, and two lines that put it in place."""

    label: str
    value: str
    detail: str
    beside: str


def interval(scores: Mapping[str, Any]) -> str:
    """Return the interval of an accuracy as "93.85-94.76 %"."""
    low, high = scores["accuracy_interval"]
    return f"{decimals(100 * low, 2)}{DASH}{percent(high)}"


def score_headlines(
    split: str | None, splits: Mapping[str, Any], metrics: Mapping[str, Any]
) -> Iterator[Headline]:
    """Yield what the split shown was judged at, and beside it validation."""
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
    yield headline("{} accuracy", "accuracy", f"95{NBSP}% interval {interval(scores)}")
    if scores["loss"] is None:  # bare classes have no more to tell
        return
    yield headline("{} loss", "loss", scaled[0])
    yield headline("Top-2 accuracy", "top2_accuracy", "right class among the two surest")
    yield headline("Calibration error", "calibration_error", scaled[1])


def cost_headlines(
    run: Mapping[str, Any], history: Sequence[Mapping[str, Any]]
) -> Iterator[Headline]:
    """Yield what the training took, of a model made here, and how large the network is."""
    if "target" in run:
        if run.get("parameters"):
            yield Headline("Parameters", whole(run["parameters"]), "", "")
        return
    epochs = f"{len(history)} epoch{'' if len(history) == 1 else 's'}"
    where = [run.get("device"), run.get("precision"), run.get("threads")]
    detail = " \u00b7 ".join(str(fact) for fact in where[:2] if fact)
    threads = f"{where[2]} thread{'' if where[2] == 1 else 's'}" if where[2] else ""
    seconds = run.get("seconds", {}).get("train")
    yield Headline("Training time", duration(seconds), f"{epochs}, {threads}".strip(", "), detail)
    steps = f"{whole(run['steps'])} steps" if run.get("steps") else ""
    yield Headline("Parameters", whole(run.get("parameters")), steps, "")


def speed_headlines(speed: Mapping[str, Any]) -> Iterator[Headline]:
    """Yield what an answer costs, as far as it was measured."""
    if not speed:
        return
    threads, where = speed.get("threads"), str(speed.get("device") or "")
    if threads:
        where = f"{threads} thread{'' if threads == 1 else 's'}, {where}".strip(", ")
    yield Headline("One image", f"{speed['milliseconds_one_image']:.2f}{NBSP}ms", where, "")
    many = f"in batches of {whole(speed['batch_size'])}"
    yield Headline("Images a second", whole(round(speed["images_per_second"])), many, where)
    if speed.get("multiply_adds"):
        millions = f"{speed['multiply_adds'] / 1e6:.1f}{NBSP}M"
        yield Headline("Multiply-adds", millions, "for one image, all views counted", "")
    if speed.get("file_bytes"):
        megabytes = f"{speed['file_bytes'] / 1e6:.2f}{NBSP}MB"
        yield Headline("File", megabytes, "as it is saved", "")
