"""A server's life in processes of its own: it begins, is told to stop, dies, and leaves nothing."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import requests

from fmnist.classifier.classifier import SHIPPED
from fmnist.classifier.onnx_file import (
    SEAL,
    UNSEALED,
    parse_model,
    read_facts,
    read_metadata,
    sealed,
)
from processes import listening, port_of, processor_seconds
from servers import ENDS_WITHIN, HELD, STARTS_WITHIN, Server, running, starting
from terminals import everything
from waiting import PATIENCE, wait_until

TOKEN = "a-secret-that-nobody-may-see"
INFER = "/v2/models/fmnist/infer"
ROUTE = "/v2/models/{model}/infer"
IMAGE: Any = {"name": "images", "shape": [1, 28, 28], "datatype": "UINT8", "data": [0] * 784}

STUCK = HELD.format(file="/let go/never")
LOADS_FOR_EVER = """
import time
import fmnist.serving.model_identity as identity
identity.load_classifier = lambda *_, **__: print("loading", flush=True) or time.sleep(600)
"""
BOTH = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of temporary files of processes started by the test, empty when it begins."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


def ask(server: Server) -> int:
    """Ask the network about an image and return the status."""
    return server.post(INFER, json={"inputs": [IMAGE]}).status_code


@contextlib.contextmanager
def asked(server: Server, requests: int) -> Iterator[list["Future[int]"]]:
    """That many requests that the server has in hand; its network must be held."""
    with ThreadPoolExecutor(requests) as pool:
        answers = [pool.submit(ask, server) for _ in range(requests)]
        server.wait_for_requests(requests)
        yield answers


def refuses_connections(server: Server) -> bool:
    try:
        socket.create_connection(("127.0.0.1", server.port), PATIENCE).close()
    except ConnectionRefusedError:
        return True
    return False


def processes_of(server: Server) -> list[int]:
    """The processes of a server that are alive: those of the group that it leads."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            state, _, group = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
            if int(group) == server.pid and state != "Z":
                found.append(int(entry.name))
    return found


def workers_of(server: Server) -> list[int]:
    """Its processes that answer requests."""
    return [pid for pid in processes_of(server) if b"spawn_main" in _command(pid)]


def _command(pid: int) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


# It begins


def test_it_says_where_it_answers_when_it_does(server: Server) -> None:
    assert server.url == f"http://127.0.0.1:{server.port}"
    assert server.get("/v2/health/ready").json() == {"live": True, "ready": True}


def test_it_answers_after_two_seconds_of_work_at_most() -> None:
    """Of the processor, and the least of three starts: the machine may have other work."""

    def start() -> float:
        with running() as fresh:
            assert fresh.get("/v2/health/ready").status_code == 200
            return processor_seconds(fresh.pid)

    assert min(start() for _ in range(3)) < 2.0


def test_it_listens_on_one_address_only(server: Server) -> None:
    assert listening(server.pid) == [f"0100007F:{server.port:04X}"]


def _open_files(pid: int) -> set[str]:
    folder = Path(f"/proc/{pid}/fd")
    found = set()
    for entry in folder.iterdir():
        with contextlib.suppress(OSError):
            found.add(os.readlink(entry))
    return found


def test_ready_means_that_no_request_fails() -> None:
    seen = []
    with starting() as server:
        url = f"http://127.0.0.1:{port_of(server.pid)}"  # before it says so
        deadline = time.monotonic() + STARTS_WITHIN
        while 200 not in seen:
            assert server.process.poll() is None
            assert time.monotonic() < deadline
            seen.append(requests.get(f"{url}/v2/health/ready", timeout=STARTS_WITHIN).status_code)
        after = [
            requests.post(url + INFER, json={"inputs": [IMAGE]}, timeout=PATIENCE).status_code
            for _ in range(20)
        ]
    assert after == [200] * 20
    assert set(seen) <= {200, 503}


@BOTH
def test_a_signal_while_the_model_loads_ends_it(number: int) -> None:
    with starting(before=LOADS_FOR_EVER) as server:
        wait_until(lambda: b"loading" in server.out.read_bytes(), STARTS_WITHIN)
        assert server.stop(number) == 0
        assert "Traceback" not in server.err.read_text()


@pytest.mark.parametrize(
    ("workers", "model", "message"),
    [
        ("1", "nowhere.onnx", "nowhere.onnx cannot be read"),
        ("1", "damaged.onnx", "damaged.onnx cannot be loaded"),
        ("2", "damaged.onnx", "damaged.onnx cannot be loaded"),
    ],
)
def test_a_model_that_cannot_be_loaded_is_one_line(
    workers: str, model: str, message: str, tmp_path: Path, scratch: Path
) -> None:
    (tmp_path / "damaged.onnx").write_bytes(b"no model")
    with starting(str(tmp_path / model), "--workers", workers) as server:
        assert server.process.wait(STARTS_WITHIN) == 1
        assert server.out.read_bytes() == b""
        *before, last = server.stderr_lines()
    assert last.startswith("fmnist: ")
    assert message in last
    assert "Traceback" not in "".join(before)
    assert list(scratch.iterdir()) == []


def test_without_the_extra_it_says_what_to_install() -> None:
    with starting(before="import sys; sys.modules['fastapi'] = None") as server:
        assert server.process.wait(STARTS_WITHIN) == 1
        (line,) = server.stderr_lines()
    assert line == "fmnist: fastapi is not installed; run: pip install 'fmnist[serve]'"


def test_it_needs_nothing_of_the_extra_train() -> None:
    names = ("torch", "safetensors", "onnx", "sklearn", "scipy", "matplotlib", "keras")
    with running(before=f"import sys; sys.modules.update(dict.fromkeys({names}))") as server:
        assert ask(server) == 200
        assert server.get("/openapi.json").json()["openapi"].startswith("3.")


def test_it_writes_no_file_and_calls_nobody(scratch: Path, own_home: Path) -> None:
    """ONNX Runtime 1.31 would do both: it reports its use unless told not to."""
    picture = (resources.files("fmnist.serving") / "page" / "sample-bag.jpg").read_bytes()
    with running() as server:
        with requests.Session() as session:
            assert session.post(f"{server.url}/api/predict", data=picture).status_code == 200
            assert ask(server) == 200
            assert _foreign_addresses(server.pid) == set()
        assert server.stop() == 0
    assert list(scratch.iterdir()) == list(own_home.iterdir()) == []


def _foreign_addresses(pid: int) -> set[str]:
    """The ends of a process's sockets that are not on the loopback, as Linux writes them."""
    own, found = _open_files(pid), set()
    for kind in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/{pid}/net/{kind}").read_text().splitlines()[1:]:
            fields = line.split()
            ends = {address.partition(":")[0] for address in fields[1:3]}
            if f"socket:[{fields[9]}]" in own:
                found |= ends - {"0100007F", "00000000"}
    return found


# It is told to stop


PATIENT = ("--deadline", "600", "--body-deadline", "600", "--stop-deadline", "600")


@BOTH
def test_requests_in_flight_are_finished(number: int, tmp_path: Path) -> None:
    let_go = tmp_path / "let go"
    held = running(*PATIENT, before=HELD.format(file=str(let_go)))
    with held as server, asked(server, 6) as answers:
        server.process.send_signal(number)
        wait_until(lambda: refuses_connections(server))
        assert not any(answer.done() for answer in answers)
        let_go.touch()
        assert [answer.result() for answer in answers] == [200] * 6
        assert server.process.wait(ENDS_WITHIN) == 0
        assert "Traceback" not in server.err.read_text()


def test_a_request_that_is_stuck_does_not_keep_it() -> None:
    stuck = running("--stop-deadline", "1", "--deadline", "600", before=STUCK)
    with stuck as server, ThreadPoolExecutor(1) as pool:
        pool.submit(ask, server)
        server.wait_for_requests(1)
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began > 1
        assert "Traceback" not in server.err.read_text()


def test_a_second_ctrl_c_ends_it_at_once() -> None:
    with running(*PATIENT, before=STUCK) as server, ThreadPoolExecutor(1) as pool:
        pool.submit(ask, server)
        server.wait_for_requests(1)
        server.process.send_signal(signal.SIGINT)
        wait_until(lambda: events(server, "stopping") != [])
        assert server.process.poll() is None
        assert server.stop(signal.SIGINT) == 130
        assert "Traceback" not in server.err.read_text()


def test_each_step_of_its_life_is_logged_and_no_secret() -> None:
    variables = {"FMNIST_SERVE_TOKEN": TOKEN}
    with running(env=variables) as server:
        for token in (TOKEN, "wrong"):
            server.get("/api/about", headers={"Authorization": f"Bearer {token}"})
            server.get(f"/api/about?token={token}")
        assert server.stop() == 0
        told = [json.loads(line) for line in server.stderr_lines()]
        printed = server.out.read_text() + server.err.read_text()
    asked = [each for each in told if each["event"] == "request"]
    life = [each["event"] for each in told if each not in asked]
    assert life == ["answering", "stopping", "stopped"]
    assert [each["status"] for each in asked] == [200, 401, 401, 401]
    assert [each.get("reason") for each in asked] == [None, "token", "token", "token"]
    assert {each["client"] for each in asked} == {"127.0.0.1"}
    begun = told[0]
    assert len(begun["sha256"]) == 12
    assert begun["settings"] == {"port": 0, "tokens": 1}
    assert TOKEN not in printed
    assert "wrong" not in printed


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a terminal")
def test_at_a_terminal_it_talks_to_a_person() -> None:
    reader, terminal = os.openpty()
    command = [sys.executable, "-m", "fmnist", "serve", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=terminal) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().decode().strip()
            assert requests.get(f"{url}/none", timeout=PATIENCE).status_code == 404
            begun = ""
            while "404" not in begun:  # a request is told of after its answer
                begun += os.read(reader, 65_536).decode()
            process.send_signal(signal.SIGINT)
            assert process.wait(ENDS_WITHIN) == 0
        finally:
            process.kill()
    os.close(terminal)
    told = (begun + everything(reader)).splitlines()
    assert told[0] == "Ctrl-C ends it; log lines follow"
    words = [line.split()[1] for line in told[1:]]
    assert words == ["answering", "GET", "stopping", "stopped"]
    assert re.fullmatch(r"[\d:]{8} GET unmatched 404 \d+ ms \(route\)", told[2])


def test_without_an_access_log_only_its_life_is_logged() -> None:
    with running("--no-access-log") as server:
        server.get("/v2/health/live")
        assert server.stop() == 0
        events = [json.loads(line)["event"] for line in server.stderr_lines()]
    assert events == ["answering", "stopping", "stopped"]


def test_who_sent_what_is_no_http_is_logged() -> None:
    with running() as server:
        with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as client:
            client.sendall(b"no http\r\n\r\n")
            assert client.recv(65_536).startswith(b"HTTP/1.1 400 ")
        assert server.stop() == 0
        (request,) = events(server, "request")
    assert (request["status"], request["client"]) == (400, "127.0.0.1")


def test_who_asked_can_be_left_out() -> None:
    with running("--no-client-address") as server:
        server.get("/v2/health/live")
        assert server.stop() == 0
        (request,) = events(server, "request")
    assert "client" not in request
    assert "127.0.0.1" not in str(request)


def test_any_token_of_a_file_will_do(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text(f"{TOKEN}\n{TOKEN}-of-tomorrow\n")
    with running("--token-file", str(tmp_path / "tokens")) as server:
        for token, status in ((TOKEN, 200), (f"{TOKEN}-of-tomorrow", 200), (TOKEN[:-1], 401)):
            ask = {"Authorization": f"Bearer {token}"}
            assert server.get("/api/about", headers=ask).status_code == status


def test_nobody_has_to_read_what_it_prints() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "fmnist", "serve", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            url = process.stdout.readline().decode().strip()
            process.stdout.close()
            process.stderr.close()
            for _ in range(3):
                assert requests.get(f"{url}/v2/health/live", timeout=PATIENCE).status_code == 200
                time.sleep(0.05)
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(ENDS_WITHIN) == 0


def test_it_needs_no_stdin_stdout_and_stderr() -> None:
    command = f'exec "{sys.executable}" -m fmnist serve --port 0 <&- >&- 2>&-'
    with subprocess.Popen(["sh", "-c", command]) as process:
        try:
            url = f"http://127.0.0.1:{port_of(process.pid)}"
            ready = requests.get(f"{url}/v2/health/ready", timeout=STARTS_WITHIN)
            assert ready.status_code == 200
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(ENDS_WITHIN) == 0


# Several workers


def counting(folder: Path) -> int:
    """How many workers have got as far as to count what they do."""
    return len(list(folder.glob("*/gauge_livesum_*")))


@pytest.fixture
def two(scratch: Path) -> Iterator[Server]:
    """A server of two workers, both of which are about to answer."""
    with running("--workers", "2", "--json", env={"FMNIST_SERVE_TOKEN": TOKEN}) as server:
        wait_until(lambda: counting(scratch) == 2, STARTS_WITHIN)
        yield server


def test_workers_share_a_port_and_their_counts_add_up(scratch: Path) -> None:
    with running("--workers", "2") as server:
        url = server.url
        wait_until(lambda: counting(scratch) == 2, STARTS_WITHIN)
        assert len(workers_of(server)) == 2
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(lambda _: ask(server), range(60))) == [200] * 60
        # A worker counts a request after it has answered it.
        counted = f'fmnist_requests_total{{method="POST",route="{ROUTE}",status="200"}}'
        wait_until(lambda: server.metric(counted) == 60)
        assert server.metric("fmnist_batch_images_sum") == 60
        assert server.metric("fmnist_model_info") == 1
        assert server.stop() == 0
        wait_until(lambda: processes_of(server) == [])
        assert server.out.read_text() == f"{url}\n"
        assert "Traceback" not in server.err.read_text()
    assert list(scratch.iterdir()) == []


def test_a_worker_that_dies_is_replaced_and_what_it_counted_stays(scratch: Path) -> None:
    with running("--workers", "2") as server:
        wait_until(lambda: counting(scratch) == 2, STARTS_WITHIN)
        assert [ask(server) for _ in range(20)] == [200] * 20
        first, second = workers_of(server)
        os.kill(first, signal.SIGKILL)  # as the system does where memory is short
        wait_until(lambda: len({*workers_of(server)} - {first, second}) == 1, STARTS_WITHIN)
        wait_until(lambda: counting(scratch) == 2, STARTS_WITHIN)
        assert [ask(server) for _ in range(10)] == [200] * 10
        assert server.metric("fmnist_batch_images_sum") == 30
        told = [json.loads(line) for line in server.stderr_lines()]
        assert [each["status"] for each in told if each["event"] == "worker died"] == [-9]


def events(server: Server, name: str) -> list[dict[str, Any]]:
    """What was logged so far under a name."""
    told = [json.loads(line) for line in server.stderr_lines()]
    return [each for each in told if each["event"] == name]


def answering(server: Server) -> set[int]:
    """The processes that said that they answer."""
    return {each["pid"] for each in events(server, "answering")}


def test_a_worker_that_cannot_come_back_ends_no_other(tmp_path: Path) -> None:
    """Its model is being copied over when the system kills one; then the old one is put back."""
    model = Path(shutil.copy(SHIPPED, tmp_path / "mine.onnx"))
    with running(str(model), "--workers", "2") as server:
        wait_until(lambda: len(answering(server)) == 2, STARTS_WITHIN)
        first, second = workers_of(server)
        model.write_bytes(SHIPPED.read_bytes()[:1000])
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: len(events(server, "worker died")) >= 3, STARTS_WITHIN)
        died = events(server, "worker died")
        assert [each["next_in_seconds"] for each in died[:3]] == [0.0, 1.0, 2.0]
        assert [each["answered"] for each in died[:3]] == [True, False, False]
        assert "cannot be loaded" in died[1]["reason"]
        assert [ask(server) for _ in range(5)] == [200] * 5
        assert second in workers_of(server)
        shutil.copy(SHIPPED, model)
        wait_until(lambda: answering(server) - {first, second} != set(), STARTS_WITHIN)
        assert server.stop() == 0


def test_a_worker_with_another_model_does_not_answer(tmp_path: Path) -> None:
    model = Path(shutil.copy(SHIPPED, tmp_path / "mine.onnx"))
    with running(str(model), "--workers", "2") as server:
        wait_until(lambda: len(answering(server)) == 2, STARTS_WITHIN)
        model.write_bytes(another_model())
        os.kill(workers_of(server)[0], signal.SIGKILL)
        wait_until(lambda: len(events(server, "worker died")) >= 2, STARTS_WITHIN)
        assert "and other workers answer with" in events(server, "worker died")[1]["reason"]
        shown = server.get("/metrics").text
        assert shown.count("fmnist_model_info{") == 1
        assert server.stop() == 0


def another_model() -> bytes:
    """The classifier of the project under another name, sealed as an export is."""
    content = SHIPPED.read_bytes()
    seal = read_metadata(parse_model(content))[SEAL]
    facts = read_facts(content)
    assert facts["recipe"]["name"]
    name = facts["recipe"]["name"].encode()
    other = content.replace(b'"name": "' + name, b'"name": "' + name[:-1] + b"X")
    assert other != content
    return sealed(other.replace(seal, UNSEALED.encode()))


@BOTH
def test_a_signal_ends_them_all_and_nothing_is_left(
    two: Server, scratch: Path, number: int
) -> None:
    """Ctrl-C reaches the workers too: a terminal sends it to the whole group."""
    assert json.loads(two.out.read_text())["workers"] == len(workers_of(two)) == 2
    assert TOKEN.encode() not in b"".join(map(_command, processes_of(two)))
    if number == signal.SIGINT:
        os.killpg(two.pid, number)
        assert two.process.wait(ENDS_WITHIN) == 0
    else:
        assert two.stop(number) == 0
    wait_until(lambda: processes_of(two) == [])
    assert list(scratch.iterdir()) == []
    printed = two.err.read_text() + two.out.read_text()
    assert "Traceback" not in printed
    assert TOKEN not in printed


def test_workers_whose_parent_is_gone_end_by_themselves(two: Server, scratch: Path) -> None:
    assert two.stop(signal.SIGKILL) == -signal.SIGKILL
    wait_until(lambda: processes_of(two) == [])
    assert list(scratch.iterdir()) == []


def test_requests_in_flight_at_workers_are_finished_too(tmp_path: Path) -> None:
    """A body that is still arriving when the signal comes: the network is not slow in workers."""
    body = json.dumps({"inputs": [IMAGE]}).encode()
    with running("--workers", "2", *PATIENT) as server, ExitStack() as stack:
        clients = [
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port), PATIENCE))
            for _ in range(6)
        ]
        head = f"POST {INFER} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        for client in clients:
            client.sendall(head.encode() + body[:10])
        server.wait_for_requests(6)
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: refuses_connections(server))
        for client in clients:
            client.sendall(body[10:])
        answers = [client.recv(65_536).partition(b"\r\n")[0] for client in clients]
        assert answers == [b"HTTP/1.1 200 OK"] * 6
        assert server.process.wait(ENDS_WITHIN) == 0
