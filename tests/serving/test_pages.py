"""The page's files as the server hands them out, and the examples of /docs, which are run."""

import html
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from fmnist.errors import FmnistError
from fmnist.serving import pages
from servers import Server

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "src/fmnist/serving/page"
TYPES = {
    "/": "text/html; charset=utf-8",
    "/docs": "text/html; charset=utf-8",
    "/page/page.css": "text/css; charset=utf-8",
    "/page/page.js": "text/javascript; charset=utf-8",
    "/page/favicon.svg": "image/svg+xml",
    "/page/sample-coat.jpg": "image/jpeg",
    "/page/example-image.png": "image/png",
    "/page/SAMPLES.md": "text/plain; charset=utf-8",
}


@pytest.mark.parametrize(("path", "kind"), TYPES.items())
def test_each_file_has_its_type_and_a_copy_is_asked_about(
    server: Server, path: str, kind: str
) -> None:
    got = server.get(path)
    assert (got.status_code, got.headers["content-type"]) == (200, kind)
    assert got.headers["cache-control"] == "no-cache"
    for kept in (got.headers["etag"], f'W/{got.headers["etag"]}, "other"', "*"):
        again = server.get(path, headers={"If-None-Match": kept})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == got.headers["etag"]
    assert server.get(path, headers={"If-None-Match": '"other"'}).content == got.content


def test_a_server_without_its_page_does_not_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "page").mkdir()
    (tmp_path / "page/index.html").touch()
    monkeypatch.setattr(pages, "files", lambda package: tmp_path)
    with pytest.raises(FmnistError, match=r"no docs\.html: install fmnist again"):
        pages.page_routes(token_needed=False)


def test_the_page_is_the_file_and_head_has_no_body(server: Server) -> None:
    assert server.get("/").content == (PAGE / "index.html").read_bytes()
    head = requests.head(server.url, timeout=30)
    assert head.content == b""
    assert int(head.headers["content-length"]) == (PAGE / "index.html").stat().st_size


@pytest.mark.parametrize(
    "path",
    [
        *("/page", "/page/", "/page/x", "/page/index.html", "/page/__init__.py"),
        *("/page/..%2fpages.py", "/page//etc/passwd", "/docs/"),
    ],
)
def test_nothing_else_is_handed_out(server: Server, path: str) -> None:
    refused = server.get(path, allow_redirects=False)
    assert refused.status_code == 404
    assert list(refused.json()) == ["error"]


def test_a_file_cannot_be_written(server: Server) -> None:
    refused = server.post("/page/page.js", data=b"x")
    assert refused.status_code == 405
    assert "GET" in refused.headers["allow"]


def test_a_link_that_is_sent_has_a_title_and_a_picture(server: Server) -> None:
    page = server.get("/").text
    told = dict(re.findall(r'<meta property="og:(\w+)" content="(.+?)">', page))
    assert told["title"] == "What piece of clothing is it?"
    assert told["description"]
    assert server.get(f"/{told['image']}").headers["content-type"] == "image/jpeg"


def test_how_often_it_is_right_is_what_was_measured(server: Server) -> None:
    measured = json.loads((ROOT / "benchmarks/results/photos.json").read_text())
    (section,) = re.findall(
        r'<section id="accuracy">(.*?)</section>', server.get("/docs").text, re.S
    )
    told = html.unescape(re.sub("<.*?>", "", section))
    real, chosen = measured["real"], measured["real"]["selective"]
    assert f"Of {real['photos']} phone photos by {real['senders']} people" in told
    low, high = (100 * each for each in real["accuracy"]["interval"])
    assert f"{_share(real['accuracy'])} (95 % interval: {low:.1f} to {high:.1f})" in told
    assert f"Of the {measured['test']['images']:,} test images" in told
    assert f"has {_share(measured['test']['accuracy'])} right" in told
    assert f"to {_share(chosen['wrong_answers_refused'])} of its wrong answers" in told
    kept = chosen["right_answers_kept"]["value"]
    assert f"to {100 * (1 - kept):.1f} % of its right ones" in told
    strange = chosen["strangers_of_unknown_kinds_refused"]
    assert f"Of {strange['photos']} photos of clothes that are none" in told
    assert f"it refuses {strange['value'] * strange['photos']:.0f}." in told
    assert f"too high: {100 * real['mean_probability']:.1f} % on average" in told
    recalls = sorted((each["recall"], each["name"]) for each in real["classes"])
    assert {name for recall, name in recalls if recall < 0.5} == {"Coat", "Ankle boot", "Pullover"}
    assert {name for _, name in recalls[-3:]} == {"T-shirt/top", "Sandal", "Sneaker"}
    page = server.get("/").text
    assert '<a href="docs#accuracy">' in page
    assert f"about {10 * real['accuracy']['value']:.0f} in 10 have the right class first" in page


def _share(measured: dict[str, float]) -> str:
    return f"{100 * measured['value']:.1f} %"


# The examples


def examples() -> dict[str, str]:
    page = (PAGE / "docs.html").read_text()
    found = re.findall(r'<code data-run="(\w+)">(.*?)</code>', page, re.S)
    return {name: html.unescape(code) for name, code in found}


def run_example(name: str, folder: Path, server: Server, **env: str) -> str:
    """Return what an example prints, with this server's address, beside two pictures."""
    for picture, sample in (("shoe", "sneaker"), ("coat", "coat")):
        shutil.copy(PAGE / f"sample-{sample}.jpg", folder / f"{picture}.jpg")
    code = examples()[name].replace("127.0.0.1:8000", server.url.removeprefix("http://"))
    python = code.startswith("import ")
    how = [sys.executable, "-c", code] if python else ["bash", "-o", "pipefail", "-c", code]
    done = subprocess.run(
        how, cwd=folder, env={**os.environ, **env}, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_no_example_is_left_out() -> None:
    shown = {
        *("one", "several", "steps", "about", "token", "urllib", "requests"),
        *("model", "triton", "infer"),
    }
    assert set(examples()) == shown


def test_examples_with_curl_are_true(server: Server, tmp_path: Path) -> None:
    (one,) = json.loads(run_example("one", tmp_path, server))["predictions"]
    assert (one["label"], one["path"]) == ("Sneaker", "")
    several = json.loads(run_example("several", tmp_path, server))["predictions"]
    told = [(each["path"], each["label"]) for each in several]
    assert told == [("shoe.jpg", "Sneaker"), ("coat.jpg", "Coat")]
    (steps,) = json.loads(run_example("steps", tmp_path, server))["predictions"]
    assert set(steps["steps"]) == {"original", "cutout", "image", "explained"}
    assert len(steps["top"]) == 10


def test_the_page_tells_the_limits_that_the_server_has(server: Server, tmp_path: Path) -> None:
    limits = json.loads(run_example("about", tmp_path, server))["limits"]
    told = re.sub("<.*?>", "", (PAGE / "docs.html").read_text())
    assert f"{limits['files']} pictures and {limits['body_bytes'] // 2**20} MB a request" in told
    assert f"{limits['pixels'] // 10**6} million pixels a picture" in told
    assert f"{limits['images']} images of 28x28" in told
    assert f"within {limits['deadline_seconds']:.0f} seconds" in told


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_the_page_knows_whether_a_token_is_needed(
    server: Server, guarded: tuple[Server, str], path: str
) -> None:
    told = '<meta name="token-needed" content="%s">'
    assert told % "no" in server.get(path).text
    assert told % "yes" in guarded[0].get(path).text
    assert server.get(path).headers["etag"] != guarded[0].get(path).headers["etag"]


def test_the_example_with_a_token_is_true(guarded: tuple[Server, str], tmp_path: Path) -> None:
    server, token = guarded
    answer = json.loads(run_example("token", tmp_path, server, TOKEN=token))
    assert answer["predictions"][0]["label"] == "Sneaker"
    assert "error" in json.loads(run_example("token", tmp_path, server, TOKEN="another"))


def test_examples_in_python_are_true(server: Server, tmp_path: Path) -> None:
    label, probability = run_example("urllib", tmp_path, server).split()
    assert label == "Sneaker"
    assert 0.5 < float(probability) <= 1
    assert run_example("requests", tmp_path, server) == "shoe.jpg Sneaker\ncoat.jpg Coat\n"


def test_examples_of_the_protocol_are_true(server: Server, tmp_path: Path) -> None:
    model = run_example("model", tmp_path, server)
    assert json.JSONDecoder().raw_decode(model)[0]["inputs"] == [
        {"name": "images", "datatype": "UINT8", "shape": [-1, 28, 28]}
    ]
    outputs = json.loads(run_example("infer", tmp_path, server))["outputs"]
    assert ["Sneaker"] in [output["data"] for output in outputs]
    assert "b'Sneaker'" in run_example("triton", tmp_path, server)


def test_the_answer_shown_has_the_keys_of_an_answer(server: Server) -> None:
    shown = re.search(
        r"<code>(\{\"predictions\".*?)</code>", (PAGE / "docs.html").read_text(), re.S
    )
    assert shown is not None
    told = json.loads(html.unescape(shown[1]).replace(", …", ""))
    photo = (PAGE / "sample-sneaker.jpg").read_bytes()
    said = server.post("/api/predict", files={"file": ("shoe.jpg", photo)}).json()
    (answer,), (example,) = said["predictions"], told["predictions"]
    assert list(answer) == list(example)
    assert list(answer["top"][0]) == list(example["top"][0])
