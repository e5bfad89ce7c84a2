"""What is said of a picture, whatever it comes as, and when the classifier is not sure."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from exported import TOLD
from fmnist.classifier import Classifier, Guess, Prediction, load_classifier
from fmnist.classifier.classifier import MOVES, SHIPPED
from fmnist.classifier.onnx_file import read_facts
from fmnist.data import CLASS_NAMES
from fmnist.errors import ModelError, PhotoError
from fmnist.photos import Prepared, prepare

Images = NDArray[np.uint8]


def by_brightness(images: Images) -> NDArray[np.float32]:
    """Logits (n, 10) that are largest, 4.0, for the class of the first pixel's tens."""
    logits = np.zeros((len(images), 10), np.float32)
    logits[np.arange(len(images)), images[:, 0, 0] // 10] = 4.0
    return logits


def fake(**facts: Any) -> Classifier:
    return Classifier(by_brightness, {**TOLD, "temperature": 2.0, **facts})


def image_of(class_index: int) -> Images:
    return np.full((28, 28), 10 * class_index, np.uint8)


def photo_of(class_index: int, *, found: bool, warnings: tuple[str, ...] = ()) -> Prepared:
    picture = np.zeros((40, 30, 3), np.uint8)
    return Prepared(
        original=picture,
        mask=np.ones((40, 30), bool),
        cutout=picture,
        image=image_of(class_index),
        confidence=1.0,
        found=found,
        warnings=warnings,
        to_original=np.eye(2, 3),
    )


CERTAIN = float(np.exp(2) / (np.exp(2) + 9))  # a logit of 4 at temperature 2, nine of 0


def test_the_answer_is_the_likeliest_class_and_all_ten_are_there() -> None:
    answer = fake().predict(image_of(7))
    assert (answer.label, answer.class_index) == ("Sneaker", 7)
    assert answer.probability == pytest.approx(CERTAIN)
    assert answer.top[0] == Guess("Sneaker", 7, answer.probability)
    assert [guess.class_index for guess in answer.top] == [7, 0, 1, 2, 3, 4, 5, 6, 8, 9]
    assert [guess.label for guess in answer.top] == [
        CLASS_NAMES[guess.class_index] for guess in answer.top
    ]
    assert sum(guess.probability for guess in answer.top) == pytest.approx(1)
    assert answer.prepared is None
    assert answer.warnings == ()
    np.testing.assert_array_equal(answer.image, image_of(7))


def test_several_images_have_an_answer_each_in_their_order() -> None:
    order = [3, 9, 0, 3]
    answers = fake().predict(np.stack([image_of(index) for index in order]))
    assert [answer.class_index for answer in answers] == order
    assert fake().predict(np.empty((0, 28, 28), np.uint8)) == []
    assert fake().predict([]) == []


def test_several_pictures_go_through_the_network_together() -> None:
    asked: list[int] = []

    def ask(images: Images) -> NDArray[np.float32]:
        asked.append(len(images))
        return by_brightness(images)

    classifier = Classifier(ask, TOLD)
    classifier.predict([image_of(index) for index in range(10)])
    classifier.judge([photo_of(1, found=True)] * 3)
    assert asked == [10, 3 * len(MOVES)]


def test_a_photo_is_asked_about_moved_by_a_pixel_each_way_and_an_image_is_not() -> None:
    """The logits tell where the one bright pixel is."""
    seen: list[tuple[int, int]] = []

    def ask(images: Images) -> NDArray[np.float32]:
        seen.extend((int(r), int(c)) for _, r, c in np.argwhere(images))
        return np.array([[row, *[0] * 9] for row, _ in seen[-len(images) :]], np.float32)

    classifier = Classifier(ask, TOLD)
    image = np.zeros((28, 28), np.uint8)
    image[10, 20] = 255
    classifier.probabilities(image)
    assert seen == [(10, 20)]
    (one,) = classifier.photo_probabilities(image)
    assert seen[1:] == [(10, 20), (11, 20), (9, 20), (10, 21), (10, 19)]
    np.testing.assert_allclose(one, classifier.probabilities(image)[0])  # in the mean row 10


@pytest.mark.parametrize(
    ("least", "accepted"),
    [(None, True), (0.0, True), (CERTAIN - 1e-9, True), (CERTAIN + 1e-9, False), (1.0, False)],
)
def test_an_improbable_answer_is_not_accepted_and_still_there(
    least: float | None, accepted: bool
) -> None:
    facts = {} if least is None else {"least_probability": least}
    answer = fake(**facts).predict(image_of(5))
    assert answer.accepted is accepted
    assert answer.label == "Sandal"


def test_a_photo_in_which_nothing_was_found_is_not_accepted() -> None:
    photos = [photo_of(2, found=True), photo_of(2, found=False, warnings=("use more light",))]
    sure, unsure = fake().judge(photos)
    assert (sure.accepted, unsure.accepted) == (True, False)
    assert (sure.label, unsure.label) == ("Pullover", "Pullover")
    assert (sure.warnings, unsure.warnings) == ((), ("use more light",))
    assert unsure.prepared is photos[1]


@pytest.mark.parametrize("top", [1, 3, 10])
def test_as_json_it_has_these_keys_and_no_others(top: int) -> None:
    (answer,) = fake().judge([photo_of(2, found=True, warnings=("one", "two"))])
    told = json.loads(json.dumps(answer.to_json(top)))
    assert list(told) == [
        *("label", "class_index", "probability", "accepted", "top", "warnings"),
    ]
    assert told["warnings"] == ["one", "two"]
    assert told["accepted"] is True
    assert len(told["top"]) == top
    first = {"label": "Pullover", "class_index": 2, "probability": answer.probability}
    assert told["top"][0] == first
    assert {key: told[key] for key in first} == first


# What a picture may come as


@pytest.fixture
def file_of_photo(tmp_path: Path) -> Path:
    """A dark shirt-like shape on white, as JPEG."""
    pixels = np.full((300, 240, 3), 250, np.uint8)
    pixels[60:250, 70:170] = (40, 60, 120)
    pixels[60:120, 40:200] = (40, 60, 120)
    path = tmp_path / "shirt.jpg"
    Image.fromarray(pixels).save(path, quality=95)
    return path


def test_a_photo_may_be_a_path_bytes_or_a_pil_image(file_of_photo: Path) -> None:
    classifier = load_classifier(threads=1)
    ready = prepare(file_of_photo)
    (expected,) = classifier.photo_probabilities(ready.image)
    sources: list[Any] = [str(file_of_photo), file_of_photo, file_of_photo.read_bytes()]
    with Image.open(file_of_photo) as opened:
        answers = [classifier.predict(source) for source in [*sources, opened]]
        answers += classifier.predict([*sources, opened])
        answers += classifier.predict(tuple(sources))
    assert len(answers) == 4 + 4 + 3
    for answer in answers:
        assert isinstance(answer, Prediction)
        np.testing.assert_array_equal(answer.image, ready.image)
        assert answer.probability == pytest.approx(expected.max(), abs=1e-6)
        assert answer.class_index == expected.argmax()
        assert answer.prepared is not None
        assert answer.warnings == ready.warnings


def test_a_list_may_hold_photos_and_images(file_of_photo: Path) -> None:
    image, photo, again = fake().predict([image_of(4), file_of_photo, image_of(6)])
    assert (image.label, again.label) == ("Coat", "Shirt")
    assert image.prepared is again.prepared is None
    assert photo.prepared is not None


def test_an_image_in_a_file_answers_as_the_array(images: Images) -> None:
    classifier, file = load_classifier(threads=1), io.BytesIO()
    Image.fromarray(images[5]).save(file, format="png")
    from_file, from_array = classifier.predict(file.getvalue()), classifier.predict(images[5])
    np.testing.assert_array_equal(from_file.image, images[5])
    assert from_file.top == from_array.top


def test_what_is_no_picture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("shoes\n")
    for source in (tmp_path / "notes.txt", b"", b"shoes", [b"shoes"], tmp_path / "missing.jpg"):
        with pytest.raises(PhotoError):
            fake().predict(source)


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((28, 28), np.float32),
        np.zeros((28, 28, 3), np.uint8),
        [np.zeros((2, 28, 28), np.uint8)],
        [np.zeros((28, 27), np.uint8)],
        [np.zeros(784, np.uint8)],
    ],
)
def test_other_arrays_are_refused(wrong: Any) -> None:
    with pytest.raises(ModelError, match=r"must be \(28, 28\)"):
        fake().predict(wrong)


# The file that comes with fmnist


def test_the_shipped_classifier_knows_the_ten_classes(images: Images) -> None:
    classifier = load_classifier()
    assert classifier.class_names == CLASS_NAMES
    assert 0 <= classifier.least_probability < 1
    assert SHIPPED.stat().st_size <= 3 * 2**20
    expected = load_classifier(SHIPPED).logits(images)
    np.testing.assert_allclose(classifier.logits(images), expected, atol=1e-5)


def test_damage_to_the_shipped_file_is_seen() -> None:
    content = bytearray(SHIPPED.read_bytes())
    read_facts(bytes(content))
    content[len(content) // 2] ^= 1
    with pytest.raises(ModelError, match="it is damaged: its SHA-256"):
        read_facts(bytes(content))
