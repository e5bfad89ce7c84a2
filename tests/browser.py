"""Debian's Chromium, headless, as visitors of the web page use it."""

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    FileChooser,
    Page,
    sync_playwright,
)

SWITCHES = [
    *("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--in-process-gpu"),
]
PATIENCE_MS = 20_000
# Counts what would fill the memory of a page that is left open: object URLs that are not freed.
COUNT_URLS = """
window.urls = 0;
for (const [name, step] of [["createObjectURL", 1], ["revokeObjectURL", -1]]) {
  const native = URL[name];
  URL[name] = (what) => {
    if (what !== undefined) window.urls += step;
    return native.call(URL, what);
  };
}
"""


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Start Chromium; without it the test is skipped, but fails where CI is true.

    No asyncio.run in the same thread meanwhile: playwright keeps a loop running.
    """
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        assert os.environ.get("CI") != "true", "CI has no chromium, so the page is not tested"
        pytest.skip("no chromium is installed (apt install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=SWITCHES)
        yield browser
        browser.close()


# What Chromium has and older browsers do not: Safari before 17.4, Firefox before 124.
FORGET = "delete AbortSignal.any; delete AbortSignal.timeout;"
# What a finger may miss: less than 44 px. A link inside a sentence has the height of its line.
SMALL = """
[...document.querySelectorAll("button, input, a")]
    .filter((each) => each.offsetParent && !each.matches("p:not(.links) a"))
    .map((each) => [each.textContent.trim() || each.id, each.getBoundingClientRect()])
    .filter(([, { width, height }]) => width < 44 || height < 44).map(([name]) => name)
"""


class Visit:
    """One visitor's page, with what went wrong on it."""

    def __init__(self, context: BrowserContext, address: str) -> None:
        """Open a server's address in a fresh page."""
        self.faults: list[str] = []  # console errors, which violations of the policy are too
        context.add_init_script(COUNT_URLS + FORGET)
        self.page: Page = context.new_page()
        self.page.set_default_timeout(PATIENCE_MS)
        self.page.on("console", self._note)
        # Heard from the start: expect_file_chooser is too late.
        self.choosers: list[FileChooser] = []
        self.page.on("filechooser", lambda chooser: self.choosers.append(chooser))
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.goto(address)

    def again(self, address: str) -> None:
        """Open an address as if for the first time: what a test saw and replaced is gone."""
        self.page.unroute_all(behavior="ignoreErrors")
        self.page.goto("about:blank")
        self.faults.clear()
        self.choosers.clear()
        self.page.goto(address)

    def _note(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.faults.append(message.text)

    def sample(self, name: str) -> None:
        """Ask about a sample picture and wait for the answer, which is the first card."""
        self.page.locator(f"[data-sample={name}]").click()
        self.page.locator(".card .name", has_text=f"{name}.jpg").first.wait_for()
        self.wait()

    def give(self, *pictures: Path) -> None:
        """Choose files, and wait for the answers."""
        self.page.locator("#files").set_input_files(pictures)
        self.wait()

    def drop(self, names: list[str], content: str = "no picture") -> None:
        """Drop files of any names, '/' and '<' in them, that hold a text; does not wait."""
        self.page.evaluate(
            """([names, content]) => {
                const dataTransfer = new DataTransfer();
                names.forEach((name) => dataTransfer.items.add(new File([content], name)));
                document.body.dispatchEvent(new DragEvent("drop",
                    { dataTransfer, bubbles: true, cancelable: true }));
            }""",
            [names, content],
        )

    def wait(self) -> None:
        """Wait until no picture is being asked about."""
        self.page.locator(".card").first.wait_for()
        self.until("!document.querySelector('.card[aria-busy=true]')")

    def until(self, condition: str) -> None:
        """Wait until an expression is true; Playwright's own wait breaks the policy."""
        deadline = time.monotonic() + PATIENCE_MS / 1000
        while not self.page.evaluate(condition):
            assert time.monotonic() < deadline, condition
            self.page.wait_for_timeout(20)

    def elapse(self, condition: str, seconds: int) -> None:
        """Let time pass on the page's clock, some seconds at once, until an expression is true."""
        for _ in range(200):
            if self.page.evaluate(condition):
                return
            self.page.clock.run_for(1000 * seconds)
        raise AssertionError(condition)

    def text(self, selector: str) -> str:
        """What the first element of a selector says, in single spaces."""
        return " ".join((self.page.locator(selector).first.text_content() or "").split())

    def texts(self, selector: str) -> list[str]:
        return [" ".join(each.split()) for each in self.page.locator(selector).all_text_contents()]

    def focused(self) -> str:
        """The text of the element that has the focus, or its picture's."""
        said: str = self.page.evaluate(
            "document.activeElement.querySelector('img')?.alt"
            " || document.activeElement.textContent.trim() || document.activeElement.id"
        )
        return said

    def tab_to(self, text: str) -> None:
        """Press Tab until the element with a text has the focus."""
        for _ in range(40):
            if self.focused().startswith(text):
                return
            self.page.keyboard.press("Tab")
        raise AssertionError(f"the keyboard does not reach {text!r}")

    def chooser(self) -> FileChooser:
        """The dialog for files that has been opened."""
        deadline = time.monotonic() + PATIENCE_MS / 1000
        while not self.choosers:
            assert time.monotonic() < deadline, "no file can be chosen"
            self.page.wait_for_timeout(20)
        return self.choosers.pop()

    def overflow(self) -> int:
        """By how many px the page is wider than the window."""
        width: int = self.page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        return width

    def small_targets(self) -> list[str]:
        """What is too small for a finger."""
        names: list[str] = self.page.evaluate(SMALL)
        return names

    def grave_faults(self) -> list[str]:
        """What axe-core finds that keeps people out, or nearly."""
        self.page.evaluate(_axe())
        found: dict[str, Any] = self.page.evaluate("axe.run({resultTypes: ['violations']})")
        return [
            f"{fault['id']}: {node['html'][:120]} {node['failureSummary'][:200]}"
            for fault in found["violations"]
            if fault["impact"] in ("serious", "critical")
            for node in fault["nodes"]
        ]


@cache
def _axe() -> str:
    return (files("axe_playwright_python") / "axe.min.js").read_text("utf-8")
