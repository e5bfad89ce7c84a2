"""One small training, judged again and again on copies of its run directory."""

import shutil
from pathlib import Path

import pytest

import garments as synthetic
from fmnist.data import Dataset, load_dataset
from fmnist.data.official import OFFICIAL
from fmnist.models import NETWORKS
from fmnist.recipes import Adam, Augmentation, Recipe
from fmnist.runs import Run, open_run
from fmnist.training import train
from tiny import Tiny

SMALL = Recipe(
    name="small",
    network="tiny",
    epochs=1,
    batch_size=32,
    optimizer=Adam(learning_rate=3e-3),
    source="tests",
    augmentation=Augmentation(flip=True),
    flip_at_test=True,
)


@pytest.fixture(autouse=True)
def tiny_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiny counts as a network of fmnist's own, which needs no leave to run its code."""
    monkeypatch.setitem(NETWORKS, "tiny", Tiny)


@pytest.fixture(scope="session")
def data(garments_dir: Path) -> Dataset:
    """The synthetic data set, for fixtures that outlive a test."""
    with pytest.MonkeyPatch.context() as patch:
        synthetic.accept(garments_dir, lambda name, file: patch.setitem(OFFICIAL, name, file))
        return load_dataset(garments_dir)


@pytest.fixture(scope="session")
def recipe() -> Recipe:
    """A recipe on a network of fmnist's own, with a test-time flip."""
    return SMALL


@pytest.fixture(scope="session")
def trained(data: Dataset, recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a finished training that was never judged; not to be changed."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(NETWORKS, "tiny", Tiny)
        train(recipe, data, seed=3, out=folder, device="cpu")
    return folder


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Run:
    """The test's own copy of the finished training."""
    shutil.copytree(trained, tmp_path / "run")
    return open_run(tmp_path / "run")


@pytest.fixture
def run_on_all(run: Run) -> Run:
    """The same, as if it had been trained on all images."""
    run.write({**run.read(), "all_data": True})
    return run
