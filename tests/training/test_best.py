"""`best`, which wants a GPU: its first epochs on the processor, interrupted and gone on with."""

import dataclasses
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from fmnist.data import Dataset
from fmnist.errors import Stopped
from fmnist.recipes import RECIPES
from fmnist.runs import open_run
from fmnist.training import Progress, train
from fmnist.training.checkpoint import Checkpoint, load_checkpoint


@pytest.fixture
def few(garments: Dataset) -> Dataset:
    """Two garments a class: a step of them takes a second."""
    kept = [i for label in range(10) for i in (garments.train_labels == label).nonzero()[0][:2]]
    return dataclasses.replace(
        garments, train_images=garments.train_images[kept], train_labels=garments.train_labels[kept]
    )


def stop_after(epochs: int) -> Callable[[Progress], None]:
    """A watch that sends this process SIGTERM, as the owner of a rented GPU does."""

    def watch(progress: Progress) -> None:
        if progress.step == epochs and not progress.epoch_ended:
            os.kill(os.getpid(), signal.SIGTERM)

    return watch


def checkpoint(run: Path) -> Checkpoint:
    saved = load_checkpoint(open_run(run).checkpoints)
    assert saved is not None
    return saved


def test_best_goes_on_after_interruptions_as_if_there_had_been_none(
    few: Dataset, tmp_path: Path
) -> None:
    runs = tmp_path / "whole", tmp_path / "interrupted"
    for run, stops in zip(runs, [(4,), (1, 2, 4)], strict=True):
        for number, epochs in enumerate(stops):
            out, resume = (None, run) if number else (run, None)
            with pytest.raises(Stopped, match=f"step {epochs} of {RECIPES['best'].epochs}"):
                train("best", few, all_data=True, out=out, resume=resume, watch=stop_after(epochs))
    whole, interrupted = map(checkpoint, runs)
    assert whole.tensors.keys() == interrupted.tensors.keys()
    for name, tensor in whole.tensors.items():
        assert torch.equal(tensor, interrupted.tensors[name]), name
    losses = [line["train_loss"] for line in interrupted.values["history"]]
    assert losses == [line["train_loss"] for line in whole.values["history"]]
    assert losses[-1] < losses[0]
