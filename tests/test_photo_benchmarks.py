"""The photo benchmark: what it counts, how it resamples, and the photos that it makes up."""

import hashlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import garments
import photo_simulator
import photos
from fmnist.classifier import Classifier
from fmnist.data import CLASS_NAMES
from fmnist.errors import DataError
from fmnist.photos.folder import LabelledPhoto
from photos import MODEL, NO_ANSWER, OURS, Answers

HEADER = "path,class_index,sender_id,source_label\n"


def folder_of(path: Path, rows: str) -> Path:
    (path / "labels.csv").write_text(HEADER + rows, "utf-8")
    return path


def senders_file(path: Path) -> Path:
    file = path / "senders.csv"
    file.write_text("sender_id,part\n1,train\n2,held-out\n4,fit\n", "utf-8")
    return file


# What is read


def test_senders_nobody_tuned_on_are_held_out(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "a,0,1,Shirt\nb,1,2,Pants\nc,,2,Hat\nd,3,3,Dress\n")
    file = senders_file(tmp_path)

    def names(part: str) -> list[str]:
        return [photo.path.name for photo in photos.read_photos(folder, file, part)]

    assert names("train") == ["a"]
    assert names("held-out") == ["b", "c", "d"]  # 3 is not in the file
    assert names("all") == ["a", "b", "c", "d"]
    hat = photos.read_photos(folder, file, "held-out")[1]
    assert hat == LabelledPhoto(folder / "c", None, "2", "Hat")


def test_a_folder_without_senders_is_judged_whole(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("path,class_index\na,0\nb,1\n", "utf-8")
    for part in photos.PARTS:
        read = photos.read_photos(tmp_path, senders_file(tmp_path), part)
        assert [photo.sender for photo in read] == ["a", "b"]


@pytest.mark.parametrize(
    ("rows", "said"), [("a,,1,Hat\n", "no photo of a class"), (None, "labels")]
)
def test_a_folder_without_photos_is_named(tmp_path: Path, rows: str | None, said: str) -> None:
    if rows:
        folder_of(tmp_path, rows)
    with pytest.raises(DataError, match=said):
        photos.read_photos(tmp_path, senders_file(tmp_path), "all")


# Scores


def test_resampling_draws_whole_senders() -> None:
    senders = ["a", "a", "a", "b", "c", "c"]
    drawn = photos.draw_senders(senders)
    assert drawn.shape == (photos.ROUNDS, 6)
    assert (drawn[:, 0] == drawn[:, 1]).all()
    assert (drawn[:, 4] == drawn[:, 5]).all()
    assert (drawn[:, [0, 3, 4]].sum(axis=1) == 3).all()  # as many senders as there are
    assert (drawn[:, 0] != drawn[:, 3]).any()


def test_an_interval_is_as_wide_as_senders_differ() -> None:
    """Of two senders, one all right and one all wrong, a round draws both, or one of them twice."""
    right = np.array([True] * 50 + [False] * 50)
    by_sender = photos.measured(photos.share(right), ["a"] * 50 + ["b"] * 50)
    assert by_sender == {"value": 0.5, "interval": [0, 1]}
    by_photo = photos.measured(photos.share(right), [str(at) for at in range(100)])
    low, high = by_photo["interval"]
    # The binomial distribution of 100 with 1/2 has 40 and 60 as these percentiles.
    assert (low, high) == pytest.approx((0.4, 0.6), abs=0.011)
    assert photos.measured(photos.share(right), ["a"] * 100)["interval"] is None


def test_macro_recall_weighs_classes_alike() -> None:
    labels = np.array([0] * 9 + [1])
    score = photos.macro_recall(labels == 0, labels)
    assert photos.measured(score, ["a"] * 10)["value"] == 0.5
    # A round without class 1 has the recall of class 0 alone.
    assert score(np.array([[1] * 9 + [0]])).tolist() == [1]


def test_a_difference_is_paired() -> None:
    """Each sender has one more right in ten: the difference does not vary, though the scores do."""
    theirs = np.array([True] * 9 + [False] + [False] * 10)
    ours = np.array([True] * 10 + [True] + [False] * 9)
    senders = ["a"] * 10 + ["b"] * 10
    difference = photos.measured(photos.less(photos.share(ours), photos.share(theirs)), senders)
    assert difference["value"] == pytest.approx(0.1)
    assert difference["interval"] == pytest.approx([0.1, 0.1])
    assert photos.measured(photos.share(ours), senders)["interval"] == pytest.approx([0.1, 1])


def test_the_area_under_the_curve() -> None:
    right, strange = np.array([0.9, 0.8, 0.5]), np.array([0.6, 0.5])
    # Of the six pairs four are in order, one is tied, one is not.
    assert photos.area_under_curve(right, strange) == pytest.approx(4.5 / 6)
    assert photos.area_under_curve(right, strange[:0]) is None


def photo(label: int | None, sender: str, kind: str = "Shoes") -> LabelledPhoto:
    return LabelledPhoto(Path("a.jpg"), label, sender, kind)


def test_photos_are_judged() -> None:
    shown = [photo(0, "a"), photo(0, "b"), photo(0, "b"), photo(5, "c"), photo(None, "c", "Hat")]
    shown.append(photo(None, "d", "Body"))
    classes = np.array([0, 0, 3, NO_ANSWER, 5, 5])
    squashed = np.array([0, 3, 3, 3, 3, 3])
    answers = Answers(
        probability=np.array([0.9, 0.5, 0.8, 0, 0.7, 0.95]),
        accepted=np.array([True, False, True, False, False, True]),
        seconds=np.linspace(0.1, 0.2, 6),
        classes={(MODEL, OURS): classes, (MODEL, photos.WEB_FORM): squashed},
    )
    found = photos.judge(shown, answers, CLASS_NAMES, ["Body"])
    assert (found["photos"], found["senders"], found["unreadable"]) == (4, 3, 1)
    assert found["accuracy"]["value"] == 0.5
    assert found["macro_recall"]["value"] == pytest.approx((2 / 3 + 0) / 2)
    assert [(each["name"], each["photos"]) for each in found["classes"]] == [
        ("T-shirt/top", 3),
        ("Sandal", 1),
    ]
    assert np.array(found["confusion"]).sum() == 3  # what cannot be read has no column
    assert found["seconds"]["median"] == 0.15
    (other,) = found["others"]
    assert (other["network"], other["way"]) == (MODEL, photos.WEB_FORM)
    assert other["accuracy"]["value"] == other["model_ahead_in_accuracy"]["value"] == 0.25
    chosen = found["selective"]
    assert chosen["accepted"]["value"] == 0.5
    assert chosen["right_answers_kept"]["value"] == 0.5
    assert chosen["wrong_answers_refused"]["value"] == 0.5
    assert chosen["strangers_refused"]["value"] == 0.5
    by_kind = chosen["strangers_refused_by_kind"]
    assert {kind: each["value"] for kind, each in by_kind.items()} == {"Body": 0, "Hat": 1}
    # 0.9 and 0.5 against 0.7 and 0.95.
    assert chosen["area_under_curve"] == 0.25


# Others' ways


def to_png(pixels: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.asarray(pixels, np.uint8)).save(file, "PNG")
    return file.getvalue()


def scene(ground: tuple[int, int, int], middle: tuple[int, int, int]) -> bytes:
    """A square in the middle of a frame twice as high as wide."""
    pixels = np.full((112, 56, 3), ground)
    pixels[28:84, 14:42] = middle
    return to_png(pixels)


def test_the_web_form_squashes_and_does_not_invert() -> None:
    image = photos.web_form(scene((255, 255, 255), (0, 0, 255)))
    assert image.shape == (28, 28)
    assert image[0, 0] == 255
    assert image[14, 14] == 29  # 0.114 x 255
    assert (image < 128).sum() == 14 * 14


def test_the_best_public_way_inverts_a_bright_border() -> None:
    bright = photos.best_public(scene((255, 255, 255), (0, 0, 255)))
    assert (bright[0, 0], bright[14, 14]) == (0, 226)
    dark = photos.best_public(scene((0, 0, 255), (255, 255, 255)))
    assert (dark[0, 0], dark[14, 14]) == (29, 255)
    assert bright.dtype == dark.dtype == np.uint8


def test_a_photo_that_cannot_be_read_has_no_image() -> None:
    cut = scene((255, 255, 255), (0, 0, 0))[:60]
    assert photos.try_way(photos.web_form, cut) is None
    assert photos.try_way(photos.best_public, b"") is None
    assert photos.try_way(photos.web_form, scene((0, 0, 0), (9, 9, 9))) is not None


def by_brightness(images: Any) -> Any:
    """Class 0 for images that are mostly dark, 9 for others."""
    logits = np.zeros((len(images), 10), np.float32)
    logits[np.arange(len(images)), np.where(images.mean(axis=(1, 2)) < 128, 0, 9)] = 5
    return logits


def fake() -> Classifier:
    return Classifier(by_brightness, {"class_names": CLASS_NAMES, "temperature": 1.0})


def test_every_network_is_asked_behind_every_way() -> None:
    dark, bright = to_png(np.zeros((28, 28))), to_png(np.full((28, 28), 255))
    networks = {MODEL: fake(), photos.BASELINE: fake()}
    answers = photos.ask_all([dark, b"no picture", bright], networks)
    assert set(answers.classes) == {
        (network, way) for network in networks for way in (OURS, *photos.OTHER_WAYS)
    }
    for network in networks:
        assert answers.classes[network, photos.WEB_FORM].tolist() == [0, NO_ANSWER, 9]
    assert answers.ours[1] == NO_ANSWER
    assert not answers.accepted[1]
    assert (answers.seconds > 0).all()


# Simulated photos


@pytest.mark.parametrize("kind", photo_simulator.KINDS)
def test_a_simulated_photo_is_a_jpeg_made_by_its_seed(kind: str) -> None:
    image = garments.draw(0, np.random.default_rng(1))
    made = [
        photo_simulator.simulate(image, kind, np.random.default_rng(seed)) for seed in (7, 7, 8)
    ]
    assert made[0] == made[1] != made[2]
    with Image.open(io.BytesIO(made[0])) as photo:
        photo.load()
        assert (photo.format, photo.mode) == ("JPEG", "RGB")
        assert photo.size in photo_simulator.FRAMES


def roughness(kind: str) -> float:
    """How much neighbouring pixels of backgrounds differ, in the mean over some of them."""
    random, grey = np.random.default_rng(0), np.full(3, 0.5, np.float32)
    steps = [
        np.abs(np.diff(photo_simulator.background(kind, grey, (200, 200), random), axis=-1)).mean()
        for _ in range(12)
    ]
    return float(np.mean(steps))


def test_backgrounds_of_a_kind_differ_from_the_plain() -> None:
    assert roughness("textured") > 2 * roughness("plain")
    assert roughness("cluttered") > 2 * roughness("plain")


def test_a_garment_is_seen_against_a_plain_background() -> None:
    random = np.random.default_rng(0)
    for grey in (0.05, 0.5, 0.9):
        garment = np.full(3, grey, np.float32)
        for _ in range(20):
            plain = photo_simulator.plain(garment, (60, 60), random).mean(axis=(1, 2))
            assert np.sqrt(np.mean((plain - garment) ** 2)) > 0.75 * photo_simulator.VISIBLE


def test_half_of_the_garments_point_right() -> None:
    shoe = np.zeros((28, 28), np.uint8)
    shoe[18:24, 2:26] = 200  # a sole, and a heel on the right
    shoe[6:18, 20:26] = 200
    random, right = np.random.default_rng(0), 0
    for _ in range(200):
        _, cover = photo_simulator.lay(shoe, (100, 100), random)
        upper = (
            np.flatnonzero(cover.any(axis=0)).mean() - np.flatnonzero(cover[:50].any(axis=0)).mean()
        )
        right += upper > 0
    assert 80 < right < 120


def test_an_outline_has_handles_but_no_holes_of_white_cloth() -> None:
    bag = np.zeros((40, 40), np.uint8)
    bag[8:32, 8:32] = 150
    bag[10:20, 12:28] = 0  # to look through
    shirt = bag.copy()
    shirt[10:20, 12:28] = 150
    shirt[14:18, 14:17] = 0  # a white print
    assert photo_simulator.outline(bag)[15, 20] == 0
    assert photo_simulator.outline(shirt)[15, 15] == 1
    assert photo_simulator.outline(shirt)[4, 4] == 0


# The whole


def test_the_benchmark_runs(tmp_path: Path, accepted: Path) -> None:
    """On made-up photos: a results file with the figures that were printed."""
    random = np.random.default_rng(0)
    rows = ""
    for at, label in enumerate((0, 0, 1, 1, 9, None)):
        made = photo_simulator.simulate(garments.draw(label or 0, random), "plain", random)
        (tmp_path / f"{at}.jpg").write_bytes(made)
        rows += f"{at}.jpg,{'' if label is None else label},{at % 3},Any\n"
    folder_of(tmp_path, rows)
    out = tmp_path / "photos.json"
    prelude = "import garments, runpy, sys; from pathlib import Path; "
    prelude += f"garments.accept(Path({str(accepted)!r})); "
    script = str(Path(photos.__file__))
    program = prelude + f"runpy.run_path({script!r}, run_name='__main__')"
    arguments = ["--photos", str(tmp_path), "--part", "all", "--simulated", "4", "--out", str(out)]
    done = run_program(program, arguments, accepted)
    assert done.returncode == 0, done.stderr
    results = json.loads(out.read_text("utf-8"))
    assert results["real"]["photos"] == 5
    assert f"accuracy      {100 * results['real']['accuracy']['value']:.1f} %" in done.stdout
    assert results["simulated"]["count"] == 4
    assert results["simulated"]["backgrounds"].keys() == set(photo_simulator.KINDS)
    assert results["versions"]["pillow"]
    done = run_program(program, [*arguments, "--model", str(tmp_path / "none.onnx")], accepted)
    assert done.returncode == 1
    assert "none.onnx" in done.stderr
    assert "Traceback" not in done.stderr


def run_program(program: str, arguments: list[str], data: Path) -> subprocess.CompletedProcess[str]:
    here = Path(__file__).parent
    paths = f"{here}:{Path(photos.__file__).parent}"
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": paths, "FMNIST_DATA": str(data)},
    )


def test_the_model_is_judged_by_what_predict_says(tmp_path: Path) -> None:
    """`predict` asks about the photo moved by a pixel too: here that changes the class."""

    def ask(images: NDArray[Any]) -> NDArray[Any]:
        """Class 1 for the image as it is, class 2 for one whose upper row is empty."""
        logits = np.zeros((len(images), 10), np.float32)
        moved_down = images[:, 0].max(axis=1) == 0
        logits[~moved_down, 1], logits[moved_down, 2] = 1, 9
        return logits

    model = Classifier(ask, {"class_names": CLASS_NAMES, "temperature": 1.0})
    pixels = np.full((90, 40, 3), 250, np.uint8)
    pixels[5:85, 8:32] = (30, 40, 50)
    Image.fromarray(pixels).save(tmp_path / "tall.png")
    answers = photos.ask_all([tmp_path / "tall.png"], {MODEL: model})
    assert model.predict(tmp_path / "tall.png").class_index == 2
    assert answers.ours.tolist() == [2]


def test_the_parts_of_the_senders_are_fixed() -> None:
    """Whoever moves a sender makes the held-out scores worthless: the file is not to change."""
    digest = hashlib.sha256(photos.SENDERS.read_bytes()).hexdigest()
    assert digest == "ed1d752305b0b40fbf502645e836d5eb14c27be8943a8bfbd2310fbaef3d05e9"
