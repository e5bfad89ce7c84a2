"""Training: it learns, it records, it refuses, it stops."""

import dataclasses
import errno
import json
import logging
import os
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fmnist.data import Dataset
from fmnist.errors import DataError, RunError, Stopped
from fmnist.files import try_lock
from fmnist.models import make_network
from fmnist.recipes import RECIPES, Adam
from fmnist.training import Progress, train
from fmnist.training.checkpoint import load_checkpoint
from fmnist.training.device import find_device
from fmnist.training.inference import infer
from tiny import TINY, Broken

BROKEN = dataclasses.replace(
    TINY,
    name="broken",
    network=Broken,
    optimizer=Adam(),
    schedule="constant",
    warmup=0.0,
    epochs=1,
)


def test_a_small_network_learns_the_garments(garments: Dataset, tmp_path: Path) -> None:
    recipe = dataclasses.replace(TINY, epochs=12)
    run = train(recipe, garments, out=tmp_path / "run")
    history = run.read_history()
    assert history[-1]["validation_accuracy"] >= 0.9
    assert history[-1]["train_loss"] < history[0]["train_loss"]
    assert [line["epoch"] for line in history] == list(range(1, 13))


def test_run_json_says_what_was_run(garments: Dataset, tmp_path: Path) -> None:
    run = train(TINY, garments, seed=5, out=tmp_path / "run", device="cpu")
    facts = run.read()
    assert facts["recipe"] == TINY.to_json()
    assert facts["recipe"]["network"] == "tiny:Tiny"
    assert facts["recipe"]["optimizer"]["name"] == "Muon"
    assert (facts["seed"], facts["engine"], facts["state"]) == (5, "torch", "finished")
    assert facts["data"]["sha256"] == garments.sha256
    assert facts["parameters"] == sum(
        value.numel()
        for name, value in load_file(run.weights).items()
        if not name.endswith(("running_mean", "running_var", "num_batches_tracked"))
    )
    assert (
        facts["versions"]["torch"] == torch.__version__.partition("+")[0]
        or facts["versions"]["torch"] == torch.__version__
    )
    spent = facts["seconds"]
    assert spent["total"] == pytest.approx(
        sum(value for phase, value in spent.items() if phase != "total")
    )
    assert spent["train"] > 0
    assert not run.checkpoints.exists()
    json.dumps(facts, allow_nan=False)


def test_all_data_trains_on_validation_too(garments: Dataset, tmp_path: Path) -> None:
    shown: list[Progress] = []
    recipe = dataclasses.replace(TINY, epochs=1)
    run = train(recipe, garments, all_data=True, out=tmp_path / "run", watch=shown.append)
    assert shown[-1].steps == 15  # 480 garments in batches of 32
    assert run.read_history()[0]["validation_accuracy"] is None


def test_progress_counts_up_to_the_end(garments: Dataset, tmp_path: Path) -> None:
    shown: list[Progress] = []
    train(TINY, garments, out=tmp_path / "run", watch=shown.append)
    steps = [progress.step for progress in shown if not progress.epoch_ended]
    assert steps == list(range(1, 40))
    ends = [progress for progress in shown if progress.epoch_ended]
    assert [end.epoch for end in ends] == [1, 2, 3]
    assert all(end.validation_accuracy is not None for end in ends)
    assert all(0 <= progress.accuracy <= 1 for progress in shown)


def test_other_seeds_give_other_weights(garments: Dataset, tmp_path: Path) -> None:
    recipe = dataclasses.replace(TINY, epochs=1)
    weights = [
        train(recipe, garments, seed=seed, out=tmp_path / str(seed)).weights.read_bytes()
        for seed in (0, 1)
    ]
    assert weights[0] != weights[1]


def test_a_loss_that_is_no_number_stops_within_a_step(garments: Dataset, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"not finite at step 4 of 14 \(learning rate 0\.001\)"):
        train(BROKEN, garments, out=tmp_path / "run", checkpoint_seconds=0)
    kept = sorted(path.name[5:13] for path in (tmp_path / "run" / "checkpoint").glob("step-*"))
    assert kept == ["00000002", "00000003"]  # none was written from the broken step
    assert not (tmp_path / "run" / "weights.safetensors").exists()


def test_weights_that_are_no_numbers_are_never_saved(garments: Dataset, tmp_path: Path) -> None:
    wild = dataclasses.replace(TINY, optimizer=Adam(learning_rate=1e38), epochs=1)
    with pytest.raises(RunError, match="not finite"):
        train(wild, garments, out=tmp_path / "run", checkpoint_seconds=0)
    assert not (tmp_path / "run" / "weights.safetensors").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_the_resumed_run_is_the_same(
    number: signal.Signals, garments: Dataset, tmp_path: Path
) -> None:
    whole = train(TINY, garments, out=tmp_path / "whole")

    def interrupt(progress: Progress) -> None:
        if progress.step == 20 and not progress.epoch_ended:
            os.kill(os.getpid(), number)

    with pytest.raises(Stopped, match=r"step 20 of 39.*saved in") as stopped:
        train(TINY, garments, out=tmp_path / "run", watch=interrupt)
    assert stopped.value.signal == number
    resumed = train(TINY, garments, resume=tmp_path / "run")
    assert resumed.weights.read_bytes() == whole.weights.read_bytes()
    assert resumed.read()["resumed"] == 1
    measures = ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy")
    for line, other in zip(whole.read_history(), resumed.read_history(), strict=True):
        assert [line[m] for m in measures] == [other[m] for m in measures]


def test_a_stop_at_the_last_step_of_an_epoch_loses_nothing(
    garments: Dataset, tmp_path: Path
) -> None:
    whole = train(TINY, garments, out=tmp_path / "whole")

    def interrupt(progress: Progress) -> None:
        if progress.step == 14 and not progress.epoch_ended:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Stopped):
        train(TINY, garments, out=tmp_path / "run", watch=interrupt)
    resumed = train(TINY, garments, resume=tmp_path / "run")
    assert resumed.weights.read_bytes() == whole.weights.read_bytes()
    assert len(resumed.read_history()) == 3


def test_a_signal_at_the_very_end_leaves_a_finished_run(garments: Dataset, tmp_path: Path) -> None:
    def interrupt(progress: Progress) -> None:
        if progress.step == progress.steps and progress.epoch_ended:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Stopped, match="judge it with: fmnist evaluate"):
        train(TINY, garments, out=tmp_path / "run", watch=interrupt)
    assert (tmp_path / "run" / "weights.safetensors").exists()
    assert not (tmp_path / "run" / "checkpoint").exists()


def test_a_full_disk_says_how_to_go_on_and_loses_nothing(
    garments: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(TINY, garments, out=tmp_path / "whole")
    real, calls = os.fsync, 0

    def full(handle: int) -> None:
        nonlocal calls
        calls += 1
        if calls > 30:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(RunError, match=r"No space left.*Make room.*--resume"):
            train(TINY, garments, out=tmp_path / "run", checkpoint_seconds=0)
    resumed = train(TINY, garments, resume=tmp_path / "run")
    assert resumed.weights.read_bytes() == whole.weights.read_bytes()


@pytest.fixture
def stopped_run(garments: Dataset, tmp_path: Path) -> Path:
    def interrupt(progress: Progress) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Stopped):
        train(TINY, garments, out=tmp_path / "stopped", watch=interrupt)
    return tmp_path / "stopped"


def test_a_damaged_checkpoint_is_skipped_and_the_bytes_are_the_same(
    stopped_run: Path, garments: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (newest,) = stopped_run.glob("checkpoint/step-*")
    content = bytearray(newest.read_bytes())
    content[-5] ^= 1
    newest.write_bytes(content)
    with caplog.at_level(logging.INFO, "fmnist"):
        resumed = train(TINY, garments, resume=stopped_run)
    assert "is damaged" in caplog.text
    assert "starts again" in caplog.text
    whole = train(TINY, garments, out=tmp_path / "whole")
    assert resumed.weights.read_bytes() == whole.weights.read_bytes()


def test_another_recipe_cannot_go_on(stopped_run: Path, garments: Dataset) -> None:
    other = dataclasses.replace(TINY, epochs=4)
    with pytest.raises(RunError, match="started with another recipe"):
        train(other, garments, resume=stopped_run)


def test_other_data_cannot_go_on(stopped_run: Path, garments: Dataset) -> None:
    other = dataclasses.replace(garments, sha256={"train": "0" * 64})
    with pytest.raises(DataError, match="other data files"):
        train(TINY, other, resume=stopped_run)


def test_two_trainings_never_share_a_directory(stopped_run: Path, garments: Dataset) -> None:
    with try_lock(stopped_run / "checkpoint" / "lock") as is_ours:
        assert is_ours
        with pytest.raises(RunError, match="another training is using"):
            train(TINY, garments, resume=stopped_run)
    with pytest.raises(RunError, match="holds a run that goes on with"):
        train(TINY, garments, out=stopped_run)


def test_a_finished_run_is_left_as_it_is(garments: Dataset, tmp_path: Path) -> None:
    recipe = dataclasses.replace(TINY, epochs=1)
    run = train(recipe, garments, out=tmp_path / "run")
    before = (run.weights.stat().st_mtime_ns, run.read())
    train(recipe, garments, resume=tmp_path / "run")
    assert (run.weights.stat().st_mtime_ns, run.read()) == before


@pytest.mark.real_data
def test_classic_reaches_seventy_percent_after_100_steps(
    real_data: Dataset, tmp_path: Path
) -> None:
    def stop_after_100(progress: Progress) -> None:
        if progress.step == 100:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Stopped):
        train(RECIPES["classic"], real_data, out=tmp_path / "run", watch=stop_after_100)
    saved = load_checkpoint(tmp_path / "run" / "checkpoint")
    assert saved is not None
    assert saved.values["step"] == 100
    network = make_network("classic")
    network.load_state_dict(
        {
            name.removeprefix("network."): tensor
            for name, tensor in saved.tensors.items()
            if name.startswith("network.")
        }
    )
    validation = real_data.split("validation")
    logits = infer(network, validation.images, find_device("cpu", "float32"))
    assert (logits.argmax(1) == validation.labels).mean() >= 0.70
