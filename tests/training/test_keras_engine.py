"""The Keras engine: it trains as the torch engine does, records, refuses, stops and goes on."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import garments as synthetic
from finished import random_network
from fmnist.data import Dataset
from fmnist.errors import ModelError, RunError, Stopped
from fmnist.models import make_network
from fmnist.recipes import CLASSIC, STANDARD, Adam, Augmentation, Pruning, Recipe
from fmnist.runs import Run
from fmnist.training import Progress, train
from fmnist.training.batches import Batches
from fmnist.training.checkpoint import Checkpoint
from fmnist.training.device import Device
from fmnist.training.keras_engine import KerasState, _Feed
from fmnist.training.state import State
from fmnist.training.trained import load_network
from tiny import TINY

TESTS = Path(__file__).parents[1]
CPU = Device("cpu", "float32")
SMALL = Recipe(
    name="small",
    network="classic",
    epochs=2,
    batch_size=64,  # 7 steps an epoch, the last of them smaller
    optimizer=Adam(learning_rate=3e-3),
    source="tests",
    schedule="linear",
    warmup=0.2,
    label_smoothing=0.1,
    augmentation=Augmentation(flip=True, shift=1),
    flip_at_test=True,
)
MEASURES = ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy")


@pytest.fixture(scope="module")
def whole(garments_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A training that was never stopped; not to be changed."""
    from fmnist.data import load_dataset
    from fmnist.data.official import OFFICIAL

    with pytest.MonkeyPatch.context() as patch:
        synthetic.accept(garments_dir, lambda name, file: patch.setitem(OFFICIAL, name, file))
        data = load_dataset(garments_dir)
        out = tmp_path_factory.mktemp("whole") / "run"
        return train(SMALL, data, seed=5, engine="keras", out=out)


def weights(run: Run) -> dict[str, torch.Tensor]:
    return load_network(run).state_dict()


def same_weights(run: Run, other: Run) -> bool:
    ours, theirs = weights(run), weights(other)
    return all(torch.equal(ours[name], theirs[name]) for name in ours)


def stop_at(step: int, number: int = signal.SIGINT) -> Any:
    def watch(progress: Progress) -> None:
        if progress.step == step and not progress.epoch_ended:
            os.kill(os.getpid(), number)

    return watch


@pytest.mark.parametrize("name", ["classic", "sprinter"])
def test_its_steps_are_those_of_the_torch_engine(name: str, garments: Dataset) -> None:
    recipe = dataclasses.replace(SMALL, network=name, optimizer=Adam(1e-3, epsilon=1e-12))
    split = garments.split("train")
    batches = Batches(split.images, split.labels, recipe, torch.device("cpu"))
    network = random_network(name)
    theirs = KerasState(network, recipe, 14, len(split), CPU)
    ours = State(network, recipe, 14, len(split), CPU)
    feed = _Feed(batches, seed=0, epoch=1, first=0)
    for number, batch in zip(range(4), batches.epoch(0, 1, ours.losses[1]), strict=False):
        ours.advance(batch)
        theirs.set_rate()
        theirs.learner.train_on_batch(*feed[number])
        theirs.step += 1
        assert theirs.learning_rate == ours.learning_rate
    images = garments.split("validation").images
    before = State(random_network(name), recipe, 14, len(split), CPU).ask(images)
    moved = np.abs(ours.ask(images) - before).max()
    assert np.abs(theirs.ask(images) - ours.ask(images)).max() < 0.05 * moved


def test_it_is_fed_with_the_batches_of_the_torch_engine(garments: Dataset) -> None:
    split = garments.split("train")
    batches = Batches(split.images, split.labels, SMALL, torch.device("cpu"))
    expected = list(batches.epoch(3, 1, torch.zeros(len(split))))[2:]
    feed = _Feed(batches, seed=3, epoch=1, first=2)
    assert len(feed) == len(expected) == 5
    for number in (0, 1, 0, 1, 2, 3, 4):  # Keras looks at the first two before it begins
        x, y = feed[number]
        assert np.array_equal(x[..., 0], expected[number].x[:, 0].numpy())
        assert x.shape[1:] == (28, 28, 1)
        assert x.dtype == y.dtype == np.float32
        assert np.array_equal(y.argmax(1), expected[number].y.numpy())
        assert (y.sum(1) == 1).all()


def test_run_json_says_what_was_run(whole: Run) -> None:
    facts = whole.read()
    assert (facts["engine"], facts["state"], facts["seed"]) == ("keras", "finished", 5)
    assert (facts["device"], facts["precision"]) == ("cpu", "float32")
    assert facts["recipe"] == SMALL.to_json()
    assert facts["parameters"] == 467_626
    assert facts["steps"] == 14
    assert facts["versions"]["keras"].startswith("3.")
    assert facts["versions"]["keras_backend"] == "tensorflow"
    assert facts["versions"]["tensorflow"]
    assert facts["seconds"].keys() == {"setup", "train", "checkpoint", "validation", "total"}
    assert sorted(os.listdir(whole.folder)) == ["history.jsonl", "model.keras", "run.json"]


def test_it_learns_and_its_history_is_that_of_a_torch_run(
    whole: Run, garments: Dataset, tmp_path: Path
) -> None:
    history = whole.read_history()
    assert history[1]["train_loss"] < history[0]["train_loss"]
    assert history[1]["validation_accuracy"] >= 0.6
    assert (440 * history[0]["train_accuracy"]).is_integer()
    other = dataclasses.replace(SMALL, epochs=1, batch_size=400)
    torch_run = train(other, garments, out=tmp_path / "run", device="cpu")
    assert torch_run.read_history()[0].keys() == history[0].keys()
    assert torch_run.read().keys() == whole.read().keys()


def test_progress_counts_up_to_the_end(garments: Dataset, tmp_path: Path) -> None:
    shown: list[Progress] = []
    recipe = dataclasses.replace(SMALL, batch_size=128)
    train(recipe, garments, engine="keras", all_data=True, out=tmp_path / "r", watch=shown.append)
    steps = [progress.step for progress in shown if not progress.epoch_ended]
    assert steps == list(range(1, 9))  # 480 garments in batches of 128
    ends = [progress for progress in shown if progress.epoch_ended]
    assert [(end.epoch, end.validation_accuracy) for end in ends] == [(1, None), (2, None)]
    assert all(0 <= p.accuracy <= 1 and p.images_per_second > 0 for p in shown)


@pytest.mark.parametrize(
    ("step", "number"), [(3, signal.SIGINT), (7, signal.SIGTERM), (11, signal.SIGTERM)]
)
def test_a_signal_saves_and_the_resumed_run_is_the_same(
    step: int, number: int, whole: Run, garments: Dataset, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with pytest.raises(Stopped, match=rf"step {step} of 14.*go on with: fmnist") as stopped:
        train(SMALL, garments, seed=5, engine="keras", out=out, watch=stop_at(step, number))
    assert stopped.value.signal == number
    assert not (out / "model.keras").exists()
    resumed = train(SMALL, garments, resume=out)  # which knows its engine
    assert same_weights(resumed, whole)
    assert (resumed.read()["engine"], resumed.read()["resumed"]) == ("keras", 1)
    for line, other in zip(whole.read_history(), resumed.read_history(), strict=True):
        assert [line[m] for m in MEASURES] == [other[m] for m in MEASURES]
    assert not resumed.checkpoints.exists()


def test_a_stopped_run_goes_on_with_its_own_engine_only(garments: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(Stopped):
        train(SMALL, garments, engine="keras", out=out, watch=stop_at(1))
    with pytest.raises(RunError, match="started with the engine keras and can only go on with it"):
        train(SMALL, garments, resume=out, engine="torch")


def test_a_loss_that_is_no_number_stops_within_a_step(garments: Dataset, tmp_path: Path) -> None:
    wild = dataclasses.replace(SMALL, optimizer=Adam(1e30), schedule="constant", warmup=0.0)
    with pytest.raises(RunError, match=r"not finite at step \d of 14 \(learning rate 1e\+30\)"):
        train(wild, garments, engine="keras", out=tmp_path / "run", checkpoint_seconds=0)
    assert not (tmp_path / "run" / "model.keras").exists()


def test_the_checkpoint_of_another_network_is_refused() -> None:
    state = KerasState(make_network("classic"), SMALL, 1, 1, CPU)
    packed = state.pack()
    assert packed.tensors.keys() > {"network.0", "optimizer.0", "metric.0"}
    with pytest.raises(ModelError, match="not of this recipe's network"):
        state.unpack(Checkpoint({"network.0": torch.zeros(3)}, packed.values))


@pytest.mark.parametrize(
    ("recipe", "reason"),
    [
        (
            STANDARD,
            r"its optimizer is Muon, not Adam; its pruning .*; its averaging is 0.99, not 0\.",
        ),
        (TINY, r"its network tiny:Tiny is not one of classic, runner, .*; its optimizer"),
        (dataclasses.replace(CLASSIC, pruning=Pruning(0.5, 0.5)), "classic: its pruning is not"),
        (dataclasses.replace(CLASSIC, network="os:abort"), "its network os:abort is not one of"),
    ],
)
def test_a_recipe_that_it_cannot_follow_is_refused(
    recipe: Recipe, reason: str, garments: Dataset, tmp_path: Path
) -> None:
    with pytest.raises(RunError, match=reason) as told:
        train(recipe, garments, engine="keras", out=tmp_path / "run")
    assert "--engine torch" in str(told.value)
    assert "dataclasses.replace" in str(told.value)
    assert not (tmp_path / "run").exists()


def test_another_device_or_engine_is_refused(garments: Dataset, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="Keras computes on cpu here, not on mps; leave out"):
        train(SMALL, garments, engine="keras", device="mps", out=tmp_path / "run")
    with pytest.raises(RunError, match="there is no engine 'abacus'; use torch or keras"):
        train(SMALL, garments, engine="abacus", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


# processes of their own: another backend, and what a terminal shows

TRAIN = """
import dataclasses, sys
from pathlib import Path
import garments
from fmnist.cli import main
from fmnist.recipes import RECIPES
garments.accept(Path(sys.argv.pop(1)))
RECIPES["classic"] = dataclasses.replace(RECIPES["classic"], epochs=1)
main()
"""


def in_its_own_process(
    folder: Path, cwd: Path, *arguments: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("TF_", "KERAS_"))}
    return subprocess.run(
        [sys.executable, "-c", TRAIN, str(folder), *arguments],
        capture_output=True,
        text=True,
        timeout=200,
        cwd=cwd,
        env={**environment, "FMNIST_DATA": str(folder), "PYTHONPATH": str(TESTS), **variables},
    )


def test_nothing_but_the_result_is_printed(garments_dir: Path, tmp_path: Path) -> None:
    command = ["train", "classic", "--engine", "keras", "--json", "--quiet"]
    done = in_its_own_process(garments_dir, tmp_path, *command)
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert told["engine"] == "keras"
    assert told["test"]["accuracy"] > 0.2
    assert Path(tmp_path, told["report"]).is_file()


def test_another_backend_trains_too(garments_dir: Path, tmp_path: Path) -> None:
    command = ["train", "classic", "--engine", "keras", "--json", "--quiet", "--out", "run"]
    done = in_its_own_process(garments_dir, tmp_path, *command, KERAS_BACKEND="torch")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["test"]["accuracy"] > 0.2
    facts = json.loads((tmp_path / "run" / "run.json").read_bytes())
    assert facts["versions"]["keras_backend"] == "torch"


@pytest.mark.parametrize(
    ("backend", "said"),
    [
        ("abacus", "fmnist: Keras has no backend abacus; unset KERAS_BACKEND\n"),
        ("jax", "fmnist: Keras' backend jax is not installed; unset KERAS_BACKEND\n"),
    ],
)
def test_a_backend_that_is_not_there_is_one_line(
    backend: str, said: str, garments_dir: Path, tmp_path: Path
) -> None:
    command = ["train", "classic", "--engine", "keras"]
    done = in_its_own_process(garments_dir, tmp_path, *command, KERAS_BACKEND=backend)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", said)
    assert not (tmp_path / "runs").exists()
