"""Which of many run directories are one training with several seeds, and what to call it."""

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fmnist.errors import RunError
from fmnist.recipes import completed
from fmnist.runs import Judged, Run, open_judged

DAMAGE = (KeyError, TypeError, ValueError, AttributeError)  # what odd JSON leads to


@dataclass(frozen=True)
class Member:
    """A directory that was judged on `split`, its facts and what it scored there."""

    judged: Judged
    facts: Mapping[str, Any]
    scores: Mapping[str, Any]

    @property
    def is_run(self) -> bool:
        """Whether fmnist trained it; else it was made elsewhere."""
        return isinstance(self.judged, Run)

    @property
    def data(self) -> Any:
        """The hashes of the data files."""
        data = self.facts["data"]
        return data["sha256"] if isinstance(data, Mapping) else data

    @property
    def seed(self) -> int:
        """The seed; 0 of what has none."""
        return int(self.facts.get("seed", 0))

    @property
    def warnings(self) -> list[str]:
        """What was found doubtful when it was judged; only `fmnist bench` looks for that."""
        return [str(warning) for warning in self.facts.get("warnings", ())]

    @property
    def identity(self) -> str:
        """What is the same for all seeds of a training, as text."""
        facts = self.facts
        if not self.is_run:
            return str(self.judged.folder.absolute())
        photos = facts.get("photos")
        same = {
            "recipe": completed(facts["recipe"]),
            "photos": photos and [photos.get("sha256"), photos["count"]],
            "data": self.data,
            **{key: facts[key] for key in ("engine", "all_data", "device", "precision")},
        }
        return json.dumps(same, sort_keys=True)


@dataclass(frozen=True)
class Group:
    """All seeds of a training, or one model that was made elsewhere; by seed."""

    members: tuple[Member, ...]
    name: str

    @property
    def accuracies(self) -> list[float]:
        """The accuracy of each member, 0..1."""
        return [float(member.scores["accuracy"]) for member in self.members]


def find_directories(paths: Sequence[str | os.PathLike[str]]) -> list[Path]:
    """Return the directories that hold a run or what `fmnist bench` left, each once.

    They are in the order of `paths`, and below each of these in that of their names. Raises
    RunError where a path is not there.
    """
    found: dict[Path, Path] = {}
    for path in map(Path, paths):
        if not path.is_dir():
            raise RunError(f"{path} is not a directory; name one that holds runs")
        for folder in sorted(_directories(path), key=_in_order):
            found.setdefault(folder.resolve(), folder)
    return list(found.values())


def _directories(path: Path) -> Iterator[Path]:
    for folder, below, files in os.walk(path):
        if {"run.json", "bench.json"} & set(files):
            below.clear()
            yield Path(folder)


def _in_order(folder: Path) -> list[tuple[str, int]]:
    """Return a key by which seed-2 comes before seed-10."""
    parts = re.findall(r"(\D*)(\d*)", str(folder))
    return [(text, int(number or -1)) for text, number in parts]


def open_member(folder: Path, split: str) -> Member:
    """Return a directory that was judged on `split`; RunError where it was not, or is damaged."""
    try:
        member = _opened(folder, split)
        _ = member.identity, member.seed, member.warnings, _plain_name(member), _traits(member)
    except DAMAGE as error:
        raise damaged(folder, error) from error
    return member


def damaged(folder: Path, error: Exception) -> RunError:
    """Return what is said of a directory whose files are not as fmnist writes them."""
    return RunError(
        f"{folder} is damaged, or was not written by fmnist ({type(error).__name__}: {error}); "
        "leave it out, or make it again"
    )


def _opened(folder: Path, split: str) -> Member:
    judged = open_judged(folder)
    facts = judged.read()
    if isinstance(judged, Run):
        _check_judgeable(judged, facts, split)
    has_metrics = (folder / "metrics.json").exists()
    splits = judged.read_metrics().get("splits", {}) if has_metrics else {}
    if split not in splits:
        raise RunError(
            f"{folder} was not judged on the {split} split; {judged.how_to_judge(split)}"
        )
    if not {"accuracy", "accuracy_interval", "loss", "images"} <= splits[split].keys():
        raise RunError(f"{folder / 'metrics.json'} is damaged; {judged.how_to_judge(split)}")
    return Member(judged, facts, splits[split])


def _check_judgeable(run: Run, facts: Mapping[str, Any], split: str) -> None:
    if facts["state"] != "finished":
        go_on = run.resume_command()
        raise RunError(f"{run.folder} has not finished training; go on with: {go_on}")
    if facts["all_data"] and split == "validation":
        raise RunError(
            f"{run.folder} was trained on the validation images too, so it cannot be judged on "
            "them; train it without --all-data"
        )


def make_groups(members: Iterable[Member]) -> list[Group]:
    """Return the members by training, in order of appearance, named so that no two are alike."""
    by_identity: dict[str, list[Member]] = {}
    for member in members:
        by_identity.setdefault(member.identity, []).append(member)
    groups = list(by_identity.values())
    return [
        Group(tuple(sorted(group, key=lambda member: member.seed)), name)
        for group, name in zip(groups, _names([group[0] for group in groups]), strict=True)
    ]


def _names(members: Sequence[Member]) -> list[str]:
    """Return a name of each; where several would be alike, with what they differ in."""
    plain = [_plain_name(member) for member in members]
    traits = [_traits(member) for member in members]
    names = []
    for name, own in zip(plain, traits, strict=True):
        others = [trait for other, trait in zip(plain, traits, strict=True) if other == name]
        telling = [own[key] for key in own if any(own[key] != other.get(key) for other in others)]
        names.append(f"{name} ({', '.join(telling)})" if telling else name)
    return names


def _plain_name(member: Member) -> str:
    return str(member.facts["recipe"]["name"] if member.is_run else member.facts["name"])


def _traits(member: Member) -> dict[str, str]:
    """Return what may tell a training from another of the same name, in words."""
    facts = member.facts
    if not member.is_run:
        return {"where": str(member.judged.folder)}
    recipe = completed(facts["recipe"])
    traits = {
        "all_data": "on 60,000" if facts["all_data"] else "on 55,000",
        "engine": facts["engine"],
        "device": facts["device"],
        "precision": facts["precision"],
        "data": f"data {hashlib.sha256(json.dumps(member.data).encode()).hexdigest()[:8]}",
        "photos": "with photos" if facts.get("photos") else "without photos",
    }
    del recipe["source"], recipe["name"]
    return traits | {key: f"{key.replace('_', ' ')} {value}" for key, value in recipe.items()}
