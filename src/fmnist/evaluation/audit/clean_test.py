"""The clean-test score: accuracy on the test split, and beside it without the flagged images."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist.errors import DataError, RunError
from fmnist.evaluation.audit.findings import Audit, open_audit
from fmnist.evaluation.metrics import wilson_interval
from fmnist.recipes import differing_fields
from fmnist.runs import Judged, open_judged

BIAS = (
    "Flags fall where networks doubt the label, so hard images with right labels go too: the score "
    "without them is too high for every model, and the more so the more a model errs where the "
    "auditing recipe errs. It does not replace the official score."
)


def clean_test_score(
    run: str | os.PathLike[str], audit: Audit | str | os.PathLike[str]
) -> dict[str, Any]:
    """Score the saved test logits of a run, or of what bench left, with and without flagged images.

    "official" is of all test images; "clean" leaves out suspected labels and images that training
    images repeat, "without_suspects" and "without_duplicates" either alone; "flagged" is of the
    images that "clean" leaves out. Raises RunError if the run was not judged on test, or its
    recipe is the one that flagged; DataError if it was judged on other data.
    """
    audit = audit if isinstance(audit, Audit) else open_audit(audit)
    judged = open_judged(run)
    facts, flags = judged.read(), audit.read()
    recipe = facts.get("recipe")  # what bench left has none
    if recipe is not None:
        _check_other_recipe(judged, recipe, flags["recipe"])
    if facts["data"]["sha256"] != flags["data"]["sha256"]:
        raise DataError(f"{judged.folder} was judged on other data files than {audit.folder}")
    saved = judged.read_logits("test")
    right = saved.logits.argmax(axis=1) == saved.labels
    suspects = np.isin(saved.indices, audit.flagged("label"))
    duplicates = np.isin(saved.indices, audit.flagged("duplicate"))
    same = recipe is not None and recipe["network"] == flags["recipe"]["network"]
    return {
        "run": str(judged.folder),
        "official": _score(right, np.zeros_like(right)),
        "clean": _score(right, suspects | duplicates),
        "without_suspects": _score(right, suspects),
        "without_duplicates": _score(right, duplicates),
        "flagged": _score(right, ~(suspects | duplicates)),
        "same_network": same,
        "bias": BIAS,
    }


def _check_other_recipe(
    judged: Judged, recipe: Mapping[str, Any], auditor: Mapping[str, Any]
) -> None:
    """Raise RunError where a run would be scored by its own doubts."""
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
        "accuracy_interval": list(wilson_interval(successes, images)) if images else None,
    }
