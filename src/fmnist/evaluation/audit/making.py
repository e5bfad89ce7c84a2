"""The audit made: networks of a fast recipe asked, their doubts and the images' twins listed."""

import contextlib
import logging
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fmnist.data import CLASS_NAMES, Dataset, load_dataset
from fmnist.data.official import TRAIN_LABELS
from fmnist.environment import git_commit, machine, versions
from fmnist.evaluation.audit.findings import Audit, Finding
from fmnist.evaluation.audit.folds import HeldOut, ask_folds
from fmnist.evaluation.audit.suspects import Suspects, find_suspects
from fmnist.evaluation.audit.twins import Neighbourhood, Pair, find_neighbours, find_pairs
from fmnist.files import write_whole
from fmnist.recipes import Recipe, find_recipe
from fmnist.reporting.audit import Exhibits, Odd, Picture, Suspect, Twins, render_audit
from fmnist.runs import claim_folder

log = logging.getLogger("fmnist")

FOLDS = 5
ODD_ONE_IN = 500  # so many images of a split have one listed as like no other
# Wrong training labels that people found: N. M. Müller & K. Markert, "Identifying mislabeled
# instances in classification datasets", 2019, arXiv 1912.05283. They check the audit.
KNOWN_WRONG = (16691, 22264, 28264, 33982, 40513, 42018, 45592)
KNOWN_IN = "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"


class Found(NamedTuple):
    """All that an audit found."""

    said: HeldOut
    suspects: Mapping[str, Suspects]  # of "train" and "test"
    pairs: Sequence[Pair]
    odd: NDArray[np.int64]  # the strangest first, as places: train first, then test
    strangeness: NDArray[np.float64]  # of all places


def audit(
    data: Dataset | None = None,
    *,
    out: str | os.PathLike[str] = "audit",
    recipe: Recipe | str = "sprint",
    folds: int = FOLDS,
    seed: int = 0,
    device: str = "auto",
) -> dict[str, Any]:
    """Audit the data set into the new folder `out`, and return what audit.json says.

    Labels are judged by networks of `recipe` that did not learn from the image: a training image's
    by that of its fold, a test image's by all. Raises RunError when `out` holds anything or the
    recipe cannot be trained so, ModelError for a bad network; then there is no folder.
    """
    began = time.perf_counter()
    named = recipe if isinstance(recipe, str) else recipe.name
    recipe = find_recipe(recipe) if isinstance(recipe, str) else recipe
    data = data or load_dataset()
    with _claimed(out) as folder:
        found = _find(recipe, data, folds, seed, device)
        facts = {
            "named": named,
            "recipe": recipe.to_json(),
            "folds": folds,
            "seed": seed,
            "argv": sys.argv,
            "versions": versions(),
            "machine": machine(),
            "git_commit": git_commit(),
            "data": {"sha256": data.sha256, "source": data.source},
            **_counts(data, found),
            "page": str(folder.page),
            "seconds": time.perf_counter() - began,
        }
        _write(folder, facts, data, found)
    return facts


@contextlib.contextmanager
def _claimed(out: str | os.PathLike[str]) -> Iterator[Audit]:
    """Hold the new folder `out` while an audit is made; one that fails leaves none."""
    folder = claim_folder(out, "audit")
    try:
        yield Audit(folder)
    except BaseException:  # Ctrl-C too leaves no claim behind
        (folder / "lock").unlink()
        with contextlib.suppress(OSError):  # something was written already
            folder.rmdir()
        raise
    (folder / "lock").unlink()


def _write(folder: Audit, facts: Mapping[str, Any], data: Dataset, found: Found) -> None:
    page = render_audit(facts, CLASS_NAMES, _exhibits(data, found))
    folder.write_probabilities(found.said.train, found.said.test)
    folder.write_findings(list(_findings(data, found)))
    write_whole(folder.page, page.encode())
    folder.write(facts)


def _find(recipe: Recipe, data: Dataset, folds: int, seed: int, device: str) -> Found:
    said = ask_folds(recipe, data, folds, seed, device)
    suspects = {
        "train": find_suspects(data.train_labels, said.train),
        "test": find_suspects(data.test_labels, said.test),
    }
    log.info("looking for each image's nearest others")
    neighbours = find_neighbours(said.embeddings)
    log.info("comparing pixels")
    images = np.concatenate([data.train_images, data.test_images])
    pairs = find_pairs(images, neighbours.indices)
    odd = _strangest(neighbours, len(data.train_labels))
    return Found(said, suspects, pairs, odd, neighbours.strangeness)


def _strangest(neighbours: Neighbourhood, train: int) -> NDArray[np.int64]:
    """Return the strangest places of each split, the strangest of all first."""
    order = np.argsort(-neighbours.strangeness, kind="stable")
    chosen = [
        part[: -(-len(part) // ODD_ONE_IN)]
        for part in (order[order < train], order[order >= train])
    ]
    both = np.concatenate(chosen)
    return both[np.argsort(-neighbours.strangeness[both], kind="stable")]


def _place(data: Dataset, place: int) -> tuple[str, int, int]:
    """Return split, index and label of an image; places count train first, then test."""
    train = len(data.train_labels)
    if place < train:
        return "train", place, int(data.train_labels[place])
    return "test", place - train, int(data.test_labels[place - train])


def _findings(data: Dataset, found: Found) -> Iterator[Finding]:
    for split, suspects in found.suspects.items():
        labels = data.train_labels if split == "train" else data.test_labels
        for i in suspects.ranked().tolist():
            score, suggested = float(suspects.scores[i]), int(suspects.suggested[i])
            yield Finding(split, i, int(labels[i]), suggested, score, "label")
    for pair in found.pairs:
        both = _place(data, pair.first), _place(data, pair.second)
        for (split, index, label), (other, partner, _) in (both, both[::-1]):
            score = 1 - pair.distance
            yield Finding(split, index, label, None, score, "duplicate", f"{other} {partner}")
    for place in found.odd.tolist():
        split, index, label = _place(data, place)
        yield Finding(split, index, label, None, float(found.strangeness[place]), "outlier")


def _counts(data: Dataset, found: Found) -> dict[str, Any]:
    """Return the part of audit.json that says what was found."""
    train = len(data.train_labels)
    in_test = [(pair.first >= train) + (pair.second >= train) for pair in found.pairs]
    odd = int((found.odd < train).sum())
    return {
        "images": {"train": train, "test": len(data.test_labels)},
        "held_out_accuracy": {
            "train": _accuracy(found.said.train, data.train_labels),
            "test": _accuracy(found.said.test, data.test_labels),
        },
        "suspects": {name: int(part.flagged.sum()) for name, part in found.suspects.items()},
        "duplicates": {
            "train": in_test.count(0),
            "across": in_test.count(1),
            "test": in_test.count(2),
        },
        "repeated_test_images": len(
            {pair.second for pair, count in zip(found.pairs, in_test, strict=True) if count == 1}
        ),
        "outliers": {"train": odd, "test": len(found.odd) - odd},
        "known": _known(data, found.suspects["train"]),
    }


def _accuracy(probabilities: NDArray[np.float64], labels: NDArray[np.uint8]) -> float:
    return int((probabilities.argmax(axis=1) == labels).sum()) / len(labels)


def _known(data: Dataset, suspects: Suspects) -> dict[str, Any] | None:
    """Return how the known wrong labels rank; None where the labels are not those they are in."""
    if data.sha256.get(TRAIN_LABELS) != KNOWN_IN:
        return None
    ranks = suspects.ranks()[list(KNOWN_WRONG)]
    return {
        "indices": list(KNOWN_WRONG),
        "ranks": ranks.tolist(),
        "in_top_percent": int((ranks <= len(suspects.scores) // 100).sum()),
    }


def _exhibits(data: Dataset, found: Found) -> Exhibits:
    """Return the pictures of the page, in the order of audit.csv."""

    def picture(place: int) -> Picture:
        split, index, label = _place(data, place)
        image = (data.train_images if split == "train" else data.test_images)[index]
        return Picture(split, index, image, CLASS_NAMES[label])

    def suspect(place: int, row: NDArray[np.float64], suggested: int) -> Suspect:
        label = _place(data, place)[2]
        known = place in KNOWN_WRONG and data.sha256.get(TRAIN_LABELS) == KNOWN_IN
        name, share = CLASS_NAMES[suggested], float(row[suggested])
        return Suspect(picture(place), float(row[label]), name, share, known)

    probabilities = np.concatenate([found.said.train, found.said.test])
    starts = {"train": 0, "test": len(data.train_labels)}
    return Exhibits(
        {
            split: [
                suspect(starts[split] + i, probabilities[starts[split] + i], int(part.suggested[i]))
                for i in part.ranked().tolist()
            ]
            for split, part in found.suspects.items()
        },
        [
            Twins(picture(pair.first), picture(pair.second), pair.distance, _how(pair))
            for pair in found.pairs
        ],
        [Odd(picture(place), float(found.strangeness[place])) for place in found.odd.tolist()],
    )


def _how(pair: Pair) -> str:
    """Return what was done to the first image to bring it onto the second."""
    moved = "moved by a pixel" if pair.shift != (0, 0) else ""
    return ", ".join(filter(None, ["mirrored" if pair.mirrored else "", moved]))
