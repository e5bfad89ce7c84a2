"""Fashion-MNIST: load it, train a classifier, judge it, show it.

load_dataset, train, evaluate and report are the verbs of the command line as functions. Nothing
heavy is imported before one of them is used.
"""

import importlib
from typing import TYPE_CHECKING, Any

from fmnist.errors import missing_extra

if TYPE_CHECKING:
    from fmnist.data import CLASS_NAMES, Dataset, load_dataset
    from fmnist.evaluation import evaluate, report
    from fmnist.recipes import RECIPES, Recipe
    from fmnist.runs import Run, open_run
    from fmnist.training import train

_HOME = {
    "CLASS_NAMES": "fmnist.data",
    "Dataset": "fmnist.data",
    "RECIPES": "fmnist.recipes",
    "Recipe": "fmnist.recipes",
    "Run": "fmnist.runs",
    "evaluate": "fmnist.evaluation",
    "load_dataset": "fmnist.data",
    "open_run": "fmnist.runs",
    "report": "fmnist.evaluation",
    "train": "fmnist.training",
}

__all__ = [
    "CLASS_NAMES",
    "RECIPES",
    "Dataset",
    "Recipe",
    "Run",
    "evaluate",
    "load_dataset",
    "open_run",
    "report",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'fmnist' has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(_HOME[name]), name)
    except ModuleNotFoundError as error:
        raise missing_extra(error) or error from error


def __dir__() -> list[str]:
    return __all__
