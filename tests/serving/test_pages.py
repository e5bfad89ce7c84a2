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

from servers import Server, running

PAGE = Path(__file__).parents[2] / "src/fmnist/serving/page"
TOKEN = "open-sesame-open-sesame"
TYPES = {
    "/": "text/html; charset=utf-8",
    "/docs": "text/html; charset=utf-8",
    "/page/page.css": "text/css; charset=utf-8",
    "/page/page.js": "text/javascript; charset=utf-8",
    "/page/favicon.svg": "image/svg+xml",
    "/page/sample-coat.jpg": "image/jpeg",
    "/page/example-image.png": "image/png",
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


def test_the_page_is_the_file_and_head_has_no_body(server: Server) -> None:
    assert server.get("/").content == (PAGE / "index.html").read_bytes()
    head = requests.head(server.url, timeout=30)
    assert head.content == b""
    assert int(head.headers["content-length"]) == (PAGE / "index.html").stat().st_size


@pytest.mark.parametrize(
    "path",
    [
        *("/page", "/page/", "/page/x", "/page/index.html", "/page/__init__.py"),
        *("/page/SAMPLES.md", "/page/..%2fpages.py", "/page//etc/passwd", "/docs/"),
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
    told = " ".join((PAGE / "docs.html").read_text().split())
    assert f"{limits['files']} pictures and {limits['body_bytes'] // 2**20} MB a request" in told
    assert f"{limits['pixels'] // 10**6} million pixels a picture" in told


def test_the_example_with_a_token_is_true(tmp_path: Path) -> None:
    with running("--token", TOKEN) as server:
        answer = json.loads(run_example("token", tmp_path, server, TOKEN=TOKEN))
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
