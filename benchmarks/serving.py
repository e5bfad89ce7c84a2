"""Load on `fmnist serve`: requests a second, latencies, what overload does, memory.

    python benchmarks/serving.py --photos ../shared/photos --form classic.keras --out serving.json

Server and client (`load_client.py`) are processes of their own on the same cores, so the client's
work is in every figure. The capacity is the highest rate of an open loop at which everything is
answered 200 and 99 % of it within LATENCY_LIMIT; the overload is twice that rate. `--form` adds the
web form that this project starts from (`web_form.py`), in turn with ours, the same uploads.
"""

import argparse
import base64
import contextlib
import io
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fmnist.data import load_dataset
from rounds import provenance, ratios, spread, write_results

CLIENT = Path(__file__).with_name("load_client.py")
FORM = Path(__file__).with_name("web_form.py")
LATENCY_LIMIT = 500.0  # milliseconds, of 99 % of the answers at capacity
OVERLOAD = 60.0  # seconds of twice the capacity
RECOVERY = 5.0  # seconds after an overload
ACCURATE = 0.03  # of the capacity, when the search for it ends
MANY = 2000  # connections: an open loop must never wait for one
BOUNDARY = "----fmnist-benchmark"


@dataclass(frozen=True)
class Server:
    """A server under load."""

    port: int
    process: subprocess.Popen[str]

    def memory_mib(self) -> float:
        """Return what of it is resident."""
        status = Path(f"/proc/{self.process.pid}/status").read_text("ascii")
        (line,) = [each for each in status.splitlines() if each.startswith("VmRSS:")]
        return int(line.split()[1]) / 1024


@contextlib.contextmanager
def our_server() -> Iterator[Server]:
    """Lend `fmnist serve` with its defaults, its log in a file."""
    command = [sys.executable, "-m", "fmnist", "serve", "--port", "0"]
    with tempfile.TemporaryFile() as log, _ended(_started(command, log)) as process:
        assert process.stdout
        url = process.stdout.readline().split()[-1]
        yield Server(int(url.rstrip("/").rpartition(":")[2]), process)


@contextlib.contextmanager
def form_server(model: str, port: int) -> Iterator[Server]:
    """Lend the web form."""
    with tempfile.TemporaryFile() as log:
        command = [sys.executable, str(FORM), model, str(port)]
        with _ended(_started(command, log)) as process:
            wait_for_answer(port, process)
            yield Server(port, process)


def _started(command: Sequence[str], log: Any) -> "subprocess.Popen[str]":
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)


@contextlib.contextmanager
def _ended(process: "subprocess.Popen[str]") -> "Iterator[subprocess.Popen[str]]":
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=60)


def wait_for_answer(port: int, process: "subprocess.Popen[str]", seconds: float = 120) -> None:
    """Wait until a server answers anything."""
    import urllib.error
    import urllib.request

    end = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < end:
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10).close()
            return
        time.sleep(0.1)
    raise RuntimeError(f"nothing answers on port {port}")


def http_request(path: str, headers: dict[str, str], body: bytes, method: str = "POST") -> bytes:
    """Return a whole HTTP/1.1 request."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


HEALTH = http_request("/v2/health/live", {}, b"", "GET")


def tensor_request(image: "np.ndarray[Any, np.dtype[np.uint8]]") -> bytes:
    """Return the protocol's request for the logits of an image (28, 28), binary both ways."""
    content = image.tobytes()
    tensor = {"name": "images", "shape": [1, 28, 28], "datatype": "UINT8"}
    message = {
        "inputs": [{**tensor, "parameters": {"binary_data_size": len(content)}}],
        "outputs": [{"name": "logits", "parameters": {"binary_data": True}}],
    }
    head = json.dumps(message).encode()
    length = {"Inference-Header-Content-Length": str(len(head))}
    return http_request("/v2/models/fmnist/infer", length, head + content)


def upload(path: str, content: bytes, kind: str) -> bytes:
    """Return a form's upload of one picture."""
    part = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="p"\r\n'
    body = (
        f"{part}Content-Type: {kind}\r\n\r\n".encode()
        + content
        + f"\r\n--{BOUNDARY}--\r\n".encode()
    )
    return http_request(path, {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}, body)


def png(image: "np.ndarray[Any, np.dtype[np.uint8]]") -> bytes:
    """Return an image as PNG."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "png")
    return file.getvalue()


def load(
    server: Server,
    requests: Sequence[bytes],
    *,
    rate: float | None,
    seconds: float,
    connections: int,
    probe: bool = False,
) -> dict[str, Any]:
    """Return what a client process saw."""
    job = {
        "host": "127.0.0.1",
        "port": server.port,
        "requests": [base64.b64encode(each).decode() for each in requests],
        "rate": rate,
        "seconds": seconds,
        "connections": connections,
        "seed": 0,
        "probe": base64.b64encode(HEALTH).decode() if probe else None,
    }
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(job, file)
        file.flush()
        done = subprocess.run(
            [sys.executable, str(CLIENT), file.name], stdout=subprocess.PIPE, text=True, check=True
        )
    result: dict[str, Any] = json.loads(done.stdout)
    print(f"  {rate or 'closed loop'}: {json.dumps(result)}", file=sys.stderr, flush=True)
    return result


def is_carried(result: dict[str, Any]) -> bool:
    """Tell whether everything was answered 200, and in time."""
    told = result["requests"]
    whole = told["statuses"] == {"200": told["sent"]}
    return bool(whole and told["milliseconds"]["p99"] <= LATENCY_LIMIT)


def capacity(server: Server, requests: Sequence[bytes], guess: float, seconds: float) -> float:
    """Return the highest rate that is carried, found by halving between one that is and one not."""
    least, most = 0.0, guess
    while is_carried(load(server, requests, rate=most, seconds=seconds, connections=MANY)):
        least, most = most, 1.5 * most
    while most - least > ACCURATE * most:
        rate = (least + most) / 2
        if is_carried(load(server, requests, rate=rate, seconds=seconds, connections=MANY)):
            least = rate
        else:
            most = rate
    return least


def overload(
    server: Server, requests: Sequence[bytes], guess: float, window: float
) -> dict[str, Any]:
    """Return the capacity, what it looks like, and what twice as much does."""
    most = capacity(server, requests, guess, window)

    def ask(share: float, seconds: float) -> dict[str, Any]:
        rate = share * most
        return load(server, requests, rate=rate, seconds=seconds, connections=MANY, probe=True)

    below = ask(0.8, window)
    twice = ask(2, OVERLOAD)
    time.sleep(RECOVERY)
    return {
        "capacity": round(most, 1),
        "at_80_percent": below,
        "at_twice": twice,
        "at_80_percent_afterwards": ask(0.8, window),
        "goodput_of_capacity": round(twice["good_a_second"] / most, 3),
    }


def tensors(server: Server, images: Any, seconds: float) -> dict[str, Any]:
    """Return how 28x28 tensors are answered: 300 connections, 10 connections, overload."""
    requests = [tensor_request(image) for image in images]

    def ask(rate: float | None, connections: int) -> dict[str, Any]:
        return load(server, requests, rate=rate, seconds=seconds, connections=connections)

    ask(500, 10)  # warm
    return {
        "closed_300": ask(None, 300),
        "open_1100_by_300": ask(1100, 300),
        "closed_10": ask(None, 10),
        "open_1100_by_10": ask(1100, 10),
        **overload(server, requests, 4000.0, seconds),
    }


def photos(server: Server, folder: Path, seconds: float) -> dict[str, Any]:
    """Return how photos are answered."""
    files = sorted(folder.glob("phone/*/*.jpg"))[::8]
    requests = [upload("/api/predict", file.read_bytes(), "image/jpeg") for file in files]

    def ask(rate: float) -> dict[str, Any]:
        return load(server, requests, rate=rate, seconds=seconds, connections=100)

    return {
        "photos": len(files),
        "open_5": ask(5.0),
        "open_10": ask(10.0),
        **overload(server, requests, 30.0, seconds),
    }


def start(rounds: int) -> dict[str, Any]:
    """Return seconds from nothing to the first answer, and what is resident then."""
    seconds, resident = [], []
    for _ in range(rounds):
        began = time.perf_counter()
        with our_server() as server:
            wait_for_answer(server.port, server.process)
            seconds.append(time.perf_counter() - began)
            resident.append(server.memory_mib())
    return {"seconds": spread(seconds), "mib": spread(resident)}


def beside_form(images: Any, model: str, rounds: int, seconds: float) -> dict[str, Any]:
    """Return how many 28x28 PNG uploads a second ours and the web form answer, in turn."""
    pictures = [png(image) for image in images]
    ours_asked = [upload("/api/predict", each, "image/png") for each in pictures]
    theirs_asked = [upload("/", each, "image/png") for each in pictures]
    ours: list[float] = []
    theirs: list[float] = []
    with our_server() as server, form_server(model, 8766) as form:
        for _ in range(rounds):
            for who, asked, told in ((server, ours_asked, ours), (form, theirs_asked, theirs)):
                result = load(who, asked, rate=None, seconds=seconds, connections=10)
                assert set(result["requests"]["statuses"]) == {"200"}
                told.append(result["good_a_second"])
    return {"ours": spread(ours), "form": spread(theirs), "ratio": ratios(ours, theirs)}


def memory(server: Server, images: Any, requests: int) -> dict[str, Any]:
    """Return what is resident over `requests` requests, most of them tensors."""
    asked = [tensor_request(image) for image in images]
    asked += [upload("/api/predict", png(image), "image/png") for image in images[:8]]
    sampled: list[float] = []
    done = threading.Event()

    def sample() -> None:
        while not done.wait(0.2):
            sampled.append(server.memory_mib())

    watch = threading.Thread(target=sample)
    watch.start()
    sent = 0
    halves = []
    while sent < requests:
        sent += load(server, asked, rate=None, seconds=5, connections=50)["requests"]["sent"]
        halves.append((sent, server.memory_mib()))
    done.set()
    watch.join()
    middle = next(mib for n, mib in halves if n >= requests / 2)
    second = sampled[len(sampled) // 2 :]
    return {
        "requests": sent,
        "mib_at_start": sampled[0],
        "mib_in_the_middle": middle,
        "mib_at_the_end": halves[-1][1],
        "second_half_max_less_mean": round(max(second) - sum(second) / len(second), 2),
    }


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--form", help="a .keras file: measure the web form too")
    parser.add_argument("--seconds", type=float, default=12, help="of each load but the overload")
    parser.add_argument("--requests", type=int, default=100_000, help="of the memory's run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    images = np.array(load_dataset().split("validation").images[:256])
    results: dict[str, Any] = {"start": start(options.rounds)}
    with our_server() as server:
        results["tensors"] = tensors(server, images, options.seconds)
        results["photos"] = photos(server, options.photos, options.seconds)
        results["memory"] = memory(server, images, options.requests)
    if options.form:
        results["form"] = beside_form(images[:64], options.form, options.rounds, options.seconds)
    packages = ["onnxruntime", "uvicorn", "fastapi", "httptools", "uvloop"]
    packages += ["flask", "keras"] if options.form else []
    write_results(
        options.out, {"limit_milliseconds": LATENCY_LIMIT, **results, **provenance(*packages)}
    )


if __name__ == "__main__":
    main()
