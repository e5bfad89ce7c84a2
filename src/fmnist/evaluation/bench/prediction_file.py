"""Files of predictions: `.npz` and `.csv` to an array of scores or classes, a row an image."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist.classifier.pixels import Assumption
from fmnist.data import CLASS_NAMES
from fmnist.errors import ModelError
from fmnist.evaluation.arrays import unpack_arrays
from fmnist.files import read_at_most

KEYS = ("logits", "probabilities", "scores", "predictions")
LIMIT_BYTES = 128 * 2**20  # 70,000 rows of ten numbers as text are a tenth of that
PREDICTED = ("prediction", "predictions", "predicted", "pred", "y_pred", "class_index")
INDEX = ("", "index", "id", "image", "imageid", "image_id", "row", "unnamed: 0")
_BY_NAME = {name.lower(): index for index, name in enumerate(CLASS_NAMES)}


def read_predictions(path: Path) -> tuple[NDArray[Any], list[Assumption]]:
    """Return what a file holds, (n, 10) or (n,), in the order of the images, and how it was read.

    Raises ModelError where the file cannot be read or holds no such thing.
    """
    content = read_at_most(path, LIMIT_BYTES)
    try:
        return (_of_npz if path.suffix.lower() == ".npz" else _of_csv)(content)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error


def _of_npz(content: bytes) -> tuple[NDArray[Any], list[Assumption]]:
    try:
        arrays = unpack_arrays(content, LIMIT_BYTES)
    except ValueError as error:
        raise ModelError(str(error)) from error
    name = _key(list(arrays))
    return arrays[name], [Assumption("array", name, f"one of {', '.join(sorted(arrays))}")]


def _key(names: Sequence[str]) -> str:
    for key in KEYS:
        if key in names:
            return key
    if len(names) == 1:
        return names[0]
    raise ModelError(f"it holds {', '.join(names) or 'nothing'}; name an array {' or '.join(KEYS)}")


def _of_csv(content: bytes) -> tuple[NDArray[Any], list[Assumption]]:
    rows = _rows(content)
    header = _header(rows)
    body = rows[1:] if header is not None else rows
    width = len((rows or [[]])[0])
    ragged = next((i for i, row in enumerate(rows) if len(row) != width), None)
    if ragged is not None:
        raise ModelError(f"line {ragged + 1} has {len(rows[ragged])} columns, the first {width}")
    if not body:
        raise ModelError("it holds no rows")
    table = _table(body, 1 if header is None else 2)
    names = [""] * width if header is None else header
    assumed = [Assumption("header", "no" if header is None else "yes", "its first line")]
    table, names, of_index = _without_index(table, names, header is not None)
    table, of_columns = _chosen_columns(table, names)
    return table, [*assumed, *of_index, *of_columns]


def _rows(content: bytes) -> list[list[str]]:
    try:
        text = content.decode("utf-8-sig")
        first = text.partition("\n")[0]
        delimiter = max(",;\t", key=first.count)
        read = csv.reader(io.StringIO(text), delimiter=delimiter)
        return [[cell.strip() for cell in row] for row in read if any(cell.strip() for cell in row)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ModelError(f"it is no CSV in UTF-8 ({error})") from error


def _header(rows: Sequence[Sequence[str]]) -> list[str] | None:
    """Return the first row in lower case if it names the columns."""
    if not rows:
        return None
    first = [cell.lower() for cell in rows[0]]
    numbered = [str(index) for index in range(10)]
    # pandas numbers the columns that have no names; a row of data has no such figures.
    if first[-10:] == numbered or (first == ["0"] and len(rows) == 10_001):
        return first
    if len(first) >= 10 and set(first) >= set(_BY_NAME):
        return first
    is_data = all(_is_number(cell) or cell in _BY_NAME for cell in first)
    return None if is_data else first


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _table(rows: Sequence[Sequence[str]], first: int) -> NDArray[np.float64]:
    """Return cells as numbers (n, columns), names of classes as their index."""
    try:
        return np.array(rows, dtype=np.float64)
    except ValueError:
        pass
    table = np.empty((len(rows), len(rows[0])))
    for at, row in enumerate(rows):
        for column, cell in enumerate(row):
            try:
                table[at, column] = _BY_NAME.get(cell.lower(), np.nan)
                if cell.lower() not in _BY_NAME:
                    table[at, column] = float(cell)
            except ValueError as error:
                raise ModelError(
                    f"line {at + first}, column {column + 1} is {cell[:40]!r}, neither a number "
                    "nor a class"
                ) from error
    return table


def _without_index(
    table: NDArray[np.float64], names: list[str], named: bool
) -> tuple[NDArray[np.float64], list[str], list[Assumption]]:
    """Take away a first column that numbers the images, and put the rows into its order."""
    first, n = table[:, 0], len(table)
    is_sequence = any(np.array_equal(np.sort(first), np.arange(n) + start) for start in (0, 1))
    is_index = named and names[0] in INDEX
    if table.shape[1] not in (2, 11) and not (is_index and table.shape[1] > 1):
        return table, names, []
    if is_index and not is_sequence:
        raise ModelError("its index does not number the images from 0, or from 1, each once")
    if not is_sequence:
        return table, names, []
    start = int(first.min())
    note = Assumption("index", names[0] or "first column", f"it numbers the images from {start}")
    return table[np.argsort(first), 1:], names[1:], [note]


def _chosen_columns(
    table: NDArray[np.float64], names: list[str]
) -> tuple[NDArray[np.float64], list[Assumption]]:
    """Return ten columns of scores in the order of the classes, or the one of predicted classes."""
    if set(names) >= set(_BY_NAME):
        order = [names.index(name) for name in _BY_NAME]
        return table[:, order], [Assumption("columns", "classes", "the header names the classes")]
    if table.shape[1] == 10:
        return table, []
    if table.shape[1] == 1:
        return table[:, 0], []
    if ten := _ten_numbered(names):
        said = f"{names[ten[0]]} to {names[ten[9]]}"
        return table[:, ten], [Assumption("columns", said, "the header numbers the classes")]
    found = next((name for name in PREDICTED if name in names), None)
    if found is None:
        raise ModelError(
            f"it has {table.shape[1]} columns; there must be one of classes or ten of scores, "
            "and an index before them if you like; of several, name one prediction (what is called "
            "label may be the truth)"
        )
    return table[:, names.index(found)], [Assumption("column", found, "its name in the header")]


def _ten_numbered(names: Sequence[str]) -> list[int] | None:
    """Return the places of ten columns that the header numbers 0 to 9, after the same word."""
    words = {name[:-1] for name in names if name[-1:] == "0"}
    found = [[f"{word}{index}" for index in range(10)] for word in sorted(words)]
    whole = [ten for ten in found if set(ten) <= set(names)]
    return [names.index(name) for name in whole[0]] if len(whole) == 1 else None
