"""`.keras` files: written whole, and read as data only.

Keras' own loader runs what a file asks it to. Here a file is never handed to it: the network is
built from our code, config.json is only compared with what our network would say, and from
model.weights.h5 nothing is taken but plain arrays of the names and shapes that we expect.
"""

import io
import json
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import h5py
import numpy as np
from numpy.typing import NDArray

from fmnist.errors import ModelError
from fmnist.training.keras_backend import without_notices
from fmnist.training.keras_networks import make_twin

CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
MOST_BYTES = 64 * 2**20  # unpacked; our largest network has under 3 MiB
MOST_RATIO = 100  # unpacked to packed

Arrays: TypeAlias = dict[str, NDArray[np.float32]]


def keras_bytes(model: Any) -> bytes:
    """Return a model as the content of a `.keras` file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        with without_notices():  # Keras looks for TensorFlow here, on any backend
            model.save(path)
        return path.read_bytes()


def read_model(path: Path, network: str) -> Any:
    """Return the Keras model of our network `network` with the weights of the `.keras` file.

    Raises ModelError if the file holds anything but such a network and finite weights.
    """
    model = make_twin(network)
    own = _members(keras_bytes(model))
    try:
        members = _members(path.read_bytes())
        if not _agree(_json(members[CONFIG]), _json(own[CONFIG])):
            raise _Refused(f"its {CONFIG} is not that of our network {network}")
        arrays = _arrays(members[WEIGHTS], _objects(own[WEIGHTS]))
    except _Refused as error:
        raise ModelError(f"{path} is refused: {error}; train again") from error
    _set_weights(model, own[WEIGHTS], arrays)
    return model


class _Refused(Exception):
    """What is wrong with a file."""


def _members(content: bytes) -> dict[str, bytes]:
    """Return the three members of a `.keras` file, none of them larger than it may be."""
    expected = sorted((CONFIG, METADATA, WEIGHTS))
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as file:
            if sorted(file.namelist()) != expected:
                raise _Refused(f"it does not hold exactly {', '.join(expected)}")
            for member in file.infolist():
                if member.file_size > min(MOST_BYTES, MOST_RATIO * max(member.compress_size, 1)):
                    raise _Refused(f"its {member.filename} unpacks to {member.file_size:,} bytes")
            return {name: file.read(name) for name in expected}
    except _Refused:
        raise
    except Exception as error:  # zipfile raises a dozen kinds at damaged bytes
        raise _Refused(f"it is no whole .keras file ({type(error).__name__})") from error


def _json(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise _Refused(f"its {CONFIG} is damaged ({type(error).__name__})") from error


def _agree(said: Any, own: Any) -> bool:
    """Tell whether two configurations are of the same layers in the same order.

    Releases of Keras add options to layers: a plain value that only one side knows may differ.
    """
    if isinstance(said, dict) and isinstance(own, dict):
        names = (said.keys() | own.keys()) - {"shared_object_id"}  # an address in memory
        return all(
            _agree(said[name], own[name])
            if name in said and name in own
            else _is_plain(said.get(name, own.get(name)))
            for name in names
        )
    if isinstance(said, list) and isinstance(own, list):
        return len(said) == len(own) and all(map(_agree, said, own))
    return type(said) is type(own) and bool(said == own)


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, (bool, int, float))


def _objects(content: bytes) -> dict[str, tuple[int, ...] | None]:
    """Return what our own HDF5 file holds: the shape of each array, None for a group."""
    found: dict[str, tuple[int, ...] | None] = {}
    with h5py.File(io.BytesIO(content), "r") as file:
        file.visititems(lambda path, thing: found.update({path: getattr(thing, "shape", None)}))
    return found


def _arrays(content: bytes, expected: Mapping[str, tuple[int, ...] | None]) -> Arrays:
    """Return the arrays of an HDF5 file that holds exactly the expected objects."""
    arrays, seen = {}, set()
    try:
        with h5py.File(io.BytesIO(content), "r") as file:
            for path, thing in _walk(file, "", expected):
                seen.add(path)
                if isinstance(thing, h5py.Dataset):
                    arrays[path] = _values(path, thing, expected[path])
    except _Refused:
        raise
    except Exception as error:  # h5py raises a dozen kinds at damaged bytes
        raise _Refused(f"its {WEIGHTS} is damaged ({type(error).__name__})") from error
    if seen != expected.keys():
        raise _Refused(f"its {WEIGHTS} lacks {min(expected.keys() - seen)}")
    return arrays


def _walk(group: Any, prefix: str, expected: Mapping[str, object]) -> Iterator[tuple[str, Any]]:
    """Yield every object by its path; no link is followed that is not a plain one to a known name.

    So neither a loop of links nor another file is ever entered.
    """
    for name in group:
        path = f"{prefix}{name}"
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise _Refused(f"its {WEIGHTS} has a soft or external link")
        if path not in expected:
            raise _Refused(f"its {WEIGHTS} holds more than this network's weights")
        thing = group[name]
        yield path, thing
        if isinstance(thing, h5py.Group):
            yield from _walk(thing, f"{path}/", expected)


def _values(path: str, array: Any, shape: tuple[int, ...] | None) -> NDArray[np.float32]:
    """Return a dataset that lies as it is inside the file: nothing packed, virtual or outside."""
    made = array.id.get_create_plist()
    is_inside = made.get_layout() in (h5py.h5d.CONTIGUOUS, h5py.h5d.COMPACT)
    if array.dtype != np.dtype("<f4") or array.shape != shape:
        raise _Refused(f"its {path} is not float32 of shape {shape}")
    if not is_inside or made.get_external_count() or made.get_nfilters():
        raise _Refused(f"its {path} is not stored plainly")
    values: NDArray[np.float32] = array[()]
    if not np.isfinite(values).all():
        raise _Refused(f"its {path} holds values that are not finite")
    return values


def _set_weights(model: Any, own: bytes, arrays: Arrays) -> None:
    """Load checked arrays through a weights file that we wrote ourselves."""
    buffer = io.BytesIO(own)
    with h5py.File(buffer, "r+") as file:
        for path, values in arrays.items():
            file[path][...] = values
    with tempfile.TemporaryDirectory() as folder:
        clean = Path(folder) / WEIGHTS
        clean.write_bytes(buffer.getvalue())
        model.load_weights(clean)
