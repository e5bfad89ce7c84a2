"""The exceptions a user can cause, as one tree.

FmnistError
├── DataError      the data set: missing, damaged, or another one
├── PhotoError     a picture: damaged, or empty
│   ├── PhotoTooLarge      over a limit of bytes or pixels
│   └── UnreadableFormat   not a picture, or of a kind that is not read
├── RunError       a run directory or a recipe: missing, taken, incomplete, failed
│   └── Stopped    a signal stopped the training, whose state is saved
├── ModelError     a network or its weights: do not fit, not finite
└── MissingExtra   an optional dependency is not installed

Each message is one line that says what is wrong, where, and what to do next.
"""


class FmnistError(Exception):
    """Whatever a user can cause and mend; the command line prints it as one line and exits 1."""


class DataError(FmnistError):
    """The data set cannot be had, or is not Fashion-MNIST."""


class PhotoError(FmnistError):
    """A picture cannot be read."""


class PhotoTooLarge(PhotoError):
    """A picture has more bytes or pixels than are allowed."""


class UnreadableFormat(PhotoError):
    """A file is no picture, or one of a kind that is not read."""


class RunError(FmnistError):
    """A recipe or run directory cannot be used, or a training stopped before its end."""


class Stopped(RunError):
    """Signal `signal` stopped the training; what was done so far is saved."""

    def __init__(self, message: str, signal: int) -> None:
        super().__init__(message)
        self.signal = signal


class ModelError(FmnistError):
    """A network or its weights cannot be used."""


class MissingExtra(FmnistError):
    """An optional dependency is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed; run: pip install 'fmnist[{extra}]'")


_EXTRAS = {
    **dict.fromkeys(
        ("torch", "safetensors", "matplotlib", "onnx", "onnxscript", "scipy", "sklearn"), "train"
    ),
    **dict.fromkeys(("keras", "tensorflow", "h5py"), "keras"),
    "captum": "explain",
    "cleanlab": "audit",
    **dict.fromkeys(
        ("fastapi", "httptools", "prometheus_client", "python_multipart", "starlette", "uvicorn"),
        "serve",
    ),
}
_INSTALLED_AS = {
    "sklearn": "scikit-learn",
    "prometheus_client": "prometheus-client",
    "python_multipart": "python-multipart",
}


def missing_extra(error: ModuleNotFoundError) -> MissingExtra | None:
    """Return what to tell the user if the module that was not found comes with an extra."""
    package = (error.name or "").partition(".")[0]
    if package not in _EXTRAS:
        return None
    return MissingExtra(_INSTALLED_AS.get(package, package), _EXTRAS[package])
