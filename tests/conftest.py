"""Fixtures of all tests: nobody's own cache is touched, and most data is synthetic."""

import os

os.environ["CUDA_VISIBLE_DEVICES"] = ""  # the tests are of the CPU, whatever else there is

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from platformdirs import user_cache_dir

import garments as synthetic
from fmnist.data import Dataset, load_dataset
from fmnist.data.official import OFFICIAL

# How long an example takes is a matter of what else the machine does.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")

VARIABLES = ("FMNIST_DATA", "FMNIST_CACHE", "FMNIST_OFFLINE", "KERAS_HOME", "XDG_CACHE_HOME")


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A new empty home and cache for each test, and no network but where a test asks for it."""
    home = tmp_path_factory.mktemp("home")
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("FMNIST_CACHE", str(home / "cache"))
    monkeypatch.setenv("FMNIST_OFFLINE", "1")
    return home


@pytest.fixture(scope="session")
def garments_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the four plain IDX files of the synthetic garments; not to be changed."""
    folder = tmp_path_factory.mktemp("garments")
    synthetic.write(folder)
    return folder


@pytest.fixture
def accepted(garments_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The garments' folder, whose files this process takes for the official ones."""
    synthetic.accept(garments_dir, lambda name, file: monkeypatch.setitem(OFFICIAL, name, file))
    return garments_dir


@pytest.fixture
def garments(accepted: Path, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """The synthetic data set; FMNIST_DATA names its folder, so `load_dataset()` finds it."""
    monkeypatch.setenv("FMNIST_DATA", str(accepted))
    return load_dataset()


@pytest.fixture(scope="session")
def real_data() -> Dataset:
    """The real data set through the product's own code, in a cache that is kept between runs.

    FMNIST_TEST_CACHE names it. Several runs may share it, as several users of one cache do.
    """
    root = os.environ.get("FMNIST_TEST_CACHE") or user_cache_dir("fmnist-tests", appauthor=False)
    with pytest.MonkeyPatch.context() as patch:
        for variable in VARIABLES:
            patch.delenv(variable, raising=False)
        patch.setenv("FMNIST_CACHE", root)
        return load_dataset()
