"""The pages' templates, and how numbers are written in them."""

import math
from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import jinja2

NBSP, DASH = "\u00a0", "\u2013"


def load_template(name: str) -> "jinja2.Template":
    """Return one of this package's templates; it escapes all text and includes the others."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_source),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        percent=percent, decimals=decimals, whole=whole, probability=probability
    )
    return environment.get_template(name)


def _source(name: str) -> str:
    return resources.files("fmnist.reporting").joinpath(name).read_text(encoding="utf-8")


def percent(share: float | None, digits: int = 2) -> str:
    """Return 0.9432 as "94.32 %"; a dash for what is missing or not finite."""
    text = decimals(None if share is None else 100 * share, digits)
    return text if text == DASH else text + NBSP + "%"


def decimals(value: float | None, digits: int = 3) -> str:
    """Return a number with `digits` decimals; a dash for what is missing or not finite."""
    return DASH if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def whole(value: int | None) -> str:
    """Return 467626 as "467,626"; a dash for what is missing."""
    return DASH if value is None else f"{value:,}"


def probability(value: float) -> str:
    """Return a probability with two decimals that never reads as quite certain: ">0.99"."""
    return ">0.99" if value > 0.995 else "<0.01" if value < 0.005 else f"{value:.2f}"
