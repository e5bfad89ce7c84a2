"""What networks say of images they did not learn from: a recipe trained on folds."""

import copy
import logging
import time
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedKFold
from torch import Tensor, nn

from fmnist.data import Dataset
from fmnist.environment import physical_cores
from fmnist.errors import RunError
from fmnist.recipes import Recipe
from fmnist.training.device import find_device, on_device, processor_settings
from fmnist.training.estimator import FashionClassifier
from fmnist.training.inference import infer

log = logging.getLogger("fmnist")


class HeldOut(NamedTuple):
    """Said by networks that had not seen the image, of the training and of the test images."""

    train: NDArray[np.float64]  # (n, 10), probabilities, each row by the network of another fold
    test: NDArray[np.float64]  # (m, 10), the mean of the networks of all folds
    embeddings: NDArray[np.float32]  # (n + m, d), by the network of the first fold alone


def ask_folds(
    recipe: Recipe, data: Dataset, folds: int, seed: int = 0, device: str = "auto"
) -> HeldOut:
    """Train `recipe` once for each of `folds` stratified folds of the training images.

    A network learns from all folds but its own, with the loop of `fmnist train`; none sees a test
    image. Raises RunError for a number of folds that cannot be, and RunError and ModelError as
    FashionClassifier.fit.
    """
    most = int(np.bincount(data.train_labels).min())  # each fold has images of each class
    if not 2 <= folds <= most:
        raise RunError(f"{folds} folds cannot be made of these images; use 2 to {most}")
    images, labels = np.asarray(data.train_images), np.asarray(data.train_labels)
    train, test = np.zeros((len(labels), 10)), np.zeros((len(data.test_labels), 10))
    embeddings = np.empty((0, 0), np.float32)
    cut = StratifiedKFold(folds, shuffle=True, random_state=seed)
    for fold, (learned, held_out) in enumerate(cut.split(images, labels)):
        began = time.perf_counter()
        judge = FashionClassifier(recipe, random_state=seed + fold, device=device)
        judge.fit(images[learned], labels[learned])
        train[held_out] = judge.predict_proba(images[held_out])
        test += judge.predict_proba(data.test_images) / folds
        if fold == 0:
            everything = np.concatenate([images, data.test_images])
            embeddings = embed(judge.network_, everything, device)
        log.info("fold %d of %d: %.0f s", fold + 1, folds, time.perf_counter() - began)
    return HeldOut(train, test, embeddings)


def embed(
    network: nn.Module, images: NDArray[np.uint8], device: str = "auto"
) -> NDArray[np.float32]:
    """Return what the last layer with weights is given for images (n, 28, 28): (n, d), length 1.

    It is the mean of the image's and its mirror image's, so that both have the same.
    """
    place = find_device(device, precision="float32")
    seen: list[Tensor] = []

    def keep(layer: nn.Module, given: tuple[Any, ...]) -> None:
        seen.append(given[0].flatten(1).float().cpu())

    with processor_settings(min(torch.get_num_threads(), physical_cores())):
        network = on_device(copy.deepcopy(network), place)
        _last_layer(network).register_forward_pre_hook(keep)
        infer(network, images, place, flip=True)  # a batch, then its mirror images
    both = (torch.cat(seen[0::2]) + torch.cat(seen[1::2])) / 2
    return nn.functional.normalize(both).numpy()


def _last_layer(network: nn.Module) -> nn.Module:
    """Return the layer that was defined last, of those with weights of their own."""
    return [layer for layer in network.modules() if list(layer.parameters(recurse=False))][-1]
