"""A finished run as the ONNX file that a classifier is loaded from."""

from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist.classifier.classifier import Classifier, open_classifier
from fmnist.classifier.export import make_file, quantize, to_onnx
from fmnist.data import CLASS_NAMES, Dataset
from fmnist.recipes import Recipe
from fmnist.runs import Run
from fmnist.training.trained import load_network

CALIBRATION_IMAGES = 1000  # of the train split; the official file is in random order


def as_onnx(
    run: Run,
    data: Dataset,
    expected: NDArray[np.float32],
    *,
    recipe: Recipe | None = None,
    int8: bool = False,
) -> tuple[bytes, Classifier]:
    """Return the file, and the classifier that it holds.

    `expected` are the run's logits of the validation images, with which the file's are compared;
    int8 is compared with the labels. Raises ModelError where the file answers worse than it may
    (`fmnist.classifier.export.Parity`), RunError where the run was not evaluated and so has no
    temperature.
    """
    facts, validation = _facts(run, int8), data.split("validation")
    judged = validation.images, validation.labels, expected
    model = to_onnx(load_network(run, recipe), flip=facts["flip_at_test"])
    content, _ = make_file(model, facts, *judged, int8=False)
    if int8:
        model = quantize(model, data.split("train").images[:CALIBRATION_IMAGES])
        content, _ = make_file(model, facts, *judged, int8=True)
    return content, open_classifier(content)


def _facts(run: Run, int8: bool) -> dict[str, Any]:
    """Return what a file says of itself."""
    trained, metrics = run.read(), run.read_metrics()
    return {
        "fmnist": version("fmnist"),
        "class_names": list(CLASS_NAMES),
        "temperature": metrics["temperature"],
        "temperature_source": metrics["temperature_source"],
        "precision": "int8" if int8 else "float32",
        "network": trained["recipe"]["network"],
        "flip_at_test": trained["recipe"]["flip_at_test"],
        "accuracy_of_run": {name: part["accuracy"] for name, part in metrics["splits"].items()},
        **{key: trained[key] for key in ("recipe", "seed", "engine", "all_data", "git_commit")},
        "data_sha256": trained["data"]["sha256"],
    }
