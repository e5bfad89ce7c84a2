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
        loader=jinja2.FunctionLoader(source),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        percent=percent,
        decimals=decimals,
        whole=whole,
        probability=probability,
        duration=duration,
    )
    return environment.get_template(name)


def source(name: str) -> str:
    """Return the text of one of this package's files."""
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
