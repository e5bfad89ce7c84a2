"""The report: what a model is, how good it is and where it fails, as one HTML file."""

import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fmnist.reporting import plots
from fmnist.reporting.corruption_cards import Card, Corrupted, corruption_cards
from fmnist.reporting.embedding_map import EmbeddingMap, draw_map
from fmnist.reporting.headlines import (
    cost_headlines,
    interval,
    score_headlines,
    speed_headlines,
)
from fmnist.reporting.mistakes import Mistake, data_uri
from fmnist.reporting.peers import Peer, peer_rows
from fmnist.reporting.templates import (
    DASH,
    NBSP,
    load_template,
    percent,
    whole,
)

MEASURES = {  # of the three scores by which strangers are told apart, in this order
    "max_probability": "largest probability",
    "energy": "energy",
    "entropy": "negative entropy",
}


@dataclass(frozen=True, eq=False)
class Exhibits:
    """What the page shows beside the numbers; whatever is empty is left out.

    `mistakes` and `confused` (by true and predicted class) are of the split shown, their
    probabilities at the temperature of the metrics; `corrupted` is one image under each corruption,
    `embedding` the map of the test images, `peers` the models to compare this one with.
    """

    mistakes: Sequence[Mistake] = ()
    confused: Mapping[tuple[str, str], Sequence[Mistake]] = field(default_factory=dict)
    corrupted: Corrupted = field(default_factory=dict)
    embedding: EmbeddingMap | None = None
    peers: Sequence[Peer] = ()


def render(
    facts: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]],
    metrics: Mapping[str, Any],
    exhibits: Exhibits,
) -> str:
    """Return the whole report.html; the same arguments give the same text.

    `facts` are what run.json holds, or bench.json of a model that was made elsewhere; `history` and
    `metrics` are history.jsonl and metrics.json. Each may be empty or lack parts, as those of an
    interrupted run do. The page shows the test split in full and the validation split beside it, or
    the validation split alone. Raises MissingExtra without matplotlib.
    """
    splits = metrics.get("splits", {})
    split = next((name for name in ("test", "validation") if name in splits), None)
    scores = splits[split] if split else {}
    names = [row["name"] for row in scores.get("classes", [])]
    page: str = load_template("template.html").render(
        run=facts,
        made_elsewhere="target" in facts,
        name=_name(facts),
        split=split,
        scores=scores,
        result=_result(split, scores),
        origin=_origin(facts),
        headlines=[
            *score_headlines(split, splits, metrics),
            *cost_headlines(facts, history),
            *speed_headlines(metrics.get("speed") or {}),
        ],
        curves=_curves(history),
        history=history,
        rows=_confusion_rows(scores),
        pairs=_pairs(scores, exhibits.confused),
        mistakes=[(mistake, data_uri(mistake.image)) for mistake in exhibits.mistakes],
        reliability=_reliability(scores, metrics.get("temperature")),
        risk=_risk(scores),
        temperature=metrics.get("temperature"),
        temperature_source=metrics.get("temperature_source"),
        corruptions=metrics.get("corruptions"),
        cards=_cards(metrics, exhibits.corrupted),
        strangers=_strangers(metrics),
        measures=MEASURES,
        map=draw_map(exhibits.embedding, names) if exhibits.embedding else None,
        peers=peer_rows(exhibits.peers),
        facts=_facts(facts),
        command=_command(facts),
    )
    return page


def _recipe(run: Mapping[str, Any]) -> Mapping[str, Any]:
    return run.get("recipe") or {}


def _name(facts: Mapping[str, Any]) -> str:
    return str(facts.get("name") or _recipe(facts).get("name", "unnamed recipe"))


def _result(split: str | None, scores: Mapping[str, Any]) -> str:
    """Return the one sentence that says the result plainly."""
    if split is None:
        return "Not evaluated yet: there is only the training to show."
    right, images = round(scores["accuracy"] * scores["images"]), scores["images"]
    return (
        f"It names the right class for {whole(right)} of the {whole(images)} {split} images: "
        f"{percent(scores['accuracy'])}, with a 95{NBSP}% interval of {interval(scores)}."
    )


def _origin(facts: Mapping[str, Any]) -> str:
    """Return where the model comes from, in one line."""
    trained = "Trained on the train split"
    if facts.get("all_data"):
        trained = "Trained on all training images, validation included"
    if "target" in facts:
        trained = f"Made elsewhere and judged as it came: {facts['target']}"
    told = [
        trained,
        f"seed {facts['seed']}" if "seed" in facts else "",
        str((facts.get("machine") or {}).get("processor") or ""),
        str(facts.get("started") or "")[:10],
    ]
    return " \u00b7 ".join(fact for fact in told if fact)


def _command(facts: Mapping[str, Any]) -> str:
    """Return the command that makes this again, or nothing if the facts do not say."""
    if "target" in facts:
        return str(facts.get("command") or "")
    if not facts.get("named"):
        return ""
    words = ["fmnist", "train", str(facts["named"]), "--seed", str(facts.get("seed", 0))]
    return shlex.join(words + ["--all-data"] * bool(facts.get("all_data")))


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
    scores: Mapping[str, Any], confused: Mapping[tuple[str, str], Sequence[Mistake]]
) -> list[tuple[Mapping[str, Any], float, list[tuple[Mistake, str]]]]:
    """Return the most-confused pairs, each with its share of the true class and its examples."""
    images = {row["name"]: row["images"] for row in scores.get("classes", [])}
    return [
        (
            pair,
            pair["images"] / max(images.get(pair["true"], 0), 1),
            [
                (mistake, data_uri(mistake.image))
                for mistake in confused.get((pair["true"], pair["predicted"]), ())
            ],
        )
        for pair in scores.get("most_confused", [])
    ]


def _reliability(scores: Mapping[str, Any], temperature: float | None) -> str:
    bins, after = scores.get("reliability"), (scores.get("calibrated") or {}).get("reliability")
    return plots.reliability(bins, (temperature not in (None, 1) and after) or ()) if bins else ""


def _risk(scores: Mapping[str, Any]) -> str:
    selective = scores.get("selective")
    if not selective:
        return ""
    return plots.risk_coverage(selective["coverage"], scores["accuracy"], selective["accuracy_at"])


def _cards(metrics: Mapping[str, Any], pictures: Corrupted) -> list[Card]:
    return corruption_cards((metrics.get("corruptions") or {}).get("kinds", []), pictures)


def _strangers(metrics: Mapping[str, Any]) -> list[tuple[Mapping[str, Any], dict[str, str]]]:
    """Return the sets of outliers, each with its histograms by score."""
    sets = (metrics.get("outliers") or {}).get("sets", [])
    return [
        (
            found,
            {
                score: plots.score_histogram(f"outliers{number}-{score}", title, histogram)
                for score, title in MEASURES.items()
                if (histogram := found["histogram"].get(score))
            },
        )
        for number, found in enumerate(sets)
    ]


def _facts(facts: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return all that run.json or bench.json says but the commands, as titled tables."""
    apart = ("recipe", "data", "argv", "command", "assumed", "warnings")
    rest = {key: value for key, value in facts.items() if key not in apart}
    tables = {
        "Recipe": _recipe(facts),
        "Assumed": _assumed(facts.get("assumed") or ()),
        "Data": facts.get("data") or {},
        "Environment": rest,
    }
    return [(title, list(_flat(values))) for title, values in tables.items() if values]


def _assumed(notes: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return what a bench took for granted, and why."""
    return {note["what"]: f"{note['value']} ({note['because']})" for note in notes}


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
