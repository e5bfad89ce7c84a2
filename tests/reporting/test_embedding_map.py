import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from fmnist.reporting.embedding_map import COLUMNS, PITCH, SIDE, EmbeddingMap, draw_map

NAMES = [f"class {i}" for i in range(10)]


def _map(count: int = 130) -> EmbeddingMap:
    random = np.random.default_rng(3)
    images = np.zeros((count, 28, 28), np.uint8)
    images[:] = (np.arange(count) * 255 // count)[:, None, None]
    return EmbeddingMap(
        points=(random.standard_normal((count, 2)) * [90, 30] + [500, -7]).astype(np.float32),
        images=images,
        labels=random.integers(0, 10, count).astype(np.uint8),
        predicted=random.integers(0, 10, count).astype(np.uint8),
        confidence=random.random(count),
        made_of="something",
    )


def test_points_are_sent_as_they_lie() -> None:
    """A shift and one scale for both axes bring the points back."""
    embedding = _map()
    sent = np.frombuffer(base64.b64decode(draw_map(embedding, NAMES).places), "<u2")
    places = sent.reshape(-1, 2) / 65_535
    assert places.min() >= 0
    assert places.max() <= 1
    scale = np.ptp(embedding.points[:, 0]) / np.ptp(places[:, 0])
    back = (places - places.mean(axis=0)) * scale + embedding.points.mean(axis=0)
    assert np.abs(back - embedding.points).max() < 1e-4 * scale


def test_answers_are_sent_as_bytes() -> None:
    embedding = _map()
    sent = np.frombuffer(base64.b64decode(draw_map(embedding, NAMES).answers), np.uint8)
    answers = sent.reshape(-1, 3)
    assert np.array_equal(answers[:, 0], embedding.labels)
    assert np.array_equal(answers[:, 1], embedding.predicted)
    assert np.abs(answers[:, 2] / 255 - embedding.confidence).max() <= 0.5 / 255 + 1e-9


def test_each_image_is_where_the_script_looks_for_it() -> None:
    embedding = _map()
    head, _, content = draw_map(embedding, NAMES).sheet.partition(",")
    assert head == "data:image/jpeg;base64"
    sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(content))), np.int16)
    assert sheet.shape == (2 * PITCH, COLUMNS * PITCH)
    for index in (0, 1, 99, 100, 129):
        left, top = index % COLUMNS * PITCH, index // COLUMNS * PITCH
        inside = sheet[top + 2 : top + 26, left + 2 : left + 26]
        assert abs(inside.mean() - embedding.images[index].mean()) < 4


def test_without_a_script_there_is_a_dot_for_every_image() -> None:
    embedding = _map()
    dots = draw_map(embedding, NAMES).dots
    counts = [len(re.findall(r"M\d+ \d+h0", path)) for path in dots]
    assert counts == np.bincount(embedding.labels, minlength=10).tolist()


def test_titles_of_classes_do_not_hide_each_other() -> None:
    embedding = _map()
    embedding.points[:] = embedding.points.mean(axis=0)  # all in one place
    drawn = draw_map(embedding, NAMES)
    assert sorted(name for name, _, _ in drawn.titles) == sorted(NAMES)
    heights = sorted(y for _, _, y in drawn.titles)
    assert min(np.diff(heights)) >= 40
    assert all(0 < x < SIDE for _, x, _ in drawn.titles)


def test_a_class_without_images_has_no_title() -> None:
    embedding = _map()
    embedding.labels[embedding.labels == 4] = 5
    assert "class 4" not in [name for name, _, _ in draw_map(embedding, NAMES).titles]


@pytest.mark.parametrize("count", [1, 100, 101])
def test_any_number_of_images_makes_a_map(count: int) -> None:
    assert draw_map(_map(count), NAMES).images == count
