"""Make docs/serve/page.png: the web page of a running server, with an answer.

Usage: fmnist serve, and beside it: python scripts/page_picture.py http://127.0.0.1:8000
Needs Chromium and playwright, as the tests of the page do.
"""

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from fmnist.files import write_whole

PICTURE = Path(__file__).parents[1] / "docs/serve/page.png"
SAMPLE = "pullover"
SIZE: tuple[int, int] = (1280, 846)  # px
COLOURS = 256  # a third of the bytes of 16 million, and no difference is seen


def main(address: str) -> None:
    """Write the picture."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    assert program, "install Chromium first (apt install chromium)"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": SIZE[0], "height": SIZE[1]})
        page.goto(address)
        photo = photographed(page)
        browser.close()
    write_whole(PICTURE, small(photo))


def photographed(page: Page) -> bytes:
    """Return a screenshot, PNG, of the page with the answer to SAMPLE."""
    page.locator(f"[data-sample={SAMPLE}]").click()
    page.mouse.move(0, 0)  # what is pointed at looks otherwise
    page.locator(".card[aria-busy=false] .guesses li").first.wait_for()
    page.evaluate("Promise.all([...document.images].map((image) => image.decode()))")
    return page.screenshot(animations="disabled")


def small(photo: bytes) -> bytes:
    """Return a PNG with few colours."""
    file = io.BytesIO()
    with Image.open(io.BytesIO(photo)) as picture:
        picture.convert("RGB").quantize(COLOURS, kmeans=4).save(file, "png", optimize=True)
    return file.getvalue()


if __name__ == "__main__":
    main(sys.argv[1])
