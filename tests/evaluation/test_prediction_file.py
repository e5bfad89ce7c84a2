from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fmnist.data import CLASS_NAMES
from fmnist.errors import ModelError
from fmnist.evaluation.bench.prediction_file import read_predictions
from foreign import softmax

SHARES = softmax(np.random.default_rng(0).normal(0, 3, (30, 10)))
CLASSES = SHARES.argmax(axis=1)


def csv(rows: Any, header: str | None = None, delimiter: str = ",") -> str:
    lines = [delimiter.join(str(cell) for cell in row) for row in rows]
    return "\n".join(([header] if header is not None else []) + lines) + "\n"


NUMBERED = csv([(i, *map(float, row)) for i, row in enumerate(SHARES)], ",0,1,2,3,4,5,6,7,8,9")
PLAIN = csv([map(float, row) for row in SHARES])
SHUFFLED = np.random.default_rng(1).permutation(30)
ALPHABET = sorted(range(10), key=lambda index: CLASS_NAMES[index])


@pytest.mark.parametrize(
    "text",
    [
        csv([[k] for k in CLASSES]),
        csv([[float(k)] for k in CLASSES]),
        csv([[k] for k in CLASSES], "prediction"),
        csv([[CLASS_NAMES[k]] for k in CLASSES]),
        csv(enumerate(CLASSES), "id,label"),
        csv(((i, CLASS_NAMES[k]) for i, k in enumerate(CLASSES)), "image;class", ";").replace(
            ",", ";"
        ),
        csv(((i + 1, CLASSES[i]) for i in SHUFFLED), "ImageId,Label"),
        csv(((k, 0) for k in CLASSES), "y_pred,y_true"),
        "\ufeff" + csv(enumerate(CLASSES)),
        csv(enumerate(CLASSES)).replace("\n", "\r\n\r\n"),
    ],
)
def test_classes_as_people_write_them(text: str, tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text(text, "utf-8")
    array, _ = read_predictions(path)
    np.testing.assert_array_equal(array, CLASSES)


@pytest.mark.parametrize(
    "text",
    [
        PLAIN,
        NUMBERED,
        "0,1,2,3,4,5,6,7,8,9\n" + PLAIN,
        csv(
            [(k, *map(float, row)) for k, row in zip(CLASSES[::-1], SHARES, strict=True)],
            "label," + ",".join(f"p_{i}" for i in range(10)),
        ),
        csv(
            [(*map(float, row), 3, i) for i, row in enumerate(SHARES)],
            ",".join(f"class{i}" for i in range(10)) + ",prediction,y_true",
        ),
        csv(map(list, SHARES[:, ALPHABET].tolist()), ",".join(CLASS_NAMES[i] for i in ALPHABET)),
    ],
)
def test_scores_as_people_write_them(text: str, tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text(text, "utf-8")
    array, assumed = read_predictions(path)
    np.testing.assert_array_equal(array, SHARES)
    assert assumed[0].what == "header"


@pytest.mark.parametrize(
    ("arrays", "found"),
    [
        ({"logits": SHARES, "labels": CLASSES}, SHARES),
        ({"predictions": CLASSES, "x": SHARES}, CLASSES),
        ({"anything": SHARES}, SHARES),
    ],
)
def test_arrays_of_an_npz(arrays: dict[str, Any], found: Any, tmp_path: Path) -> None:
    path = tmp_path / "p.npz"
    np.savez(path, **arrays)
    np.testing.assert_array_equal(read_predictions(path)[0], found)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.npz", b"nothing", "no whole .npz file"),
        ("p.csv", b"", "holds no rows"),
        ("p.csv", b"a,b\n", "holds no rows"),
        ("p.csv", b"\xff\xfe\x00", "no CSV in UTF-8"),
        ("p.csv", b"id,label\n0,1\n1,hat\n", "line 3, column 2 is 'hat'"),
        ("p.csv", b"0,1\n1,2,3\n", "line 2 has 3 columns, the first 2"),
        ("p.csv", b"id,label\n0,1\n0,2\n", "does not number the images"),
        ("p.csv", b"1,2,3\n4,5,6\n", "it has 3 columns"),
        ("p.csv", b"7,1,2,3,4,5,6,7,8,9,1\n9,1,2,3,4,5,6,7,8,9,1\n", "it has 11 columns"),
        ("p.csv", b"label,answer\n1,2\n4,5\n", "what is called label may be the truth"),
        ("p.csv", b"id,label,y_true\n0,2,2\n1,5,5\n", "it has 2 columns"),
    ],
)
def test_what_no_predictions_are_says_why(
    name: str, content: bytes, message: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ModelError, match=message) as error:
        read_predictions(path)
    assert str(error.value).startswith(str(path))


def test_pickles_and_doubtful_arrays_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.npz"
    np.savez(path, predictions=np.array([{}], object))
    with pytest.raises(ModelError, match="plain arrays"):
        read_predictions(path)
    np.savez(path, a=CLASSES, b=CLASSES)
    with pytest.raises(ModelError, match="it holds a, b; name an array"):
        read_predictions(path)
