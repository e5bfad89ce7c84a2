import pytest

from fmnist import errors
from fmnist.errors import (
    DataError,
    FmnistError,
    MissingExtra,
    ModelError,
    RunError,
    Stopped,
    missing_extra,
)


@pytest.mark.parametrize("kind", [DataError, RunError, ModelError, MissingExtra, Stopped])
def test_whatever_a_user_can_cause_is_an_fmnist_error(kind: type[Exception]) -> None:
    assert issubclass(kind, FmnistError)
    assert kind.__name__ in (errors.__doc__ or "")


def test_stopped_is_a_run_error_that_knows_its_signal() -> None:
    error = Stopped("stopped at step 3", 15)
    assert isinstance(error, RunError)
    assert (str(error), error.signal) == ("stopped at step 3", 15)


def test_a_missing_extra_says_how_to_get_it() -> None:
    told = missing_extra(ModuleNotFoundError("No module", name="torch.nn.functional"))
    assert isinstance(told, MissingExtra)
    assert str(told) == "torch is not installed; run: pip install 'fmnist[train]'"


def test_a_missing_extra_has_the_name_that_is_installed() -> None:
    told = missing_extra(ModuleNotFoundError("No module", name="sklearn.base"))
    assert str(told) == "scikit-learn is not installed; run: pip install 'fmnist[train]'"


def test_keras_comes_with_an_extra_of_its_own() -> None:
    for name in ("keras", "tensorflow.python", "h5py"):
        told = missing_extra(ModuleNotFoundError("No module", name=name))
        assert str(told).endswith("is not installed; run: pip install 'fmnist[keras]'")


def test_a_server_comes_with_an_extra_of_its_own() -> None:
    for name in ("fastapi.routing", "httptools", "starlette", "uvicorn"):
        told = missing_extra(ModuleNotFoundError("No module", name=name))
        assert str(told).endswith("is not installed; run: pip install 'fmnist[serve]'")
    told = missing_extra(ModuleNotFoundError("No module", name="prometheus_client.parser"))
    assert str(told).startswith("prometheus-client is not installed")


@pytest.mark.parametrize("name", [None, "", "numpy", "torchvision", "fmnist.training"])
def test_a_module_of_no_extra_is_not_explained_away(name: str | None) -> None:
    assert missing_extra(ModuleNotFoundError("No module", name=name)) is None
