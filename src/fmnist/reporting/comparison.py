"""A comparison of models as one self-contained page."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fmnist.reporting.mistakes import data_uri
from fmnist.reporting.templates import load_template

SHOWN = 60  # images of each kind, about 0.7 kB each
KINDS = ("first", "second", "neither")  # who is right


class Shown(NamedTuple):
    """An image of which the two differ: who is right, what each said, and its picture."""

    kind: str
    said: Mapping[str, Any]
    address: str


class Row(NamedTuple):
    """A class, and where its difference and interval lie on the scale of all classes, percent."""

    of: Mapping[str, Any]
    zero: float
    mean: float
    low: float
    high: float


def render_comparison(
    comparison: Mapping[str, Any], pictures: Mapping[int, NDArray[np.uint8]]
) -> str:
    """Return the page of what `fmnist compare --json` prints.

    `pictures` are the images (28, 28) uint8 of which two groups differ, by index.
    """
    differing = comparison["differing"]
    shown = list(_shown(differing["images"], pictures)) if differing else []
    page: str = load_template("comparison.html").render(
        comparison=comparison,
        groups=comparison["groups"],
        pairs=comparison["pairs"],
        rows=_rows(comparison["classes"] or []),
        shown=shown,
        differing=differing,
        kinds={kind: sum(each.kind == kind for each in shown) for kind in KINDS},
        counts=_counts(differing),
    )
    return page


def _shown(
    differing: Sequence[Mapping[str, Any]], pictures: Mapping[int, NDArray[np.uint8]]
) -> "list[Shown]":
    """Return the first images of each kind, in the order of KINDS."""
    by_kind: dict[str, list[Mapping[str, Any]]] = {kind: [] for kind in KINDS}
    for each in differing:
        by_kind[_who_is_right(each)].append(each)
    return [
        Shown(kind, each, data_uri(pictures[each["index"]]))
        for kind, images in by_kind.items()
        for each in images[:SHOWN]
    ]


def _who_is_right(image: Mapping[str, Any]) -> str:
    right = [which for which in ("first", "second") if image[which] == image["true"]]
    return right[0] if right else "neither"


def _counts(differing: Mapping[str, Any] | None) -> dict[str, int]:
    if differing is None:
        return {}
    first, second = differing["only_first_right"], differing["only_second_right"]
    return {"first": first, "second": second, "neither": differing["count"] - first - second}


def _rows(classes: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Return the classes on one scale that holds zero, all differences and intervals."""
    spans: list[Sequence[float]] = [
        row["interval"] or (row["difference"], row["difference"]) for row in classes
    ]
    low = min([0.0, *[start for start, _ in spans]])
    width = max([0.0, *[end for _, end in spans]]) - low or 1.0

    def place(value: float) -> float:
        return round(100 * (value - low) / width, 2)

    return [
        Row(row, place(0), place(row["difference"]), place(start), place(end))
        for row, (start, end) in zip(classes, spans, strict=True)
    ]
