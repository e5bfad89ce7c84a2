"""The training of github.com/eugenekuloba/Fashion-MNIST as a plain Keras script.

    python benchmarks/notebook.py --as-published
    python benchmarks/notebook.py

As published, four arrays come back in one order and are taken apart in another, so `fit` gets test
images for labels and stops with Keras' error. Without the option the order is put right and all
else is as its author has it: the network, Adam as it comes, batches of 128, ten epochs, each of
them judged on the test images and saved. Nothing here uses fmnist but to load the data.

The last line of stdout is one JSON object. `seconds.train` runs from loading the images to the end
of `fit`, and `epochs` says when each test accuracy was known.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

CLASSES = 10
BATCH_SIZE = 128


def load_arrays() -> tuple[Any, Any, Any, Any]:
    """Return training images, test images, training labels, test labels, in this order."""
    from keras.utils import to_categorical

    from fmnist.data import load_dataset

    data = load_dataset()
    images = [
        pixels.reshape(-1, 28, 28, 1).astype("float32") / 255
        for pixels in (data.train_images, data.test_images)
    ]
    labels = [to_categorical(y, CLASSES) for y in (data.train_labels, data.test_labels)]
    return images[0], images[1], labels[0], labels[1]


def build_model() -> Any:
    """Return the notebook's network: two pairs of 3x3 convolutions, a dense layer of 128."""
    from keras import Model, layers

    image = x = layers.Input((28, 28, 1))
    for channels in (32, 64):
        for _ in range(2):
            x = layers.Conv2D(channels, 3, padding="same", use_bias=False, activation="relu")(x)
        x = layers.MaxPooling2D(2)(x)
    x = layers.Dense(128, activation="relu")(layers.Flatten()(x))
    return Model(image, layers.Dense(CLASSES, activation="softmax")(x))


def train(epochs: int, as_published: bool) -> dict[str, Any]:
    """Train as the notebook does and return what it came to."""
    from keras.callbacks import LambdaCallback, ModelCheckpoint

    began = time.perf_counter()
    if as_published:
        x_train, y_train, x_test, y_test = load_arrays()
    else:
        x_train, x_test, y_train, y_test = load_arrays()
    model = build_model()
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    curve: list[dict[str, float]] = []

    def note(epoch: int, logs: dict[str, float]) -> None:
        curve.append(
            {
                "epoch": epoch + 1,
                "test_accuracy": round(float(logs["val_accuracy"]), 4),
                "test_loss": round(float(logs["val_loss"]), 4),
                "seconds": round(time.perf_counter() - began, 2),
            }
        )

    with tempfile.TemporaryDirectory() as folder:
        saving = ModelCheckpoint(str(Path(folder) / "network.keras"))
        model.fit(
            x_train,
            y_train,
            batch_size=BATCH_SIZE,
            epochs=epochs,
            validation_data=(x_test, y_test),
            callbacks=[saving, LambdaCallback(on_epoch_end=note)],
            verbose=2,
        )
    return {
        "test_accuracy": curve[-1]["test_accuracy"],
        "test_loss": curve[-1]["test_loss"],
        "seconds": {"train": round(time.perf_counter() - began, 2)},
        "epochs": curve,
    }


def main() -> None:
    """Read the options, train, print the JSON line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--as-published", action="store_true", help="with the arrays mixed up")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    began = time.perf_counter()
    import keras

    imports = time.perf_counter() - began
    keras.utils.set_random_seed(options.seed)
    result = train(options.epochs, options.as_published)
    result["seconds"]["imports"] = round(imports, 2)
    print(json.dumps({"seed": options.seed, **result, "keras": keras.__version__}))
    sys.stdout.flush()


if __name__ == "__main__":
    main()
