import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from fmnist.classifier.pixels import Wishes
from fmnist.data import Dataset
from fmnist.errors import ModelError
from fmnist.training.keras_backend import keras, without_notices
from fmnist.training.keras_foreign import CONFIG, WEIGHTS, open_keras

L = keras.layers


def rescaled() -> Any:
    """Pixels 0..255 in, probabilities out, with what people put between."""
    return keras.Sequential(
        [
            L.Input((28, 28, 1)),
            L.RandomFlip("horizontal"),
            L.Rescaling(1 / 255),
            L.Conv2D(4, 3, strides=2, activation="relu", kernel_regularizer="l2"),
            L.BatchNormalization(),
            L.Flatten(),
            L.Dropout(0.5),
            L.Dense(10, activation="softmax"),
        ]
    )


def plain() -> Any:
    return keras.Sequential(
        [L.Input((28, 28)), L.Flatten(), L.Dense(10, kernel_constraint="max_norm")]
    )


def branched() -> Any:
    start = keras.Input((28, 28, 1))
    branches = [L.Conv2D(4, 3, strides=2)(start) for _ in range(2)]
    both = L.Concatenate()([L.LeakyReLU()(branches[0]), L.Add()(branches)])
    return keras.Model(start, L.Dense(10)(L.GlobalMaxPooling2D()(both)))


def nested() -> Any:
    body = keras.Sequential([L.Input((784,)), L.Rescaling(1 / 255), L.Dense(16, activation="gelu")])
    return keras.Sequential([L.Input((784,)), body, L.Dense(10)])


def first(scaling: Any) -> Any:
    return keras.Sequential([L.Input((28, 28)), scaling, L.Flatten(), L.Dense(10)])


def saved(model: Any, folder: Path) -> bytes:
    path = folder / "theirs.keras"
    with without_notices():
        model.save(path)
    return path.read_bytes()


@pytest.mark.parametrize(
    ("make", "layout", "scale"),
    [
        (rescaled, "nhwc", 1),
        (plain, "nhw", 255),
        (branched, "nhwc", 255),
        (nested, "flat", 1),
        (lambda: first(L.Rescaling(2.0, offset=-1.0)), "nhw", 255),
        (lambda: first(L.Rescaling(1 / 127.5, offset=-1.0)), "nhw", 1),
        (lambda: first(L.Normalization(mean=0.286, variance=0.1246)), "nhw", 255),
        (lambda: first(L.Normalization(mean=72.9, variance=8100.0)), "nhw", 1),
    ],
)
def test_a_stock_model_answers_as_keras_says(
    make: Callable[[], Any], layout: str, scale: float, garments: Dataset, tmp_path: Path
) -> None:
    keras.utils.set_random_seed(1)
    model, images = make(), garments.test_images[:20]
    model.compile("adam", "sparse_categorical_crossentropy")
    inputs = images.reshape(-1, *model.input_shape[1:]).astype(np.float32) / scale
    model.train_on_batch(inputs, garments.test_labels[:20])  # optimizer and batch norm have state
    found = open_keras(saved(model, tmp_path), Wishes())
    assert (found.pixels.layout, found.pixels.scale) == (layout, scale)
    told = found.answer(images, found.pixels)
    expected = keras.ops.convert_to_numpy(model(inputs, training=False))
    np.testing.assert_allclose(told, expected, rtol=1e-5, atol=1e-6)
    assert found.parameters == model.count_params()


def changed(content: bytes, change: Callable[[dict[str, Any]], object]) -> bytes:
    """The file with another config.json."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            member = old.read(name)
            if name == CONFIG:
                config = json.loads(member)
                change(config)
                member = json.dumps(config).encode()
            new.writestr(name, member)
    return out.getvalue()


def refused(content: bytes) -> str:
    with pytest.raises(ModelError) as error:
        open_keras(content, Wishes())
    assert "\n" not in str(error.value)
    return str(error.value)


def test_layers_that_run_code_are_refused(tmp_path: Path) -> None:
    model = keras.Sequential([L.Input((28, 28)), L.Lambda(lambda x: x), L.Flatten(), L.Dense(10)])
    assert "keras.layers.Lambda runs code of its own" in refused(saved(model, tmp_path))


Change = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c["config"]["layers"][1].update(module="os", class_name="system"),
        lambda c: c["config"]["layers"][1].update(class_name="TFSMLayer"),
        lambda c: c["config"]["layers"][1].update(class_name="StringLookup"),
        lambda c: c["config"]["layers"][1].update(registered_name="theirs>Flatten"),
        lambda c: c["config"]["layers"][1].update(module="keras.src.layers"),
        lambda c: c["config"]["layers"][2]["config"].update(
            activation={"module": "builtins", "class_name": "function", "config": "eval"}
        ),
        lambda c: c["config"]["layers"][2]["config"].update(
            activation={"module": "keras.utils", "class_name": "get_file", "config": {}}
        ),
        lambda c: c["config"]["layers"][2]["config"].update(
            kernel_initializer={"module": "keras.initializers", "class_name": "get", "config": {}}
        ),
        lambda c: c["config"]["layers"][2]["config"].update(
            activation={"class_name": "__lambda__"}
        ),
    ],
)
def test_what_is_not_stock_keras_is_refused(change: Change, tmp_path: Path) -> None:
    message = refused(changed(saved(plain(), tmp_path), change))
    assert "is not on the list of stock layers, and is not loaded" in message


@pytest.mark.parametrize("broken", [False, True])
def test_no_memory_is_taken_for_weights_that_no_file_holds(broken: bool, tmp_path: Path) -> None:
    def grow(config: Any) -> None:
        layers = config["config"]["layers"]
        layers[2]["config"]["units"] = 10**11  # 300 TB
        if broken:
            layers.append({**layers[1], "config": {"name": "two", "data_format": "nonsense"}})

    message = refused(changed(saved(plain(), tmp_path), grow))
    assert ("cannot build it" if broken else "asks for 78,500,000,000,000 weights") in message


def test_what_a_file_says_of_its_training_is_not_read(garments: Dataset, tmp_path: Path) -> None:
    evil = {"loss": {"module": "os", "class_name": "system", "config": "true"}}
    content = changed(saved(plain(), tmp_path), lambda c: c.update(compile_config=evil))
    found = open_keras(content, Wishes())
    assert found.answer(garments.test_images[:2], found.pixels).shape == (2, 10)


def test_networks_that_take_no_such_images_are_named(tmp_path: Path) -> None:
    def of(shape: tuple[int, ...], classes: int) -> bytes:
        layers = [L.Input(shape), L.Flatten(), L.Dense(classes)]
        return saved(keras.Sequential(layers), tmp_path)

    assert "not of 28 x 28 images" in refused(of((32, 32, 3), 10))
    assert "Fashion-MNIST has ten classes" in refused(of((28, 28), 100))
    two = [keras.Input((28, 28)), keras.Input((28, 28))]
    model = keras.Model(two, L.Dense(10)(L.Flatten()(L.Add()(two))))
    assert "2 inputs" in refused(saved(model, tmp_path))
    with pytest.raises(ModelError, match="is not nchw"):
        open_keras(of((28, 28, 1), 10), Wishes(layout="nchw"))


def test_weights_elsewhere_or_of_other_shapes_are_refused(tmp_path: Path) -> None:
    content = saved(plain(), tmp_path)

    def with_weights(change: Callable[[Any], object]) -> bytes:
        out = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(out, "w") as new:
            for name in old.namelist():
                member = old.read(name)
                if name == WEIGHTS:
                    buffer = io.BytesIO(member)
                    with h5py.File(buffer, "r+") as file:
                        change(file)
                    member = buffer.getvalue()
                new.writestr(name, member)
        return out.getvalue()

    kernel = "layers/dense/vars/0"

    def linked(file: Any) -> None:
        del file[kernel]
        file[kernel] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "x")

    def smaller(file: Any) -> None:
        del file[kernel]
        file[kernel] = np.zeros((3, 3), np.float32)

    assert "or has it in another file" in refused(with_weights(linked))
    assert "is not of shape (784, 10)" in refused(with_weights(smaller))
    assert "lacks" in refused(with_weights(lambda file: file.__delitem__(kernel)))
    assert "no whole .keras file" in refused(b"nothing")
    assert "no whole .keras file" in refused(content[: len(content) // 2])
