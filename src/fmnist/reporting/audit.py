"""The audit's page: suspected labels, near-duplicates and outliers, with their pictures."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fmnist.reporting.mistakes import data_uri
from fmnist.reporting.templates import load_template

SHOWN = 100  # suspects of a split that are seen at once; the others unfold


@dataclass(frozen=True, eq=False)
class Picture:
    """An image (28, 28) uint8 of the official train or test file, with the label it has there."""

    split: str
    index: int
    image: npt.NDArray[np.uint8]
    label: str

    @property
    def address(self) -> str:
        """The image as a `data:` address."""
        return data_uri(self.image)


class Suspect(NamedTuple):
    """An image whose label looks wrong; probabilities are 0..1, by networks that did not see it."""

    picture: Picture
    probability: float  # of the label it has
    suggested: str
    probability_suggested: float
    known: bool  # people have found it wrong before


class Twins(NamedTuple):
    """Two images that are nearly the same."""

    first: Picture
    second: Picture
    distance: float  # 0: the pixels are the same
    how: str  # what brings the first onto the second: "mirrored", or nothing


class Odd(NamedTuple):
    """An image like no other."""

    picture: Picture
    strangeness: float  # mean cosine distance to its nearest others


class Exhibits(NamedTuple):
    """What the page shows, each list with the most striking first."""

    suspects: Mapping[str, Sequence[Suspect]]  # of "train" and "test"
    twins: Sequence[Twins]
    odd: Sequence[Odd]


def render_audit(facts: Mapping[str, Any], class_names: Sequence[str], found: Exhibits) -> str:
    """Return audit.html; `facts` are what audit.json holds."""
    everyone = [suspect for part in found.suspects.values() for suspect in part]
    page: str = load_template("audit.html").render(
        facts=facts,
        found=found,
        shown=SHOWN,
        kinds=[("across", "Train and test"), ("test", "Within test"), ("train", "Within train")],
        twins=_by_kind(found.twins),
        rows=_rows(everyone, class_names),
        class_names=class_names,
    )
    return page


def _by_kind(twins: Sequence[Twins]) -> dict[str, list[Twins]]:
    """Return the pairs within each split and across them."""
    kinds: dict[str, list[Twins]] = {"across": [], "test": [], "train": []}
    for pair in twins:
        splits = {pair.first.split, pair.second.split}
        kinds["across" if len(splits) == 2 else splits.pop()].append(pair)
    return kinds


def _rows(
    suspects: Sequence[Suspect], names: Sequence[str]
) -> list[tuple[str, list[tuple[int, float]]]]:
    """Return for each label how many suspects are suggested to be what, and that over the most."""
    counts = Counter((suspect.picture.label, suspect.suggested) for suspect in suspects)
    most = max(counts.values(), default=1)
    return [
        (label, [(counts[label, other], counts[label, other] / most) for other in names])
        for label in names
    ]
