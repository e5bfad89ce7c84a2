"""What a person reads of an answer, on terminals of several kinds."""

import io
import re
from collections.abc import Callable

import numpy as np
import pytest
from rich.console import Console

from fmnist.classifier import Guess, Prediction
from fmnist.console import blocks
from fmnist.errors import PhotoError
from fmnist.tables import print_answer, print_portrait

NAMES = ("Sandal", "Shirt", "T-shirt/top", "Coat")
ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


def answer(accepted: bool = True, warnings: tuple[str, ...] = ()) -> Prediction:
    """Sandal 70 %, Shirt 20 %, T-shirt 9.7 %, Coat 0.3 %; the image gets brighter downwards."""
    shares = (0.7, 0.2, 0.097, 0.003)
    top = tuple(Guess(name, i, p) for i, (name, p) in enumerate(zip(NAMES, shares, strict=True)))
    image = np.repeat(np.arange(0, 252, 9, dtype=np.uint8)[:, None], 28, axis=1)
    return Prediction("Sandal", 0, 0.7, accepted, top, warnings, image, None)


def terminal(colours: str | None = "truecolor", width: int = 80) -> Console:
    return Console(
        file=io.TextIOWrapper(io.BytesIO(), encoding="utf-8"),
        force_terminal=True,
        color_system=colours,  # type: ignore[arg-type]
        width=width,
        legacy_windows=False,
        _environ={},
    )


def written(out: Console) -> str:
    file = out.file
    assert isinstance(file, io.TextIOWrapper)
    file.flush()
    assert isinstance(file.buffer, io.BytesIO)
    return file.buffer.getvalue().decode()


def test_a_portrait_shows_the_picture_beside_its_guesses() -> None:
    out = terminal()
    print_portrait("boot.jpg", answer(warnings=("use more light",)), None, out)
    rows = [row.rstrip() for row in ESCAPES.sub("", written(out)).splitlines()]
    assert [row[:28] for row in rows[:14]] == ["▀" * 28] * 14
    beside = [row[28:].strip() for row in rows[:14]]
    assert beside[:3] == ["boot.jpg", "Sandal, 70 %", ""]
    assert [" ".join(row.split()) for row in beside[3:8]] == [
        "Sandal ████████████████▊ 70 %",
        "Shirt ████▊ 20 %",
        "T-shirt/top ██▍ 10 %",
        "",
        "advice: use more light",
    ]


def test_pixels_have_their_own_greys() -> None:
    out = terminal()
    print_portrait("boot.jpg", answer(), None, out)
    rows = written(out).splitlines()
    for row, (upper, lower) in enumerate(zip(range(0, 252, 18), range(9, 252, 18), strict=True)):
        assert rows[row].startswith(
            f"\x1b[38;2;{upper};{upper};{upper};48;2;{lower};{lower};{lower}m"
        )


@pytest.mark.parametrize("colours", [None, "standard"])
def test_with_few_colours_pixels_are_shades(colours: str | None) -> None:
    text = blocks(answer().image, terminal(colours))
    assert text is not None
    rows = text.plain.split("\n")
    assert len(rows) == 14
    assert rows[0] == " " * 28
    assert rows[-1] == "█" * 28
    assert set("".join(rows)) == set(" ░▒▓█")


def test_a_photo_in_colour_is_made_small() -> None:
    photo = np.zeros((300, 150, 3), np.uint8)
    photo[:, :, 0] = 255
    text = blocks(photo, terminal())
    assert text is not None
    assert text.plain == "\n".join(["▀" * 14] * 14)
    assert {str(span.style) for span in text.spans} == {"rgb(255,0,0) on rgb(255,0,0)"}


def test_without_a_terminal_or_its_characters_there_is_no_picture() -> None:
    assert blocks(answer().image, Console(file=io.StringIO())) is None
    latin = Console(file=io.TextIOWrapper(io.BytesIO(), "latin-1"), force_terminal=True)
    assert blocks(answer().image, latin) is None


def test_not_sure_is_said_and_the_guesses_are_still_there() -> None:
    out = terminal()
    print_portrait("hat.jpg", answer(accepted=False), 2, out)
    said = ESCAPES.sub("", written(out))
    assert "not sure; the best guesses are:" in said
    assert "Sandal" in said
    assert "Shirt" in said
    assert "T-shirt/top" not in said
    out = terminal()
    print_answer("hat.jpg", answer(accepted=False), None, out)
    line = ESCAPES.sub("", written(out))
    assert line.startswith("not sure ")
    assert "(Sandal 70 %, Shirt 20 %, T-shirt/top 10 %)" in line


def test_a_line_has_its_columns_and_advice() -> None:
    out = terminal(width=20)
    print_answer("a b.jpg", answer(warnings=("use more light",)), None, out)
    print_answer("c.jpg", answer(), 4, out)
    assert ESCAPES.sub("", written(out)).splitlines() == [
        "Sandal          70 %  a b.jpg  (use more light)",
        "Sandal          70 %  c.jpg  (Sandal 70 %, Shirt 20 %, T-shirt/top 10 %, Coat < 1 %)",
    ]


def test_a_long_name_in_a_narrow_terminal_is_not_cut() -> None:
    out = terminal(width=60)
    print_portrait(200 * "x" + ".jpg", answer(), None, out)
    assert written(out).count("x") == 200


@pytest.mark.parametrize("show", [print_answer, print_portrait])
def test_an_error_goes_to_stderr(
    show: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    out = terminal()
    show("a\n.jpg", PhotoError("empty (0 bytes)"), None, out)
    assert written(out) == ""
    assert capsys.readouterr() == ("", "fmnist: a\\n.jpg: empty (0 bytes)\n")
