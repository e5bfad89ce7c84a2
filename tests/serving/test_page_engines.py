"""The page's journey in Firefox and WebKit, where they are installed; test_page.py has the rest."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engines import ENTER, ESCAPE, TAB, Engine, firefox, webkit
from servers import Server

PAGE = Path(__file__).parents[2] / "src/fmnist/serving/page"
# From the page's start on only Firefox tells.
LISTEN = """
window.faults = [];
addEventListener("error", (event) => faults.push(event.message));
addEventListener("unhandledrejection", (event) => faults.push(String(event.reason)));
addEventListener("securitypolicyviolation", (event) => faults.push(event.violatedDirective));
"""
FOCUSED = "return document.activeElement.id || document.activeElement.textContent.trim()"
# A paste and a drop of a sample, as far as a script can make them: engines differ in the events.
PASTE_AND_DROP = """
fetch("page/sample-bag.jpg").then((response) => response.blob()).then((photo) => {
    const held = new DataTransfer();
    held.items.add(new File([photo], "bag.jpg", { type: photo.type }));
    const pasted = new ClipboardEvent("paste", { bubbles: true });
    Object.defineProperty(pasted, "clipboardData", { value: held });
    document.body.dispatchEvent(pasted);
    const how = { dataTransfer: held, bubbles: true, cancelable: true };
    for (const name of ["dragover", "drop"]) document.body.dispatchEvent(new DragEvent(name, how));
});
"""


@pytest.fixture(scope="module", params=[firefox, webkit])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    start: Callable[[], contextlib.AbstractContextManager[Engine]] = request.param
    with start() as started:
        yield started


def arrive(engine: Engine, address: str) -> None:
    """Open the page as if for the first time."""
    engine.open("about:blank")
    engine.open(address)
    engine.run(LISTEN)


def test_pictures_are_named_explained_and_removed(
    engine: Engine, server: Server, tmp_path: Path
) -> None:
    letter = tmp_path / "letter.txt"
    letter.write_text("no picture")
    arrive(engine, server.url)
    engine.give(PAGE / "sample-dress.jpg", letter, PAGE / "sample-shorts.jpg")
    assert engine.texts(".verdict") == ["Probably Dress", "No answer", "Not sure"]
    assert engine.texts("#sum") == ["3 pictures: 1 named, 1 not sure, 1 not readable"]
    shown = "[...document.querySelectorAll('.card:first-child img')].every((i) => i.naturalWidth)"
    engine.until(shown)
    engine.run("document.querySelector('.heat').click()")
    engine.until("!document.querySelector('.legend').hidden")
    engine.run("document.querySelector('.remove').click()")
    assert engine.texts(".verdict") == ["No answer", "Not sure"]
    engine.run("document.querySelector('#clear').click()")
    assert engine.run(FOCUSED) == "choose"
    assert engine.run("return faults") == engine.faults() == []


def test_the_keyboard_alone_is_enough(engine: Engine, server: Server) -> None:
    arrive(engine, server.url)
    reach(engine, "document.activeElement.dataset.sample === 'coat'")
    engine.press(ENTER)
    engine.answered()
    assert engine.texts(".verdict") == ["Coat"]
    reach(engine, "document.activeElement.matches('.heat')")
    engine.press(" ")
    engine.until("!document.querySelector('.legend').hidden")
    assert engine.run(FOCUSED) == "Show the photo"
    assert engine.run("return faults") == []


def reach(engine: Engine, condition: str) -> None:
    """Press Tab until the focus is where a condition says."""
    for _ in range(40):
        if engine.run(f"return {condition}"):
            return
        engine.press(TAB)
    raise AssertionError(condition)


def test_pictures_are_pasted_and_dropped(engine: Engine, server: Server) -> None:
    arrive(engine, server.url)
    engine.run(PASTE_AND_DROP)
    engine.until("document.querySelectorAll('.card').length === 2")
    engine.answered()
    assert engine.texts(".verdict") == ["Bag", "Bag"]
    assert engine.run("return document.body.className + faults") == ""


def test_a_token_is_asked_for_once(engine: Engine, guarded: tuple[Server, str]) -> None:
    server, token = guarded
    arrive(engine, server.url)
    engine.until("document.querySelector('#token').open")
    assert engine.run(FOCUSED) == "token-field"
    engine.press(ESCAPE)
    engine.until("document.querySelector('#say').textContent === 'the server asks for a token'")
    engine.run("document.querySelector('[data-sample=bag]').click()")
    engine.until("document.querySelector('#token').open")
    engine.type("#token-field", token + ENTER)
    engine.answered()
    assert engine.texts(".verdict") == ["Bag"]
    arrive(engine, server.url)
    engine.until("document.querySelector('#model').textContent")
    assert engine.run("return document.querySelector('#token').open") is False
    assert engine.run("return faults") == engine.faults() == []
