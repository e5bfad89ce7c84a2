"""The model that answers, and in few words which one that is: for metrics, logs, other workers."""

import hashlib
import os
import shlex
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from fmnist.answers import load_classifier
from fmnist.classifier import Classifier
from fmnist.classifier.classifier import SHIPPED
from fmnist.errors import FmnistError, MissingExtra, ModelError, RunError
from fmnist.runs import open_run


class Identity(NamedTuple):
    """A model's name, the SHA-256 of the file with its numbers, and the version of fmnist."""

    name: str
    sha256: str
    version: str


def load_identified(model: Path | None) -> tuple[Classifier, Identity]:
    """Return the classifier of a run or .onnx file, None: the one that came with us, and which.

    Raises ModelError and RunError where it cannot be loaded (a run without PyTorch, too),
    ModelError also where its file was written to meanwhile: nobody could say what was loaded.
    """
    weights = _weights(model)
    before = _sha256(weights)
    try:
        classifier = load_classifier(model, threads=1)
    except MissingExtra as error:
        raise _or_exported(error, model) from error
    if _sha256(weights) != before:
        raise ModelError(f"{weights} changed while it was loaded; start again when it is whole")
    recipe = classifier.facts.get("recipe", {}).get("name", "")
    return classifier, Identity(recipe, before, metadata.version("fmnist"))


def _or_exported(error: MissingExtra, model: Path | None) -> FmnistError:
    """Return an error that names the way around what a run needs: one file of it."""
    if model is None or not os.path.isdir(model):
        return error
    run, file = open_run(model), shlex.quote(f"{model.resolve().name}.onnx")
    return RunError(
        f"{error}; or, where that is installed, make one file of the run and serve the file: "
        f"fmnist export {run.argument} --format onnx --out {file}"
    )


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
