"""How somebody else's network takes its images: layout, scale, and where that is known from."""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from fmnist.errors import ModelError

Layout: TypeAlias = Literal["nchw", "nhwc", "nhw", "flat"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)
SIDE = 28  # pixels


class Assumption(NamedTuple):
    """Something that had to be known of a model, and how it was."""

    what: str
    value: str
    because: str


@dataclass(frozen=True)
class Wishes:
    """What a person says of a network's images; None where nothing is said."""

    layout: Layout | None = None
    scale: float | None = None  # what pixels 0..255 are divided by
    mean: float | None = None  # what is then taken away
    std: float | None = None  # what that is then divided by

    def __post_init__(self) -> None:
        """Raise ModelError for what no image can be treated with."""
        for name in ("scale", "std"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ModelError(f"{name} must be above 0 and finite, not {value}")
        if self.mean is not None and not math.isfinite(self.mean):
            raise ModelError(f"mean must be finite, not {self.mean}")
        if self.layout not in (None, *LAYOUTS):
            raise ModelError(f"layout must be one of {', '.join(LAYOUTS)}, not {self.layout!r}")

    def __bool__(self) -> bool:
        return self != Wishes()


@dataclass(frozen=True)
class Pixels:
    """The treatment of images (n, 28, 28) uint8 before a network: (x / scale - mean) / std."""

    layout: Layout
    dtype: np.dtype[Any]
    channels: int = 1  # 3: the grey image three times
    scale: float = 255.0
    mean: float = 0.0
    std: float = 1.0

    def treat(self, images: NDArray[np.uint8]) -> NDArray[Any]:
        """Return images (n, 28, 28) uint8 in the network's layout and type."""
        values: NDArray[Any] = images
        if (self.scale, self.mean, self.std) != (1.0, 0.0, 1.0):
            # In float32, as people's own code divides.
            values = (images.astype(np.float32) / np.float32(self.scale) - self.mean) / self.std
        return self._arranged(values).astype(self.dtype, copy=False)

    def _arranged(self, values: NDArray[Any]) -> NDArray[Any]:
        n = len(values)
        if self.layout == "flat":
            return values.reshape(n, SIDE * SIDE)
        if self.layout == "nhw":
            return values
        axis = 1 if self.layout == "nchw" else 3
        return np.repeat(np.expand_dims(values, axis), self.channels, axis)

    def in_words(self) -> str:
        """Return the options that ask for this scale."""
        words = f"--scale {self.scale:g}"
        if (self.mean, self.std) != (0.0, 1.0):
            words += f" --mean {self.mean:g} --std {self.std:g}"
        return words


def layouts_of(shape: Sequence[int | None]) -> Iterator[tuple[Layout, int]]:
    """Yield the layouts, each with its channels, that an image of `shape` may have; None: any."""

    def fits(*sizes: int) -> bool:
        return all(wanted in (None, size) for wanted, size in zip(shape, sizes, strict=True))

    if len(shape) == 3:
        for channels in (1, 3):
            if fits(channels, SIDE, SIDE):
                yield "nchw", channels
            if fits(SIDE, SIDE, channels):
                yield "nhwc", channels
    if len(shape) == 2 and fits(SIDE, SIDE):
        yield "nhw", 1
    if len(shape) == 1 and fits(SIDE * SIDE):
        yield "flat", 1


def choose_scale(
    pixels: Pixels, wishes: Wishes, metadata: Mapping[str, str], inside: str | None
) -> tuple[Pixels, list[Assumption]]:
    """Return `pixels` with scale, mean and std as far as known, and how they are known.

    What a person says comes first, then the file's metadata, then `inside`: what of the scaling
    the network is seen to do itself. Raises ModelError where the metadata holds no numbers.
    """
    whole = np.issubdtype(pixels.dtype, np.integer)
    if whole and (wishes.scale, wishes.mean, wishes.std) != (None, None, None):
        raise ModelError("its input is whole numbers, so pixels 0..255: leave out the scale")
    if whole:
        return dataclasses.replace(pixels, scale=1.0), [
            Assumption("scale", "1", f"its input is {pixels.dtype.name}")
        ]
    found: dict[str, Any] = {}
    assumed = []
    for name, default in (("scale", 255.0), ("mean", 0.0), ("std", 1.0)):
        value, because = _number(name, wishes, metadata)
        if value is None and name == "scale" and inside is not None:
            value, because = 1.0, inside
        if value is None:
            value, because = default, "assumed, as nothing says otherwise"
        found[name] = value
        assumed.append(Assumption(name, f"{value:g}", because))
    return dataclasses.replace(pixels, **found), assumed


def _number(name: str, wishes: Wishes, metadata: Mapping[str, str]) -> tuple[float | None, str]:
    wished = getattr(wishes, name)
    if wished is not None:
        return float(wished), "as you say"
    if name not in metadata:
        return None, ""
    try:
        said = {name: float(metadata[name])}
        Wishes(**said)  # type: ignore[arg-type]
    except (ValueError, ModelError) as error:
        raise ModelError(
            f"its metadata say {name} = {metadata[name]!r}; give --{name} yourself"
        ) from error
    return said[name], "its metadata"
