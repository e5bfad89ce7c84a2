"""The one door to Keras: imported without TensorFlow's notices, on a backend that is there."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

from fmnist.environment import keras_backend, physical_cores
from fmnist.errors import RunError

# Lines that TensorFlow writes before it looks at TF_CPP_MIN_LOG_LEVEL.
_NOTICES = (b"All log messages before absl::InitializeLog()", b"oneDNN custom operations are on")


def _import_keras() -> Any:
    """Import Keras; RunError if the backend that the user chose is not there."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # errors only
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", str(physical_cores()))
    backend = keras_backend()
    try:
        with without_notices():
            import keras
    except ModuleNotFoundError as error:
        if error.name != backend or backend == "tensorflow":
            raise
        raise RunError(f"Keras' backend {backend} is not installed; unset KERAS_BACKEND") from error
    except ValueError as error:
        raise RunError(f"Keras has no backend {backend}; unset KERAS_BACKEND") from error
    return keras


@contextlib.contextmanager
def without_notices() -> Iterator[None]:
    """Hold back what is written to stderr inside the block, then pass it on without _NOTICES.

    For blocks that may import TensorFlow. Who lowers TF_CPP_MIN_LOG_LEVEL wants to see them.
    """
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL") in ("0", "1"):
        yield
        return
    try:
        stderr = os.dup(2)
    except OSError:  # there is none
        yield
        return
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)
            held.seek(0)
            for line in held:
                if not any(notice in line for notice in _NOTICES):
                    os.write(2, line)


keras = _import_keras()


def check_device(wanted: str) -> str:
    """Return where Keras computes: "cpu", "cuda" or "mps"; RunError where another is wanted."""
    used = _device_in_use()
    if wanted not in ("auto", used):
        raise RunError(
            f"Keras computes on {used} here, not on {wanted}; leave out --device (to keep Keras "
            "off a GPU, set CUDA_VISIBLE_DEVICES to nothing)"
        )
    return used


def _device_in_use() -> str:
    tensor = keras.ops.convert_to_tensor([0.0])
    where = str(getattr(tensor, "device", "cpu")).lower()
    if "cuda" in where or "gpu" in where:
        return "cuda"
    return "mps" if "mps" in where else "cpu"


def make_repeatable() -> None:
    """Have TensorFlow take no kernel whose sums depend on the order in which threads finish."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow

        tensorflow.config.experimental.enable_op_determinism()
