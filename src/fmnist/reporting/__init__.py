"""Numbers to one self-contained HTML page; a pure function that knows nothing of training."""

from fmnist.reporting.embedding_map import EmbeddingMap
from fmnist.reporting.mistakes import Mistake, confused, worst_mistakes
from fmnist.reporting.page import Exhibits, render
from fmnist.reporting.peers import Peer

__all__ = [
    "EmbeddingMap",
    "Exhibits",
    "Mistake",
    "Peer",
    "confused",
    "render",
    "worst_mistakes",
]
