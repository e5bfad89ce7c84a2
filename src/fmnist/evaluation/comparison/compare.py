"""Which of several models is better: on the same images, and over the seeds of a training.

Of two single runs the images are the sample: who is right where (McNemar). Of trainings with
several seeds each the seeds are (Welch), for these images. Nothing is better than another unless
its interval is clear of zero and its p below 5 %.
"""

import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist.data import CLASS_NAMES, Dataset
from fmnist.errors import DataError, RunError
from fmnist.evaluation.comparison.groups import (
    Group,
    Member,
    find_directories,
    make_groups,
    open_member,
)
from fmnist.evaluation.comparison.intervals import (
    Z,
    describe,
    holm,
    mcnemar,
    paired_bootstrap,
    paired_interval,
    welch,
)
from fmnist.evaluation.comparison.verdicts import conclusion, sentence, warnings
from fmnist.files import write_whole
from fmnist.reporting.comparison import render_comparison
from fmnist.runs import SeedRuns, is_seed_runs

LEVEL = 0.05


@dataclass(frozen=True)
class Answers:
    """What the runs of a group say of the same n images: predicted (runs, n) and labels (n,)."""

    group: Group
    predicted: NDArray[np.int64]
    labels: NDArray[np.uint8]
    indices: NDArray[np.int64]

    @property
    def right(self) -> NDArray[np.bool_]:
        """Which answers are right, (runs, n)."""
        result: NDArray[np.bool_] = self.predicted == self.labels
        return result

    @property
    def usual(self) -> NDArray[np.int64]:
        """What most runs say of each image, (n,); of a tie the lower class."""
        counts = [(self.predicted == index).sum(axis=0) for index in range(len(CLASS_NAMES))]
        result: NDArray[np.int64] = np.argmax(counts, axis=0)
        return result


def compare(paths: Sequence[str | os.PathLike[str]], split: str = "test") -> dict[str, Any]:
    """Compare what lies in `paths`: runs, seeds of a training, or what `fmnist bench` left.

    Two directories are compared as they are. Of more, or of directories of seeds, those of one
    training form a group. Returns what `fmnist compare --json` prints (docs/json.md). Raises
    RunError where there is nothing to compare, or a run was not judged on `split`, on other images
    or twice.
    """
    answers = [_answers(group, split) for group in _groups(paths, split)]
    _check_same_images(answers)
    pairs = [_pair(one, other) for one, other in itertools.combinations(answers, 2)]
    _judge(pairs)
    for pair in pairs:
        pair["sentence"] = sentence(pair, split)
    two = answers if len(answers) == 2 else None
    groups = [_described(each) for each in answers]
    return {
        "split": split,
        "images": len(answers[0].labels),
        "sentence": conclusion(groups, pairs),
        "warnings": warnings([each.group for each in answers], pairs, split),
        "groups": groups,
        "pairs": pairs,
        "classes": _classes(*two) if two else None,
        "differing": _differing(*two) if two else None,
    }


def _groups(paths: Sequence[str | os.PathLike[str]], split: str) -> list[Group]:
    """Return the groups under `paths`; RunError where there are not two, or a seed twice."""
    for path in map(Path, paths):
        if is_seed_runs(path):
            _check_complete(SeedRuns(path))
    folders = find_directories(paths)
    members = [open_member(folder, split) for folder in folders]
    if len(members) == 2:
        return _two(*members)
    groups = make_groups(members)
    if len(groups) < 2:
        held = (
            f"{len(members)} run{'s' * (len(members) != 1)} of {groups[0].name}"
            if groups
            else "no run"
        )
        raise RunError(
            f"{', '.join(map(str, paths))}: {held}; name two runs, or seeds of two trainings"
        )
    for group in groups:
        _check_seeds(group)
    return groups


def _two(first: Member, second: Member) -> list[Group]:
    """Return two single runs as two groups, though they may be of one training."""
    groups = make_groups([first, second])
    if len(groups) == 2:
        return groups
    seeds = [member.facts["seed"] for member in (first, second)]
    told = seeds if seeds[0] != seeds[1] else [member.judged.folder for member in (first, second)]
    word = "seed " if seeds[0] != seeds[1] else ""
    return [
        Group((member,), f"{groups[0].name} ({word}{which})")
        for member, which in zip((first, second), told, strict=True)
    ]


def _check_complete(seeds: SeedRuns) -> None:
    summary = seeds.read()
    done = len(summary["runs"])
    if done < len(summary["seeds"]):
        raise RunError(
            f"{seeds.folder} has {done} of {len(summary['seeds'])} seeds; "
            f"go on with: {seeds.resume_command()}"
        )


def _check_seeds(group: Group) -> None:
    """Raise RunError where a seed counts twice: it would make the spread too small."""
    there: dict[int, Path] = {}
    for member in group.members:
        seed, folder = member.seed, member.judged.folder
        if seed in there:
            raise RunError(
                f"{there[seed]} and {folder} are both seed {seed} of {group.name}; leave one out"
            )
        there[seed] = folder


def _answers(group: Group, split: str) -> Answers:
    saved = [member.judged.read_logits(split) for member in group.members]
    first = saved[0]
    for member, part in zip(group.members, saved, strict=True):
        same = np.array_equal(part.indices, first.indices)
        if not (same and np.array_equal(part.labels, first.labels)):
            raise RunError(f"{member.judged.folder} was judged on other images than the rest")
    predicted = np.stack([part.logits.argmax(axis=1) for part in saved]).astype(np.int64)
    return Answers(group, predicted, first.labels, first.indices)


def _check_same_images(answers: Sequence[Answers]) -> None:
    """Raise RunError where two groups were judged on other images, or on other data files."""
    first = answers[0]
    for other in answers[1:]:
        same = np.array_equal(first.indices, other.indices)
        same = same and np.array_equal(first.labels, other.labels)
        one, two = (each.group.members[0] for each in (first, other))
        if not same or one.data != two.data:
            raise RunError(
                f"{one.judged.folder} and {two.judged.folder} were judged on other images; "
                "judge both on the same"
            )


def _described(answers: Answers) -> dict[str, Any]:
    members = answers.group.members
    return {
        "name": answers.group.name,
        "runs": [str(member.judged.folder) for member in members],
        "seeds": [member.facts["seed"] for member in members if member.is_run],
        "accuracy": describe(_accuracies(answers)),
    }


def _accuracies(answers: Answers) -> list[float]:
    n = len(answers.labels)
    return [int(right.sum()) / n for right in answers.right]


def _pair(one: Answers, other: Answers) -> dict[str, Any]:
    """Return the difference of two groups with what chance makes of it."""
    names = {"first": one.group.name, "second": other.group.name}
    counts = {"first_n": len(one.predicted), "second_n": len(other.predicted)}
    means = {
        f"{which}_accuracy": float(np.mean(_accuracies(each)))
        for which, each in (("first", one), ("second", other))
    }
    sampled = _over_images(one, other) if set(counts.values()) == {1} else _over_seeds(one, other)
    return {**names, **counts, **means, **sampled}


def _over_images(one: Answers, other: Answers) -> dict[str, Any]:
    first, second, n = one.right[0], other.right[0], len(one.labels)
    only = int((first & ~second).sum()), int((second & ~first).sum())
    return {
        "difference": (only[0] - only[1]) / n,
        "test": "McNemar",
        "interval": list(paired_interval(*only, n)),
        "p": mcnemar(*only),
        "only_first_right": only[0],
        "only_second_right": only[1],
        "bootstrap_interval": list(paired_bootstrap(*only, n)),
        "other_images_interval": None,
    }


def _over_seeds(one: Answers, other: Answers) -> dict[str, Any]:
    found = welch(_accuracies(one), _accuracies(other))
    return {
        "difference": found.difference,
        "test": None if found.p is None else "Welch",
        "interval": None if found.interval is None else list(found.interval),
        "p": found.p,
        "only_first_right": None,
        "only_second_right": None,
        "bootstrap_interval": None,
        "other_images_interval": _wider(found.difference, found.interval, one, other),
    }


def _wider(
    difference: float, interval: tuple[float, float] | None, one: Answers, other: Answers
) -> list[float] | None:
    """Return the interval for other seeds and other test images of the same kind.

    The halves of the two intervals are added as squares. That over images still holds some of the
    seeds' chance, so it is a little too wide.
    """
    if interval is None:
        return None
    shares = one.right.mean(axis=0) - other.right.mean(axis=0)
    half = Z * float(shares.std(ddof=1)) / len(shares) ** 0.5
    whole = float(np.hypot((interval[1] - interval[0]) / 2, half))
    return [difference - whole, difference + whole]


def _judge(pairs: Sequence[dict[str, Any]]) -> None:
    """Add to each pair its p among all pairs, and who is better; None: no difference shown."""
    tested = [pair for pair in pairs if pair["p"] is not None]
    adjusted = iter(holm([pair["p"] for pair in tested]))
    for pair in pairs:
        pair["p_adjusted"] = None if pair["p"] is None else next(adjusted)
        pair["better"] = None
        if pair["p_adjusted"] is not None and pair["p_adjusted"] < LEVEL:
            low, high = pair["interval"]
            pair["better"] = pair["first"] if low > 0 else pair["second"] if high < 0 else None


def _classes(one: Answers, other: Answers) -> list[dict[str, Any]]:
    """Return the difference of two groups for the images of each class."""
    rows: list[dict[str, Any]] = []
    for index, name in enumerate(CLASS_NAMES):
        of_class = one.labels == index
        if of_class.any():
            pair = _pair(_only(one, of_class), _only(other, of_class))
            keys = ("first_accuracy", "second_accuracy", "difference", "interval", "p")
            row = {"index": index, "name": name, "images": int(of_class.sum())}
            rows.append({**row, **{key: pair[key] for key in keys}})
    tested = [row for row in rows if row["p"] is not None]
    adjusted = iter(holm([row["p"] for row in tested]))
    return [{**row, "p_adjusted": None if row["p"] is None else next(adjusted)} for row in rows]


def _only(answers: Answers, chosen: NDArray[np.bool_]) -> Answers:
    return Answers(
        answers.group, answers.predicted[:, chosen], answers.labels[chosen], answers.indices[chosen]
    )


def _differing(one: Answers, other: Answers) -> dict[str, Any]:
    """Return the images of which two groups say something else, the clearest first."""
    first, second, labels = one.usual, other.usual, one.labels
    shares = one.right.mean(axis=0), other.right.mean(axis=0)
    places = np.flatnonzero(first != second)
    places = places[np.argsort(-np.abs(shares[0] - shares[1])[places], kind="stable")]
    return {
        "count": len(places),
        "only_first_right": int((first[places] == labels[places]).sum()),
        "only_second_right": int((second[places] == labels[places]).sum()),
        "images": [
            {
                "index": int(one.indices[place]),
                "true": CLASS_NAMES[labels[place]],
                "first": CLASS_NAMES[first[place]],
                "second": CLASS_NAMES[second[place]],
                "first_share": float(shares[0][place]),
                "second_share": float(shares[1][place]),
            }
            for place in places
        ],
    }


def write_page(path: Path, comparison: Mapping[str, Any], data: Dataset) -> None:
    """Write a comparison as one self-contained page, with images of which two groups differ.

    Raises DataError where `data` holds other images than were judged.
    """
    on_test = comparison["split"] == "test"
    images = data.test_images if on_test else data.train_images
    labels = data.test_labels if on_test else data.train_labels
    differing = (comparison["differing"] or {"images": []})["images"]
    for each in differing:
        if each["index"] >= len(labels) or CLASS_NAMES[labels[each["index"]]] != each["true"]:
            raise DataError(
                f"the runs were judged on other images than {data.folder} holds; "
                "name theirs with --data-dir"
            )
    pictures = {each["index"]: images[each["index"]] for each in differing}
    write_whole(path, render_comparison(comparison, pictures).encode())
