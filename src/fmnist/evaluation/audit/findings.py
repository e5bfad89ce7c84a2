"""The folder of an audit: what was found, as files that others read.

audit.json         how it was made, and counts
audit.csv          a row for each thing found: split, index, label, suggested, score, kind, partner
probabilities.npz  train (n, 10) and test (m, 10), float32, by networks that did not see the image
audit.html         the page
"""

import csv
import dataclasses
import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fmnist.errors import RunError
from fmnist.files import write_whole

Kind: TypeAlias = Literal["label", "duplicate", "outlier"]
FOUND = ("suspects", "duplicates", "repeated_test_images", "outliers", "known")
QUOTED = ("folds", "seed", "images", "held_out_accuracy", *FOUND, "page", "seconds")
FACTS = frozenset(("recipe", "data", *QUOTED))


@dataclass(frozen=True)
class Finding:
    """One thing found: an image of the official train or test file, and what is odd about it."""

    split: str  # "train" (all 60,000) or "test"
    index: int
    label: int  # 0..9
    suggested: int | None  # 0..9, of a suspected label
    score: float  # 0..1, higher: surer (label, duplicate) or stranger (outlier)
    kind: Kind
    partner: str = ""  # "train 17" or "test 17": whose near-duplicate it is


@dataclass(frozen=True)
class Audit:
    """A folder that `fmnist audit` wrote; writes are atomic, bad files are RunErrors."""

    folder: Path

    @property
    def page(self) -> Path:
        """The page."""
        return self.folder / "audit.html"

    def read(self) -> dict[str, Any]:
        """Return audit.json."""
        path = self.folder / "audit.json"
        try:
            facts = json.loads(path.read_bytes())
        except OSError as error:
            raise RunError(
                f"{self.folder} holds no audit; make one with: fmnist audit --out {self.folder}"
            ) from error
        except ValueError as error:
            raise RunError(f"{path} is damaged ({error}); audit again") from error
        if not isinstance(facts, dict) or not facts.keys() >= FACTS:
            raise RunError(f"{path} was not written by fmnist audit; name another folder")
        return facts

    def write(self, facts: Mapping[str, Any]) -> None:
        """Replace audit.json."""
        text = json.dumps(facts, indent=1, allow_nan=False, ensure_ascii=False)
        write_whole(self.folder / "audit.json", (text + "\n").encode())

    def summary(self) -> dict[str, Any]:
        """Return what the audit came to, as `fmnist audit --json` prints it (docs/json.md)."""
        facts = self.read()
        quoted = {name: facts[name] for name in QUOTED}
        return {"audit": str(self.folder), "recipe": facts["recipe"]["name"], **quoted}

    def read_findings(self) -> list[Finding]:
        """Return the rows of audit.csv, in their order."""
        path = self.folder / "audit.csv"
        try:
            rows = list(csv.DictReader(io.StringIO(path.read_text("utf-8"))))
            return [_finding(row) for row in rows]
        except OSError as error:
            raise RunError(f"{path} cannot be read ({error.strerror}); audit again") from error
        except (ValueError, KeyError, TypeError) as error:
            raise RunError(f"{path} is damaged ({error}); audit again") from error

    def write_findings(self, findings: Sequence[Finding]) -> None:
        """Replace audit.csv."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(field.name for field in dataclasses.fields(Finding))
        for found in findings:
            rounded = dataclasses.replace(found, score=round(found.score, 6))
            writer.writerow(dataclasses.astuple(rounded))
        write_whole(self.folder / "audit.csv", text.getvalue().encode())

    def write_probabilities(self, train: NDArray[np.float64], test: NDArray[np.float64]) -> None:
        """Replace probabilities.npz."""
        content = io.BytesIO()
        np.savez(content, train=train.astype(np.float32), test=test.astype(np.float32))
        write_whole(self.folder / "probabilities.npz", content.getvalue())

    def flagged(self, kind: Kind) -> NDArray[np.int64]:
        """Return the test images (k,) int64, by index, that a clean test would leave out.

        Of duplicates these are the images that a training image repeats.
        """
        found = (each for each in self.read_findings() if each.split == "test")
        chosen = [
            each.index
            for each in found
            if each.kind == kind and (kind != "duplicate" or each.partner.startswith("train "))
        ]
        return np.unique(np.array(chosen, np.int64))


def open_audit(folder: str | os.PathLike[str]) -> Audit:
    """Return the audit in `folder`; RunError if there is none."""
    audit = Audit(Path(folder))
    audit.read()
    return audit


def _finding(row: Mapping[str, str]) -> Finding:
    if row["kind"] not in ("label", "duplicate", "outlier") or row["split"] not in (
        "train",
        "test",
    ):
        raise ValueError(f"no such kind or split: {row['kind']}, {row['split']}")
    return Finding(
        row["split"],
        int(row["index"]),
        int(row["label"]),
        int(row["suggested"]) if row["suggested"] else None,
        float(row["score"]),
        row["kind"],  # type: ignore[arg-type]  # it is one of the three
        row["partner"],
    )
