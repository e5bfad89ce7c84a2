"""The clean-test score: accuracy on the test split, and beside it without the flagged images."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist.errors import DataError, RunError
from fmnist.evaluation.audit.findings import Audit, open_audit
from fmnist.evaluation.comparison.intervals import describe
from fmnist.evaluation.metrics import wilson_interval
from fmnist.recipes import differing_fields
from fmnist.runs import Judged, Run, SeedRuns, is_seed_runs, open_judged

BIAS = (
    "Flags fall where networks doubt the label, so hard images with right labels go too: the score "
    "without them is too high for every model, and the more so the more a model errs where the "
    "auditing recipe errs. It does not replace the official score."
)
SCORES = ("official", "clean", "without_suspects", "without_duplicates", "flagged")


def clean_test_score(
    folder: str | os.PathLike[str], audit: Audit | str | os.PathLike[str]
) -> dict[str, Any]:
    """Score saved test logits with and without flagged images.

    `folder` is a run, what bench left, or a directory of seeds. "official" is of all test images;
    "clean" leaves out suspected labels and images that training images repeat, "without_suspects"
    and "without_duplicates" either alone; "flagged" is of the images that "clean" leaves out. Of
    seeds an accuracy is their mean, with their standard deviation and Student's interval; "runs"
    says how many there are. Raises RunError if a run was not judged on test, seeds are missing, or
    the recipe is the one that flagged; DataError if a run was judged on other data.
    """
    audit = audit if isinstance(audit, Audit) else open_audit(audit)
    runs = _runs_of_seeds(SeedRuns(Path(folder))) if is_seed_runs(folder) else [open_judged(folder)]
    scored = [_score_one(run, audit) for run in runs]
    return {
        "run": str(folder),
        "runs": len(scored),
        **{key: _mean([each[key] for each in scored]) for key in SCORES},
        "same_network": scored[0]["same_network"],
        "bias": BIAS,
    }


def _runs_of_seeds(seeds: SeedRuns) -> list[Run]:
    """Return the runs of a directory of seeds; RunError where it has not all of them."""
    wanted = seeds.read()["seeds"]
    runs = [run for run in seeds.begun(wanted) if run.read()["state"] == "finished"]
    if len(runs) < len(wanted):
        raise RunError(
            f"{seeds.folder} has {len(runs)} of {len(wanted)} seeds; "
            f"go on with: {seeds.resume_command()}"
        )
    return runs


def _score_one(judged: Judged, audit: Audit) -> dict[str, Any]:
    """Return the scores of one directory of logits, and whether its network is the auditing one."""
    facts, flags = judged.read(), audit.read()
    recipe = facts.get("recipe")  # what bench left of another's model has none
    if isinstance(recipe, Mapping):
        _check_other_recipe(judged, recipe, flags["recipe"])
    if facts["data"]["sha256"] != flags["data"]["sha256"]:
        raise DataError(f"{judged.folder} was judged on other data files than {audit.folder}")
    saved = judged.read_logits("test")
    right = saved.logits.argmax(axis=1) == saved.labels
    suspects = np.isin(saved.indices, audit.flagged("label"))
    duplicates = np.isin(saved.indices, audit.flagged("duplicate"))
    left_out = np.zeros_like(right), suspects | duplicates, suspects, duplicates
    each = [_score(right, which) for which in (*left_out, ~(suspects | duplicates))]
    same = isinstance(recipe, Mapping) and recipe.get("network") == flags["recipe"]["network"]
    return {**dict(zip(SCORES, each, strict=True)), "same_network": same}


def _check_other_recipe(
    judged: Judged, recipe: Mapping[str, Any], auditor: Mapping[str, Any]
) -> None:
    """Raise RunError where a model would be scored by its own doubts."""
    differing = differing_fields(recipe, auditor)
    if not set(differing) - {"name"}:
        raise RunError(
            f"{judged.folder} is of the recipe that flagged images, {auditor['name']}; it would "
            "count its own doubts in its favour; audit with another --recipe"
        )


def _score(right: NDArray[np.bool_], left_out: NDArray[np.bool_]) -> dict[str, Any]:
    """Return images, accuracy and its 95 % interval of what is not left out; None if nothing is."""
    kept = right[~left_out]
    successes, images = int(kept.sum()), len(kept)
    return {
        "images": images,
        "accuracy": successes / images if images else None,
        "sd": None,
        "accuracy_interval": list(wilson_interval(successes, images)) if images else None,
    }


def _mean(scores: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return one score as it is, and of several on the same images their mean."""
    first = dict(scores[0])
    if len(scores) == 1 or not first["images"]:
        return first
    told = describe([score["accuracy"] for score in scores])
    named = {"accuracy": told["mean"], "sd": told["sd"], "accuracy_interval": told["interval"]}
    return {**first, **named}
