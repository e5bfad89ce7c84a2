"""Many directories to one table: who is how good on the test split, at what price.

With an audit of the test split, each accuracy has beside it that without the flagged images.
"""

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fmnist.data.official import OFFICIAL
from fmnist.errors import DataError, RunError
from fmnist.evaluation.bench.doubts import too_good
from fmnist.evaluation.comparison.groups import (
    DAMAGE,
    Group,
    Member,
    damaged,
    find_directories,
    make_groups,
    open_member,
)
from fmnist.evaluation.comparison.intervals import describe, spans
from fmnist.runs import SeedRuns, is_seed_runs

if TYPE_CHECKING:
    from fmnist.evaluation.audit import Audit

Paths = Sequence[str | os.PathLike[str]]


def leaderboard(
    paths: Paths = ("runs",), audit: str | os.PathLike[str] | None = None
) -> dict[str, Any]:
    """Return the rows of what was judged on the test split under `paths`, the best mean first.

    Seeds of one training are one row; training on 55,000 and on 60,000 images are two. What is
    doubted comes last and has no rank. `audit` names the folder of `fmnist audit` whose flags are
    left out of "clean". Returns what `fmnist leaderboard --json` prints (docs/json.md), with what
    was left out and why. Raises RunError where a path is not there, or nothing under them counts.
    """
    members, left_out = _members(find_directories(paths))
    if not members:
        reason = f"; {left_out[0]['reason']}" if left_out else ""
        named = ", ".join(map(str, paths))
        raise RunError(f"no run under {named} was judged on the test split{reason}")
    opened = None if audit is None else _audit(audit)
    rows = [_row(group, opened) for group in make_groups(members)]
    told = None if audit is None else str(audit)
    return {"rows": _ranked(rows), "audit": told, "left_out": left_out}


def _audit(folder: str | os.PathLike[str]) -> "Audit":
    from fmnist.evaluation.audit import open_audit

    return open_audit(folder)


def _ranked(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows by mean accuracy, and last those that nobody should believe, without rank."""
    ordered = sorted(rows, key=lambda row: (_is_doubted(row), -row["accuracy"]["mean"]))
    return [
        {"rank": None if _is_doubted(row) else rank, **row} for rank, row in enumerate(ordered, 1)
    ]


def _is_doubted(row: Mapping[str, Any]) -> bool:
    return any(too_good(row["accuracy"]["mean"]))


def _members(folders: Sequence[Path]) -> tuple[list[Member], list[dict[str, str]]]:
    """Return what counts, each seed of a training once, and why the others do not."""
    members: dict[tuple[str, int], Member] = {}
    left_out = []
    for folder in folders:
        try:
            member = _sound(_official(open_member(folder, "test")))
            key = member.identity, member.seed
            if key in members:
                there = members[key].judged.folder
                raise RunError(f"{folder} is seed {key[1]} of the same training as {there}")
            members[key] = member
        except RunError as error:
            left_out.append({"path": str(folder), "reason": str(error)})
    return list(members.values()), left_out


def _official(member: Member) -> Member:
    if member.data != {name: file.sha256 for name, file in OFFICIAL.items()}:
        raise RunError(f"{member.judged.folder} is of other data files than the official ones")
    return member


def _sound(member: Member) -> Member:
    """Return `member`; RunError where its files do not hold what a row needs."""
    try:
        _row(Group((member,), ""), None)
    except DAMAGE as error:
        raise damaged(member.judged.folder, error) from error
    return member


def _row(group: Group, audit: "Audit | None") -> dict[str, Any]:
    """Return a training, or a model made elsewhere, as a row of the table."""
    first, n = group.members[0], len(group.members)
    accuracy = describe(group.accuracies)
    over = "images" if n == 1 else "seeds"
    interval = first.scores["accuracy_interval"] if n == 1 else accuracy["interval"]
    losses = [member.scores["loss"] for member in group.members]
    machines = {_machine(member.facts) for member in group.members if member.is_run}
    timed = first.is_run and len(machines) == 1
    clean, said = (None, []) if audit is None else _clean(group, audit)
    return {
        "name": group.name,
        "kind": "run" if first.is_run else "bench",
        "engine": first.facts.get("engine"),
        "all_data": first.facts.get("all_data"),
        "seeds": [member.facts["seed"] for member in group.members if member.is_run],
        "accuracy": {**accuracy, "interval": interval, "interval_over": over},
        "accuracies": group.accuracies,
        "clean": clean,
        "loss": None if None in losses else sum(losses) / n,
        "parameters": first.facts.get("parameters"),
        "seconds": spans([member.facts["seconds"] for member in group.members]) if timed else {},
        "machine": "; ".join(sorted(machines)),
        "command": _command(group),
        "runs": [str(member.judged.folder) for member in group.members],
        "warnings": _warnings(group, accuracy["mean"]),
        "notes": _notes(group, machines) + said,
    }


def _warnings(group: Group, mean: float) -> list[str]:
    """Return what makes the row doubtful, each once."""
    told = [warning for member in group.members for warning in member.warnings]
    return list(dict.fromkeys([*told, *too_good(mean)]))


def _clean(group: Group, audit: "Audit") -> tuple[dict[str, Any] | None, list[str]]:
    """Return the accuracy without flagged images, and notes on it: that of why there is none."""
    from fmnist.evaluation.audit import clean_test_score

    try:
        scored = [clean_test_score(member.judged.folder, audit) for member in group.members]
    except (RunError, DataError) as error:
        return None, [f"no score without flagged images: {error}"]
    found = [each["clean"] for each in scored]
    clean = describe([part["accuracy"] for part in found])
    interval = found[0]["accuracy_interval"] if len(found) == 1 else clean["interval"]
    notes = ["its network is the one that flagged images"] * scored[0]["same_network"]
    return {"images": found[0]["images"], **clean, "interval": interval}, notes


def _machine(facts: Mapping[str, Any]) -> str:
    """Return where a run was made, in words."""
    machine = facts.get("machine") or {}
    threads = (
        f"{facts['threads']} thread{'s' * (facts['threads'] != 1)}" if "threads" in facts else ""
    )
    told = machine.get("processor"), facts.get("device"), threads, facts.get("precision")
    return ", ".join(str(part) for part in told if part)


def _command(group: Group) -> str:
    """Return the command that makes these runs again."""
    first = group.members[0].facts
    if not group.members[0].is_run:
        return str(first["command"])
    seeds = [member.facts["seed"] for member in group.members]
    words = ["fmnist", "train", first["named"]]
    words += ["--all-data"] * bool(first["all_data"])
    words += ["--engine", first["engine"]] * (first["engine"] != "torch")
    words += _photo_options(first.get("photos"))
    if len(seeds) > 1 and seeds == list(range(seeds[0], seeds[0] + len(seeds))):
        words += ["--seed", str(seeds[0])] * (seeds[0] != 0) + ["--seeds", str(len(seeds))]
        return shlex.join(words)
    each = f"for s in {' '.join(map(str, seeds))}; do {shlex.join(words)} --seed $s; done"
    return each if len(seeds) > 1 else shlex.join([*words, "--seed", str(seeds[0])])


def _photo_options(photos: Mapping[str, Any] | None) -> list[str]:
    if not photos:
        return []
    words = ["--photos", photos["folder"]]
    words += ["--senders", photos["senders"]] if photos["senders"] else []
    for option in ("part", "stranger"):
        words += [word for value in photos[f"{option}s"] for word in (f"--{option}", value)]
    return words


def _notes(group: Group, machines: set[str]) -> list[str]:
    """Return what a reader of the row should know."""
    facts = [member.facts for member in group.members]
    notes = [f"{len(machines)} machines or settings, so no times"] if len(machines) > 1 else []
    for parent in sorted({member.judged.folder.parent for member in group.members}):
        if is_seed_runs(parent):
            done = sum(member.judged.folder.parent == parent for member in group.members)
            notes += _of_how_many(SeedRuns(parent), done)
    for key in ("versions", "git_commit"):
        if any(each.get(key) != facts[0].get(key) for each in facts):
            notes.append(f"the runs differ in {key.replace('_', ' ')}")
    return notes


def _of_how_many(seeds: SeedRuns, done: int) -> list[str]:
    """Return a note where seeds are missing, or where nobody can tell."""
    try:
        wanted = len(seeds.read()["seeds"])
    except RunError as error:
        return [str(error)]
    return [f"{done} of {wanted} seeds so far"] * (done < wanted)
