"""A recipe trained with several seeds: a directory with a run for each, and what they come to.

summary.json   what was asked for, each seed's result, and their distribution
seed-<n>/      the run of a seed, as `fmnist train RECIPE --seed <n>` leaves it
lock           empty; locked by the process that trains here
"""

import contextlib
import logging
import math
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fmnist.data import Dataset, SplitName, load_dataset
from fmnist.errors import RunError, Stopped
from fmnist.evaluation.comparison.intervals import SHARE, describe, spans
from fmnist.evaluation.report_page import report
from fmnist.evaluation.suite import evaluate
from fmnist.files import try_lock
from fmnist.recipes import Recipe, differing_fields
from fmnist.runs import Run, SeedRuns, claim_folder, is_seed_runs
from fmnist.training.loop import Watch, name_and_recipe, train

if TYPE_CHECKING:
    from fmnist.photos.folder import PhotoFolder

log = logging.getLogger("fmnist")

MEASURES = {  # and what they can be
    "accuracy": SHARE,
    "loss": (0.0, math.inf),
    "top2_accuracy": SHARE,
    "calibration_error": SHARE,
}
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
    judge: bool | None = None,
    data_seconds: float = 0.0,
    lend: Lend = lambda: contextlib.nullcontext(lambda progress: None),
) -> dict[str, Any]:
    """Train `recipe` with the seeds first .. first + seeds - 1, one after the other; judge each.

    Returns what `fmnist train --seeds --json` prints (docs/json.md). `resume` names a directory of
    seeds: those that are done stay, one that was stopped goes on, and `seeds` may be more than
    before. `judge=False` leaves the test split unread: validation alone is judged; None: as the
    resumed seeds, or else both. `data_seconds` is what loading `data` took, which counts as each
    seed's; `lend` gives each training its watch. Raises as `train` and `evaluate`; Stopped says how
    to go on.
    """
    data, (named, known) = data or load_dataset(), name_and_recipe(recipe)
    group = _claimed(out, known) if resume is None else _begun(resume)
    with _locked(group):
        if resume is None:
            wanted = list(range(first, first + (1 if seeds is None else seeds)))
            told = wanted, all_data, engine or "torch", _named(photos), judge is not False
            plan: dict[str, Any] = dict(
                zip(SeedRuns.PLAN, (known.name, named, *told, sys.argv), strict=True)
            )
        else:
            plan = _taken_up(group, seeds, engine, judge)
            _check_same(group, plan, known, data, device)
        group.write(_summarise(group, plan))
        for count, seed in enumerate(plan["seeds"], 1):
            with _how_to_go_on(group, seed, f"{count - 1} of {len(plan['seeds'])}"):
                run = _trained(group, plan, recipe, data, seed, device, lend)
                run.set_seconds(**{"data": data_seconds, **run.read()["seconds"]})
                _judge(run, plan, data, known, device)
            summary = _summarise(group, plan)
            group.write(summary)
            _tell(run.summary(), count, len(plan["seeds"]))
    return {"folder": str(group.folder), **summary}


def _claimed(out: str | os.PathLike[str] | None, recipe: Recipe) -> SeedRuns:
    return SeedRuns(claim_folder(out, f"{recipe.name}-seeds"))


def _begun(folder: str | os.PathLike[str]) -> SeedRuns:
    if not is_seed_runs(folder):
        raise RunError(f"{folder} holds no summary.json, so it is not a directory of seeds")
    return SeedRuns(Path(folder))


def _taken_up(
    group: SeedRuns, seeds: int | None, engine: str | None, judge: bool | None
) -> dict[str, Any]:
    """Return the plan of seeds that were begun, for as many as are wanted now."""
    begun = group.read()
    plan = {key: begun[key] for key in SeedRuns.PLAN}
    before, start = len(plan["seeds"]), plan["seeds"][0]
    if seeds is not None and seeds < before:
        raise RunError(f"{group.folder} is of {before} seeds; --seeds can only ask for more")
    if engine not in (None, plan["engine"]):
        raise RunError(f"{group.folder} is of the engine {plan['engine']}; leave out --engine")
    wanted = list(range(start, start + (seeds or before)))
    return {**plan, "seeds": wanted, "judge": plan["judge"] if judge is None else judge}


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
    with try_lock(group.folder / "lock") as is_ours:
        if not is_ours:
            raise RunError(f"another training is using {group.folder}; wait for it, or stop it")
        yield


@contextlib.contextmanager
def _how_to_go_on(group: SeedRuns, seed: int, done: str) -> Iterator[None]:
    """Have what a signal stops say how all of the seeds go on."""
    try:
        yield
    except (Stopped, KeyboardInterrupt) as stop:
        raise Stopped(
            f"stopped in seed {seed}, {done} seeds are done; go on with: {group.resume_command()}",
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


def _judge(run: Run, plan: Mapping[str, Any], data: Dataset, recipe: Recipe, device: str) -> None:
    """Judge a run as planned, if that was not done; where test is read, write its page."""
    if not _is_judged(run, plan):
        evaluate(run, data, splits=_splits(plan), recipe=recipe, device=device)
    if plan["judge"] and not run.report.exists():
        report(run, data)


def _splits(plan: Mapping[str, Any]) -> tuple[SplitName, ...]:
    """Return the splits that the seeds are judged on; validation was not learned from."""
    validation: tuple[SplitName, ...] = () if plan["all_data"] else ("validation",)
    return (*validation, "test") if plan["judge"] else validation


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


def _is_judged(run: Run, plan: Mapping[str, Any]) -> bool:
    has_metrics = (run.folder / "metrics.json").exists()
    return set(_splits(plan)) <= set(run.read_metrics()["splits"] if has_metrics else ())


def _tell(told: Mapping[str, Any], count: int, seeds: int) -> None:
    """Log a line on a seed that is done."""
    split = "test" if told["test"] else "validation"
    judged = f": {split} accuracy {100 * told[split]['accuracy']:.2f} %" if told[split] else ""
    spent = told["seconds"]["train"]
    log.info("seed %d, %d of %d%s, trained in %.1f s", told["seed"], count, seeds, judged, spent)


def _summarise(group: SeedRuns, plan: Mapping[str, Any]) -> dict[str, Any]:
    """Return summary.json: the plan, and what the seeds that are done come to."""
    done = [
        run
        for run in group.begun(plan["seeds"])
        if run.read()["state"] == "finished" and _is_judged(run, plan)
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
        measure: describe([each[measure] for each in scores], possible)
        for measure, possible in MEASURES.items()
        if all(measure in each for each in scores)
    }
