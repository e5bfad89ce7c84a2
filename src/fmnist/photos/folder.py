"""A folder of labelled photos: what its labels.csv says, and the photos prepared.

labels.csv has the columns path (relative to the folder) and class_index (0..9; empty: none of the
ten classes), and may have sender_id (who took it) and source_label (what they call it). A second
file, sender_id and part, says which senders' photos are for what, since photos of one sender
resemble each other.
"""

import csv
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist.environment import physical_cores
from fmnist.errors import DataError, PhotoError
from fmnist.photos.pool import photo_threads
from fmnist.photos.prepared import prepare

CLASSES = 10
STRANGER = CLASSES  # the label of what is none of them
LABELS = "labels.csv"


@dataclass(frozen=True)
class PhotoFolder:
    """Which photos of which folder."""

    folder: Path
    senders: Path | None = None  # the file of senders and their parts; None: all photos
    parts: tuple[str, ...] = ()
    strangers: tuple[str, ...] = ()  # kinds of those of no class that are wanted; no others are

    def read(self) -> list["LabelledPhoto"]:
        """Return the photos. Raises DataError where a file is missing or wrong, or none is left."""
        photos = read_labels(self.folder)
        if self.senders is not None:
            parts_of = read_parts(self.senders)
            photos = [photo for photo in photos if parts_of.get(photo.sender) in self.parts]
        wanted = [p for p in photos if p.class_index is not None or p.kind in self.strangers]
        if not wanted:
            raise DataError(
                f"{self.folder / LABELS} lists no photo of a class"
                + (f" by a sender of {', '.join(self.parts)} in {self.senders}" * bool(self.parts))
            )
        return wanted

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "PhotoFolder":
        """Return what `to_json` made of it."""
        senders = fields["senders"]
        lists = tuple(fields["parts"]), tuple(fields["strangers"])
        return cls(Path(fields["folder"]), senders and Path(senders), *lists)

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON has them."""
        senders = None if self.senders is None else str(self.senders)
        return {
            "folder": str(self.folder),
            "senders": senders,
            "parts": list(self.parts),
            "strangers": list(self.strangers),
        }


@dataclass(frozen=True)
class LabelledPhoto:
    """One row of labels.csv."""

    path: Path
    class_index: int | None  # 0..9; None: none of the ten classes
    sender: str  # the file's own name where the folder does not say who sent what
    kind: str  # what the source calls it


@dataclass(frozen=True)
class PreparedPhotos:
    """Labelled photos as a network sees them."""

    images: NDArray[np.uint8]  # (n, 28, 28), background 0
    labels: NDArray[np.uint8]  # (n,), 0..9, or 10: none of the classes
    sha256: str  # of both


def read_labels(folder: Path) -> list[LabelledPhoto]:
    """Return what a folder's labels.csv lists. Raises DataError where it is missing or wrong."""
    rows = _read_table(folder / LABELS, ("path", "class_index"))
    return [_read_row(folder, number, row) for number, row in enumerate(rows, start=2)]


def read_parts(senders: Path) -> dict[str, str]:
    """Return the part of each sender in a file of sender_id and part. Raises DataError."""
    rows = _read_table(senders, ("sender_id", "part"))
    return {row["sender_id"]: row["part"] for row in rows}


def prepare_photos(photos: Sequence[LabelledPhoto]) -> PreparedPhotos:
    """Prepare photos on all processors. Raises DataError for one that cannot be read."""
    try:
        with photo_threads(physical_cores()) as threads:
            prepared = threads.map(lambda photo: prepare(photo.path).image, photos)
            images = np.array(list(prepared), np.uint8)
    except PhotoError as error:
        raise DataError(f"{error}; mend it, or take its line out of {LABELS}") from error
    classes = [STRANGER if photo.class_index is None else photo.class_index for photo in photos]
    labels = np.array(classes, np.uint8)
    digest = hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()
    return PreparedPhotos(images, labels, digest)


def _read_table(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file)
            missing = [name for name in columns if name not in (table.fieldnames or ())]
            if missing:
                raise DataError(f"{path} has no column {missing[0]}; its first line names them")
            return list(table)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise DataError(f"{path} cannot be read: {reason}") from error


def _read_row(folder: Path, number: int, row: dict[str, str]) -> LabelledPhoto:
    given = row["class_index"] or ""
    if given and given not in map(str, range(CLASSES)):
        raise DataError(
            f"{folder / LABELS}, line {number}: class_index {given!r} is not 0..9, nor empty"
        )
    return LabelledPhoto(
        path=folder / row["path"],
        class_index=int(given) if given else None,
        sender=row.get("sender_id") or row["path"],
        kind=row.get("source_label") or "",
    )
