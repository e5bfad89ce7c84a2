"""Learning from photos and from images of no class."""

import dataclasses
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fmnist import train
from fmnist.data import STRANGER, Dataset
from fmnist.errors import DataError, RunError, Stopped
from fmnist.photos.folder import PhotoFolder, PreparedPhotos, prepare_photos
from fmnist.recipes import CLASSIC, Augmentation, Recipe
from fmnist.runs import Run
from fmnist.training.batches import Batch, Batches, epoch_lengths
from fmnist.training.device import Device
from fmnist.training.milestones import Progress, end_epoch, progress
from fmnist.training.state import State
from fmnist.training.training_set import training_set
from tiny import TINY

PHOTO = dataclasses.replace(
    TINY,
    pruning=None,
    epochs=3,
    augmentation=Augmentation(photo_defects=True),
    strangers=12,
    photo_repeats=4,
    photo_epochs=2,
)


@pytest.fixture
def photos(tmp_path: Path) -> PhotoFolder:
    """Five photos of dark blocks on a light page, one of them of no class."""
    rows = ["path,class_index,sender_id,source_label"]
    for number in range(5):
        pixels = np.full((80, 60, 3), 250, np.uint8)
        pixels[10 : 40 + 5 * number, 15:45] = (30, 40, 20 * number)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,{number if number < 4 else ''},anna,{'Hat' * (number == 4)}")
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n")
    return PhotoFolder(tmp_path, strangers=("Hat",))


def test_the_training_set_is_images_then_drawings_then_photos(garments: Dataset) -> None:
    split = garments.split("train")
    images = np.arange(3 * 784, dtype=np.uint8).reshape(3, 28, 28)
    prepared = PreparedPhotos(images, np.array([1, 2, STRANGER], np.uint8), "hash")
    made = training_set(split, PHOTO, prepared, seed=0)
    n = len(split.labels)
    assert (made.drawings, made.photos, len(made.labels)) == (12, 3, n + 15)
    assert (made.images[:n] == split.images).all()
    assert (made.images[-3:] == images).all()
    assert made.labels[n:].tolist() == [STRANGER] * 12 + [1, 2, STRANGER]
    plain = training_set(split, TINY, None, seed=0)
    assert plain.images is split.images  # 43 MB that need not be held twice
    assert plain.labels is split.labels
    assert (plain.drawings, plain.photos) == (0, 0)


def test_photos_join_the_last_epochs_as_often_as_the_recipe_says() -> None:
    recipe = dataclasses.replace(PHOTO, batch_size=8, augmentation=Augmentation())
    images, labels = np.zeros((20, 28, 28), np.uint8), np.zeros(20, np.uint8)
    batches = Batches(images, labels, recipe, torch.device("cpu"), drawings=3, photos=5)
    losses = torch.zeros(20)
    shown = [
        torch.cat([batch.indices for batch in batches.epoch(0, epoch, losses)]).bincount()
        for epoch in range(3)
    ]
    assert shown[0].tolist() == [1] * 15
    assert shown[1].tolist() == shown[2].tolist() == [1] * 15 + [4] * 5
    assert batches.lengths == epoch_lengths(recipe, 15, 5) == [2, 5, 5]
    assert batches.real.tolist() == [False] * 12 + [True] * 8


def test_a_run_learns_from_photos_and_says_from_which(
    garments: Dataset, photos: PhotoFolder, tmp_path: Path
) -> None:
    with_photos = train(PHOTO, garments, photos=photos, out=tmp_path / "with")
    facts = with_photos.read()
    assert facts["photos"]["count"] == 5
    assert facts["photos"]["strangers"] == ["Hat"]
    assert len(facts["photos"]["sha256"]) == 64
    n = len(garments.indices("train")) + PHOTO.strangers
    assert facts["steps"] == sum(epoch_lengths(PHOTO, n, 5))
    lines = with_photos.read_history()
    assert len(lines) == 3
    assert all(0 <= line["train_accuracy"] <= 1 for line in lines)
    without = train(PHOTO, garments, out=tmp_path / "without")
    assert without.read()["photos"] is None
    assert without.weights.read_bytes() != with_photos.weights.read_bytes()


def test_strangers_do_not_count_as_wrong_answers(garments: Dataset, tmp_path: Path) -> None:
    """With as many strangers as images, half of the answers would be wrong."""
    n = len(garments.indices("train"))
    recipe = dataclasses.replace(PHOTO, augmentation=Augmentation(), strangers=n, epochs=6)
    run = train(recipe, garments, out=tmp_path / "run")
    last = run.read_history()[-1]
    assert last["train_accuracy"] > 0.7


def test_a_stopped_run_goes_on_with_the_same_photos_only(
    garments: Dataset, photos: PhotoFolder, tmp_path: Path
) -> None:
    def stop(progress: Progress) -> None:
        if progress.step == 17:
            signal.raise_signal(signal.SIGTERM)

    whole = train(PHOTO, garments, photos=photos, out=tmp_path / "whole")
    with pytest.raises(Stopped):
        train(PHOTO, garments, photos=photos, out=tmp_path / "run", watch=stop)
    table = photos.folder / "labels.csv"
    rows = table.read_text()
    table.write_text(rows.replace("0.png,0", "0.png,3"))
    with pytest.raises(DataError, match="was started on other photos"):
        train(PHOTO, garments, resume=tmp_path / "run")
    table.write_text(rows)
    resumed = train(PHOTO, garments, resume=tmp_path / "run")
    assert resumed.weights.read_bytes() == whole.weights.read_bytes()


def test_a_run_from_before_photos_goes_on_without_them(garments: Dataset, tmp_path: Path) -> None:
    def stop(progress: Progress) -> None:
        if progress.step == 17:
            signal.raise_signal(signal.SIGTERM)

    whole = train(PHOTO, garments, out=tmp_path / "whole")
    with pytest.raises(Stopped):
        train(PHOTO, garments, out=tmp_path / "run", watch=stop)
    run = Run(tmp_path / "run")
    run.write({name: fact for name, fact in run.read().items() if name != "photos"})
    resumed = train(PHOTO, garments, resume=run.folder)
    assert resumed.weights.read_bytes() == whole.weights.read_bytes()


@pytest.mark.parametrize("broken", ["0.png", "labels.csv"])
def test_bad_photos_leave_no_directory(
    broken: str, garments: Dataset, photos: PhotoFolder, tmp_path: Path
) -> None:
    """So that the same command may be given again when they are mended."""
    whole = (photos.folder / broken).read_bytes()
    (photos.folder / broken).write_bytes(b"path\n")
    with pytest.raises(DataError, match=broken):
        train(PHOTO, garments, photos=photos, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    (photos.folder / broken).write_bytes(whole)
    assert train(PHOTO, garments, photos=photos, out=tmp_path / "run").weights.exists()


def test_a_run_says_from_the_start_which_photos(
    garments: Dataset, photos: PhotoFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_first_step(*arguments: object) -> None:
        raise InterruptedError

    monkeypatch.setattr("fmnist.training.loop._train", no_first_step)
    with pytest.raises(RunError):
        train(PHOTO, garments, photos=photos, out=tmp_path / "run")
    noted = Run(tmp_path / "run").read()["photos"]
    assert noted["count"] == 5
    assert noted["sha256"] == prepare_photos(photos.read()).sha256


def test_training_without_photos_loads_nothing_to_read_them() -> None:
    code = "import sys, fmnist.training; print({'cv2', 'PIL', 'fmnist.photos'} & {*sys.modules})"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert told.stdout == "set()\n"


def test_strangers_alone_have_no_accuracy() -> None:
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10))
    state = State(network, PHOTO, steps=1, images=2, device=Device("cpu", "float32"))
    x, strangers = torch.zeros(2, 1, 28, 28), torch.full((2,), STRANGER)
    state.advance(Batch(x, strangers, torch.arange(2), torch.ones(2)))
    state.epoch_seconds = 0.5
    shown = progress(state, 1, epoch_ended=True)
    assert (shown.loss, shown.accuracy, shown.images_per_second) == (0, 0, 4)
    end_epoch(state, 1, None)
    assert (state.history[0]["train_loss"], state.history[0]["train_accuracy"]) == (0, 0)


def test_a_pruned_recipe_takes_no_photos(
    garments: Dataset, photos: PhotoFolder, tmp_path: Path
) -> None:
    with pytest.raises(RunError, match=r"does not go with photos.*recipe photo"):
        train(TINY, garments, photos=photos, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"strangers": -1}, "strangers must be a whole number from 0"),
        ({"photo_repeats": 0}, "photo_repeats must be a whole number from 1"),
        ({"photo_epochs": 0}, "photo_epochs must be a whole number from 1"),
    ],
)
def test_a_recipe_refuses_impossible_numbers(change: dict[str, int], message: str) -> None:
    with pytest.raises(RunError, match=message):
        dataclasses.replace(PHOTO, **change)  # type: ignore[arg-type]


def test_the_keras_engine_says_that_it_cannot(garments: Dataset, tmp_path: Path) -> None:
    pytest.importorskip("keras")
    recipe = Recipe(**{**vars(PHOTO), "network": "classic"})
    with pytest.raises(RunError, match=r"its strangers are 12.*photo_defects"):
        train(recipe, garments, engine="keras", out=tmp_path / "run")


def test_the_keras_engine_takes_no_photos(
    garments: Dataset, photos: PhotoFolder, tmp_path: Path
) -> None:
    pytest.importorskip("keras")
    with pytest.raises(RunError, match="the engine keras does not learn from photos; use torch"):
        train(CLASSIC, garments, photos=photos, engine="keras", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
