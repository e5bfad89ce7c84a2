"""Many pictures: which files are meant, answers in their order, and memory that stays flat."""

import gc
import io
import json
import os
import random
import sys
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import garments as synthetic
from finished import finished_run
from fmnist import answers, load_classifier
from fmnist.answers import AHEAD, expand, predict_files
from fmnist.classifier import Classifier, Prediction
from fmnist.classifier.classifier import MOVES
from fmnist.data import Dataset
from fmnist.errors import MissingExtra, PhotoError, RunError
from fmnist.photos import Limits, Prepared
from fmnist.recipes import CLASSIC
from fmnist.runs import Run
from fmnist.training.trained import ask
from waiting import PATIENCE, wait_until

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")
NAMES = [f"class {index}" for index in range(10)]

# Which files are meant


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of pictures and other things, which is the current one."""
    for name in (
        *("photos/b.jpg", "photos/a.PNG", "photos/c.txt", "photos/.hidden.jpg", "photos/d"),
        *("photos/2/x.webp", "photos/2/deep/y.Jpeg", "photos/.thumbs/z.jpg", "photos/10.tiff"),
        *("[a].jpg", "a.jpg", "none/notes.txt", "-x.jpg"),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


IN_PHOTOS = [
    *("photos/10.tiff", "photos/2/deep/y.Jpeg", "photos/2/x.webp", "photos/a.PNG", "photos/b.jpg"),
]


@pytest.mark.parametrize(
    ("paths", "files"),
    [
        (["photos"], IN_PHOTOS),
        (["photos/"], IN_PHOTOS),
        ([Path("photos")], IN_PHOTOS),
        (["./photos/2"], ["./photos/2/deep/y.Jpeg", "./photos/2/x.webp"]),
        (["photos/c.txt", "photos/.hidden.jpg"], ["photos/c.txt", "photos/.hidden.jpg"]),
        (["photos/.thumbs"], ["photos/.thumbs/z.jpg"]),
        (["photos/*.jpg"], ["photos/b.jpg"]),
        (["photos/[ab].*"], ["photos/a.PNG", "photos/b.jpg"]),
        (["photos/2/*"], ["photos/2/deep/y.Jpeg", "photos/2/x.webp"]),
        (["photos/**/*.[jJ]*"], ["photos/2/deep/y.Jpeg", "photos/b.jpg"]),
        (["phot*"], IN_PHOTOS),
        (["[a].jpg"], ["[a].jpg"]),
        (["[b].jpg", "none", "missing.jpg", ""], ["[b].jpg", "none", "missing.jpg", ""]),
        (["b.jpg", "-", "a.jpg", "-"], ["b.jpg", "-", "a.jpg", "-"]),
        (["a.jpg", "photos/2", "a.jpg"], ["a.jpg", *IN_PHOTOS[1:3], "a.jpg"]),
        ([], []),
    ],
)
def test_paths_stand_for_these_files(tree: Path, paths: list[Any], files: list[str]) -> None:
    assert [file.replace(os.sep, "/") for file in expand(paths)] == files


def test_two_stars_name_each_file_once(tree: Path) -> None:
    found = [file.replace(os.sep, "/") for file in expand(["photos/**"])]
    assert sorted(found) == sorted([*IN_PHOTOS, "photos/c.txt", "photos/d"])


@POSIX
def test_a_folder_may_hold_anything(tree: Path) -> None:
    (tree / "photos" / "2" / "round").symlink_to(tree / "photos")
    (tree / "photos" / "gone.jpg").symlink_to(tree / "nowhere.jpg")
    (tree / "photos" / "linked.jpg").symlink_to(tree / "a.jpg")
    os.mkfifo(tree / "photos" / "pipe.jpg")
    assert expand(["photos"]) == [*IN_PHOTOS, "photos/linked.jpg"]


@POSIX
def test_a_folder_that_cannot_be_read_is_not_passed_over(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked, scandir, listdir = "photos/2", os.scandir, os.listdir

    def refusing(real: Callable[..., Any]) -> Callable[..., Any]:
        def read(path: Any = ".") -> Any:
            if path == locked:
                raise PermissionError(13, "Permission denied")
            return real(path)

        return read

    monkeypatch.setattr(os, "scandir", refusing(scandir))
    monkeypatch.setattr(os, "listdir", refusing(listdir))
    assert expand(["photos"]) == ["photos/10.tiff", locked, "photos/a.PNG", "photos/b.jpg"]
    (told,) = predict_files([locked], Fake())
    assert str(told[1]) == "the folder cannot be read (Permission denied)"


# Answers in their order


class Fake(Classifier):
    """Answers with the class that the image's brightness names; notes how many were asked about."""

    def __init__(self) -> None:
        super().__init__(self.reply, {"class_names": NAMES, "temperature": 1.0})
        self.batches: list[int] = []

    def reply(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.batches.append(len(images))
        return np.eye(10, dtype=np.float32)[images[:, 0, 0]] * 9


class Studio:
    """Prepares "17.jpg" as an image of class 7 after a moment, and knows what of it is alive."""

    def __init__(self, seconds: Callable[[int], float] = lambda number: 0) -> None:
        self.seconds, self.begun, self.most_alive = seconds, 0, 0
        self.alive, self.lock = 0, threading.RLock()

    def prepare(self, source: Any, limits: Limits = Limits()) -> Prepared:  # noqa: B008
        with self.lock:
            self.begun += 1
        number = int(Path(source).stem)
        time.sleep(self.seconds(number))
        if number % 10 == 9:
            raise PhotoError(f"{source}: it is broken")
        original = np.zeros((8, 8, 3), np.uint8)
        with self.lock:
            self.alive += 1
            self.most_alive = max(self.most_alive, self.alive)
        weakref.finalize(original, self.forget)
        return Prepared(
            original=original,
            mask=np.ones((8, 8), bool),
            cutout=original[:4],
            image=np.full((28, 28), number % 10, np.uint8),
            confidence=1.0,
            found=True,
            warnings=(),
            to_original=np.eye(2, 3),
        )

    def forget(self) -> None:
        with self.lock:
            self.alive -= 1


@pytest.fixture
def studio(monkeypatch: pytest.MonkeyPatch) -> Studio:
    """What prepares photos in the test, in place of the real one."""
    draw = random.Random(1)
    studio = Studio(lambda number: draw.choice([0, 0, 0.001, 0.01]))
    monkeypatch.setattr("fmnist.photos.prepare", studio.prepare)
    return studio


@pytest.mark.parametrize("workers", [1, 4])
def test_order_is_kept_and_what_is_broken_stands_in_its_place(studio: Studio, workers: int) -> None:
    files = [f"{number}.jpg" for number in range(300)]
    told = list(predict_files(files, Fake(), workers=workers))
    assert [path for path, _ in told] == files
    for number, (_, answer) in enumerate(told):
        if number % 10 == 9:
            assert isinstance(answer, PhotoError)
            assert str(answer) == "it is broken"
        else:
            assert isinstance(answer, Prediction)
            assert answer.class_index == number % 10


def test_memory_stays_flat(studio: Studio) -> None:
    files, classifier, most_ahead = (f"{n}.jpg" for n in range(3000)), Fake(), 0
    for done, _ in enumerate(predict_files(files, classifier, workers=3)):
        most_ahead = max(most_ahead, studio.begun - done)
    gc.collect()
    assert most_ahead <= 2 * AHEAD * 3
    assert studio.most_alive <= 2 * AHEAD * 3  # those answered about, and those being prepared
    assert studio.alive == 0
    assert max(classifier.batches) <= AHEAD * 3 * len(MOVES)
    assert sum(classifier.batches) == 2700 * len(MOVES)


def test_the_network_is_asked_about_what_is_ready_at_once(studio: Studio) -> None:
    def wait_for_the_rest(number: int) -> float:
        if number == 0:
            wait_until(lambda: studio.begun == 8)
        return 0

    studio.seconds = wait_for_the_rest
    classifier = Fake()
    list(predict_files([f"{n}.jpg" for n in range(8)], classifier, workers=2))
    assert classifier.batches[0] >= 7 * len(MOVES)  # the eighth may have only begun


def test_the_first_answer_does_not_wait_for_the_last(studio: Studio) -> None:
    let_go = threading.Event()

    def wait(number: int) -> float:
        if number == 1:
            assert let_go.wait(PATIENCE)
        return 0

    studio.seconds = wait
    told = predict_files(["0.jpg", "1.jpg"], Fake(), workers=2)
    assert next(told)[0] == "0.jpg"
    let_go.set()
    told.close()


def test_closed_early_it_opens_no_more_files(studio: Studio) -> None:
    studio.seconds = lambda number: 0.02
    told = predict_files([f"{n}.jpg" for n in range(1000)], Fake(), workers=2)
    next(told)
    told.close()
    begun = studio.begun
    time.sleep(0.1)
    assert studio.begun == begun < 40
    assert not [t for t in threading.enumerate() if t.name.startswith("fmnist-photo")]


def test_opencv_has_its_threads_back(studio: Studio) -> None:
    before = cv2.getNumThreads()
    cv2.setNumThreads(3)
    try:
        told = predict_files(["0.jpg", "1.jpg"], Fake())
        next(told)
        assert cv2.getNumThreads() == 1
        told.close()
        assert cv2.getNumThreads() == 3
    finally:
        cv2.setNumThreads(before)


def test_nothing_asked_is_nothing_answered() -> None:
    assert list(predict_files([], Fake())) == []


@POSIX
@pytest.mark.parametrize("name", ["a.jpg", "a: b.jpg", "a\nb.jpg", "\udcff.jpg", "\x1b[31m.jpg"])
def test_an_error_does_not_name_the_file_again(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"no picture")
    ((path, error),) = predict_files([str(tmp_path / name)], Fake())
    assert path == str(tmp_path / name)
    assert str(error).startswith("not a picture")


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("none", "the folder holds no picture"),
        ("[b].jpg", "no file matches"),
        ("photos/x*", "no file matches"),
        ("photos/c.txt", ""),
        ("missing.jpg", ""),
        ("", ""),
    ],
)
def test_what_stands_for_no_picture_is_said(tree: Path, path: str, reason: str) -> None:
    ((named, error),) = predict_files(expand([path]), Fake())
    assert named == path
    assert isinstance(error, PhotoError)
    assert str(error).startswith(reason)
    assert "\n" not in str(error)


class Stdin:
    """Stdin that holds a file."""

    def __init__(self, content: bytes) -> None:
        self.buffer = io.BytesIO(content)


def test_a_picture_comes_through_stdin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(synthetic.make(1, seed=2)[0][0]).save(tmp_path / "a.png")
    monkeypatch.setattr("sys.stdin", Stdin((tmp_path / "a.png").read_bytes()))
    files = ["-", str(tmp_path / "a.png"), "-"]
    told = dict(predict_files(files[:2], load_classifier(threads=1)))
    piped, read = told["-"], told[files[1]]
    assert isinstance(piped, Prediction)
    assert isinstance(read, Prediction)
    assert piped.to_json() == read.to_json()
    ((_, empty),) = predict_files(["-"], load_classifier(threads=1))
    assert isinstance(empty, PhotoError)


def test_stdin_without_end_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    stdin = Stdin(bytes(Limits().file_bytes + 1000))
    monkeypatch.setattr("sys.stdin", stdin)
    ((_, error),) = predict_files(["-"], Fake())
    assert isinstance(error, PhotoError)
    assert len(stdin.buffer.read()) == 999


def test_many_photos_are_answered_as_one_by_one(tmp_path: Path) -> None:
    draw, files = np.random.default_rng(1), []
    for number in range(20):
        pixels = np.full((120, 90, 3), 245, np.uint8)
        height, width = draw.integers(30, 90, 2)
        pixels[10 : 10 + height, 5 : 5 + width // 2] = draw.integers(0, 150, 3)
        files.append(str(tmp_path / f"{number}.png"))
        Image.fromarray(pixels).save(files[-1])
    classifier = load_classifier(threads=1)
    for path, answer in predict_files(files, classifier, workers=3):
        alone = classifier.predict(path)
        assert isinstance(answer, Prediction)
        assert answer.label == alone.label
        assert answer.probability == pytest.approx(alone.probability, abs=1e-5)
        assert answer.warnings == alone.warnings


# A run instead of a file


@pytest.fixture
def finished(garments: Dataset, tmp_path: Path) -> Run:
    """A run of `classic` with random weights, not judged."""
    return finished_run(tmp_path / "run", CLASSIC, "torch", garments)


def test_a_run_is_a_classifier(finished: Run, garments: Dataset) -> None:
    finished.write_metrics({"temperature": 1.25, "temperature_source": "tests", "splits": {}})
    classifier, images = load_classifier(finished.folder), garments.test_images
    np.testing.assert_array_equal(classifier.logits(images), ask(finished, images, batch_size=256))
    assert classifier.temperature == 1.25
    assert classifier.class_names == load_classifier().class_names
    assert classifier.facts["recipe"]["name"] == "classic"
    assert classifier.predict(images[0]).accepted  # no threshold was fitted, so all are


def test_a_run_that_was_never_judged_has_temperature_one(finished: Run) -> None:
    classifier = load_classifier(str(finished.folder), threads=1)
    assert classifier.temperature == 1.0
    assert classifier.facts["temperature_source"] == "none: not judged"


def test_the_network_of_a_run_is_loaded_once(finished: Run, garments: Dataset) -> None:
    classifier = load_classifier(finished.folder)
    finished.weights.unlink()
    assert classifier.classes(garments.test_images[:2]).shape == (2,)


def test_a_run_of_ones_own_code_has_to_be_exported(finished: Run) -> None:
    finished.write({**finished.read(), "named": "mine:RECIPE"})
    with pytest.raises(RunError, match=r"fmnist export .*run --recipe mine:RECIPE --format onnx"):
        load_classifier(finished.folder)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"holds no run\.json"):
        load_classifier(tmp_path)


def test_a_run_without_the_extra_says_how_to_get_it(
    finished: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "fmnist.training.trained", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    for name in [name for name in sys.modules if name.startswith("fmnist.training")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(MissingExtra, match=r"pip install 'fmnist\[train\]'"):
        load_classifier(finished.folder)


# What answers rest on


@pytest.fixture
def answered(tmp_path: Path) -> Prediction:
    pixels = np.full((120, 90, 3), 245, np.uint8)
    pixels[20:100, 20:70] = (90, 40, 30)
    Image.fromarray(pixels).save(tmp_path / "dress.png")
    return load_classifier(threads=1).predict(tmp_path / "dress.png")


def test_heat_is_drawn_over_the_photo(answered: Prediction) -> None:
    heat = answers.load_heat(load_classifier(threads=1))
    assert heat(answered.image, answered.class_index).shape == (28, 28)
    drawn = answers.draw_heat(answered, heat)
    assert drawn is not None
    assert answered.prepared is not None
    assert drawn.shape == answered.prepared.original.shape
    assert (drawn != answered.prepared.original).any()
    assert answers.draw_heat(PhotoError("broken"), heat) is None


def test_a_run_is_explained_by_its_gradients(
    finished: Run, garments: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier = load_classifier(finished.folder)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "captum.attr", None)
        with pytest.raises(MissingExtra, match=r"captum .*'fmnist\[explain\]'"):
            answers.load_heat(classifier, finished.folder)
    pytest.importorskip("captum")
    explain = answers.load_heat(classifier, finished.folder)
    finished.weights.unlink()  # the network is loaded once, not for every picture
    heat = explain(garments.test_images[0], 3)
    assert heat.shape == (28, 28)
    assert (heat[garments.test_images[0] == 0] == 0).all()  # gradients credit what is there
    assert heat.any()


def test_rows_and_lines_hold_the_same(answered: Prediction) -> None:
    line = json.loads(json.dumps(answers.to_json("a.png", answered, 2)))
    row = dict(zip(answers.COLUMNS, answers.to_row("a.png", answered), strict=True))
    assert list(line) == ["path", *answered.to_json()]
    assert len(line["top"]) == 2
    for key in ("path", "label"):
        assert row[key] == line[key]
    assert float(row["probability"]) == line["probability"]
    assert int(row["class_index"]) == line["class_index"]
    assert row["accepted"] == str(line["accepted"]).lower()
    assert row["error"] == ""
    error = PhotoError("it is empty")
    assert answers.to_json("b.png", error) == {"path": "b.png", "error": "it is empty"}
    row = dict(zip(answers.COLUMNS, answers.to_row("b.png", error), strict=True))
    assert {key: value for key, value in row.items() if value} == {
        "path": "b.png",
        "error": "it is empty",
    }
