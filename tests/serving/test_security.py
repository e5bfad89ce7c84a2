"""What the server as started by `fmnist serve` lets nobody do."""

import ast
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest
import requests

from fmnist.serving.gate import SECURITY
from processes import listening
from servers import STARTS_WITHIN, Server, running, starting
from uploads import encoded, shirt
from waiting import PATIENCE, wait_until
from wire import HOST, Answer, Wire

TOKEN = "a-token-that-nobody-else-knows"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
PICTURE = encoded(shirt(400, 300), "png")
# Writes to stderr which addresses the process connects to, and which programs it starts.
WATCH = """
import os, sys
calls = "socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.exec", "os.system"
def watch(event, arguments):
    if event in calls:
        os.write(2, f"CALLED {event} {arguments[1:]!r}\\n".encode())
sys.addaudithook(watch)
"""
PATHS = {  # and the methods that each takes
    "/": {"GET"},
    "/docs": {"GET"},
    "/openapi.json": {"GET"},
    "/page/page.js": {"GET"},
    "/metrics": {"GET"},
    "/api/about": {"GET"},
    "/api/predict": {"POST"},
    "/v2": {"GET"},
    "/v2/health/live": {"GET"},
    "/v2/health/ready": {"GET"},
    "/v2/models/fmnist": {"GET"},
    "/v2/models/fmnist/ready": {"GET"},
    "/v2/models/fmnist/config": {"GET"},
    "/v2/models/fmnist/infer": {"POST"},
    "/v2/models/fmnist_photo/versions/1/infer": {"POST"},
}
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND")


@pytest.fixture(scope="module")
def guarded() -> Iterator[Server]:
    """A server with a token, whose calls to the outside are on its stderr."""
    with running(before=WATCH, env={"FMNIST_SERVE_TOKEN": TOKEN}) as started:
        yield started


def asked(server: Server, head: bytes, body: bytes = b"") -> Answer:
    """Ask with exactly this line and these headers."""
    length = b"Content-Length: %d\r\n\r\n" % len(body)
    with Wire(server.port) as wire:
        return wire.ask(head + b" HTTP/1.1\r\n" + HOST + length + body)


def assert_is_safe(response: requests.Response) -> None:
    for name, value in SECURITY.items():
        assert response.headers[name] == value
    assert "server" not in response.headers
    assert not [name for name in response.headers if name.lower().startswith("access-control")]
    if response.status_code >= 400:
        assert response.headers["content-type"] == "application/json"
        assert response.headers["cache-control"] == "no-store"
        if response.request.method != "HEAD":
            assert isinstance(response.json()["error"], str)
            assert "detail" not in response.json()


@pytest.mark.parametrize("path", [*PATHS, "/none", "/api/none", "/v2/models/none/infer"])
def test_each_path_takes_its_methods_and_each_answer_is_safe(server: Server, path: str) -> None:
    for method in METHODS:
        response = requests.request(method, server.url + path, timeout=PATIENCE)
        assert_is_safe(response)
        taken = PATHS.get(path, set())
        if method in taken or (method == "HEAD" and "GET" in taken):
            assert response.status_code in (200, 400, 422)  # the body is empty
        elif path in PATHS:
            assert response.status_code == 405
            assert set(response.headers["allow"].replace(" ", "").split(",")) >= taken
        else:
            assert response.status_code in (404, 405)


@pytest.mark.parametrize("method", ["POST", "OPTIONS"])
@pytest.mark.parametrize(
    "headers", [{"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}]
)
def test_pages_of_other_sites_are_refused(
    server: Server, method: str, headers: dict[str, str]
) -> None:
    asks = {"Access-Control-Request-Method": "POST", **headers}
    response = requests.request(
        method, server.url + "/api/predict", headers=asks, data=PICTURE, timeout=PATIENCE
    )
    assert response.status_code == 403
    assert_is_safe(response)


def test_a_name_that_was_made_to_point_here_is_refused(server: Server) -> None:
    response = server.get("/api/about", headers={"Host": f"rebound.example:{server.port}"})
    assert response.status_code == 400
    assert_is_safe(response)


UP = ("../", "%2e%2e/", "..%2f", "..%5c", "%252e%252e%252f", "....//")
TRAVERSALS = [
    f"{start}{8 * up}{file}"
    for start in ("/", "/page/", "/page")
    for up in UP
    for file in ("etc/passwd", "page.js%00.png", "pyproject.toml")
]
ABSOLUTE = ["//etc/passwd", "/page//etc/passwd", "/page/%2fetc/passwd", "/page/C:%5cwin.ini",
            "/page/__init__.py", "/page/.", "/page/", "/page", "/page/page.js/", "/page/page.js%00",
            "/page/page.js%20", "/PAGE/page.js", "/../settings.py", "/static/page.js"]  # fmt: skip


@pytest.mark.parametrize("path", TRAVERSALS + ABSOLUTE)
def test_no_path_leads_out_of_the_page(server: Server, path: str) -> None:
    answer = asked(server, b"GET " + path.encode())
    assert answer.status == 404
    assert "root:" not in answer.error


@pytest.mark.parametrize(
    "path",
    [
        "/v2/repository/index",
        "/v2/repository/models/fmnist/load",
        "/v2/repository/models/fmnist/unload",
        "/models?url=http://127.0.0.1:1/model.mar",
        "/workflows?url=http://127.0.0.1:1/workflow.war",
        "/api/predict?url=http://127.0.0.1:1/picture.png",
        "/api/predict?path=/etc/passwd",
    ],
)
def test_no_address_and_no_file_can_be_named(guarded: Server, path: str) -> None:
    before = called(guarded)
    for body in (b"", b'{"url": "http://127.0.0.1:1/picture.png"}', b"http://127.0.0.1:1/a.png"):
        response = guarded.post(path, data=body, headers=BEARER)
        assert 400 <= response.status_code < 500
        assert "predict" in path or response.status_code in (404, 405)
    assert guarded.post("/api/predict", data=PICTURE, headers=BEARER).status_code == 200
    assert called(guarded) == before


def called(server: Server) -> list[str]:
    return [line for line in server.stderr_lines() if line.startswith("CALLED")]


def test_the_watch_sees_a_connection() -> None:
    code = "import socket; socket.socket().connect_ex(('127.0.0.1', 1))"
    done = subprocess.run([sys.executable, "-c", WATCH + code], capture_output=True, text=True)
    assert "CALLED socket.connect (('127.0.0.1', 1),)" in done.stderr


PICKLES = [pickle.dumps(os.getcwd, protocol) for protocol in range(5)]


@pytest.mark.parametrize("content", PICKLES)
@pytest.mark.parametrize("path", ["/api/predict", "/v2/models/fmnist/infer"])
def test_nothing_is_unpickled(server: Server, tmp_path: Path, path: str, content: bytes) -> None:
    canary = tmp_path / "canary"

    class Bait:
        def __reduce__(self) -> tuple[object, ...]:
            return os.mkdir, (str(canary),)

    types = ("application/vnd.bentoml+pickle", "application/octet-stream", "application/x-pickle")
    for body in (content, pickle.dumps(Bait())):
        for content_type in types:
            headers = {"Content-Type": content_type, "Payload-Container": "NdarrayContainer"}
            assert 400 <= server.post(path, data=body, headers=headers).status_code < 500
    assert not canary.exists()


def test_nothing_that_runs_code_from_bytes_is_imported() -> None:
    banned = {"pickle", "dill", "joblib", "cloudpickle", "marshal", "yaml", "shelve"}
    sources = [each for each in files("fmnist.serving").iterdir() if each.name.endswith(".py")]
    assert len(sources) > 10
    for source in sources:
        tree = ast.parse(source.read_text())
        names = {name for node in ast.walk(tree) for name in imported(node)}
        assert not banned & names, source.name
        called = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        assert not {"eval", "exec", "compile", "__import__"} & called, source.name


def imported(node: ast.AST) -> set[str]:
    if isinstance(node, ast.Import):
        return {alias.name.partition(".")[0] for alias in node.names}
    if isinstance(node, ast.ImportFrom):
        return {(node.module or "").partition(".")[0]}
    return set()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_one_socket_listens_and_only_for_this_machine(server: Server) -> None:
    assert listening(server.pid) == [f"0100007F:{server.port:04X}"]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_other_machines_are_not_let_in_without_a_token(host: str) -> None:
    with starting("--host", host) as server:
        assert server.process.wait(STARTS_WITHIN) != 0
        assert "--token" in "".join(server.stderr_lines())


class TestToken:
    @pytest.mark.parametrize(
        "path", ["/api/about", "/v2", "/metrics", "/none", "/v2/models/fmnist"]
    )
    def test_is_needed(self, guarded: Server, path: str) -> None:
        for headers in ({}, {"Authorization": f"Bearer {TOKEN}x"}, {"Authorization": TOKEN}):
            response = guarded.get(path, headers=headers)
            assert response.status_code == 401
            assert response.headers["www-authenticate"] == "Bearer"
            assert_is_safe(response)
        assert guarded.get(path, headers=BEARER).status_code == (404 if path == "/none" else 200)

    @pytest.mark.parametrize("path", ["/", "/docs", "/page/page.js", "/v2/health/ready"])
    def test_is_not_needed_for_the_page_and_health(self, guarded: Server, path: str) -> None:
        assert guarded.get(path).status_code == 200

    def test_and_content_are_in_no_log(self, guarded: Server) -> None:
        name = "a-name-of-a-file.png"
        sent = {"file": (name, PICTURE, "image/png")}
        for query in ("", "?top=1&steps=true", "?top=a-value-of-a-query"):
            guarded.post("/api/predict" + query, files=sent, headers=BEARER)
        guarded.post("/api/a-path-of-a-client", headers=BEARER)
        guarded.post("/api/predict", data=b"a-body-of-a-client", headers=BEARER)
        guarded.get("/api/about", headers={"Authorization": "Bearer a-guess-of-a-client"})
        last = {"X-Request-Id": "the-last-of-them"}
        guarded.get("/api/about?token=a-guess-of-a-client", headers=last)
        wait_until(lambda: "the-last-of-them" in log_of(guarded))
        log = log_of(guarded)
        for secret in (
            TOKEN,
            "a-name-of",
            "a-value-of",
            "a-path-of",
            "a-body-of",
            "a-guess-of",
            "IHDR",
        ):
            assert secret not in log  # fmt: skip


def log_of(server: Server) -> str:
    return "\n".join(server.stderr_lines())
