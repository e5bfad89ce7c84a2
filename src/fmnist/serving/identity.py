"""The model that answers, and in few words which one that is: for metrics, logs, other workers."""

import hashlib
import os
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from fmnist.answers import load_classifier
from fmnist.classifier import Classifier
from fmnist.classifier.classifier import SHIPPED
from fmnist.errors import ModelError
from fmnist.runs import open_run


class Identity(NamedTuple):
    """A model's name, the SHA-256 of the file with its numbers, and the version of fmnist."""

    name: str
    sha256: str
    version: str


def load_identified(model: Path | None) -> tuple[Classifier, Identity]:
    """Return the classifier of a run or .onnx file, None: the one that came with us, and which.

    Raises ModelError, RunError and MissingExtra where it cannot be loaded, ModelError also where
    its file was written to meanwhile: then nobody could say what was loaded.
    """
    weights = _weights(model)
    before = _sha256(weights)
    classifier = load_classifier(model, threads=1)
    if _sha256(weights) != before:
        raise ModelError(f"{weights} changed while it was loaded; start again when it is whole")
    recipe = classifier.facts.get("recipe", {}).get("name", "")
    return classifier, Identity(recipe, before, metadata.version("fmnist"))


def _weights(model: Path | None) -> Path:
    if model is None:
        return SHIPPED
    return open_run(model).weights if os.path.isdir(model) else model


def _sha256(file: Path) -> str:
    """Return the hash of a file; "" where it cannot be read, which the loader explains better."""
    try:
        with file.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    except OSError:
        return ""


def check_same(identity: Identity, first: Identity | None) -> None:
    """Raise ModelError where a worker loaded another model than the `first` of them, if any."""
    if first is not None and identity != first:
        found, wanted = identity.sha256[:12], first.sha256[:12]
        raise ModelError(
            f"the model's file now holds {found}, and other workers answer with {wanted}; put that "
            "back, or start the server again"
        )
