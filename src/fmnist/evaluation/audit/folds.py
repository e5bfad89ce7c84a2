"""What networks say of images they did not learn from: a recipe trained on folds."""

import copy
import logging
import time
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedKFold
from torch import nn

from fmnist.data import Dataset
from fmnist.environment import physical_cores
from fmnist.errors import RunError
from fmnist.recipes import Recipe
from fmnist.training.device import find_device, on_device, processor_settings
from fmnist.training.estimator import FashionClassifier
from fmnist.training.inference import infer
from fmnist.training.last_layer import last_layer_inputs

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
    """Return what the last linear layer is given for images (n, 28, 28): (n, d), of length 1.

    An image and its mirror image have the same. A network without such a layer is taken by its
    logits.
    """
    place = find_device(device, precision="float32")
    with processor_settings(min(torch.get_num_threads(), physical_cores())):
        network = on_device(copy.deepcopy(network), place)
        seen = last_layer_inputs(network, images, place, flip=True)
        if seen is None:
            seen = infer(network, images, place, flip=True)
    return nn.functional.normalize(torch.from_numpy(seen)).numpy()
