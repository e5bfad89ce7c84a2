"""Corruptions as the page shows them: a card a kind, the hardest first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist.reporting.mistakes import data_uri

# One image under each corruption, by kind and severity (None where the kind has one strength).
Corrupted = Mapping[tuple[str, int | None], NDArray[np.uint8]]


@dataclass(frozen=True)
class Degree:
    """How many images were named rightly at one severity, 0..1, and a picture's address or ""."""

    severity: int
    accuracy: float
    picture: str
    is_usual: bool  # as Fashion-MNIST-C has it


@dataclass(frozen=True)
class Card:
    """A kind of corruption at Fashion-MNIST-C's strength, and its degrees if there are several."""

    title: str
    accuracy: float
    picture: str
    degrees: Sequence[Degree]


def corruption_cards(kinds: Sequence[Mapping[str, Any]], pictures: Corrupted) -> list[Card]:
    """Return the cards of what metrics.json holds as corruptions' `kinds`, the hardest first."""
    names = dict.fromkeys(entry["kind"] for entry in kinds)
    cards = [_card([entry for entry in kinds if entry["kind"] == name], pictures) for name in names]
    return sorted(cards, key=lambda card: card.accuracy)


def _card(entries: Sequence[Mapping[str, Any]], pictures: Corrupted) -> Card:
    usual = next(entry for entry in entries if entry["fashion_mnist_c"])
    return Card(
        title=usual["kind"].replace("_", " ").capitalize(),
        accuracy=usual["accuracy"],
        picture=_picture(usual, pictures),
        degrees=[
            Degree(
                entry["severity"],
                entry["accuracy"],
                _picture(entry, pictures),
                entry["fashion_mnist_c"],
            )
            for entry in entries
            if entry["severity"] is not None
        ],
    )


def _picture(entry: Mapping[str, Any], pictures: Corrupted) -> str:
    key = entry["kind"], entry["severity"]
    return data_uri(pictures[key]) if key in pictures else ""
