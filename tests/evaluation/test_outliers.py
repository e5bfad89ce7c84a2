import gzip
import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.special import log_softmax, logsumexp, softmax
from scipy.stats import entropy as scipy_entropy
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from fmnist.errors import DataError
from fmnist.evaluation import outliers
from fmnist.evaluation.outliers import (
    SCORES,
    auroc,
    average_precision,
    counts_by_threshold,
    draw_noise,
    draw_shapes,
    false_positives_at,
    measure_outliers,
    read_outliers,
)
from fmnist.evaluation.subject import Subject

SOME = np.random.default_rng(5).integers(0, 256, (3, 28, 28), dtype=np.uint8)


def scores(low: int, high: int) -> st.SearchStrategy[list[float]]:
    """Few different numbers, so that many are equal."""
    return st.lists(st.integers(low, high).map(lambda n: n / 4), min_size=1, max_size=60)


@settings(deadline=None)
@given(scores(0, 12), scores(-6, 8))
def test_the_measures_are_scikit_learns(clothes: list[float], others: list[float]) -> None:
    truth = [1] * len(clothes) + [0] * len(others)
    both = np.array(clothes + others)
    counts = counts_by_threshold(np.array(clothes), np.array(others))
    assert auroc(*counts) == pytest.approx(roc_auc_score(truth, both), abs=1e-9)
    assert average_precision(*counts) == pytest.approx(
        average_precision_score(truth, both), abs=1e-9
    )
    false, true, _ = roc_curve(truth, both, drop_intermediate=False)
    expected = min(f for f, t in zip(false, true, strict=True) if t >= 0.95)
    assert false_positives_at(*counts, 0.95) == pytest.approx(expected, abs=1e-9)


def test_the_scores_are_scipys() -> None:
    logits = np.random.default_rng(1).normal(0, 5, (200, 10)).astype(np.float32)
    exact = logits.astype(np.float64)
    expected = {
        "max_probability": softmax(exact, axis=1).max(axis=1),
        "energy": logsumexp(exact, axis=1),
        "entropy": -scipy_entropy(softmax(exact, axis=1), axis=1),
    }
    assert SCORES.keys() == expected.keys()
    for name, of in SCORES.items():
        np.testing.assert_allclose(of(logits), expected[name], atol=1e-9, rtol=0)


def bright_is_clothes(images: Any) -> Any:
    """Logits that are the surer the brighter an image is."""
    logits = np.zeros((len(images), 10), np.float32)
    logits[:, 3] = images.mean(axis=(1, 2)) / 16
    return logits


def test_sets_are_measured_with_noise_and_shapes_first(tmp_path: Path) -> None:
    np.savez(tmp_path / "dark.npz", x=SOME // 64)
    subject = Subject("bright", bright_is_clothes)
    clean = bright_is_clothes(np.full((50, 28, 28), 250, np.uint8))
    told = measure_outliers(subject, clean, [read_outliers(tmp_path / "dark.npz")], lambda d: None)
    assert told["inliers"] == 50
    assert [(row["name"], row["images"]) for row in told["sets"]] == [
        ("noise", 2000),
        ("shapes", 2000),
        ("dark.npz", 3),
    ]
    for row in told["sets"]:
        for name in SCORES:
            assert row["scores"][name] == {"auroc": 1, "aupr": 1, "fpr_at_95_tpr": 0}
            histogram = row["histogram"][name]
            assert len(histogram["edges"]) == len(histogram["inliers"]) + 1
            assert sum(histogram["inliers"]) == 50
            assert sum(histogram["outliers"]) == row["images"]


def test_the_energy_of_probabilities_says_nothing() -> None:
    """Where a model answers with probabilities, here of four decimals."""

    def probable(images: Any) -> Any:
        shares = softmax(bright_is_clothes(images).astype(np.float64), axis=1).round(4)
        return np.log(shares.clip(1e-4)).astype(np.float32)

    clean = probable(np.full((50, 28, 28), 250, np.uint8))
    told = measure_outliers(Subject("probable", probable), clean, [], lambda doing: None)
    assert told["sets"][0]["scores"]["energy"] is None
    assert told["sets"][0]["scores"]["max_probability"]["auroc"] > 0.9
    assert log_softmax(clean, axis=1) == pytest.approx(clean, abs=1e-2)


def test_what_is_drawn_is_always_the_same_and_not_all_one_thing() -> None:
    for draw in (draw_noise, draw_shapes):
        images = draw()
        assert images.shape == (2000, 28, 28)
        assert images.dtype == np.uint8
        np.testing.assert_array_equal(images, draw())
        assert len(np.unique(images.reshape(2000, -1), axis=0)) == 2000
    inside = (draw_shapes() > 0).mean(axis=(1, 2))
    assert inside.min() > 0.02
    assert inside.max() < 0.6


def idx(images: npt.NDArray[np.uint8]) -> bytes:
    return struct.pack(">2xBB3I", 8, 3, *images.shape) + images.tobytes()


def bare(array: np.ndarray) -> bytes:
    """An array as numpy.save writes it."""
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


def test_outliers_are_read_from_npz_idx_and_folders(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "some.npz", x=SOME, y=np.arange(3))
    (tmp_path / "some-idx3-ubyte").write_bytes(idx(SOME))
    (tmp_path / "packed-idx3-ubyte.gz").write_bytes(gzip.compress(idx(SOME)))
    (tmp_path / "pictures" / "more").mkdir(parents=True)
    for name, image in zip(("a.png", "more/b.PNG", "more/c.png"), SOME, strict=True):
        Image.fromarray(image).save(tmp_path / "pictures" / name)
    (tmp_path / "pictures" / "notes.txt").write_text("not a picture")
    names = {
        "some.npz": "some.npz",
        "some-idx3-ubyte": "some-idx3-ubyte",
        "packed-idx3-ubyte.gz": "packed-idx3-ubyte",
        "pictures": "pictures",
    }
    for file, name in names.items():
        outliers = read_outliers(tmp_path / file)
        assert outliers.name == name
        np.testing.assert_array_equal(outliers.images, SOME)


def test_larger_pictures_are_prepared(tmp_path: Path) -> None:
    photo = np.full((90, 60, 3), 250, np.uint8)
    photo[10:80, 20:40] = (200, 20, 30)
    Image.fromarray(photo).save(tmp_path / "photo.jpg")
    (image,) = read_outliers(tmp_path).images
    assert image.shape == (28, 28)
    assert image[14, 14] > 100 > image[14, 2]


def test_a_file_that_unpacks_to_too_much_is_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez_compressed(tmp_path / "a.npz", x=np.zeros((4000, 28, 28), np.uint8))
    assert (tmp_path / "a.npz").stat().st_size < 2**20
    assert len(read_outliers(tmp_path / "a.npz").images) == 4000
    monkeypatch.setattr(outliers, "LIMIT_BYTES", 2**20)
    with pytest.raises(DataError, match=r"a\.npz cannot be read: it unpacks to over 1 MiB"):
        read_outliers(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.npz", b"PK\3\4 cut", "cannot be read"),
        ("a.npz", {"images": SOME}, "has no array x"),
        ("a.npz", {"x": SOME / 255}, r"uint8, not \(3, 28, 28\) float64"),
        ("a.npz", {"x": SOME[:0]}, "holds no image"),
        ("a.npz", {"x": np.array([{}])}, "cannot be read: .* plain arrays"),
        ("a.npz", bare(SOME), "cannot be read: it is no whole .npz file"),
        ("a.npz", bare(SOME)[:20], "cannot be read: it is no whole .npz file"),
        ("a.idx", b"what", "no IDX|wrong magic"),
        ("a.idx", idx(SOME)[:-1], "truncated"),
        ("a.idx", idx(np.zeros((2, 32, 32), np.uint8)), r"not \(2, 32, 32\) uint8"),
        ("missing.idx", None, "cannot be read"),
        ("folder", {}, "holds no picture"),
        ("folder", {"a.png": b"no picture"}, "mend it, or take it out"),
    ],
)
def test_what_cannot_be_used_is_named(name: str, content: Any, says: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if name == "folder":
        path.mkdir()
        for file, data in content.items():
            (path / file).write_bytes(data)
    elif isinstance(content, dict):
        np.savez(path, **content)
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=says) as refused:
        read_outliers(path)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)
