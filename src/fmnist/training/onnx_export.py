"""A finished run as the ONNX file that a classifier is loaded from."""

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist.classifier.classifier import Classifier, open_classifier
from fmnist.classifier.export import Mean, make_file, quantize, to_onnx
from fmnist.data import Dataset
from fmnist.recipes import Recipe
from fmnist.runs import Run
from fmnist.training.trained import load_network, network_facts

CALIBRATION_IMAGES = 1000  # of the train split; the official file is in random order


def as_onnx(
    runs: Sequence[Run],
    data: Dataset,
    expected: NDArray[np.float32],
    *,
    recipe: Recipe | None = None,
    int8: bool = False,
    mirror: bool = True,
    least_probability: float = 0.0,
) -> tuple[bytes, Classifier]:
    """Return the file, and the classifier that it holds: the mean of the runs' networks.

    The classifier does not accept answers that are less probable than `least_probability`. The
    temperature, and what the file says of itself, are the first run's.
    `expected` are the run's logits of the validation images, with which the file's are compared;
    int8 is compared with the labels. Raises ModelError where the file answers worse than it may
    (`fmnist.classifier.export.Parity`), RunError where the run was not evaluated and so has no
    temperature.
    """
    facts = {
        **_facts(runs, int8),
        "flip_at_test": mirror and flips(runs[0]),
        "least_probability": least_probability,
    }
    validation = data.split("validation")
    judged = validation.images, validation.labels, expected
    networks = [load_network(run, recipe) for run in runs]
    network = networks[0] if len(networks) == 1 else Mean(networks)
    model = to_onnx(network, flip=facts["flip_at_test"])
    content, _ = make_file(model, facts, *judged, int8=False)
    if int8:
        model = quantize(model, data.split("train").images[:CALIBRATION_IMAGES])
        content, _ = make_file(model, facts, *judged, int8=True)
    return content, open_classifier(content)


def flips(run: Run) -> bool:
    """Tell whether a run is asked about the mirror image too."""
    return bool(run.read()["recipe"]["flip_at_test"])


def _facts(runs: Sequence[Run], int8: bool) -> dict[str, Any]:
    """Return what a file says of itself."""
    facts = network_facts(runs[0], runs[0].read_metrics())
    if len(runs) > 1:  # these are of the first alone
        del facts["seed"], facts["accuracy_of_run"]
    return {
        "fmnist": version("fmnist"),
        "precision": "int8" if int8 else "float32",
        **facts,
        "seeds": [run.read()["seed"] for run in runs],
    }
