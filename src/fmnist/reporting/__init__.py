"""Numbers to one self-contained HTML page; a pure function that knows nothing of training."""

from fmnist.reporting.mistakes import Mistake, worst_mistakes
from fmnist.reporting.page import render

__all__ = ["Mistake", "render", "worst_mistakes"]
