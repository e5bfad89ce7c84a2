"""Train a recipe of `tiny` in a process that kills itself: FOLDER RUN RECIPE EVERY WHEN.

RUN is made or resumed; only steps that EVERY divides are saved.

WHEN is "never", "step:<n>" (killed before step n), or "save:<n>:<call>" (killed in the n-th
checkpoint, at os.fsync or os.replace).
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import garments
import tiny
from fmnist.data import load_dataset
from fmnist.training import checkpoint, milestones, train
from fmnist.training.batches import Batch
from fmnist.training.checkpoint import Checkpoint
from fmnist.training.state import State


def die(*arguments: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_before_step(step: int) -> None:
    advance = State.advance

    def counted(self: State, batch: Batch) -> None:
        if self.step == step:
            die()
        advance(self, batch)

    State.advance = counted  # type: ignore[method-assign]


def die_in_save(number: int, call: str) -> None:
    real = getattr(os, call)
    saves = 0

    def counted(*arguments: Any) -> Any:
        nonlocal saves
        target = str(arguments[-1])
        if call == "replace" and "step-" in target:
            saves += 1
        if call == "fsync" and "step-" in os.readlink(f"/proc/self/fd/{arguments[0]}"):
            saves += 1
        if saves == number:
            die()
        return real(*arguments)

    setattr(os, call, counted)


def save_every(steps: int) -> None:
    save = checkpoint.save_checkpoint

    def now_and_then(folder: Path, step: int, state: Checkpoint) -> None:
        if step % steps == 0:
            save(folder, step, state)

    vars(milestones)["save_checkpoint"] = now_and_then


def main(folder: str, run: str, recipe: str, every: str, when: str) -> None:
    garments.accept(Path(folder))
    save_every(int(every))
    kind, *values = when.split(":")
    if kind == "step":
        die_before_step(int(values[0]))
    if kind == "save":
        die_in_save(int(values[0]), values[1])
    resume = run if Path(run, "run.json").exists() else None
    out = None if resume else run
    chosen = getattr(tiny, recipe)
    train(chosen, load_dataset(folder), seed=7, out=out, resume=resume, checkpoint_seconds=0)


if __name__ == "__main__":
    main(*sys.argv[1:])
