"""Is everything in place to train here? Each finding says what to do about it."""

import dataclasses
import importlib.util
import os
import platform
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fmnist.environment import keras_backend, machine, versions
from fmnist.errors import DataError


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    what: str
    found: str
    ok: bool = True
    advice: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the finding as JSON has it."""
        return dataclasses.asdict(self)


def examine() -> list[Finding]:
    """Look at versions, data, cache, device, threads and extras; nothing is fetched or written."""
    return [*_versions(), *_data(), *_extras(), *_torch()]


def _versions() -> Iterator[Finding]:
    known = versions()
    yield Finding("fmnist", f"{known['fmnist']}, Python {known['python']}, {platform.platform()}")
    facts = machine()
    yield Finding(
        "machine", f"{facts['processor']}, {facts['cores']} cores, {facts['memory_gib']} GiB"
    )


def _data() -> Iterator[Finding]:
    from fmnist.data import load_dataset
    from fmnist.data.cache import cache_folder

    try:
        dataset = load_dataset(fetch=False)
    except DataError as error:
        yield Finding("data set", "cannot be used", False, f"{error}; {_advice_on_data()}")
    else:
        yield Finding("data set", f"verified, {dataset.folder} ({dataset.source})")
    try:
        folder = cache_folder()
    except (DataError, RuntimeError, OSError) as error:
        yield Finding("cache", "nowhere", False, f"{error}; set FMNIST_CACHE")
        return
    nearest = next(parent for parent in (folder, *folder.parents) if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=nearest):
            yield Finding("cache", str(folder))
    except OSError:
        advice = "set FMNIST_CACHE to a folder that you can write"
        yield Finding("cache", f"{folder} cannot be written", False, advice)


def _advice_on_data() -> str:
    if os.environ.get("FMNIST_DATA"):
        return "FMNIST_DATA names that folder: unset it, or name another"
    if os.environ.get("FMNIST_OFFLINE", "") not in ("", "0"):
        return "FMNIST_OFFLINE forbids to fetch it: unset it and run: fmnist data"
    return "to fetch it, run: fmnist data"


def _extras() -> Iterator[Finding]:
    missing = _missing("torch", "safetensors", "sklearn", "matplotlib")
    if missing:
        yield Finding("extra train", f"lacks {missing}", False, "pip install 'fmnist[train]'")
    else:
        yield Finding("extra train", "installed")
    backend = keras_backend()
    missing = _missing("keras", "h5py", backend)
    if missing:
        advice = "only for --engine keras and .keras files: pip install 'fmnist[keras]'"
        yield Finding("extra keras", f"lacks {missing}", True, advice)
    else:
        yield Finding("extra keras", f"Keras {versions()['keras']} on {backend}")
    missing = _missing("fastapi", "httptools", "prometheus_client", "python_multipart", "uvicorn")
    if missing:
        advice = "only for fmnist serve: pip install 'fmnist[serve]'"
        yield Finding("extra serve", f"lacks {missing}", True, advice)
    else:
        yield Finding("extra serve", "installed")


def _missing(*packages: str) -> str:
    """Return which packages cannot be imported, without importing any."""
    return ", ".join(name for name in packages if importlib.util.find_spec(name) is None)


def _torch() -> Iterator[Finding]:
    if importlib.util.find_spec("torch") is None:
        return
    try:
        import torch

        from fmnist.training.device import find_device, physical_cores
    except (ImportError, OSError) as error:
        yield Finding("PyTorch", f"is broken: {error}", False, "install it anew, see README")
        return
    device = find_device()
    known = versions()
    libraries = f"numpy {known['numpy']}, safetensors {known['safetensors']}"
    yield Finding("PyTorch", f"{torch.__version__} on {device.name}; {libraries}")
    yield Finding("threads", f"{physical_cores()}, one for each physical core")
    slow = device.name == "cpu" and device.precision == "float32"
    advice = "nothing is wrong: this processor has no bfloat16, so training is about half as fast"
    yield Finding("precision", device.precision, True, advice if slow else "")
