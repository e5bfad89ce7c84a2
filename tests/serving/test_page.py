"""The web page as people use it, in Chromium; screenshots go to the folder FMNIST_SCREENSHOTS."""

import csv
import io
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Route

from browser import Visit, chromium
from fmnist.answers import COLUMNS
from payloads import PAYLOADS
from prefixed import prefixed
from servers import Server

PAGE = Path(__file__).parents[2] / "src/fmnist/serving/page"
WIDE: Any = {"width": 1280, "height": 860}
PHONE: dict[str, Any] = {
    "viewport": {"width": 360, "height": 740},
    "has_touch": True,
    "is_mobile": True,
}
GUESSES = [{"label": "Coat", "class_index": 4, "probability": 0.97}]
ANSWER: dict[str, Any] = {**GUESSES[0], "accepted": True, "top": GUESSES, "warnings": []}

Open = Callable[..., Visit]
Shoot = Callable[[Visit, str], None]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def usual(browser: Browser, server: Server) -> Visit:
    """A visit on a wide screen, which tests take over from each other: starting one takes long."""
    return Visit(browser.new_context(viewport=WIDE), server.url)


@pytest.fixture
def open_page(browser: Browser, server: Server, usual: Visit) -> Iterator[Open]:
    """Opens the page, or another `path`; with options, as a visitor in a context of his own."""
    contexts: list[BrowserContext] = []

    def visit(path: str = "/", address: str = "", **options: Any) -> Visit:
        if not address and not options:
            usual.again(server.url + path)
            return usual
        contexts.append(browser.new_context(**{"viewport": WIDE, **options}))
        return Visit(contexts[-1], (address or server.url) + path)

    yield visit
    for context in contexts:
        context.close()


@pytest.fixture
def shoot(tmp_path: Path) -> Shoot:
    """Takes a screenshot of a visit under a name."""
    folder = Path(os.environ.get("FMNIST_SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)

    def take(visit: Visit, name: str) -> None:
        visit.page.evaluate(
            "Promise.all([...document.images].map((image) => image.decode().catch(() => 0)))"
        )
        visit.page.screenshot(path=folder / f"{name}.png")

    return take


# The journey


def test_a_sample_is_named_with_its_steps_and_all_ten_classes(
    open_page: Open, shoot: Shoot
) -> None:
    visit = open_page()
    shoot(visit, "start")
    visit.sample("pullover")
    assert visit.text(".verdict") == "Probably Pullover"
    assert re.fullmatch(r"[89]\d %", visit.text(".share"))
    assert re.fullmatch(r"pullover\.jpg · \d+\.\d\d s", visit.text(".name"))
    assert len(visit.texts(".guesses li")) == 10
    assert visit.texts(".guesses li span:last-child")[0] == visit.text(".share")
    assert visit.text("#live").startswith("pullover.jpg: Probably Pullover, ")
    widths = visit.page.evaluate(
        "Promise.all([...document.querySelectorAll('.card img')]"
        ".map((image) => image.decode().then(() => image.naturalWidth)))"
    )
    assert widths[0] == 240
    assert widths[1] > 28
    assert widths[2] == 28
    assert visit.text("#model").startswith("fmnist ")
    shoot(visit, "answer")
    assert visit.faults == []


def test_every_sample_gets_the_answer_that_the_page_promises(open_page: Open) -> None:
    visit = open_page()
    names = visit.page.locator("#samples button").evaluate_all(
        "all => all.map(b => b.dataset.sample)"
    )
    for name in names:
        visit.page.locator(f"[data-sample={name}]").click()
    visit.until(f"document.querySelectorAll('.card').length === {len(names)}")
    visit.wait()
    answers = dict(zip(visit.texts(".name bdi"), visit.texts(".verdict"), strict=True))
    assert answers.pop("shorts.jpg") == "Not sure"
    said = {
        name.removesuffix(".jpg"): label.removeprefix("Probably ")
        for name, label in answers.items()
    }
    assert said == {
        **{
            "t-shirt": "T-shirt/top",
            "trouser": "Trouser",
            "pullover": "Pullover",
            "dress": "Dress",
        },
        **{"coat": "Coat", "sandal": "Sandal", "shirt": "Shirt", "sneaker": "Sneaker"},
        **{"bag": "Bag", "ankle-boot": "Ankle boot"},
    }


def test_what_is_no_class_is_not_named_and_the_page_says_why(open_page: Open, shoot: Shoot) -> None:
    visit = open_page()
    visit.sample("shorts")
    assert visit.text(".verdict") == "Not sure"
    assert visit.text(".share").startswith("perhaps ")
    why = r"The likeliest class, .+, has \d+ %, and 57 % are needed to name a class\. It may be .+"
    assert re.fullmatch(why, visit.text(".why"))
    assert visit.text("#live").startswith("shorts.jpg: not sure, perhaps")
    shoot(visit, "not-sure")


def test_a_guess_at_a_whole_picture_is_called_a_guess(open_page: Open) -> None:
    visit = open_page()
    found_nothing = {**ANSWER, "accepted": False, "warnings": ["no garment was found"]}
    predicted = {"predictions": [found_nothing]}
    visit.page.route("**/api/predict?*", lambda route: route.fulfill(json=predicted))
    visit.drop(["coat.jpg"])
    visit.wait()
    assert visit.text(".verdict") == "Not sure"
    assert visit.text(".why") == (
        "No garment was found in the picture, so its likeliest class, Coat with 97 %, "
        "is only a guess."
    )


def test_several_pictures_keep_their_order_and_a_bad_file_has_its_reason(
    open_page: Open, tmp_path: Path, shoot: Shoot
) -> None:
    (tmp_path / "letter.txt").write_text("no picture")
    (tmp_path / "empty.jpg").touch()
    whole = (PAGE / "sample-coat.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[:700])
    blank = Image.new("RGB", (300, 300), "white")
    blank.save(tmp_path / "blank.png")
    visit = open_page()
    strange = [tmp_path / name for name in ("letter.txt", "empty.jpg", "cut.jpg", "blank.png")]
    visit.give(PAGE / "sample-dress.jpg", *strange, PAGE / "sample-bag.jpg")
    assert visit.texts(".name bdi")[1:-1] == [each.name for each in strange]
    assert visit.texts(".verdict") == ["Probably Dress", *["No answer"] * 3, "Not sure", "Bag"]
    why = visit.texts(".why")
    assert "not a picture" in why[1]
    assert "empty" in why[2]
    assert "cut short" in why[3]
    assert why[4].startswith("The likeliest class, ")
    assert "lay it on a plain background" in visit.text(".card:nth-child(5) .advice")
    assert visit.page.locator(".again:visible").count() == 0
    assert visit.text("#live") == "6 pictures: 2 named, 1 not sure, 3 not readable"
    assert visit.text("#sum") == visit.text("#live")
    assert visit.page.locator("#sum").is_visible()
    visit.page.get_by_role("button", name="Remove letter.txt").click()
    assert visit.text("#live") == "letter.txt removed"
    assert visit.text("#sum") == "5 pictures: 2 named, 1 not sure, 2 not readable"
    shoot(visit, "several")


@pytest.mark.parametrize(
    ("probability", "verdict"), [(0.951, "Coat"), (0.949, "Probably Coat"), (0.6, "Probably Coat")]
)
def test_a_name_that_is_often_wrong_is_said_to_be_probable(
    open_page: Open, probability: float, verdict: str
) -> None:
    visit = open_page()
    predicted = {"predictions": [{**ANSWER, "probability": probability}]}
    visit.page.route("**/api/predict?*", lambda route: route.fulfill(json=predicted))
    visit.drop(["coat.jpg"])
    visit.wait()
    assert visit.text(".verdict") == verdict
    assert visit.text("#live") == f"coat.jpg: {verdict}, {100 * probability:.0f} %"
    doubted = visit.text(".needed").endswith("“Probably” says that a name is often wrong.")
    assert doubted == (verdict != "Coat")


def test_the_answers_are_saved_as_the_command_line_prints_them(open_page: Open) -> None:
    visit = open_page()
    visit.give(PAGE / "sample-dress.jpg", PAGE / "SAMPLES.md")
    with visit.page.expect_download() as one:
        visit.page.locator(".save").first.click()
    answer = json.loads(one.value.path().read_text())
    assert one.value.suggested_filename == "sample-dress.jpg.json"
    keys = ["path", "label", "class_index", "probability", "accepted", "top", "warnings"]
    assert list(answer) == keys
    with visit.page.expect_download() as both:
        visit.page.locator("#save-all").click()
    dress, unread = json.loads(both.value.path().read_text())["predictions"]
    assert dress == answer
    assert unread["path"] == "SAMPLES.md"
    assert "not a picture" in unread["error"]


# A server that has an answer for each file's name.
LOOK_UP = """(answers) => {
    window.fetch = async (url, { body }) => {
        const answer = answers[body.get("file").name];
        return Response.json({ predictions: [{ path: body.get("file").name, ...answer }] });
    };
}"""


def test_all_answers_are_saved_as_the_command_line_prints_csv(open_page: Open) -> None:
    visit = open_page()
    names = ['a, "b".jpg', "line\nbreak.jpg", "broken.jpg"]
    advised = {**ANSWER, "warnings": ["too dark", "cut at the edge, perhaps"]}
    answers = dict(zip(names, [advised, ANSWER, {"error": "it is damaged"}], strict=True))
    visit.page.evaluate(LOOK_UP, answers)
    visit.drop(names)
    visit.wait()
    with visit.page.expect_download() as saved:
        visit.page.locator("#save-csv").click()
    assert saved.value.suggested_filename == "answers.csv"
    rows = list(csv.reader(io.StringIO(saved.value.path().read_bytes().decode(), newline="")))
    assert rows == [
        list(COLUMNS),
        [names[0], "Coat", "4", "0.97", "true", "too dark; cut at the edge, perhaps", ""],
        [names[1], "Coat", "4", "0.97", "true", "", ""],
        [names[2], "", "", "", "", "", "it is damaged"],
    ]


def test_an_answer_is_copied(open_page: Open) -> None:
    visit = open_page(permissions=["clipboard-read", "clipboard-write"])
    visit.sample("bag")
    visit.page.locator(".copy").click()
    visit.page.locator(".copy", has_text="Copied").wait_for()
    assert visit.text("#live") == "Copied"
    copied = json.loads(visit.page.evaluate("navigator.clipboard.readText()"))
    assert (copied["path"], copied["label"]) == ("bag.jpg", "Bag")


def test_a_picture_is_pasted(open_page: Open) -> None:
    visit = open_page(permissions=["clipboard-read", "clipboard-write"])
    visit.page.evaluate(
        """async () => {
            const bitmap = await createImageBitmap(document.querySelector("[data-sample=bag] img"));
            const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
            canvas.getContext("2d").drawImage(bitmap, 0, 0);
            const png = await canvas.convertToBlob();
            await navigator.clipboard.write([new ClipboardItem({ "image/png": png })]);
        }"""
    )
    visit.page.keyboard.press("Control+V")
    visit.page.locator(".card").wait_for()
    visit.wait()
    assert visit.text(".verdict") == "Bag"
    visit.page.evaluate("navigator.clipboard.writeText('https://example.com/coat.jpg')")
    visit.page.keyboard.press("Control+V")
    visit.page.get_by_text("there is no picture in the clipboard").first.wait_for()
    assert visit.faults == []


def test_what_is_dragged_from_another_page_is_no_file(open_page: Open) -> None:
    visit = open_page()
    visit.drop([])
    assert visit.text("#say").startswith("that was no file: save the picture first")
    assert visit.text("#live") == visit.text("#say")
    assert visit.texts(".card") == []


def test_what_counted_is_shown_on_request(open_page: Open, shoot: Shoot) -> None:
    visit = open_page()
    visit.sample("dress")
    shown = visit.page.locator(".photo").get_attribute("src")
    button = visit.page.locator(".heat")
    assert button.text_content() == "Show what counted"
    button.click()
    visit.page.locator(".legend", has_text="Orange speaks for Dress").wait_for()
    assert button.text_content() == "Show the photo"
    assert visit.text("#live") == visit.text(".legend")
    assert visit.text(".card figcaption") == "What counted"
    assert visit.page.locator(".photo").get_attribute("src") != shown
    told = visit.page.locator(".photo").get_attribute("alt") or ""
    assert "orange where it speaks for Dress" in told
    shoot(visit, "what-counted")
    button.click()
    assert button.text_content() == "Show what counted"
    assert visit.text("#live") == "The photo is shown"
    assert not visit.page.locator(".legend").is_visible()
    assert visit.faults == []


def test_cards_are_removed_one_by_one_and_all_and_nothing_stays_in_memory(open_page: Open) -> None:
    visit = open_page()
    visit.give(*[PAGE / f"sample-{name}.jpg" for name in ("bag", "coat", "dress")])
    visit.page.get_by_role("button", name="Remove sample-bag.jpg").click()
    assert visit.texts(".verdict") == ["Coat", "Probably Dress"]
    assert visit.focused().startswith("Coat")
    visit.page.locator(".heat").first.click()
    visit.page.locator(".legend", has_text="Orange speaks for Coat").wait_for()
    visit.page.get_by_role("button", name="Remove all").click()
    assert visit.texts(".card") == []
    assert visit.text("#live") == "All removed"
    assert visit.focused() == "Choose pictures"
    assert visit.page.locator("#how").is_visible()
    assert visit.page.evaluate("window.urls") == 0
    assert visit.faults == []


# A server that counts how many requests it has at a time.
COUNT = """(answer) => {
    window.running = window.most = 0;
    window.fetch = async () => {
        window.most = Math.max(window.most, ++window.running);
        await new Promise((resolve) => setTimeout(resolve, 5));
        window.running -= 1;
        return Response.json({ predictions: [answer] });
    };
}"""


def test_fifty_pictures_are_asked_about_two_at_a_time(open_page: Open) -> None:
    visit = open_page()
    visit.page.evaluate(COUNT, ANSWER)
    visit.drop([f"{number}.jpg" for number in range(50)])
    visit.wait()
    assert visit.page.evaluate("[window.most, window.running]") == [2, 0]
    assert visit.texts(".name bdi") == [f"{number}.jpg" for number in range(50)]
    assert visit.text("#live") == "50 pictures: 50 named"


def test_too_many_pictures_at_once_are_not_all_taken(open_page: Open) -> None:
    visit = open_page()
    visit.page.route(
        "**/api/predict?*", lambda route: route.fulfill(json={"predictions": [ANSWER]})
    )
    visit.drop(["coat.jpg"] * 120)
    assert visit.text("#say") == (
        "these are too many pictures at once: the first 100 of 120 were taken"
    )
    assert visit.page.locator(".card").count() == 100


def test_a_phones_large_photo_is_sent_as_it_is_and_a_larger_one_not_at_all(
    open_page: Open, tmp_path: Path
) -> None:
    grain = np.random.default_rng(0).integers(0, 90, (750, 1000, 3), np.uint8)
    garment = np.full((750, 1000, 3), 230, np.uint8)
    garment[100:650, 300:700] = (60, 70, 120)
    large = Image.fromarray(garment - grain // 4).resize((4000, 3000))
    large.save(tmp_path / "large.jpg", quality=95)
    (tmp_path / "huge.jpg").write_bytes(bytes(21 * 2**20))
    visit = open_page()
    asked: list[int] = []
    visit.page.on("request", lambda request: asked.append(request.url.count("predict")))
    visit.give(tmp_path / "large.jpg", tmp_path / "huge.jpg")
    assert visit.texts(".verdict")[1] == "No answer"
    assert visit.texts(".why")[1] == (
        "the picture has 21.0 MB, and this server takes 20.0 MB; send a smaller copy"
    )
    assert visit.texts(".verdict")[0] != "No answer"
    assert sum(asked) == 1


def test_a_heic_photo_gets_a_message_that_helps(open_page: Open, tmp_path: Path) -> None:
    (tmp_path / "photo.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(64))
    visit = open_page()
    visit.give(tmp_path / "photo.heic")
    assert "HEIC" in visit.text(".why")
    assert "send JPEG" in visit.text(".why")
    # Phones turn what they hold into a type that a field asks for.
    assert "heic" not in (visit.page.locator("#files").get_attribute("accept") or "")


# Whoever the visitor is


def test_the_keyboard_alone_is_enough(open_page: Open) -> None:
    visit = open_page()
    visit.tab_to("Choose pictures")
    visit.page.keyboard.press("Enter")
    assert visit.chooser().is_multiple()
    visit.tab_to("Try a dress")
    visit.page.keyboard.press("Enter")
    visit.page.locator(".card").wait_for()
    visit.wait()
    assert visit.focused() == "Try a dress"
    visit.tab_to("Show what counted")
    visit.page.keyboard.press("Space")
    visit.page.locator(".legend", has_text="Orange speaks for Dress").wait_for()
    assert visit.focused() == "Show the photo"
    visit.page.keyboard.press("Shift+Tab")
    assert visit.focused() == "Remove dress.jpg"
    visit.page.keyboard.press("Enter")
    assert visit.focused() == "Choose pictures"
    visit.tab_to("Use it from a program")
    visit.page.keyboard.press("Enter")
    visit.page.wait_for_url("**/docs")


def test_a_phone_shows_the_answer_without_scrolling(open_page: Open, shoot: Shoot) -> None:
    visit = open_page(**PHONE)
    assert visit.overflow() == 0
    visit.page.get_by_role("button", name="Take a photo").click()
    assert not visit.chooser().is_multiple()
    assert visit.page.locator("#camera").get_attribute("capture") == "environment"
    shoot(visit, "phone-start")
    visit.sample("sneaker")
    visit.until(
        "(({ top, bottom }) => top >= 0 && bottom <= innerHeight)"
        "(document.querySelector('.guesses').getBoundingClientRect())"
    )
    shoot(visit, "phone-answer")
    visit.page.get_by_role("button", name="Another picture").click()
    assert visit.focused() == "Choose pictures"
    visit.until(
        "(({ top, bottom }) => top >= 0 && bottom <= innerHeight)"
        "(document.querySelector('#samples').getBoundingClientRect())"
    )
    assert visit.overflow() == 0
    assert visit.faults == []


@pytest.mark.parametrize("screen", [PHONE, {"viewport": {"width": 768, "height": 1024}}])
def test_a_finger_hits_whatever_can_be_touched(open_page: Open, screen: dict[str, Any]) -> None:
    visit = open_page(**{**screen, "has_touch": True})
    assert visit.small_targets() == []
    visit.give(PAGE / "sample-coat.jpg", PAGE / "SAMPLES.md")
    assert visit.small_targets() == []
    visit.page.goto(visit.page.url + "docs")
    assert visit.small_targets() == []


@pytest.mark.parametrize(("motion", "how"), [("no-preference", "smooth"), ("reduce", "instant")])
def test_the_answer_comes_into_view_as_the_visitor_likes_it(
    open_page: Open, motion: str, how: str
) -> None:
    visit = open_page(**PHONE, reduced_motion=motion)
    visit.page.evaluate(
        "Element.prototype.scrollIntoView = function (how) { window.moved = [this.id, how]; }"
    )
    visit.drop(["coat.jpg"])
    visit.wait()
    assert visit.page.evaluate("window.moved") == ["answers", {"behavior": how}]


def test_no_width_makes_the_pages_scroll_sideways(open_page: Open) -> None:
    visit = open_page(viewport=WIDE)
    visit.sample("shorts")
    visit.drop(["a-name-without-any-space-" * 12 + ".jpg"])
    visit.wait()
    assert [overflow_at(visit, width) for width in (320, 640, 1000, 1920)] == [0] * 4
    visit.page.goto(visit.page.url + "docs")
    assert [overflow_at(visit, width) for width in (320, 640)] == [0] * 2


def overflow_at(visit: Visit, width: int) -> int:
    """What does not fit into a window; 320 px is a screen of 1280 px, zoomed to 400 %."""
    visit.page.set_viewport_size({"width": width, "height": 430})
    return visit.overflow()


@pytest.mark.parametrize(
    ("name", "screen"),
    [
        ("light", {}),
        ("dark", {"color_scheme": "dark"}),
        ("phone", {**PHONE, "color_scheme": "dark"}),
    ],
)
def test_axe_finds_nothing_that_keeps_people_out(
    open_page: Open, shoot: Shoot, name: str, screen: dict[str, Any]
) -> None:
    visit = open_page(**screen, reduced_motion="reduce")
    assert visit.grave_faults() == []
    visit.give(*[PAGE / f"sample-{each}.jpg" for each in ("dress", "shorts")], PAGE / "SAMPLES.md")
    visit.page.locator(".heat").first.click()
    visit.page.locator(".legend", has_text="Orange speaks for Dress").wait_for()
    assert visit.grave_faults() == []
    shoot(visit, f"answers-{name}")
    visit.page.goto(visit.page.url + "docs")
    assert visit.grave_faults() == []
    shoot(visit, f"docs-{name}")


def test_axe_finds_a_fault_where_there_is_one(open_page: Open) -> None:
    visit = open_page()
    visit.page.evaluate("document.querySelector('[data-sample=bag] img').removeAttribute('alt')")
    assert [fault for fault in visit.grave_faults() if "sample-bag" in fault]


def test_bars_are_seen_in_forced_colours_and_nothing_moves_unasked(
    open_page: Open, shoot: Shoot
) -> None:
    visit = open_page(forced_colors="active", reduced_motion="reduce")
    visit.sample("coat")
    colour = "getComputedStyle(document.querySelector('.guesses i'), %r).backgroundColor"
    bar, fill = (visit.page.evaluate(colour % part) for part in ("", "::before"))
    assert bar != fill
    assert (
        visit.page.evaluate(
            "getComputedStyle(document.querySelector('.guesses i'), '::before').animationName"
        )
        == "none"
    )
    visit.page.evaluate("document.querySelector('.card').setAttribute('aria-busy', true)")
    moving = "getComputedStyle(document.querySelector('.card figure div')).animationName"
    assert visit.page.evaluate(moving) == "none"
    shoot(visit, "forced-colours")


def test_answers_are_printed_without_what_can_only_be_pressed(
    open_page: Open, shoot: Shoot
) -> None:
    visit = open_page(color_scheme="dark")
    visit.give(PAGE / "sample-coat.jpg", PAGE / "sample-shorts.jpg")
    visit.page.emulate_media(media="print")
    shoot(visit, "print")
    assert visit.page.locator("button:visible, #give:visible, #progress:visible").count() == 0
    assert visit.page.locator("#sum").is_visible()
    style = "getComputedStyle(document.querySelector('%s')).%s"
    assert visit.page.evaluate(style % (".guesses i", "printColorAdjust")) == "exact"
    assert visit.page.evaluate(style % (".card", "breakInside")) == "avoid"
    assert visit.page.evaluate(style % (".card", "contentVisibility")) == "visible"
    assert visit.page.evaluate(style % (".card", "backgroundColor")) == "rgb(255, 255, 255)"


# What goes wrong


def test_a_busy_server_is_asked_again_when_it_said(open_page: Open) -> None:
    visit = open_page(viewport=WIDE)
    visit.page.clock.install()
    visit.page.clock.pause_at("2040-01-01")
    statuses = iter([429, 503])

    def busy_at_first(route: Route) -> None:
        if status := next(statuses, None):
            headers = {"Retry-After": "3"}
            route.fulfill(status=status, headers=headers, json={"error": "busy"})
        else:
            route.fulfill(json={"predictions": [ANSWER]})

    visit.page.route("**/api/predict?*", busy_at_first)
    visit.drop(["coat.jpg"])
    visit.page.get_by_text("The server is busy: trying again in 3 s").wait_for()
    visit.page.clock.run_for(2000)
    assert visit.text(".verdict") == "Looking"
    visit.elapse("document.querySelector('.verdict').textContent === 'Coat'", 1)
    assert visit.text(".why") == ""


def test_a_server_that_stays_busy_is_not_asked_for_ever(open_page: Open) -> None:
    visit = open_page(viewport=WIDE)
    visit.page.clock.install()
    visit.page.clock.pause_at("2040-01-01")
    asked: list[str] = []

    def busy(route: Route) -> None:
        asked.append(route.request.url)
        route.fulfill(
            status=503, headers={"Retry-After": "1"}, json={"error": "the server is busy"}
        )

    visit.page.route("**/api/predict?*", busy)
    visit.drop(["coat.jpg"])
    visit.elapse("document.querySelector('.failed')", 5)
    assert visit.text(".why") == "the server is busy"
    assert len(asked) == 6
    assert visit.page.get_by_role("button", name="Try again").is_visible()


def test_a_server_that_never_answers_is_given_up(open_page: Open) -> None:
    visit = open_page(viewport=WIDE)
    visit.page.clock.install()
    visit.page.clock.pause_at("2040-01-01")
    visit.page.route("**/api/predict?*", lambda route: None)
    with visit.page.expect_request("**/api/predict?*"):
        visit.drop(["coat.jpg"])
    visit.page.clock.run_for(89_000)
    assert visit.text(".verdict") == "Looking"
    visit.elapse("document.querySelector('.failed')", 1)
    assert visit.text(".why").startswith("the server cannot be reached")


def test_removed_pictures_that_wait_for_a_busy_server_hold_up_no_others(open_page: Open) -> None:
    visit = open_page()
    answers = iter([False, False])

    def busy_at_first(route: Route) -> None:
        if next(answers, True):
            route.fulfill(json={"predictions": [ANSWER]})
        else:
            route.fulfill(status=503, headers={"Retry-After": "30"}, json={"error": "busy"})

    visit.page.route("**/api/predict?*", busy_at_first)
    visit.drop(["1.jpg", "2.jpg", "3.jpg", "4.jpg"])
    visit.page.get_by_text("trying again in 30 s").nth(1).wait_for()
    progress = visit.page.evaluate(
        """() => {
            document.querySelector(".remove").click();
            document.querySelector(".remove").click();
            return document.querySelector("#progress span").textContent;
        }"""
    )
    assert progress == "0 of 2"
    visit.wait()  # less long than 30 s
    assert visit.texts(".name bdi") == ["3.jpg", "4.jpg"]
    assert visit.texts(".verdict") == ["Coat", "Coat"]


REFUSALS: list[tuple[dict[str, Any], str, bool]] = [  # an answer, what is said, worth a retry
    ({"status": 413, "body": "<h1>413</h1>"}, "the picture is too large for this server", False),
    ({"status": 422, "json": {"error": "the picture is damaged"}}, "the picture is damaged", False),
    ({"status": 500, "body": "?"}, "the server answered with status 500", True),
    ({"status": 502, "body": "a proxy's page"}, "the server cannot be reached", True),
    ({"status": 504, "json": {"error": "no answer within 10 s"}}, "no answer within 10 s", True),
    ({"status": 200, "body": "a proxy's page"}, "the answer cannot be shown", True),
]


def test_errors_are_told_in_plain_words(open_page: Open) -> None:
    visit = open_page()
    refusal: dict[str, Any] = {}
    visit.page.route("**/api/predict?*", lambda route: route.fulfill(**refusal))
    for answer, words, again in REFUSALS:
        refusal.clear()
        refusal |= answer
        visit.drop(["coat.jpg"])
        visit.wait()
        assert visit.text(".why").startswith(words)
        assert visit.page.locator(".again").first.is_visible() == again
        assert visit.text("#live").startswith(f"coat.jpg: no answer: {words}")


def test_a_server_that_is_gone_can_be_asked_again(open_page: Open, shoot: Shoot) -> None:
    visit = open_page()
    gone = "**/api/predict?*"
    visit.page.route(gone, lambda route: route.abort())
    visit.sample("coat")
    assert visit.text(".why").startswith("the server cannot be reached")
    shoot(visit, "gone")
    visit.page.unroute(gone)
    visit.page.get_by_role("button", name="Try again").click()
    visit.wait()
    assert visit.text(".verdict") == "Coat"
    assert visit.focused().startswith("Coat")
    assert visit.page.locator(".failed").count() == 0
    visit.page.route(gone, lambda route: route.abort())
    visit.page.get_by_role("button", name="Show what counted").click()
    visit.page.locator(".why", has_text="There is no heat map: the server cannot").wait_for()
    assert visit.text("#live").startswith("There is no heat map: the server cannot be reached")
    assert visit.text(".verdict") == "Coat"
    assert visit.focused() == "Try the heat map again"
    visit.page.unroute(gone)
    visit.page.keyboard.press("Enter")
    visit.page.locator(".legend", has_text="Orange speaks for Coat").wait_for()
    assert visit.text(".why") == ""
    assert visit.focused() == "Show the photo"


def test_a_token_is_asked_for_once(
    open_page: Open, guarded: tuple[Server, str], shoot: Shoot
) -> None:
    server, token = guarded
    visit = open_page(address=server.url)
    field = visit.page.get_by_label("Token", exact=True)
    field.wait_for()
    assert field.evaluate("(field) => field === document.activeElement")
    assert visit.grave_faults() == []
    shoot(visit, "token")
    assert visit.faults == []
    visit.page.keyboard.press("Escape")
    visit.page.locator("#say").wait_for()
    assert visit.text("#say") == "the server asks for a token"
    visit.page.locator("#files").set_input_files(
        [PAGE / f"sample-{name}.jpg" for name in ("bag", "coat", "dress")]
    )
    field.fill("open")
    field.press("Enter")
    visit.page.get_by_text("The server does not take that token").wait_for()
    field.fill(token)
    field.press("Enter")
    visit.wait()
    assert visit.texts(".verdict") == ["Bag", "Coat", "Probably Dress"]
    # What the server says of itself has come after all.
    assert visit.text(".needed").startswith("The line marks 57 %")
    assert visit.text("#model").startswith("fmnist ")
    assert not visit.page.locator("#say").is_visible()
    visit.page.reload()
    visit.sample("dress")
    assert visit.text(".verdict") == "Probably Dress"
    assert not field.is_visible()


def test_without_a_token_all_waiting_pictures_are_given_up(open_page: Open) -> None:
    visit = open_page()
    visit.page.route(
        "**/api/predict?*", lambda route: route.fulfill(status=401, json={"error": "?"})
    )
    visit.drop([f"{number}.jpg" for number in range(6)])
    visit.page.get_by_role("button", name="Cancel").click()
    visit.wait()
    assert visit.texts(".why") == ["the server asks for a token"] * 6
    assert visit.page.locator(".again:visible").count() == 6
    assert not visit.page.locator("#token").is_visible()


def test_a_link_brings_its_token_along(open_page: Open, guarded: tuple[Server, str]) -> None:
    server, token = guarded
    visit = open_page(f"/#token={token}", address=server.url)
    visit.sample("bag")
    assert visit.text(".verdict") == "Bag"
    assert visit.page.url == server.url + "/"
    assert visit.faults == []
    assert not any(token in line for line in server.stderr_lines())


# As browsers do where their visitors want nothing to be stored.
NO_STORAGE = """Object.defineProperty(window, "sessionStorage", {
    get() { throw new DOMException("denied", "SecurityError"); },
});"""


def test_where_nothing_may_be_stored_a_token_lasts_as_long_as_the_page(
    open_page: Open, guarded: tuple[Server, str]
) -> None:
    server, token = guarded
    visit = open_page(address=server.url)
    visit.page.add_init_script(NO_STORAGE)
    visit.page.reload()
    field = visit.page.get_by_label("Token", exact=True)
    field.fill(token)
    field.press("Enter")
    visit.sample("bag")
    visit.sample("coat")
    assert visit.texts(".verdict") == ["Coat", "Bag"]
    assert not field.is_visible()
    assert visit.faults == []


def test_the_page_works_below_a_path_of_a_site_that_has_other_servers(
    open_page: Open, guarded: tuple[Server, str]
) -> None:
    server, token = guarded
    with prefixed(server.port) as site:
        root = f"{site}/clothes/"
        visit = open_page(f"#token={token}", address=root)
        asked: list[str] = []
        visit.page.on("request", lambda request: asked.append(request.url))
        visit.sample("bag")
        assert (visit.text(".verdict"), visit.page.url) == ("Bag", root)
        visit.page.get_by_role("link", name="as measured").click()
        visit.page.wait_for_url(f"{root}docs#accuracy")
        visit.until("document.getElementById('whose-limits').textContent.startsWith('As this')")
        examples = visit.texts("pre code[data-run]")
        assert examples[0].endswith(f" {root}api/predict")
        assert f'"{root.removeprefix("http://").removesuffix("/")}"' in "".join(examples)
        visit.page.get_by_role("link", name="The page").click()
        visit.page.wait_for_url(root)
        visit.sample("coat")  # the token is still known
        assert all(url.startswith(root) for url in asked if not url.startswith("blob:"))
        assert visit.faults == []
        visit.page.goto(f"{site}/another/")
        visit.page.get_by_label("Token", exact=True).wait_for()


# Strangers' scripts

# A server that echoes a file's name, a payload, wherever it says something.
ECHO = """() => {
    window.fetch = async (url, { body }) => {
        const said = body.get("file").name;
        const guess = { label: said, class_index: 4, probability: 0.97 };
        const rest = { path: said, id: said, accepted: true, top: [guess], warnings: [said] };
        return window.refusing ? Response.json({ error: said }, { status: 422 })
            : Response.json({ predictions: [{ ...guess, ...rest }] });
    };
}"""


def test_no_payload_is_executed(open_page: Open) -> None:
    """WEB-02: 30 payloads as file name, label, id, error text and name of the model.

    The policy is off: the page must hold without it.
    """
    visit = open_page(bypass_csp=True)
    visit.page.add_init_script("window.executed = 0; window.xss = () => { window.executed += 1; }")
    visit.page.reload()
    visit.page.evaluate(ECHO)
    visit.drop(PAYLOADS)
    visit.wait()
    for place in (".name bdi", ".verdict", ".guesses li span:first-child", ".advice li"):
        assert visit.page.locator(place).all_text_contents() == PAYLOADS
    visit.page.locator("#clear").click()
    visit.page.evaluate("window.refusing = true")
    visit.drop(PAYLOADS)
    visit.wait()
    assert visit.page.locator(".why").all_text_contents() == PAYLOADS
    visit.page.wait_for_timeout(200)  # images fail, and media do, in their own time
    assert visit.page.evaluate("window.executed") == 0
    show_as_model(visit)
    visit.page.evaluate("(payload) => { document.body.innerHTML = payload; }", PAYLOADS[1])
    visit.until("window.executed === 1")  # what is counted can happen


def show_as_model(visit: Visit) -> None:
    """Show each payload as what the server says of itself."""
    about: dict[str, Any] = {}
    visit.page.route("**/api/about", lambda route: route.fulfill(json=about))
    for number in range(0, len(PAYLOADS), 5):
        name, version, recipe, network, precision = PAYLOADS[number : number + 5]
        model = {"recipe": recipe, "network": network, "precision": precision}
        about |= {"name": name, "version": version, "model": model}
        visit.page.reload()
        visit.until("document.getElementById('model').textContent")
        shown = visit.page.locator("#model").text_content()
        assert shown == f"{name} {version} · recipe {recipe} · network {network} · {precision}"
        assert visit.page.evaluate("window.executed") == 0


def test_the_policy_stops_and_tells_of_a_script_in_the_page(open_page: Open) -> None:
    visit = open_page()
    told = visit.page.expect_console_message(
        lambda message: "Content Security Policy" in message.text
    )
    with told:
        visit.page.evaluate("document.body.innerHTML = '<img src=x onerror=document.title=1>'")
    assert visit.page.title() != "1"
    assert visit.faults


# The files


def test_nothing_in_the_page_is_ever_taken_for_html_or_code() -> None:
    scripts = "".join(path.read_text() for path in PAGE.glob("*.js"))
    assert not re.search(r"(inner|outer)HTML|insertAdjacentHTML|document\.write|\beval\b", scripts)
    assert not re.search(r"new Function|setTimeout\(['\"`]|\.setAttribute\(['\"]on", scripts)
    pages = "".join(path.read_text() for path in PAGE.glob("*.html"))
    assert not re.search(
        r"\son\w+=|\sstyle=|<style|javascript:|<script(?! type=.module. src=)", pages
    )


def test_the_page_asks_nobody_else_and_names_no_file_that_is_not_there(open_page: Open) -> None:
    visit = open_page()
    asked: list[str] = []
    visit.page.on("request", lambda request: asked.append(request.url))
    visit.page.on("response", lambda response: asked.append(str(response.status)))
    visit.page.reload(wait_until="networkidle")
    visit.page.goto(visit.page.url + "docs", wait_until="networkidle")
    addresses = {each for each in asked if not each.isdigit()}
    assert all(each.startswith(visit.page.url.removesuffix("docs")) for each in addresses)
    assert {each for each in asked if each.isdigit()} <= {"200", "304"}


def test_the_docs_tell_the_limits_that_the_server_has(
    open_page: Open, guarded: tuple[Server, str]
) -> None:
    visit = open_page("/docs")
    visit.until("document.getElementById('whose-limits').textContent === 'As this server is set'")
    limits = {"files": 3, "body_bytes": 5 * 2**20, "pixels": 10**6, "images": 8}
    about = {"limits": {**limits, "deadline_seconds": 2.5}}
    visit.page.route("**/api/about", lambda route: route.fulfill(json=about))
    visit.page.reload()
    visit.page.locator("[data-limit=images]", has_text=re.compile("^8$")).wait_for()
    told = visit.text("#limits")
    assert "As this server is set: 3 pictures and 5 MB a request, 1 million pixels" in told
    assert "8 images of 28x28 a request of the protocol, an answer within 2.5 seconds" in told
    stranger = open_page("/docs", address=guarded[0].url)
    stranger.page.wait_for_load_state("networkidle")
    assert "Unless who runs this server chose otherwise" in stranger.text("#limits")
    assert stranger.faults == []


def test_no_address_is_bound_to_the_root_of_a_site() -> None:
    for path in PAGE.iterdir():
        if path.suffix in (".html", ".css", ".js"):
            assert not re.search(r"""["'`]/(["'`]|[a-z])""", path.read_text()), path.name


def test_the_page_stays_small() -> None:
    files = [path for path in PAGE.iterdir() if path.suffix in (".html", ".css", ".js")]
    assert sum(len(path.read_text().splitlines()) for path in files) < 1000
    assert sum(path.stat().st_size for path in PAGE.iterdir()) < 300_000


def test_samples_are_small_bare_and_their_source_is_told() -> None:
    samples = sorted(PAGE.glob("sample-*.jpg"))
    source = (PAGE / "SAMPLES.md").read_text()
    assert len(samples) == 11
    for path in samples:
        picture = Image.open(io.BytesIO(path.read_bytes()))
        assert max(picture.size) <= 320
        assert path.stat().st_size < 15_000
        assert not set(picture.info) - {
            "jfif",
            "jfif_version",
            "jfif_unit",
            "jfif_density",
            "progressive",
            "progression",
        }
        assert f"`{path.name}`" in source
