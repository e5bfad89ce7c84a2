"""A folder of labelled photos: what its labels.csv says, and the photos prepared.

labels.csv has the columns path (relative to the folder) and class_index (0..9; empty: none of the
ten classes), and may have sender_id (who took it) and source_label (what they call it). A second
file, sender_id and part, says which senders' photos are for what, since photos of one sender
resemble each other.
"""

import csv
import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist.data import STRANGER
from fmnist.environment import physical_cores
from fmnist.errors import DataError, PhotoError
from fmnist.photos.pool import photo_threads
from fmnist.photos.prepared import prepare

CLASSES = 10
LABELS = "labels.csv"


@dataclass(frozen=True)
class PhotoFolder:
    """Which photos of which folder."""

    folder: Path
    senders: Path | None = None  # the file of senders and their parts; None: all photos
    parts: tuple[str, ...] = ()
    strangers: tuple[str, ...] = ()  # kinds of those of no class that are wanted; no others are

    def read(self) -> list["LabelledPhoto"]:
        """Return the photos.

        Raises DataError where a file is missing or wrong, where it has no photo of a part or kind
        that is named here, or where no photo of a class is left.
        """
        photos = read_labels(self.folder)
        kinds = {photo.kind for photo in photos if photo.class_index is None}
        lacking = f"{self.folder / LABELS} lists no photo of no class with source_label"
        _check_there(lacking, self.strangers, kinds)
        if self.senders is not None:
            photos = self._of_parts(photos, read_parts(self.senders))
        if all(photo.class_index is None for photo in photos):
            raise DataError(
                f"{self.folder / LABELS} lists no photo of a class"
                + (f" by a sender of {', '.join(self.parts)} in {self.senders}" * bool(self.parts))
            )
        return [p for p in photos if p.class_index is not None or p.kind in self.strangers]

    def _of_parts(
        self, photos: Sequence["LabelledPhoto"], parts_of: Mapping[str, str]
    ) -> list["LabelledPhoto"]:
        """Return the photos whose sender is of one of the parts. Raises DataError."""
        there = {parts_of[photo.sender] for photo in photos if photo.sender in parts_of}
        lacking = f"{self.folder / LABELS} lists no photo by a sender that {self.senders} calls"
        _check_there(lacking, self.parts, there)
        return [photo for photo in photos if parts_of.get(photo.sender) in self.parts]

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "PhotoFolder":
        """Return what `to_json` made of it."""
        senders = fields["senders"]
        lists = tuple(fields["parts"]), tuple(fields["strangers"])
        return cls(Path(fields["folder"]), senders and Path(senders), *lists)

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON has them; absolute paths, which hold in any directory."""
        senders = None if self.senders is None else str(self.senders.absolute())
        return {
            "folder": str(self.folder.absolute()),
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
    return [_read_row(folder, line, row) for line, row in rows.items()]


def read_parts(senders: Path) -> dict[str, str]:
    """Return the part of each sender in a file of sender_id and part.

    Raises DataError where it is missing or wrong, or has a sender in two parts.
    """
    parts: dict[str, str] = {}
    for line, row in _read_table(senders, ("sender_id", "part")).items():
        sender, part = row["sender_id"], row["part"]
        if parts.setdefault(sender, part) != part:
            raise DataError(
                f"{senders}, line {line}: sender {sender!r} is of part {part!r} here and of"
                f" {parts[sender]!r} before; keep one"
            )
    return parts


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


def _check_there(lacking: str, wanted: Sequence[str], there: Collection[str]) -> None:
    """Raise DataError, which begins with `lacking`, for a name that is not there: misspelt."""
    for name in wanted:
        if name not in there:
            names = ", ".join(map(repr, sorted(there))) or "none"
            raise DataError(f"{lacking} {name!r}; there are: {names}")


def _read_table(path: Path, columns: Sequence[str]) -> dict[int, dict[str, str]]:
    """Return the rows of a CSV file by line. Raises DataError."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file)
            missing = [name for name in columns if name not in (table.fieldnames or ())]
            if missing:
                raise DataError(f"{path} has no column {missing[0]}; its first line names them")
            rows = {}
            for row in table:
                _check_whole(path, table.line_num, row)
                rows[table.line_num] = row
            return rows
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise DataError(f"{path} cannot be read: {reason}") from error


def _check_whole(path: Path, line: int, row: Mapping[str, str | None]) -> None:
    """Raise DataError where a row's last cells are missing: csv gives None for them."""
    missing = [name for name, cell in row.items() if cell is None]
    if missing:
        raise DataError(f"{path}, line {line} ends before column {missing[0]}; add its commas")


def _read_row(folder: Path, line: int, row: dict[str, str]) -> LabelledPhoto:
    given = row["class_index"] or ""
    if given and given not in map(str, range(CLASSES)):
        raise DataError(
            f"{folder / LABELS}, line {line}: class_index {given!r} is not 0..9, nor empty"
        )
    return LabelledPhoto(
        path=folder / row["path"],
        class_index=int(given) if given else None,
        sender=row.get("sender_id") or row["path"],
        kind=row.get("source_label") or "",
    )
