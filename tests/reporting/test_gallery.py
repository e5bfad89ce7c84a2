"""The gallery: whatever the pictures and their names, one whole page that says it plainly."""

import base64
import io
import os
import re
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fmnist.reporting.gallery import THUMBNAIL, Answered, Gallery, Unread, open_gallery
from parsed import Parsed

RANDOM = np.random.default_rng(0)
IMAGE = RANDOM.integers(0, 256, (28, 28), dtype=np.uint8)
PHOTO = RANDOM.integers(0, 256, (400, 600, 3), dtype=np.uint8)
PAYLOAD = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
TOP = (("Sneaker", 0.93), ("Sandal", 0.05), ("Ankle boot", 0.0199))
SHOE = Answered("a/shoe.jpg", TOP, True, IMAGE, PHOTO, PHOTO[:80, :90])
BAG = Answered("bag.png", (("Bag", 0.999),), True, IMAGE, PHOTO)
HAT = Answered("hat.jpg", TOP, False, IMAGE, PHOTO, PHOTO, PHOTO, ("take the picture from above",))
BROKEN = Unread("broken.jpg", "broken.jpg: it is cut short; copy it again")


def page(folder: Path, *pictures: Answered | Unread, model: str = "") -> str:
    """The page of some pictures."""
    path = folder / "gallery.html"
    with open_gallery(path, model) as gallery:
        for picture in pictures:
            gallery.add(picture)
    return path.read_text("utf-8")


def text(html: str) -> str:
    """What the page says, without its style."""
    body = html[html.index("<main>") : html.index("</body>")]
    return " ".join(Parsed(body).text.split())


def images(html: str) -> list[Image.Image]:
    """The pictures on a page, in order."""
    codes = re.findall(r'src="data:image/\w+;base64,([^"]+)"', html)
    return [Image.open(io.BytesIO(base64.b64decode(code))) for code in codes]


def test_the_page_loads_nothing_and_runs_nothing(tmp_path: Path) -> None:
    html = page(tmp_path, SHOE, HAT, BROKEN)
    parsed = Parsed(html)
    loads = [*parsed.values("src"), *parsed.values("href"), *re.findall(r"url\((.*?)\)", html)]
    assert loads
    assert all(load.startswith("data:image/") for load in loads)
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in html
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in parsed.seen}
    assert "@import" not in html
    assert all(attrs.get("alt") for attrs in parsed.tags("img"))


def test_every_answer_is_said_plainly_and_in_order(tmp_path: Path) -> None:
    said = text(page(tmp_path, SHOE, HAT, BROKEN, BAG, model="The classifier of tests"))
    assert "4 pictures 2 named, 1 not sure, 1 could not be read. The classifier of tests" in said
    parts = [
        "Sneaker 0.93 a/shoe.jpg Picture Cut out What it saw "
        "Sneaker 0.93 Sandal 0.05 Ankle boot 0.02",
        "Not sure perhaps Sneaker hat.jpg Picture What counted Cut out What it saw "
        "Sneaker 0.93 Sandal 0.05 Ankle boot 0.02 take the picture from above",
        "Could not be read broken.jpg it is cut short; copy it again",
        "Bag >0.99 bag.png Picture What it saw Bag >0.99",
    ]
    assert " ".join(parts) in said


def test_what_can_be_shown_alone_adds_up_to_all(tmp_path: Path) -> None:
    html = page(tmp_path, BAG, SHOE, HAT, SHOE, BROKEN, HAT, SHOE, HAT)
    counts = re.findall(r'id="show-([\w-]+)"[^>]*>([^<]+?) <b>(\d+)</b>', html)
    assert [(label, count) for _, label, count in counts] == [
        ("All", "8"),
        ("Sneaker", "3"),
        ("Bag", "1"),
        ("Not sure", "3"),
        ("Not read", "1"),
    ]
    for key, _, count in counts[1:]:
        assert f"body:has(#show-{key}:checked) .pictures > li:not(.{key}) " in html
        assert html.count(f'<li class="{key}">') == int(count)


def test_the_28x28_image_is_exact_and_photos_are_small(tmp_path: Path) -> None:
    tiny = Answered("t", TOP, True, IMAGE, IMAGE[..., None].repeat(3, axis=2))
    thumbnail, cutout, image, as_given, again = images(page(tmp_path, SHOE, tiny))
    assert (thumbnail.format, thumbnail.size) == ("JPEG", (THUMBNAIL, 187))
    assert cutout.size == (90, 80)
    assert not thumbnail.getexif()
    for exact in (image, as_given, again):
        np.testing.assert_array_equal(exact.convert("L"), IMAGE)


def test_names_are_text_whatever_they_hold(tmp_path: Path) -> None:
    odd = f"{PAYLOAD}\udcff.jpg"  # as Python reads a file name that is not UTF-8
    answered = Answered(odd, ((PAYLOAD, 0.5),), True, IMAGE, warnings=(PAYLOAD,))
    html = page(tmp_path, answered, Unread(odd, f"{odd}: {PAYLOAD}"), model=PAYLOAD)
    parsed = Parsed(html)
    assert not parsed.tags("script")
    assert not parsed.values("onerror")
    assert (
        parsed.text.count(PAYLOAD) == 8
    )  # model, name, label: verdict, bar, filter; advice; twice


def test_no_pictures_make_a_page_that_says_so(tmp_path: Path) -> None:
    html = page(tmp_path)
    assert "0 pictures No pictures were given, so there is nothing to show." in text(html)
    assert not Parsed(html).tags("fieldset")


def test_one_picture_is_one(tmp_path: Path) -> None:
    html = page(tmp_path, BROKEN)
    assert "1 picture 0 named, 1 could not be read. Show" in text(html)
    assert "<title>Gallery of 1 picture</title>" in html


def test_the_colours_of_the_heat_are_explained_where_there_is_any(tmp_path: Path) -> None:
    assert "orange supports" in text(page(tmp_path, HAT))
    assert "orange supports" not in text(page(tmp_path, SHOE))


def test_same_input_same_bytes(tmp_path: Path) -> None:
    assert page(tmp_path / "a", SHOE, HAT) == page(tmp_path / "b", SHOE, HAT)


def test_a_page_that_was_not_finished_leaves_the_one_before(tmp_path: Path) -> None:
    before = page(tmp_path, SHOE)

    def stop(gallery: Gallery) -> None:
        gallery.add(HAT)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), open_gallery(tmp_path / "gallery.html") as gallery:
        stop(gallery)
    assert (tmp_path / "gallery.html").read_text("utf-8") == before
    assert os.listdir(tmp_path) == ["gallery.html"]


@pytest.mark.parametrize("place", ["folder", "file/gallery.html"])
def test_where_no_page_can_be_no_picture_is_asked_for(tmp_path: Path, place: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=re.escape(str(tmp_path))), open_gallery(tmp_path / place):
        pytest.fail("the block was entered")


def test_memory_is_flat(tmp_path: Path) -> None:
    """A page of over 15 MB is written with less than 5 in memory."""
    noisy = Answered("noisy.jpg", TOP, True, IMAGE, PHOTO[:320, :320])
    tracemalloc.start()
    try:
        with open_gallery(tmp_path / "gallery.html") as gallery:
            for _ in range(250):
                gallery.add(noisy)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (tmp_path / "gallery.html").stat().st_size > 15e6
    assert peak < 5e6
