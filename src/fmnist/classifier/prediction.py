"""What a classifier says of one picture: the one shape of answer for Python and command line."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from fmnist.photos import Prepared


@dataclass(frozen=True)
class Guess:
    """One class, and how likely it is."""

    label: str
    class_index: int  # 0..9
    probability: float  # 0..1, tempered


@dataclass(frozen=True)
class Prediction:
    """What a classifier says of one picture.

    `accepted` is False where it is not sure: the picture may be of none of the ten classes, or no
    garment was found in it. `warnings` are advice in plain words.
    """

    label: str
    class_index: int  # 0..9
    probability: float  # 0..1, tempered
    accepted: bool
    top: tuple[Guess, ...]  # all ten, likeliest first
    warnings: tuple[str, ...]
    image: NDArray[np.uint8] = field(repr=False)  # (28, 28): what the network saw, background 0
    prepared: "Prepared | None" = field(repr=False)  # the photo's way there; None for arrays

    def to_json(self, top: int = 3) -> dict[str, Any]:
        """Return the answer as JSON has it, with the `top` likeliest classes (docs/json.md)."""
        return {
            "label": self.label,
            "class_index": self.class_index,
            "probability": self.probability,
            "accepted": self.accepted,
            "top": [dataclasses.asdict(guess) for guess in self.top[:top]],
            "warnings": list(self.warnings),
        }


def prediction_of(
    image: NDArray[np.uint8],
    prepared: "Prepared | None",
    probabilities: NDArray[np.float64],
    class_names: Sequence[str],
    least_probability: float,
) -> Prediction:
    """Return the answer for `image` (28, 28) from its probabilities (10,).

    It is accepted from `least_probability` on, unless nothing was found in the photo.
    """
    order = np.argsort(-probabilities, kind="stable")
    top = tuple(
        Guess(class_names[index], int(index), float(probabilities[index])) for index in order
    )
    best, found = top[0], prepared is None or prepared.found
    return Prediction(
        label=best.label,
        class_index=best.class_index,
        probability=best.probability,
        accepted=found and best.probability >= least_probability,
        top=top,
        warnings=() if prepared is None else prepared.warnings,
        image=image,
        prepared=prepared,
    )
