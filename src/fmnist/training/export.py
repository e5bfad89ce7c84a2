"""A finished run as one file for other programs, written only if it answers as the run does."""

import json
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import load, save

from fmnist.data import CLASS_NAMES, Dataset, load_dataset
from fmnist.environment import physical_cores
from fmnist.errors import ModelError, RunError
from fmnist.files import write_whole
from fmnist.models import make_network
from fmnist.recipes import Recipe
from fmnist.runs import Run, open_run
from fmnist.training.checkpoint import portable
from fmnist.training.device import find_device, on_device, processor_settings
from fmnist.training.inference import infer
from fmnist.training.trained import ask, load_keras_model, load_network

SUFFIXES = {"onnx": ".onnx", "keras": ".keras", "safetensors": ".safetensors"}
LARGEST_DIFFERENCE = 1e-4  # of two logits: float32 sums in another order stay far below

Answer: TypeAlias = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


def export(
    run: Run | str | os.PathLike[str],
    format: str,
    out: str | os.PathLike[str],
    data: Dataset | None = None,
    *,
    recipe: Recipe | None = None,
    int8: bool = False,
    mirror: bool = True,
    ensemble_with: Sequence[Run | str | os.PathLike[str]] = (),
    least_probability: float = 0.0,
) -> dict[str, Any]:
    """Write the network of a finished run to the new file `out` and return what was compared.

    `format` is "onnx" (what `load_classifier` opens; with `int8` in 8 bits; without `mirror` only
    the image is asked about, in half the time, where the recipe asks about its mirror image too;
    its logits are the mean with those of the runs `ensemble_with`; its answers that are less
    probable than `least_probability`, 0..1, are not accepted), "keras" (opens in
    stock Keras; answers with probabilities, its layer "logits" with what `evaluate` saves) or
    "safetensors" (the weights of our torch network; its header says how to use them). The file's
    logits of the validation images are compared with the run's before it is written: all labels
    equal, no logit further off than 1e-4, or ModelError (for "onnx":
    `fmnist.classifier.export.Parity`). `recipe` is needed for a network that is not part of fmnist.
    Raises RunError where `out` exists or its suffix is another format's.
    """
    runs = [each if isinstance(each, Run) else open_run(each) for each in (run, *ensemble_with)]
    run = runs[0]
    out = Path(out)
    _check_target(format, out)
    if format != "onnx" and (int8 or ensemble_with or least_probability or not mirror):
        raise RunError(
            "int8, mirror, ensemble_with and least_probability are for the format onnx, "
            f"not {format}"
        )
    if not 0 <= least_probability <= 1:
        raise RunError(f"least_probability is {least_probability}, not in 0..1")
    data = data or load_dataset()
    validation = data.split("validation")
    images, labels = validation.images, validation.labels
    flip = None if mirror else False
    asked = [ask(each, images, recipe=recipe, flip=flip) for each in runs]
    expected = np.asarray(np.mean(asked, axis=0), np.float32)
    match format:
        case "onnx":
            from fmnist.training.onnx_export import as_onnx

            content, classifier = as_onnx(
                runs,
                data,
                expected,
                recipe=recipe,
                int8=int8,
                mirror=mirror,
                least_probability=least_probability,
            )
            answer: Answer = classifier.logits
        case "keras":
            content, answer = _as_keras(run)
        case _:
            content, answer = _as_safetensors(run, recipe)
    said = answer(images)
    differing = int((said.argmax(1) != expected.argmax(1)).sum())
    largest = float(np.abs(said - expected).max())
    if format != "onnx" and (differing or not largest <= LARGEST_DIFFERENCE):
        raise ModelError(
            f"{run.folder} as {format} answers otherwise: {differing} of {len(images)} labels "
            f"differ, logits by up to {largest:.1e}; nothing was written, train again"
        )
    write_whole(out, content)
    return {
        "run": str(run.folder),
        "ensemble_with": [str(each.folder) for each in runs[1:]],
        "format": format,
        "int8": int8,
        "out": str(out),
        "images": len(images),
        "differing_labels": differing,
        "largest_difference": largest,
        "accuracy": int((said.argmax(1) == labels).sum()) / len(labels),
        "accuracy_of_run": int((expected.argmax(1) == labels).sum()) / len(labels),
    }


def _check_target(format: str, out: Path) -> None:
    """Raise RunError for a format that is not there, and a file that is, or is called wrongly."""
    if format not in SUFFIXES:
        raise RunError(f"there is no format {format!r}; use one of {', '.join(SUFFIXES)}")
    if out.suffix != SUFFIXES[format]:
        raise RunError(f"{out} does not end in {SUFFIXES[format]}; name another file with --out")
    if out.exists():
        raise RunError(f"{out} exists and is not written over; name another file with --out")


def _as_keras(run: Run) -> tuple[bytes, Answer]:
    """Return the `.keras` file, and how stock Keras answers when it has opened it."""
    from fmnist.training.keras_backend import keras
    from fmnist.training.keras_file import keras_bytes
    from fmnist.training.keras_networks import ask as ask_model
    from fmnist.training.keras_networks import logits_model, with_mirror_image

    model = load_keras_model(run)
    if run.read()["recipe"]["flip_at_test"]:
        model = with_mirror_image(model)
    content = keras_bytes(model)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        path.write_bytes(content)
        opened = logits_model(keras.saving.load_model(path))  # our own bytes, a moment old
    return content, lambda images: ask_model(opened, images)


def _as_safetensors(run: Run, recipe: Recipe | None) -> tuple[bytes, Answer]:
    """Return the weights of the torch network, and how a network made anew answers with them."""
    facts = run.read()["recipe"]
    content = save(
        portable(load_network(run, recipe).state_dict()),
        metadata={
            "recipe": facts["name"],
            "network": facts["network"],
            "flip_at_test": json.dumps(facts["flip_at_test"]),
            "images": "(n, 1, 28, 28) float32: pixels of 0..255 divided by 255, background 0",
            "classes": json.dumps(CLASS_NAMES),
        },
    )

    def answer(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        device = find_device(precision="float32")
        network = make_network(recipe.network if recipe else facts["network"])
        network.load_state_dict(load(content))
        with processor_settings(physical_cores()):
            moved = on_device(network, device)
            return infer(moved, images, device, flip=facts["flip_at_test"])

    return content, answer
