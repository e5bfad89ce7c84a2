"""Many directories to one table: who is how good on the test split, at what price."""

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fmnist.data.official import OFFICIAL
from fmnist.errors import RunError
from fmnist.evaluation.groups import (
    Group,
    Member,
    find_directories,
    make_groups,
    open_member,
)
from fmnist.evaluation.intervals import describe, spans
from fmnist.runs import SeedRuns, is_seed_runs

Paths = Sequence[str | os.PathLike[str]]


def leaderboard(paths: Paths = ("runs",)) -> dict[str, Any]:
    """Return the rows of what was judged on the test split under `paths`, the best mean first.

    Seeds of one training are one row; training on 55,000 and on 60,000 images are two. Returns what
    `fmnist leaderboard --json` prints (docs/json.md), with what was left out and why. Raises
    RunError where a path is not there, or nothing under them counts.
    """
    members, left_out = _members(find_directories(paths))
    if not members:
        reason = f"; {left_out[0]['reason']}" if left_out else ""
        named = ", ".join(map(str, paths))
        raise RunError(f"no run under {named} was judged on the test split{reason}")
    rows = sorted(map(_row, make_groups(members)), key=lambda row: -row["accuracy"]["mean"])
    ranked = [{"rank": rank, **row} for rank, row in enumerate(rows, 1)]
    return {"rows": ranked, "left_out": left_out}


def _members(folders: Sequence[Path]) -> tuple[list[Member], list[dict[str, str]]]:
    """Return what counts, each seed of a training once, and why the others do not."""
    members: dict[tuple[str, int], Member] = {}
    left_out = []
    for folder in folders:
        try:
            member = _official(open_member(folder, "test"))
            key = member.identity, int(member.facts.get("seed", 0))
            if key in members:
                there = members[key].judged.folder
                raise RunError(f"{folder} is seed {key[1]} of the same training as {there}")
            members[key] = member
        except RunError as error:
            left_out.append({"path": str(folder), "reason": str(error)})
    return list(members.values()), left_out


def _official(member: Member) -> Member:
    data = member.facts["data"]
    hashes = {name: file.sha256 for name, file in OFFICIAL.items()}
    if not isinstance(data, Mapping) or data.get("sha256") != hashes:
        raise RunError(f"{member.judged.folder} is of other data files than the official ones")
    return member


def _row(group: Group) -> dict[str, Any]:
    """Return a training, or a model made elsewhere, as a row of the table."""
    first, n = group.members[0], len(group.members)
    accuracy = describe(group.accuracies)
    over = "images" if n == 1 else "seeds"
    interval = first.scores["accuracy_interval"] if n == 1 else accuracy["interval"]
    losses = [member.scores["loss"] for member in group.members]
    machines = {_machine(member.facts) for member in group.members if member.is_run}
    timed = first.is_run and len(machines) == 1
    return {
        "name": group.name,
        "kind": "run" if first.is_run else "bench",
        "engine": first.facts.get("engine"),
        "all_data": first.facts.get("all_data"),
        "seeds": [member.facts["seed"] for member in group.members if member.is_run],
        "accuracy": {**accuracy, "interval": interval, "interval_over": over},
        "accuracies": group.accuracies,
        "loss": None if None in losses else sum(losses) / n,
        "parameters": first.facts.get("parameters"),
        "seconds": spans([member.facts["seconds"] for member in group.members]) if timed else {},
        "machine": "; ".join(sorted(machines)),
        "command": _command(group),
        "runs": [str(member.judged.folder) for member in group.members],
        "notes": _notes(group, machines),
    }


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
            wanted = SeedRuns(parent).read()["seeds"]
            done = sum(member.judged.folder.parent == parent for member in group.members)
            notes += [f"{done} of {len(wanted)} seeds so far"] * (done < len(wanted))
    for key in ("versions", "git_commit"):
        if any(each.get(key) != facts[0].get(key) for each in facts):
            notes.append(f"the runs differ in {key.replace('_', ' ')}")
    return notes
