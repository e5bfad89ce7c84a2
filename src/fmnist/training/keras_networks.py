"""The networks of `fmnist.models` as Keras has them, and weights from one to the other and back.

Their images are (n, 28, 28, 1) float in 0..1. The output of the layer "logits" is the logits
(n, 10); a softmax follows, so that `predict` answers with probabilities.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fmnist.errors import ModelError
from fmnist.models import PIXEL_MEAN, PIXEL_SD, STATISTICS_MOMENTUM, Whitening, make_network
from fmnist.training.keras_backend import keras

layers = keras.layers
NORM_EPSILON = 1e-5  # PyTorch's default; Keras' is 1e-3


@dataclass(frozen=True)
class Twin:
    """How a network of `fmnist.models` is built in Keras.

    A layer with weights is named as the torch module it mirrors, with _ for its dots. `flattened`
    gives the map (c, h, w) that a dense layer sees flattened: Keras has it as (h, w, c).
    """

    build: Callable[[Any], Any]  # images to logits, whose layer is called "logits"
    renamed: Mapping[str, str] = field(default_factory=dict)  # torch module: Keras layer
    flattened: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)  # torch module: map

    def layer(self, module: str) -> str:
        """Return the name of the layer that mirrors a torch module."""
        return self.renamed.get(module, module.replace(".", "_"))


def _classic(x: Any) -> Any:  # (n, 28, 28, 1)
    """The network of github.com/eugenekuloba/Fashion-MNIST."""
    x = _conv(x, 32, "conv1", activation="relu")
    x = _conv(x, 32, "conv2", activation="relu")
    x = layers.MaxPooling2D(2, name="pool1")(x)  # (n, 14, 14, 32)
    x = _conv(x, 64, "conv3", activation="relu")
    x = _conv(x, 64, "conv4", activation="relu")
    x = layers.MaxPooling2D(2, name="pool2")(x)  # (n, 7, 7, 64)
    x = layers.Flatten(name="flatten")(x)  # (n, 3136)
    x = layers.Dense(128, activation="relu", name="dense1")(x)
    return layers.Dense(10, name="logits")(x)


def _whitened(x: Any, channels: tuple[int, int, int], *, residual: bool) -> Any:
    """The network of `fmnist.models.Whitened`, whose whitening is a plain convolution here."""
    first, second, last = channels
    x = _whiten(_standardise(x), "whitening")  # (n, 14, 14, 16)
    x = _conv(x, first, "conv1", padding="valid")  # (n, 12, 12, first)
    x = layers.MaxPooling2D(2, name="pool1")(x)  # (n, 6, 6, first)
    x = layers.ReLU(name="relu1")(_norm(x, "norm1"))
    x = _conv(x, second, "conv2")  # (n, 6, 6, second)
    if residual:
        x = layers.ReLU(name="relu2")(_norm(x, "norm2"))
        x = layers.Add(name="sum")([x, _conv_norm_relu(x, second, "residual")])
        x = layers.MaxPooling2D(2, name="pool2")(x)  # (n, 3, 3, second)
    else:
        x = layers.MaxPooling2D(2, name="pool2")(x)  # (n, 3, 3, second)
        x = layers.ReLU(name="relu2")(_norm(x, "norm2"))
    x = layers.Flatten(name="flatten")(_conv(x, last, "conv3", padding="valid"))  # (n, last)
    x = layers.ReLU(name="relu3")(_norm(x, "norm3"))
    x = layers.Dense(10, name="head")(x)
    return layers.Rescaling(1 / 4, name="logits")(x)


def _standardise(x: Any) -> Any:
    return layers.Rescaling(1 / PIXEL_SD, -PIXEL_MEAN / PIXEL_SD, name="standardise")(x)


def _whiten(x: Any, name: str) -> Any:
    """The whitening of `fmnist.models`, its convolution called `name`."""
    x = _conv(x, Whitening.AXES, name, trainable=False)  # (n, 28, 28, 8)
    both = [x, layers.Rescaling(-1.0, name="negated")(x)]
    x = layers.Concatenate(name="both_signs")(both)  # (n, 28, 28, 16)
    return layers.ReLU(name="relu0")(layers.MaxPooling2D(2, name="pool0")(x))  # (n, 14, 14, 16)


def _standard(x: Any) -> Any:  # (n, 28, 28, 1)
    x = _whiten(_standardise(x), "stem")
    return _residual(x, [(64, 1), (128, 2)], 256, first_padding="valid")


def _strong(x: Any) -> Any:  # (n, 28, 28, 1)
    x = _whiten(_standardise(x), "stem")
    return _residual(x, [(64, 2), (128, 3)], 256, first_padding="valid")


def _wide(x: Any) -> Any:  # (n, 28, 28, 1)
    x = _conv_norm_relu(_standardise(x), 64, "stem")
    return _residual(x, [(128, 2), (256, 3), (512, 3)], 1024)


def _residual(
    x: Any, stages: Sequence[tuple[int, int]], last: int, first_padding: str = "same"
) -> Any:
    """The network of `fmnist.models.Residual` after its stem; a stage is channels and blocks."""
    for number, (channels, blocks) in enumerate(stages):
        name, padding = f"stages_{number}", "same" if number else first_padding
        x = _conv_norm_relu(x, channels, f"{name}_widen", padding)
        for block in range(blocks):
            more = _conv_norm_relu(x, channels, f"{name}_blocks_{block}")
            x = layers.Add(name=f"{name}_sum_{block}")([x, more])
        x = layers.MaxPooling2D(2, name=f"{name}_pool")(x)
    x = layers.Flatten(name="flatten")(_conv(x, last, "look", padding="valid"))  # (n, last)
    x = layers.ReLU(name="relu")(_norm(x, "norm"))
    return layers.Rescaling(1 / 4, name="logits")(layers.Dense(10, name="head")(x))


def _runner(x: Any) -> Any:
    return _whitened(x, (64, 128, 512), residual=True)


def _sprinter(x: Any) -> Any:
    return _whitened(x, (32, 64, 256), residual=False)


def _conv_norm_relu(x: Any, channels: int, name: str, padding: str = "same") -> Any:
    x = _norm(_conv(x, channels, f"{name}_0", padding), f"{name}_1")
    return layers.ReLU(name=f"{name}_2")(x)


def _conv(x: Any, channels: int, name: str, padding: str = "same", **options: Any) -> Any:
    conv = layers.Conv2D(channels, 3, padding=padding, use_bias=False, name=name, **options)
    return conv(x)


def _norm(x: Any, name: str) -> Any:
    momentum = 1 - STATISTICS_MOMENTUM  # Keras' is the share that is kept
    return layers.BatchNormalization(momentum=momentum, epsilon=NORM_EPSILON, name=name)(x)


TWINS = {
    "classic": Twin(_classic, renamed={"dense2": "logits"}, flattened={"dense1": (64, 7, 7)}),
    "runner": Twin(_runner),
    "sprinter": Twin(_sprinter),
    "standard": Twin(_standard),
    "strong": Twin(_strong),
    "wide": Twin(_wide),
}


def make_twin(network: str, state: Mapping[str, Tensor] | None = None) -> Any:
    """Return the network `network` as a Keras model, with the weights of a torch state if given.

    Raises ModelError for a network that only PyTorch knows.
    """
    if network not in TWINS:
        raise ModelError(f"Keras does not know the network {network}, only {', '.join(TWINS)}")
    image = layers.Input((28, 28, 1), name="image")
    logits = TWINS[network].build(image)
    model = keras.Model(image, layers.Softmax(name="probabilities")(logits), name=network)
    if state is not None:
        for pair in _pairs(network, model):
            pair.variable.assign(pair.to_keras(state[pair.name].detach().cpu().numpy()))
    return model


def torch_state(network: str, model: Any) -> dict[str, Tensor]:
    """Return a Keras model's weights as the state of the torch network."""
    state = make_network(network).state_dict()
    for pair in _pairs(network, model):
        value = pair.to_torch(keras.ops.convert_to_numpy(pair.variable))
        state[pair.name] = torch.from_numpy(np.array(value, np.float32))
    return state


def logits_model(model: Any) -> Any:
    """Return the model up to its logits; it shares the weights."""
    return keras.Model(model.input, model.get_layer("logits").output, name=f"{model.name}-logits")


def with_mirror_image(model: Any) -> Any:
    """Return a model whose logits are the mean of the image's and its mirror image's."""
    image = layers.Input((28, 28, 1), name="image")
    core = logits_model(model)
    both = [core(image), core(keras.ops.flip(image, axis=2))]
    logits = layers.Average(name="logits")(both)
    return keras.Model(image, layers.Softmax(name="probabilities")(logits), name=model.name)


def ask(
    model: Any, images: NDArray[np.uint8], *, flip: bool = False, batch_size: int = 1000
) -> NDArray[np.float32]:
    """Return logits (n, 10) of images (n, 28, 28) uint8 from a model up to its logits.

    With `flip` they are the mean of the image's and its mirror image's.
    """
    parts = [np.empty((0, 10), np.float32)]
    for start in range(0, len(images), batch_size):
        x = images[start : start + batch_size, :, :, None].astype(np.float32) / np.float32(255)
        logits = _answer(model, x)
        if flip:
            mirrored = np.ascontiguousarray(x[:, :, ::-1])
            logits = (logits + _answer(model, mirrored)) / np.float32(2)
        parts.append(logits)
    return np.concatenate(parts)


def _answer(model: Any, x: NDArray[np.float32]) -> NDArray[np.float32]:
    with torch.no_grad():  # for the backend torch
        logits: NDArray[np.float32] = keras.ops.convert_to_numpy(model(x, training=False))
    return logits


@dataclass(frozen=True)
class _Pair:
    """One array of weights: its name in the torch state, and its variable in Keras."""

    name: str
    variable: Any
    rank: int
    map: tuple[int, int, int] | None  # (c, h, w), where a flattened one comes in

    def to_keras(self, value: NDArray[np.float32]) -> NDArray[np.float32]:
        if self.map:
            value = value.reshape(-1, *self.map).transpose(0, 2, 3, 1).reshape(len(value), -1)
        return value.transpose({4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}[self.rank])

    def to_torch(self, value: NDArray[np.float32]) -> NDArray[np.float32]:
        value = value.transpose({4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}[self.rank])
        if self.map:
            c, h, w = self.map
            value = value.reshape(-1, h, w, c).transpose(0, 3, 1, 2).reshape(len(value), -1)
        return value


_PARTS = {
    "weight": "kernel",
    "bias": "bias",
    "filters": "kernel",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}
_PARTS_OF_NORM = {**_PARTS, "weight": "gamma", "bias": "beta"}


def _pairs(network: str, model: Any) -> Iterator[_Pair]:
    """Yield every array of weights that decides an answer."""
    twin = TWINS[network]
    mirrored = make_network(network)
    for name, value in mirrored.state_dict().items():
        module, _, part = name.rpartition(".")
        if part == "num_batches_tracked":
            continue
        is_norm = isinstance(mirrored.get_submodule(module), (nn.BatchNorm1d, nn.BatchNorm2d))
        variable = getattr(
            model.get_layer(twin.layer(module)), (_PARTS_OF_NORM if is_norm else _PARTS)[part]
        )
        is_flat = part == "weight" and value.ndim == 2
        yield _Pair(name, variable, value.ndim, twin.flattened.get(module) if is_flat else None)
