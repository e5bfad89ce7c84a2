"""Fashion-MNIST: load it, train a classifier, judge it, show it.

load_dataset, train, train_seeds, evaluate, report, compare, leaderboard, bench, audit and export
are the verbs of the command line as functions;
load_classifier().predict(picture) is `fmnist predict`.
Nothing heavy is imported before one of them is used.
"""

import importlib
from typing import TYPE_CHECKING, Any

from fmnist.errors import missing_extra

if TYPE_CHECKING:
    from fmnist.answers import load_classifier
    from fmnist.classifier import Classifier, Prediction
    from fmnist.data import CLASS_NAMES, Dataset, load_dataset
    from fmnist.evaluation import evaluate, report
    from fmnist.evaluation.audit import audit
    from fmnist.evaluation.bench.making import bench
    from fmnist.evaluation.comparison.compare import compare
    from fmnist.evaluation.comparison.leaderboard import leaderboard
    from fmnist.evaluation.seeds import train_seeds
    from fmnist.recipes import RECIPES, Recipe
    from fmnist.runs import Run, open_run
    from fmnist.training import train
    from fmnist.training.estimator import FashionClassifier
    from fmnist.training.export import export

_HOME = {
    "CLASS_NAMES": "fmnist.data",
    "Classifier": "fmnist.classifier",
    "Dataset": "fmnist.data",
    "FashionClassifier": "fmnist.training.estimator",
    "Prediction": "fmnist.classifier",
    "RECIPES": "fmnist.recipes",
    "Recipe": "fmnist.recipes",
    "Run": "fmnist.runs",
    "audit": "fmnist.evaluation.audit",
    "bench": "fmnist.evaluation.bench.making",
    "compare": "fmnist.evaluation.comparison.compare",
    "evaluate": "fmnist.evaluation",
    "export": "fmnist.training.export",
    "leaderboard": "fmnist.evaluation.comparison.leaderboard",
    "load_classifier": "fmnist.answers",
    "load_dataset": "fmnist.data",
    "open_run": "fmnist.runs",
    "report": "fmnist.evaluation",
    "train": "fmnist.training",
    "train_seeds": "fmnist.evaluation.seeds",
}

__all__ = [
    "CLASS_NAMES",
    "RECIPES",
    "Classifier",
    "Dataset",
    "FashionClassifier",
    "Prediction",
    "Recipe",
    "Run",
    "audit",
    "bench",
    "compare",
    "evaluate",
    "export",
    "leaderboard",
    "load_classifier",
    "load_dataset",
    "open_run",
    "report",
    "train",
    "train_seeds",
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
