"""Other people's `.keras` files: the network is built from checked stock layers, weights are data.

Keras' own loader is never handed the file. config.json may name layers, initializers and the like
of Keras itself and nothing else, by the lists here; only then is a network made from it, without
what the file says of its training. From model.weights.h5 come plain arrays of the shapes that this
network expects.
"""

import io
import json
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from fmnist.classifier.foreign import Foreign
from fmnist.classifier.pixels import Assumption, Pixels, Wishes, choose_scale, layouts_of
from fmnist.errors import ModelError
from fmnist.training.keras_backend import keras, without_notices

CONFIG, WEIGHTS = "config.json", "model.weights.h5"
MOST_BYTES = 1024 * 2**20  # unpacked
MOST_WEIGHTS = MOST_BYTES // 4
BATCH = 250
SMALL, LARGE = 0.1, 2.0  # what only pixels 0..255 are multiplied by, and have as their mean

MODELS = ("Sequential", "Functional")
LAYERS = frozenset(
    (
        *("InputLayer", "Dense", "EinsumDense", "Activation", "Embedding", "Identity"),
        *("Conv1D", "Conv2D", "Conv2DTranspose", "DepthwiseConv2D", "SeparableConv2D"),
        *("MaxPooling1D", "MaxPooling2D", "AveragePooling1D", "AveragePooling2D"),
        *("GlobalAveragePooling1D", "GlobalAveragePooling2D"),
        *("GlobalMaxPooling1D", "GlobalMaxPooling2D"),
        *("BatchNormalization", "LayerNormalization", "GroupNormalization", "UnitNormalization"),
        *("RMSNormalization", "Normalization", "Rescaling", "Resizing", "CenterCrop"),
        *("Dropout", "SpatialDropout1D", "SpatialDropout2D", "AlphaDropout", "GaussianDropout"),
        *("GaussianNoise", "ActivityRegularization"),
        *("ReLU", "LeakyReLU", "PReLU", "ELU", "Softmax"),
        *("Flatten", "Reshape", "Permute", "RepeatVector"),
        *("ZeroPadding1D", "ZeroPadding2D", "Cropping1D", "Cropping2D"),
        *("UpSampling1D", "UpSampling2D"),
        *("Add", "Average", "Concatenate", "Dot", "Maximum", "Minimum", "Multiply", "Subtract"),
        *("RandomFlip", "RandomRotation", "RandomTranslation", "RandomZoom", "RandomCrop"),
        *("RandomBrightness", "RandomContrast", "RandomErasing"),
        *("Attention", "AdditiveAttention", "MultiHeadAttention", "GroupQueryAttention"),
        *("LSTM", "GRU", "SimpleRNN", "LSTMCell", "GRUCell", "SimpleRNNCell", "RNN"),
        *("Bidirectional", "TimeDistributed", "SpectralNormalization"),
    )
)
PLAIN = {f"keras.{room}": room for room in ("initializers", "regularizers", "constraints")}
# How Keras writes the ends of a functional network, and how numbers are kept.
OTHERS = frozenset(("__keras_tensor__", "__tuple__", "DTypePolicy"))


def open_keras(content: bytes, wishes: Wishes) -> Foreign:
    """Return the network in a `.keras` file's bytes.

    Raises ModelError, without naming the file, where it is damaged, holds anything but stock
    layers, or takes no 28 x 28 images.
    """
    config, weights = _members(content)
    model = _build(config)
    _load(model, weights)
    shape = _input_shape(model)
    pixels, because = _layout(shape, wishes)
    pixels, of_scale = choose_scale(pixels, wishes, {}, _scaling_inside(model))
    assumed = [Assumption("layout", pixels.layout, because), *of_scale]
    if pixels.channels == 3:
        assumed.append(
            Assumption("channels", "3", "its input; the grey image is given three times")
        )
    return Foreign(
        answer=lambda images, treatment: _answers(model, treatment.treat(images)),
        pixels=pixels,
        assumed=tuple(assumed),
        parameters=int(model.count_params()),
    )


def _members(content: bytes) -> tuple[Any, bytes]:
    """Return config.json, parsed, and the bytes of model.weights.h5."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as file:
            if sum(member.file_size for member in file.infolist()) > MOST_BYTES:
                raise ModelError(f"it unpacks to over {MOST_BYTES // 2**20} MiB")
            return json.loads(file.read(CONFIG)), file.read(WEIGHTS)
    except ModelError:
        raise
    except Exception as error:  # zipfile raises a dozen kinds at damaged bytes
        reason = " ".join(str(error).split())
        raise ModelError(f"it is no whole .keras file of Keras 3 ({reason})") from error


def _build(config: Any) -> Any:
    """Return the network that a config describes, with new weights."""
    check_config(config)
    # Not what it says of its training ("compile_config"), nor how it was built.
    stock = {key: config.get(key) for key in ("module", "class_name", "config", "registered_name")}
    try:
        # In this scope weights have shapes, and take no memory until it is left.
        with without_notices(), keras.StatelessScope():
            try:
                return _built(stock)
            except Exception:  # of whatever kind: it is only passed on
                keras.utils.clear_session()  # forgets them, so that none is made
                raise
    except ModelError:
        raise
    except Exception as error:  # whatever a layer says to values that it does not know
        reason = str(error).strip().partition("\n")[0]
        raise ModelError(f"Keras {keras.__version__} cannot build it: {reason}") from error


def _built(stock: Mapping[str, Any]) -> Any:
    model = keras.saving.deserialize_keras_object(stock, safe_mode=True)
    if not model.built:
        model.build((None, *_input_shape(model)))
    if model.count_params() > MOST_WEIGHTS:
        raise ModelError(
            f"its config asks for {model.count_params():,} weights; no file that is read holds "
            f"over {MOST_WEIGHTS:,}"
        )
    return model


def check_config(config: Any) -> None:
    """Raise ModelError where a config names anything but stock Keras, however deep inside."""
    if not isinstance(config, dict) or config.get("class_name") not in MODELS:
        named = config.get("class_name") if isinstance(config, dict) else type(config).__name__
        raise ModelError(f"it is a {named}; only {' and '.join(MODELS)} networks are read")
    for part in _named_parts({**config, "compile_config": None}):
        _check_named(part)


def _named_parts(value: Any, depth: int = 0) -> Iterator[Mapping[str, Any]]:
    """Yield every dictionary that Keras would make an object of, or look a name up for."""
    if depth > 100:
        raise ModelError("its config is nested too deep")
    if isinstance(value, dict):
        if {"class_name", "module", "registered_name"} & value.keys():
            yield value
        for each in value.values():
            yield from _named_parts(each, depth + 1)
    elif isinstance(value, list):
        for each in value:
            yield from _named_parts(each, depth + 1)


def _check_named(part: Mapping[str, Any]) -> None:
    name, module = part.get("class_name"), part.get("module")
    if module == "keras.layers" and name in LAYERS and not part.get("registered_name"):
        return
    if name in MODELS and module in (None, "keras", "keras.src.models.functional"):
        return
    if name in OTHERS and module in (None, "keras", "builtins"):
        return
    if module in PLAIN and not part.get("registered_name"):
        known = getattr(getattr(keras, PLAIN[module]), str(name), None)
        if isinstance(known, type):
            return
    whole = f"{module}.{name}" if module else str(name)
    kind = "runs code of its own" if name == "Lambda" else "is not on the list of stock layers"
    raise ModelError(
        f"its {whole} {kind}, and is not loaded; export the network as ONNX, or load it "
        "yourself in a function and name that as module:function"
    )


def _load(model: Any, content: bytes) -> None:
    """Give a network the arrays of a weights file, through a file that we wrote ourselves."""
    with tempfile.TemporaryDirectory() as folder:
        clean = Path(folder) / WEIGHTS
        with without_notices():
            model.save_weights(clean)
        try:
            with h5py.File(io.BytesIO(content), "r") as given, h5py.File(clean, "r+") as own:
                for path in _arrays_of(own):
                    own[path][...] = _values(given, path, own[path])
        except ModelError:
            raise
        except Exception as error:  # h5py raises a dozen kinds at damaged bytes
            raise ModelError(f"its {WEIGHTS} is damaged ({type(error).__name__})") from error
        model.load_weights(clean)


def _arrays_of(own: Any) -> list[str]:
    found: list[str] = []
    own.visititems(
        lambda path, thing: found.append(path) if isinstance(thing, h5py.Dataset) else None
    )
    return found


def _values(given: Any, path: str, own: Any) -> NDArray[Any]:
    """Return an array of the file, reached by plain links alone and stored inside it."""
    thing = given
    for name in path.split("/"):
        link = thing.get(name, getlink=True) if isinstance(thing, h5py.Group) else None
        if not isinstance(link, h5py.HardLink):
            raise ModelError(f"its {WEIGHTS} lacks {path}, or has it in another file")
        thing = thing[name]
    if not isinstance(thing, h5py.Dataset) or thing.shape != own.shape:
        raise ModelError(f"its {path} in {WEIGHTS} is not of shape {own.shape}")
    made = thing.id.get_create_plist()
    if made.get_layout() == h5py.h5d.VIRTUAL or made.get_external_count():
        raise ModelError(f"its {path} in {WEIGHTS} lies in another file")
    if thing.dtype.kind not in "fiu":
        raise ModelError(f"its {path} in {WEIGHTS} holds no numbers")
    values: NDArray[Any] = thing[()]
    return values


def _input_shape(model: Any) -> tuple[int | None, ...]:
    inputs = getattr(model, "inputs", None) or []
    if len(inputs) != 1:
        raise ModelError(f"it has {len(inputs)} inputs; images are one")
    if len(model.outputs) != 1:
        raise ModelError(f"it has {len(model.outputs)} outputs; scores (n, 10) are one")
    if model.outputs[0].shape[-1] != 10:
        raise ModelError(
            f"it answers with {tuple(model.outputs[0].shape)}; Fashion-MNIST has ten classes"
        )
    return tuple(inputs[0].shape[1:])


def _layout(shape: tuple[int | None, ...], wishes: Wishes) -> tuple[Pixels, str]:
    fitting = list(layouts_of(shape))
    if not fitting:
        raise ModelError(
            f"its input is (n, {', '.join(map(str, shape))}), not of 28 x 28 images; write a "
            "function that makes it of images (n, 28, 28) uint8 and name that as module:function"
        )
    if wishes.layout is not None:
        fitting = [each for each in fitting if each[0] == wishes.layout]
        if not fitting:
            raise ModelError(f"its input (n, {', '.join(map(str, shape))}) is not {wishes.layout}")
    # Of an input that leaves all open Keras' own layout is meant, channels last.
    fitting.sort(key=lambda each: each[0] != "nhwc")
    layout, channels = fitting[0]
    because = "as you say" if wishes.layout else f"its input (n, {', '.join(map(str, shape))})"
    return Pixels(layout, np.dtype(np.float32), channels), because


def _scaling_inside(model: Any) -> str | None:
    """Return in words what tells that the network takes pixels 0..255, if its first steps do."""
    for layer in model.layers:
        kind = type(layer).__name__
        if kind in MODELS:  # a network as a layer
            return _scaling_inside(layer)
        if kind in ("Rescaling", "Normalization"):
            return _in_words(layer)
        if getattr(layer, "weights", None):
            return None
    return None


def _in_words(layer: Any) -> str | None:
    """Return what a first scaling says of the pixels that come in; None if they are small."""
    if type(layer).__name__ == "Rescaling":
        scale = float(np.max(layer.scale))
        return f"its layer Rescaling multiplies by {scale:.4g}" if scale < SMALL else None
    if layer.invert:
        return None
    mean = float(np.max(keras.ops.convert_to_numpy(layer.mean)))
    return f"its layer Normalization takes away {mean:.4g}" if mean > LARGE else None


def _answers(model: Any, values: NDArray[Any]) -> NDArray[Any]:
    """Return the network's scores (n, 10) of treated images."""
    told = []
    for at in range(0, len(values), BATCH):
        try:
            scores = model.predict_on_batch(values[at : at + BATCH])  # compiled, as in use
        except Exception as error:  # a layer that does not take what the one before gives
            reason = str(error).strip().partition("\n")[0]
            raise ModelError(f"it fails on images {values.shape}: {reason}") from error
        told.append(np.asarray(keras.ops.convert_to_numpy(scores)))
    return np.concatenate(told)
