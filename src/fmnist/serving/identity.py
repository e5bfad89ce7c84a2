"""Which model answers, in few words: for metrics, logs and whoever starts a server."""

import hashlib
import os
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from fmnist.classifier import Classifier
from fmnist.classifier.classifier import SHIPPED
from fmnist.runs import open_run


class Identity(NamedTuple):
    """A model's name, the SHA-256 of the file with its numbers, and the version of fmnist."""

    name: str
    sha256: str
    version: str


def identify(classifier: Classifier, model: Path | None) -> Identity:
    """Return the identity of a classifier that was loaded from `model`; None: it came with us."""
    recipe = classifier.facts.get("recipe", {}).get("name", "")
    sha256 = hashlib.sha256(_weights(model).read_bytes()).hexdigest()
    return Identity(recipe, sha256, metadata.version("fmnist"))


def _weights(model: Path | None) -> Path:
    if model is None:
        return SHIPPED
    return open_run(model).weights if os.path.isdir(model) else model
