"""How somebody else's network takes its images: layout, scale, and where that is known from."""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from fmnist.errors import ModelError

Levels: TypeAlias = float | tuple[float, ...]  # of all channels, or of each
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
    mean: Levels | None = None  # what is then taken away
    std: Levels | None = None  # what that is then divided by

    def __post_init__(self) -> None:
        """Raise ModelError for what no image can be treated with."""
        for name in ("scale", "mean", "std"):
            for value in _each(getattr(self, name)):
                if not math.isfinite(value):
                    raise ModelError(f"{name} must be finite, not {value}")
                if name != "mean" and value <= 0:
                    raise ModelError(f"{name} must be above 0, not {value}")
        for name in ("mean", "std"):
            if len(_each(getattr(self, name))) not in (0, 1, 3):
                raise ModelError(f"{name} must be one number, or three for three channels")
        if self.layout not in (None, *LAYOUTS):
            raise ModelError(f"layout must be one of {', '.join(LAYOUTS)}, not {self.layout!r}")

    def __bool__(self) -> bool:
        return self != Wishes()

    def words(self) -> list[tuple[str, str]]:
        """Return what is said, as names of options and their values."""
        said = {"layout": self.layout} if self.layout else {}
        numbers = {"scale": self.scale, "mean": self.mean, "std": self.std}
        known = {name: levels_in_words(v) for name, v in numbers.items() if v is not None}
        return [*said.items(), *known.items()]


@dataclass(frozen=True)
class Pixels:
    """The treatment of images (n, 28, 28) uint8 before a network: (x / scale - mean) / std."""

    layout: Layout
    dtype: np.dtype[Any]
    channels: int = 1  # 3: the grey image three times
    scale: float = 255.0
    mean: Levels = 0.0
    std: Levels = 1.0

    def treat(self, images: NDArray[np.uint8]) -> NDArray[Any]:
        """Return images (n, 28, 28) uint8 in the network's layout and type."""
        values = self._arranged(images)
        if (self.scale, self.mean, self.std) != (1.0, 0.0, 1.0):
            # In float32, as people's own code divides.
            shares = values.astype(np.float32) / np.float32(self.scale)
            values = (shares - self._by_channel(self.mean)) / self._by_channel(self.std)
        return values.astype(self.dtype, copy=False)

    def _arranged(self, values: NDArray[np.uint8]) -> NDArray[Any]:
        n = len(values)
        if self.layout == "flat":
            return values.reshape(n, SIDE * SIDE)
        if self.layout == "nhw":
            return values
        axis = 1 if self.layout == "nchw" else 3
        return np.repeat(np.expand_dims(values, axis), self.channels, axis)

    def _by_channel(self, levels: Levels) -> Any:
        """Return levels in a shape that goes with images as `_arranged`."""
        if not isinstance(levels, tuple):
            return levels
        each = np.array(levels, np.float32)
        return each.reshape(-1, 1, 1) if self.layout == "nchw" else each

    def in_words(self) -> str:
        """Return the options that ask for this scale."""
        words = f"--scale {self.scale:g}"
        if (self.mean, self.std) != (0.0, 1.0):
            words += f" --mean {levels_in_words(self.mean)} --std {levels_in_words(self.std)}"
        return words


def _each(levels: Levels | None) -> tuple[float, ...]:
    if levels is None:
        return ()
    return levels if isinstance(levels, tuple) else (levels,)


def levels_in_words(levels: Levels) -> str:
    """Return one number, or three with commas, as the command line takes them."""
    return ",".join(f"{value:.12g}" for value in _each(levels))


def read_levels(text: str) -> Levels:
    """Return the number, or the numbers between commas, of a text; ValueError if it has others."""
    values = tuple(float(part) for part in text.split(","))
    return values[0] if len(values) == 1 else values


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
        if isinstance(value, tuple) and pixels.channels != len(value):
            raise ModelError(f"{name} has {len(value)} numbers; its images have one channel")
        found[name] = value
        assumed.append(Assumption(name, levels_in_words(value), because))
    return dataclasses.replace(pixels, **found), assumed


def _number(name: str, wishes: Wishes, metadata: Mapping[str, str]) -> tuple[Levels | None, str]:
    wished: Levels | None = getattr(wishes, name)
    if wished is not None:
        return wished, "as you say"
    if name not in metadata:
        return None, ""
    try:
        text = metadata[name]
        said = {name: float(text) if name == "scale" else read_levels(text)}
        Wishes(**said)  # type: ignore[arg-type]
    except (ValueError, ModelError) as error:
        raise ModelError(
            f"its metadata say {name} = {metadata[name]!r}; give --{name} yourself"
        ) from error
    return said[name], "its metadata"
