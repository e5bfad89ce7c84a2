"""A recipe trained with several seeds: a directory with a run for each, and what they come to.

summary.json   what was asked for, each seed's result, and their distribution
seed-<n>/      the run of a seed, as `fmnist train RECIPE --seed <n>` leaves it
"""

import contextlib
import logging
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fmnist.data import Dataset, load_dataset
from fmnist.errors import RunError, Stopped
from fmnist.evaluation.intervals import describe, spans
from fmnist.evaluation.report_page import report
from fmnist.evaluation.suite import evaluate
from fmnist.files import try_lock
from fmnist.recipes import Recipe, differing_fields
from fmnist.runs import Run, SeedRuns, is_seed_runs
from fmnist.training.loop import Watch, name_and_recipe, train

if TYPE_CHECKING:
    from fmnist.photos.folder import PhotoFolder

log = logging.getLogger("fmnist")

MEASURES = ("accuracy", "loss", "top2_accuracy", "calibration_error")
# What should be the same in all runs, for their times and their bits to be of one kind.
MADE_WITH = ("device", "precision", "threads", "machine", "versions", "git_commit")

Lend = Callable[[], AbstractContextManager[Watch]]


def train_seeds(
    recipe: Recipe | str,
    data: Dataset | None = None,
    *,
    seeds: int | None = None,
    first: int = 0,
    all_data: bool = False,
    out: str | os.PathLike[str] | None = None,
    photos: "PhotoFolder | None" = None,
    device: str = "auto",
    engine: str | None = None,
    resume: str | os.PathLike[str] | None = None,
    judge: bool = True,
    data_seconds: float = 0.0,
    lend: Lend = lambda: contextlib.nullcontext(lambda progress: None),
) -> dict[str, Any]:
    """Train `recipe` with the seeds first .. first + seeds - 1, one after the other; judge each.

    Returns what `fmnist train --seeds --json` prints (docs/json.md). `resume` names a directory of
    seeds: those that are done stay, one that was stopped goes on, and `seeds` may be more than
    before. `judge=False` leaves the test split unread. `data_seconds` is what loading `data` took,
    which counts as each seed's; `lend` gives each training its watch. Raises as `train` and
    `evaluate`; Stopped says how to go on.
    """
    data, (named, known) = data or load_dataset(), name_and_recipe(recipe)
    if resume is None:
        wanted = list(range(first, first + (1 if seeds is None else seeds)))
        facts = known.name, named, wanted, all_data, engine or "torch", _named(photos), sys.argv
        group, plan = _claim(out, dict(zip(SeedRuns.PLAN, facts, strict=True)))
    else:
        group, plan = _take_up(resume, seeds, engine)
        _check_same(group, plan, known, data, device)
    with _locked(group):
        for count, seed in enumerate(plan["seeds"], 1):
            with _how_to_go_on(group, seed, f"{count - 1} of {len(plan['seeds'])}", judge):
                run = _trained(group, plan, recipe, data, seed, device, lend)
                run.set_seconds(**{"data": data_seconds, **run.read()["seconds"]})
                if judge:
                    _judge(run, data, known, device)
            summary = _summarise(group, plan, judge)
            group.write(summary)
            _tell(run.summary(), count, len(plan["seeds"]))
    return {"folder": str(group.folder), **summary}


def _claim(
    out: str | os.PathLike[str] | None, plan: dict[str, Any]
) -> tuple[SeedRuns, dict[str, Any]]:
    """Make the directory of new seeds; RunError if there is anything in it."""
    stem = re.sub(r"[^A-Za-z0-9_.-]+", "-", plan["recipe"])
    folder = Path("runs") / f"{stem}-seeds-{time.strftime('%Y%m%d-%H%M%S')}"
    group = SeedRuns(folder if out is None else Path(out))
    try:
        group.folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise RunError(f"{group.folder} is a file; name another directory with --out") from error
    if is_seed_runs(group.folder):
        raise RunError(f"{group.folder} holds seeds that go on with: {group.resume_command()}")
    if any(group.folder.iterdir()):
        raise RunError(f"{group.folder} is not empty; name a new directory with --out")
    group.write(_summarise(group, plan, judge=False))
    return group, plan


def _take_up(
    folder: str | os.PathLike[str], seeds: int | None, engine: str | None
) -> tuple[SeedRuns, dict[str, Any]]:
    """Return a directory of seeds and its plan, for as many seeds as are wanted now."""
    group = SeedRuns(Path(folder))
    if not is_seed_runs(folder):
        raise RunError(f"{folder} holds no summary.json, so it is not a directory of seeds")
    plan = {key: value for key, value in group.read().items() if key in SeedRuns.PLAN}
    before, start = len(plan["seeds"]), plan["seeds"][0]
    if seeds is not None and seeds < before:
        raise RunError(f"{folder} is of {before} seeds; --seeds can only ask for more")
    if engine not in (None, plan["engine"]):
        raise RunError(f"{folder} is of the engine {plan['engine']}; leave out --engine")
    return group, {**plan, "seeds": list(range(start, start + (seeds or before)))}


def _check_same(
    group: SeedRuns, plan: Mapping[str, Any], recipe: Recipe, data: Dataset, device: str
) -> None:
    """Raise RunError where a seed that is there was trained otherwise than the next would be."""
    if plan["recipe"] != recipe.name:
        raise RunError(f"{group.folder} is of the recipe {plan['recipe']}, not of {recipe.name}")
    for run in group.begun(plan["seeds"]):
        facts = run.read()
        changed = differing_fields(facts["recipe"], recipe.to_json())
        changed += ["data files"] * (facts["data"]["sha256"] != data.sha256)
        changed += ["device"] * (device not in ("auto", facts["device"]))
        if changed:
            raise RunError(
                f"{run.folder} was trained otherwise than the next seeds would be "
                f"({', '.join(changed)} differ); start anew with --out, or bring that back"
            )


@contextlib.contextmanager
def _locked(group: SeedRuns) -> Iterator[None]:
    """Hold the directory of seeds; RunError if another training does."""
    path = group.folder / "lock"
    with try_lock(path) as is_ours:
        if not is_ours:
            raise RunError(f"another training is using {group.folder}; wait for it, or stop it")
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def _how_to_go_on(group: SeedRuns, seed: int, done: str, judge: bool) -> Iterator[None]:
    """Have what a signal stops say how all of the seeds go on."""
    try:
        yield
    except (Stopped, KeyboardInterrupt) as stop:
        raise Stopped(
            f"stopped in seed {seed}, {done} seeds are done; "
            f"go on with: {group.resume_command()}{'' if judge else ' --no-evaluate'}",
            stop.signal if isinstance(stop, Stopped) else signal.SIGINT,
        ) from None


def _trained(
    group: SeedRuns,
    plan: Mapping[str, Any],
    recipe: Recipe | str,
    data: Dataset,
    seed: int,
    device: str,
    lend: Lend,
) -> Run:
    """Return the finished run of a seed: as it is, gone on with, or trained from the start."""
    run, others = group.run(seed), group.begun(plan["seeds"])
    is_begun = run in others
    if is_begun and run.read()["state"] == "finished":
        return run
    if not is_begun:
        _remove_claim(run)
    with lend() as watch:
        return train(
            recipe,
            data,
            seed=seed,
            all_data=plan["all_data"],
            out=run.folder,
            photos=_photos(plan),
            device=others[0].read()["device"] if others else device,
            engine=plan["engine"],
            resume=run.folder if is_begun else None,
            watch=watch,
        )


def _judge(run: Run, data: Dataset, recipe: Recipe, device: str) -> None:
    """Judge a run and write its page, if that was not done."""
    if not _is_judged(run):
        evaluate(run, data, recipe=recipe, device=device)
    if not run.report.exists():
        report(run, data)


def _remove_claim(run: Run) -> None:
    """Remove what a process leaves that is killed between claiming a directory and its run.json."""
    for folder in (run.checkpoints, run.folder):
        (folder / "lock").unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):
            folder.rmdir()


def _named(photos: "PhotoFolder | None") -> dict[str, Any] | None:
    return None if photos is None else photos.to_json()


def _photos(plan: Mapping[str, Any]) -> "PhotoFolder | None":
    if plan["photos"] is None:
        return None
    from fmnist.photos.folder import PhotoFolder

    return PhotoFolder.from_json(plan["photos"])


def _is_judged(run: Run) -> bool:
    path = run.folder / "metrics.json"
    return path.exists() and "test" in run.read_metrics()["splits"]


def _tell(told: Mapping[str, Any], count: int, seeds: int) -> None:
    """Log a line on a seed that is done."""
    split = "test" if told["test"] else "validation"
    judged = f": {split} accuracy {100 * told[split]['accuracy']:.2f} %" if told[split] else ""
    spent = told["seconds"]["train"]
    log.info("seed %d, %d of %d%s, trained in %.1f s", told["seed"], count, seeds, judged, spent)


def _summarise(group: SeedRuns, plan: Mapping[str, Any], judge: bool) -> dict[str, Any]:
    """Return summary.json: the plan, and what the seeds that are done come to."""
    done = [
        run
        for run in group.begun(plan["seeds"])
        if run.read()["state"] == "finished" and (_is_judged(run) or not judge)
    ]
    facts, told = [run.read() for run in done], [run.summary() for run in done]
    first: Mapping[str, Any] = facts[0] if facts else {}
    return {
        **plan,
        "state": "finished" if len(done) == len(plan["seeds"]) else "training",
        **{key: first.get(key) for key in (*MADE_WITH, "parameters")},
        "mixed": [key for key in MADE_WITH if any(each[key] != first[key] for each in facts)],
        "test": _distribution([run["test"] for run in told]),
        "validation": _distribution([run["validation"] for run in told]),
        "seconds": spans([run["seconds"] for run in told]),
        "runs": [
            {"run": run.folder.name, **{key: said[key] for key in _OF_A_RUN}}
            for run, said in zip(done, told, strict=True)
        ],
    }


_OF_A_RUN = ("seed", "test", "validation", "temperature", "seconds")


def _distribution(judged: Sequence[Mapping[str, Any] | None]) -> dict[str, Any] | None:
    """Return each measure's distribution over runs; None where not every run has been judged."""
    scores = [scores for scores in judged if scores is not None]
    if not scores or len(scores) < len(judged):
        return None
    return {
        measure: describe([each[measure] for each in scores])
        for measure in MEASURES
        if all(measure in each for each in scores)
    }
