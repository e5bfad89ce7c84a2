"""A comparison in plain words: what may be said, what may not, and what to beware of."""

from collections.abc import Mapping, Sequence
from typing import Any

from fmnist.evaluation.comparison.groups import Group

FEW = 5  # seeds: with fewer, Student's interval leans hard on accuracies being normal


def sentence(pair: Mapping[str, Any], split: str) -> str:
    """Return what a pair of models comes to; the better one, or else the higher, comes first."""
    swap = pair["difference"] < 0
    one, other = ("second", "first") if swap else ("first", "second")
    against = f"{_score(pair, one)} against {_score(pair, other)}"
    if pair["interval"] is None:
        return f"Nothing can be said of {pair[one]} and {pair[other]}: {against}, but {_why(pair)}."
    low, high = sorted(-bound if swap else bound for bound in pair["interval"])
    bounds = f"95 % interval {_points(low)} to {_points(high)}; {_test(pair)}"
    if pair["better"] is not None:
        gap = _points(abs(pair["difference"]))
        return (
            f"{pair[one]} is better than {pair[other]} on the {split} images: "
            f"{against}, a difference of {gap} points ({bounds})."
        )
    return (
        f"No difference shown between {pair[one]} and {pair[other]} on the {split} images: "
        f"{against}, a difference of {_points(abs(pair['difference']))} points ({bounds})."
    )


def conclusion(groups: Sequence[Mapping[str, Any]], pairs: Sequence[Mapping[str, Any]]) -> str:
    """Return the one sentence on all groups: of two that of their pair, of more how the best is."""
    if len(pairs) == 1:
        return str(pairs[0]["sentence"])
    best = max(groups, key=lambda group: float(group["accuracy"]["mean"]))
    name, mean = str(best["name"]), best["accuracy"]["mean"]
    said: dict[str, list[str]] = {
        "better than": [],
        "no difference shown to": [],
        "not comparable with": [],
    }
    for pair in pairs:
        if name in (pair["first"], pair["second"]):
            other = pair["second"] if pair["first"] == name else pair["first"]
            shown = "better than" if pair["better"] == name else "no difference shown to"
            said[shown if pair["interval"] else "not comparable with"].append(other)
    parts = [f"{words} {_listed(names)}" for words, names in said.items() if names]
    return f"{name} has the highest accuracy, {100 * mean:.2f} %: {'; '.join(parts)}."


def warnings(groups: Sequence[Group], pairs: Sequence[Mapping[str, Any]], split: str) -> list[str]:
    """Return what a reader has to know before quoting."""
    said = list(_of_sizes(groups))
    said += [
        f"{group.name}: {warning}"
        for group in groups
        for member in group.members
        for warning in member.warnings
    ]
    facts = [member.facts for group in groups for member in group.members if member.is_run]
    if len({each["all_data"] for each in facts}) > 1:
        said.append("some learned from 60,000 images and some from 55,000")
    for what in ("engine", "device", "precision"):
        values = sorted({str(each[what]) for each in facts})
        if len(values) > 1:
            said.append(f"they were not trained alike: {what} {' and '.join(values)}")
    if len(pairs) > 1:
        said.append(
            f"p-values are corrected for {len(pairs)} comparisons (Holm), intervals are not"
        )
    if split == "validation":
        said.append("recipes are chosen on the validation images; quote the test split")
    return said


def _of_sizes(groups: Sequence[Group]) -> list[str]:
    sizes = {group.name: len(group.members) for group in groups}
    trained = [group.name for group in groups if group.members[0].is_run]
    if set(sizes.values()) == {1}:
        are = "is a single training" if len(trained) == 1 else "are single trainings"
        return [f"{_listed(trained)} {are}: other seeds may turn it around"] if trained else []
    few = [f"{name} has {n} seed{'s' * (n > 1)}" for name, n in sizes.items() if n < FEW]
    return [f"{_listed(few)}: few to know a spread from; take {FEW} or more"] if few else []


def _why(pair: Mapping[str, Any]) -> str:
    single = [pair[which] for which in ("first", "second") if pair[f"{which}_n"] == 1]
    if single:
        return f"{_listed(single)} has a single run, which shows no spread over seeds"
    return "no seed of either differs from another, which shows no spread"


def _score(pair: Mapping[str, Any], which: str) -> str:
    n = pair[f"{which}_n"]
    mean = f"{100 * pair[f'{which}_accuracy']:.2f} %"
    return mean if n == 1 else f"{mean} (mean of {n} seeds)"


def _test(pair: Mapping[str, Any]) -> str:
    name = {"McNemar": "McNemar's exact test", "Welch": "Welch's test"}[pair["test"]]
    p = pair["p_adjusted"]
    return f"{name}, p {'< 0.001' if p < 0.001 else f'= {p:.3f}'}"


def _points(share: float) -> str:
    """Return percentage points with two decimals, and no minus before a zero."""
    text = f"{100 * share:.2f}"
    return text.removeprefix("-") if float(text) == 0 else text.replace("-", "\u2212")


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
