"""Numbers to one self-contained HTML page; a pure function that knows nothing of training."""

from fmnist.reporting.embedding_map import EmbeddingMap
from fmnist.reporting.mistakes import Mistake, confused, worst_mistakes
from fmnist.reporting.neighbours import Neighbour
from fmnist.reporting.page import Exhibits, render

__all__ = [
    "EmbeddingMap",
    "Exhibits",
    "Mistake",
    "Neighbour",
    "confused",
    "render",
    "worst_mistakes",
]
