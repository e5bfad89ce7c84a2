"""`.keras` files that are not ours, or not whole, are refused, and nothing in them ever runs."""

import io
import json
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from finished import random_network
from fmnist.errors import ModelError
from fmnist.training import keras_file
from fmnist.training.keras_backend import keras
from fmnist.training.keras_file import CONFIG, METADATA, WEIGHTS, keras_bytes, read_model
from fmnist.training.keras_networks import make_twin

KERNEL = "layers/conv2d/vars/0"


@pytest.fixture(scope="module")
def whole() -> dict[str, bytes]:
    """The members of a sound file of `classic`."""
    model = make_twin("classic", random_network("classic").state_dict())
    with zipfile.ZipFile(io.BytesIO(keras_bytes(model))) as file:
        return {name: file.read(name) for name in file.namelist()}


def packed(members: dict[str, bytes], how: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", how) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return buffer.getvalue()


def refused(content: bytes, folder: Path, reason: str) -> None:
    path = folder / "model.keras"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=rf"model\.keras is refused: .*{reason}") as told:
        read_model(path, "classic")
    assert "\n" not in str(told.value)


def test_a_sound_file_gives_its_weights(whole: dict[str, bytes], tmp_path: Path) -> None:
    (tmp_path / "model.keras").write_bytes(packed(whole, zipfile.ZIP_DEFLATED))
    model = read_model(tmp_path / "model.keras", "classic")
    expected = make_twin("classic", random_network("classic").state_dict())
    for ours, theirs in zip(model.weights, expected.weights, strict=True):
        assert np.array_equal(ours.numpy(), theirs.numpy())


def test_the_file_of_another_network_is_refused(tmp_path: Path) -> None:
    refused(keras_bytes(make_twin("runner")), tmp_path, "not that of our network classic")


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: b"garbage" * 1000,
        lambda content: content[: len(content) // 2],
        lambda content: content[:-30],
        lambda content: content[:100_000] + bytes([content[100_000] ^ 1]) + content[100_001:],
    ],
    ids=["empty", "garbage", "half", "without-its-end", "one-bit"],
)
def test_damaged_bytes_are_refused(
    whole: dict[str, bytes], tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    refused(damage(packed(whole)), tmp_path, "no whole .keras file")


def test_an_h5_file_by_another_name_is_refused(whole: dict[str, bytes], tmp_path: Path) -> None:
    refused(whole[WEIGHTS], tmp_path, "no whole .keras file")


@pytest.mark.parametrize("name", ["../evil", "/evil", "assets/evil.bin", "lib.so"])
def test_more_members_are_refused(whole: dict[str, bytes], tmp_path: Path, name: str) -> None:
    refused(packed({**whole, name: b"evil"}), tmp_path, "does not hold exactly config.json")


def test_fewer_or_doubled_members_are_refused(whole: dict[str, bytes], tmp_path: Path) -> None:
    refused(packed({CONFIG: whole[CONFIG], WEIGHTS: whole[WEIGHTS]}), tmp_path, "exactly")
    buffer = io.BytesIO(packed(whole))
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "a") as file:
        warnings.simplefilter("ignore")  # zipfile's, that this is what we do
        file.writestr(CONFIG, whole[CONFIG])
    refused(buffer.getvalue(), tmp_path, "exactly")


def test_members_that_unpack_to_too_much_are_refused(
    whole: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bomb = packed({**whole, METADATA: bytes(10**6)}, zipfile.ZIP_DEFLATED)
    refused(bomb, tmp_path, "metadata.json unpacks to 1,000,000 bytes")
    monkeypatch.setattr(keras_file, "MOST_BYTES", len(whole[WEIGHTS]) - 1)
    with pytest.raises(keras_file._Refused, match=r"model\.weights\.h5 unpacks to"):
        keras_file._members(packed(whole))


def layer(config: Any, name: str) -> Any:
    return next(layer for layer in config["config"]["layers"] if layer["name"] == name)


@pytest.mark.parametrize(
    "change",
    [
        lambda c: layer(c, "conv2").update(module="os", class_name="system"),
        lambda c: layer(c, "conv2").update(class_name="Lambda"),
        lambda c: layer(c, "conv2").update(registered_name="evil>Conv2D"),
        lambda c: layer(c, "conv2").update(name="../../conv2"),
        lambda c: layer(c, "conv2")["config"].update(activation="sigmoid"),
        lambda c: layer(c, "conv2")["config"].update(filters=33),
        lambda c: layer(c, "conv2")["config"].update(
            kernel_initializer={"module": "builtins", "class_name": "eval", "config": {}}
        ),
        lambda c: layer(c, "conv2").update(code={"class_name": "__lambda__"}),
        lambda c: c["compile_config"].update(loss={"module": "os", "class_name": "abort"}),
        lambda c: c["config"]["layers"].append(c["config"]["layers"][-1]),
        lambda c: c["config"]["layers"].pop(),
        lambda c: c["config"].update(output_layers=["dense1", 0, 0]),
        lambda c: c.update(class_name="Sequential"),
    ],
)
def test_another_structure_is_refused(
    whole: dict[str, bytes], tmp_path: Path, change: Callable[[Any], object]
) -> None:
    config = json.loads(whole[CONFIG])
    change(config)
    content = packed({**whole, CONFIG: json.dumps(config).encode()})
    refused(content, tmp_path, "config.json is not that of our network")


def test_an_option_of_another_release_of_keras_is_no_other_structure(
    whole: dict[str, bytes], tmp_path: Path
) -> None:
    config = json.loads(whole[CONFIG])
    layer(config, "conv2")["config"]["some_new_option"] = None
    del layer(config, "conv2")["config"]["groups"]
    path = tmp_path / "model.keras"
    path.write_bytes(packed({**whole, CONFIG: json.dumps(config).encode()}))
    assert read_model(path, "classic").name == "classic"


@pytest.mark.parametrize("text", [b"", b"{", b"\xff", b"null", b"[" * 10**6, b"3"])
def test_a_config_that_is_none_is_refused(
    whole: dict[str, bytes], tmp_path: Path, text: bytes
) -> None:
    refused(packed({**whole, CONFIG: text}), tmp_path, "config.json is")


def test_code_in_a_lambda_layer_never_runs(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    image = keras.layers.Input((28, 28, 1), name="image")
    path = str(canary)
    evil = keras.layers.Lambda(
        lambda x: (__import__("os").makedirs(path, exist_ok=True), x)[1], name="conv1"
    )
    content = keras_bytes(keras.Model(image, evil(image), name="classic"))
    canary.rmdir()
    (tmp_path / "evil.keras").write_bytes(content)
    keras.saving.load_model(tmp_path / "evil.keras", safe_mode=False)
    assert canary.exists()  # the file is as evil as it is meant to be
    canary.rmdir()
    refused(content, tmp_path, "config.json is not that of our network")
    assert not canary.exists()


def external_link(file: h5py.File) -> None:
    del file[KERNEL]
    file[KERNEL] = h5py.ExternalLink("other.h5", "/secret")


def soft_link(file: h5py.File) -> None:
    del file[KERNEL]
    file[KERNEL] = h5py.SoftLink("/layers/conv2d_1/vars/0")


def loop(file: h5py.File) -> None:
    file["layers/conv2d/again"] = file["layers"]


def replaced(file: h5py.File, **options: Any) -> None:
    values = file[KERNEL][()]
    del file[KERNEL]
    file.create_dataset(KERNEL, **{"data": values, **options})


def outside(file: h5py.File) -> None:
    del file[KERNEL]
    file.create_dataset(KERNEL, (3, 3, 1, 32), "<f4", external=[("/etc/passwd", 0, 1152)])


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((3, 3, 1, 32), "<f4")
    layout[...] = h5py.VirtualSource("other.h5", "secret", (3, 3, 1, 32))
    del file[KERNEL]
    file.create_virtual_dataset(KERNEL, layout)


def not_finite(file: h5py.File) -> None:
    file[KERNEL][0, 0, 0, 0] = np.nan


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (external_link, "soft or external link"),
        (soft_link, "soft or external link"),
        (loop, "holds more than this network's weights"),
        (lambda file: file.create_group("layers/lambda"), "holds more than"),
        (lambda file: file.create_dataset("layers/x", data=[1.0]), "holds more than"),
        (lambda file: file.__delitem__(KERNEL), f"lacks {KERNEL}"),
        (lambda file: file.__delitem__("layers/flatten"), "lacks layers/flatten"),
        (lambda file: replaced(file, data=np.zeros((3, 3, 1, 33), "f4")), "not float32 of shape"),
        (lambda file: replaced(file, dtype="f8"), "not float32 of shape"),
        (lambda file: replaced(file, chunks=True, compression="gzip"), "not stored plainly"),
        (outside, "not stored plainly"),
        (virtual, "not stored plainly"),
        (not_finite, "not finite"),
    ],
)
def test_weights_that_are_not_plain_arrays_are_refused(
    whole: dict[str, bytes], tmp_path: Path, change: Callable[[Any], object], reason: str
) -> None:
    buffer = io.BytesIO(whole[WEIGHTS])
    with h5py.File(buffer, "r+") as file:
        change(file)
    refused(packed({**whole, WEIGHTS: buffer.getvalue()}), tmp_path, reason)


@pytest.mark.parametrize("content", [b"", b"\x89HDF\r\n\x1a\n" + bytes(900), b"no HDF5"])
def test_weights_that_are_no_hdf5_are_refused(
    whole: dict[str, bytes], tmp_path: Path, content: bytes
) -> None:
    refused(packed({**whole, WEIGHTS: content}), tmp_path, "model.weights.h5 is damaged")
