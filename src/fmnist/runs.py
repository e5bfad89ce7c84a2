"""The run directory: the one thing that training, evaluation and the report share.

run.json             what was run: recipe, seed, versions, machine, data, seconds a phase
history.jsonl        a line an epoch
weights.safetensors  the trained network (model.keras where Keras trained it)
checkpoint/          while training: the newest two states
logits-<split>.npz   logits (n, 10) float32, labels (n,) uint8, indices (n,) int64
metrics.json         what the logits say
embedding-test.npz   where the page's map has the test images: points (n, 2) float32
report.html          the page

Many seeds of a recipe are a directory of such directories, seed-<n>, beside a summary.json.
"""

import io
import json
import os
import re
import shlex
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fmnist.errors import RunError
from fmnist.files import write_whole

# What run.json always holds; evaluate and report read it without asking.
_WHAT = ("named", "recipe", "seed", "engine", "all_data", "data", "state", "resumed")
_WHERE = ("versions", "machine", "git_commit", "device", "precision", "threads")
FACTS = frozenset((*_WHAT, *_WHERE, "parameters", "seconds"))
WEIGHTS = {"torch": "weights.safetensors", "keras": "model.keras"}  # by engine
PHASES = ("data", "setup", "train", "checkpoint", "validation", "predict", "evaluate", "report")
# From the files of the data set to predictions of the test split, which is what a race is timed by.
TO_PREDICTIONS = ("data", "setup", "train", "checkpoint", "predict")
ASIDE = ("suite",)  # asked for beside a run, so no part of what it took


@dataclass(frozen=True)
class SplitLogits:
    """What a network says of a split: logits (n, 10) float32, labels (n,) uint8, indices (n,)."""

    logits: NDArray[np.float32]
    labels: NDArray[np.uint8]
    indices: NDArray[np.int64]

    def is_sound(self) -> bool:
        """Tell whether shapes, types and lengths are as they must be."""
        n = self.labels.size
        parts = (self.logits, (n, 10), "f4"), (self.labels, (n,), "u1"), (self.indices, (n,), "i8")
        return (
            all(part.shape == shape and part.dtype == kind for part, shape, kind in parts)
            and bool((self.labels < 10).all())
            and bool((self.indices >= 0).all())
        )


@dataclass(frozen=True)
class Judged:
    """A directory of logits and what they say; writes are atomic, bad files are RunErrors."""

    folder: Path

    @property
    def argument(self) -> str:
        """The folder as a command line names it, for messages that say what to run next."""
        return shlex.quote(str(self.folder))

    @property
    def report(self) -> Path:
        """The page."""
        return self.folder / "report.html"

    def read(self) -> dict[str, Any]:
        """Return the facts of who was judged."""
        raise NotImplementedError

    def how_to_judge(self, split: str | None = None) -> str:
        """Return what to run to have this judged, on `split` alone where that spares the test."""
        raise NotImplementedError

    def read_logits(self, split: str) -> SplitLogits:
        """Return the saved logits of a split."""
        path = self.folder / f"logits-{split}.npz"
        if not path.exists():
            raise RunError(f"{path} is missing; {self.how_to_judge(split)}")
        content = io.BytesIO(path.read_bytes())
        try:
            with np.load(content, allow_pickle=False) as file:
                logits = SplitLogits(file["logits"], file["labels"], file["indices"])
        except Exception as error:  # zipfile and numpy raise a dozen kinds at damaged bytes
            raise RunError(f"{path} is damaged; {self.how_to_judge(split)}") from error
        if not logits.is_sound():
            raise RunError(f"{path} is damaged; {self.how_to_judge(split)}")
        return logits

    def write_logits(self, split: str, logits: SplitLogits) -> None:
        """Save the logits of a split."""
        buffer = io.BytesIO()
        np.savez(buffer, logits=logits.logits, labels=logits.labels, indices=logits.indices)
        write_whole(self.folder / f"logits-{split}.npz", buffer.getvalue())

    def read_metrics(self) -> dict[str, Any]:
        """Return metrics.json."""
        path = self.folder / "metrics.json"
        if not path.exists():
            raise RunError(f"{path} is missing; {self.how_to_judge()}")
        return _read_json(path)

    def write_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Replace metrics.json."""
        _write_json(self.folder / "metrics.json", metrics)


@dataclass(frozen=True)
class Bench(Judged):
    """What `fmnist bench` leaves of a model that was made elsewhere: bench.json and the rest."""

    def read(self) -> dict[str, Any]:
        """Return bench.json: name, target, what was assumed, command, machine, versions."""
        return _read_json(self.folder / "bench.json")

    def write(self, facts: Mapping[str, Any]) -> None:
        """Replace bench.json."""
        _write_json(self.folder / "bench.json", facts)

    def how_to_judge(self, split: str | None = None) -> str:
        """Return the command that made it, and what it lacked to judge on "validation"."""
        again = f"run again: {self.read()['command']}"
        if split != "validation":
            return again
        return f"{again} --validation-held-out, if it is a model that never learned from these"


@dataclass(frozen=True)
class Run(Judged):
    """The directory of a training."""

    def resume_command(self) -> str:
        """Return the command that goes on with a stopped training."""
        named = self.read()["named"]
        own = f"{named} " if ":" in named else ""
        return f"fmnist train {own}--resume {self.argument}"

    def evaluate_command(self, split: str | None = None) -> str:
        """Return the command that judges the run; for "validation" it leaves the test unread."""
        named = self.read()["named"]
        own = f" --recipe {named}" if ":" in named else ""
        only = " --split validation" if split == "validation" else ""
        return f"fmnist evaluate {self.argument}{only}{own}"

    def how_to_judge(self, split: str | None = None) -> str:
        """Return what to run next, as `evaluate_command` where training has finished."""
        if self.read()["state"] != "finished":
            return f"training has not finished; go on with: {self.resume_command()}"
        return f"run: {self.evaluate_command(split)}"

    @property
    def weights(self) -> Path:
        """The trained network, in the format of the engine that trained it."""
        return self.folder / WEIGHTS[self.read()["engine"]]

    @property
    def checkpoints(self) -> Path:
        """The folder of training states, gone when training is finished."""
        return self.folder / "checkpoint"

    def read(self) -> dict[str, Any]:
        """Return run.json."""
        return _read_json(self.folder / "run.json")

    def write(self, facts: Mapping[str, Any]) -> None:
        """Replace run.json."""
        _write_json(self.folder / "run.json", facts)

    def set_seconds(self, **phases: float) -> None:
        """Set seconds of phases in run.json and bring their total up to date."""
        facts = self.read()
        self.write({**facts, "seconds": _with_total({**facts["seconds"], **phases})})

    def finish(self, when: str, seconds: Mapping[str, float]) -> None:
        """Mark the training as finished, with the seconds of its phases."""
        facts = self.read()
        spent = _with_total({**facts["seconds"], **seconds})
        self.write({**facts, "state": "finished", "finished": when, "seconds": spent})

    def read_history(self) -> list[dict[str, Any]]:
        """Return the epochs so far, first to last; none if training has not ended one."""
        path = self.folder / "history.jsonl"
        if not path.exists():
            return []
        try:
            epochs = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        except ValueError as error:
            raise RunError(f"{path} is damaged ({error}); train again") from error
        if not all(isinstance(epoch, dict) for epoch in epochs):
            raise RunError(f"{path} is damaged (a line is no JSON object); train again")
        return epochs

    def write_history(self, epochs: Sequence[Mapping[str, Any]]) -> None:
        """Replace history.jsonl."""
        lines = "".join(json.dumps(epoch) + "\n" for epoch in epochs)
        write_whole(self.folder / "history.jsonl", lines.encode())

    def summary(self) -> dict[str, Any]:
        """Return what a training came to, as `fmnist train --json` prints it (docs/json.md)."""
        facts = self.read()
        metrics = self.read_metrics() if (self.folder / "metrics.json").exists() else {}
        judged = {name: _headline(part) for name, part in metrics.get("splits", {}).items()}
        return {
            "run": str(self.folder),
            "recipe": facts["recipe"]["name"],
            "seed": facts["seed"],
            "engine": facts["engine"],
            "all_data": facts["all_data"],
            "device": facts["device"],
            "precision": facts["precision"],
            "threads": facts["threads"],
            "parameters": facts["parameters"],
            "test": judged.get("test"),
            "validation": judged.get("validation", _last_epoch(self.read_history())),
            "temperature": metrics.get("temperature"),
            "temperature_source": metrics.get("temperature_source"),
            "seconds": facts["seconds"],
            "report": str(self.report) if self.report.exists() else None,
        }


@dataclass(frozen=True)
class SeedRuns:
    """The directory of many seeds of a recipe; bad files are RunErrors."""

    folder: Path

    PLAN: ClassVar = ("recipe", "named", "seeds", "all_data", "engine", "photos", "judge", "argv")

    def read(self) -> dict[str, Any]:
        """Return summary.json: the plan, and what the seeds that are done come to."""
        summary = {"judge": True, **_read_json(self.folder / "summary.json")}  # it came later
        if not summary.keys() >= set(self.PLAN):
            raise RunError(f"{self.folder / 'summary.json'} was not written by fmnist; start anew")
        return summary

    def write(self, summary: Mapping[str, Any]) -> None:
        """Replace summary.json."""
        _write_json(self.folder / "summary.json", summary)

    def run(self, seed: int) -> Run:
        """Return the run of a seed, which may not be there yet."""
        return Run(self.folder / f"seed-{seed}")

    def begun(self, seeds: Iterable[int]) -> list[Run]:
        """Return the runs of those seeds that are there, finished or not."""
        runs = [self.run(seed) for seed in seeds]
        return [open_run(run.folder) for run in runs if (run.folder / "run.json").exists()]

    def resume_command(self) -> str:
        """Return the command that goes on with seeds that were stopped."""
        named = self.read()["named"]
        own = f"{named} " if ":" in named else ""
        return f"fmnist train {own}--resume {shlex.quote(str(self.folder))}"


def is_seed_runs(folder: str | os.PathLike[str]) -> bool:
    """Tell whether `folder` is the directory of many seeds, and not of one run."""
    return (Path(folder) / "summary.json").is_file()


def _with_total(seconds: Mapping[str, float]) -> dict[str, float]:
    """Return the phases in their order, and their sums."""
    phases = {phase: seconds[phase] for phase in PHASES if phase in seconds}
    sums = {"total": sum(phases.values())}
    phases |= {phase: seconds[phase] for phase in ASIDE if phase in seconds}
    if phases.keys() >= set(TO_PREDICTIONS):
        sums["to_predictions"] = sum(phases[phase] for phase in TO_PREDICTIONS)
    return {**phases, **sums}


def _headline(metrics: Mapping[str, Any]) -> dict[str, Any]:
    names = ("accuracy", "accuracy_interval", "loss", "top2_accuracy", "calibration_error")
    return {name: metrics[name] for name in names}


def _last_epoch(history: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return validation of the last epoch, for a run that was not evaluated."""
    if not history or history[-1]["validation_accuracy"] is None:
        return None
    last = history[-1]
    return {"accuracy": last["validation_accuracy"], "loss": last["validation_loss"]}


def create_run(out: str | os.PathLike[str] | None, recipe: str, seed: int) -> Run:
    """Make the directory of a new run: `out`, or runs/<recipe>-s<seed>-<time>.

    Of two processes that ask for the same directory at once only one gets it. Raises RunError
    when `out` holds anything already.
    """
    return Run(claim_folder(out, f"{recipe}-s{seed}", lock="checkpoint/lock"))


def claim_folder(out: str | os.PathLike[str] | None, stem: str, lock: str = "lock") -> Path:
    """Make a new directory and return it: `out`, or runs/<stem>-<time>.

    `out` may be there if it is empty. Of several processes that ask for it at once one gets it:
    that which makes the file `lock` in it. Raises RunError when `out` holds anything, or is a file.
    """
    folder = _make_named(stem) if out is None else _make(Path(out))
    claim = folder / lock
    claim.parent.mkdir(exist_ok=True)
    try:
        claim.touch(exist_ok=False)
    except FileExistsError as error:
        raise RunError(
            f"another process has just claimed {folder}; name a new directory with --out"
        ) from error
    return folder


def open_run(folder: str | os.PathLike[str]) -> Run:
    """Return the run in `folder`; RunError if there is none."""
    run = Run(Path(folder))
    if not run.folder.is_dir():
        raise RunError(f"{folder} is not a directory; `fmnist train` prints where it wrote its run")
    if is_seed_runs(folder):
        raise RunError(f"{folder} holds many seeds; name one of them, such as {folder}/seed-0")
    if not (run.folder / "run.json").is_file():
        raise RunError(f"{folder} holds no run.json, so it is not a run of fmnist")
    facts = run.read()
    if not facts.keys() >= FACTS:
        raise RunError(f"{run.folder / 'run.json'} was not written by fmnist; name another run")
    if facts["engine"] not in tuple(WEIGHTS):
        raise RunError(f"{run.folder} is of another engine than {' and '.join(WEIGHTS)}")
    return run


def open_judged(folder: str | os.PathLike[str]) -> Run | Bench:
    """Return the run, or what `fmnist bench` left, in `folder`; RunError if there is neither."""
    bench = Bench(Path(folder))
    if not (bench.folder / "bench.json").is_file():
        return open_run(folder)
    if not bench.read().keys() >= {"name", "target", "command", "data"}:
        raise RunError(f"{bench.folder / 'bench.json'} was not written by fmnist; name another")
    return bench


def _make_named(stem: str) -> Path:
    """Make runs/<stem>-<time>, with a number behind it where that is taken."""
    name = f"{re.sub(r'[^A-Za-z0-9_.-]+', '-', stem)}-{time.strftime('%Y%m%d-%H%M%S')}"
    for attempt in range(1, 1000):
        folder = Path("runs") / (name if attempt == 1 else f"{name}-{attempt}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            if Path("runs").is_dir():
                continue
            raise RunError("runs is a file, not a directory; name one with --out") from None
        return folder
    raise RunError(f"runs/{name} and its 998 neighbours are taken; name a directory with --out")


def _make(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise RunError(f"{folder} is a file, not a directory; name another with --out") from error
    if any(folder.iterdir()):
        raise RunError(f"{folder} {_what_is_there(folder)}; name a new directory with --out")
    return folder


def _what_is_there(folder: Path) -> str:
    if is_seed_runs(folder):
        return f"holds seeds that go on with: {SeedRuns(folder).resume_command()}"
    if not (folder / "run.json").exists():
        return "is not empty"
    run = open_run(folder)
    if run.read()["state"] == "finished":
        return "holds a finished run"
    return f"holds a run that goes on with: {run.resume_command()}"


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise RunError(f"{path} is damaged ({error}); make the run again") from error
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror}") from error
    if not isinstance(content, dict):
        raise RunError(f"{path} does not hold a JSON object; make the run again")
    return content


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    text = json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False)
    write_whole(path, (text + "\n").encode())
