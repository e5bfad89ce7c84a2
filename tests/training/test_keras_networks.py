"""Keras' networks answer as PyTorch's do, and weights go there and back unchanged."""

import numpy as np
import pytest
import torch

import garments
from finished import random_network
from fmnist.errors import ModelError
from fmnist.training.device import Device
from fmnist.training.inference import infer
from fmnist.training.keras_backend import keras
from fmnist.training.keras_networks import (
    TWINS,
    ask,
    logits_model,
    make_twin,
    torch_state,
    with_mirror_image,
)

CPU = Device("cpu", "float32")
IMAGES, _ = garments.make(per_class=4, seed=0)


@pytest.mark.parametrize("name", TWINS)
@pytest.mark.parametrize("flip", [False, True])
def test_both_give_the_same_logits(name: str, flip: bool) -> None:
    network = random_network(name)
    model = logits_model(make_twin(name, network.state_dict()))
    expected = infer(network, IMAGES, CPU, flip=flip)
    told = ask(model, IMAGES, flip=flip, batch_size=16)
    assert told.dtype == np.float32
    # Random weights make logits of up to some hundreds; float32 rounds relative to those.
    np.testing.assert_allclose(told, expected, rtol=0, atol=4e-6 * np.abs(expected).max())
    assert np.ptp(expected, axis=0).min() > 1e-2  # or any answer would do


@pytest.mark.parametrize("name", TWINS)
def test_weights_go_there_and_back_unchanged(name: str) -> None:
    state = random_network(name).state_dict()
    back = torch_state(name, make_twin(name, state))
    assert back.keys() == state.keys()
    for key, value in state.items():
        assert torch.equal(back[key], value), key


@pytest.mark.parametrize("name", TWINS)
def test_predict_answers_with_the_probabilities_of_the_logits(name: str) -> None:
    model = make_twin(name, random_network(name).state_dict())
    logits = ask(logits_model(model), IMAGES)
    odds = np.exp(logits - logits.max(1, keepdims=True))
    told = keras.ops.convert_to_numpy(model(IMAGES[..., None].astype("f4") / 255))
    np.testing.assert_allclose(told, odds / odds.sum(1, keepdims=True), atol=1e-6)


def test_the_mirror_image_is_part_of_the_graph() -> None:
    model = make_twin("classic", random_network("classic").state_dict())
    expected = ask(logits_model(model), IMAGES, flip=True)
    told = ask(logits_model(with_mirror_image(model)), IMAGES)
    np.testing.assert_allclose(told, expected, atol=1e-6)
    plain = ask(logits_model(model), IMAGES)
    assert np.abs(plain - expected).max() > 1e-2


def test_no_images_give_no_logits() -> None:
    assert ask(logits_model(make_twin("classic")), IMAGES[:0]).shape == (0, 10)


def test_a_new_twin_starts_as_the_published_network_did() -> None:
    model = make_twin("classic")
    limit = np.sqrt(6 / (3136 + 128))  # Glorot & Bengio (2010), equation 16
    kernel, bias = model.get_layer("dense1").get_weights()
    assert 0.99 * limit < np.abs(kernel).max() <= limit
    assert not bias.any()
    assert model.count_params() == 467_626


def test_a_network_that_keras_does_not_know_is_refused() -> None:
    with pytest.raises(ModelError, match="does not know the network tiny, only classic, runner"):
        make_twin("tiny")
