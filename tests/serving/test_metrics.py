"""What is counted, as Prometheus reads it."""

import math
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from fmnist.serving.metrics import SHARED, Metrics, timed
from waiting import PATIENCE


def samples(text: bytes) -> Iterator[Sample]:
    for family in text_string_to_metric_families(text.decode()):
        yield from family.samples


def value(text: bytes, named: str, /, **labels: str) -> float:
    """The one sample of that name with exactly these labels."""
    (found,) = (each.value for each in samples(text) if (each.name, each.labels) == (named, labels))
    return float(found)


def test_requests_are_counted_by_route_method_and_status() -> None:
    metrics = Metrics()
    for status in (200, 200, 503):
        metrics.request("/api/predict", "POST", status, 0.004)
    metrics.request("/", "GET", 200, 0.0002)
    text, content_type = metrics.text()
    assert content_type.startswith("text/plain; version=")
    labels = {"route": "/api/predict", "method": "POST"}
    assert value(text, "fmnist_requests_total", **labels, status="200") == 2
    assert value(text, "fmnist_requests_total", **labels, status="503") == 1
    assert value(text, "fmnist_requests_total", route="/", method="GET", status="200") == 1


def test_a_method_of_the_clients_own_makes_no_label() -> None:
    metrics = Metrics()
    for n in range(100):
        metrics.request("unmatched", f"METHOD-{n}", 405, 0.001)
    text, _ = metrics.text()
    label = {"route": "unmatched", "method": "other", "status": "405"}
    assert value(text, "fmnist_requests_total", **label) == 100
    assert b"METHOD" not in text


def test_the_time_of_requests_is_a_histogram_by_route() -> None:
    metrics = Metrics()
    for seconds in (0.0004, 0.004, 0.004, 60.0):
        metrics.request("/", "GET", 200, seconds)
    text, _ = metrics.text()
    name = "fmnist_request_seconds"
    below = {
        float(each.labels["le"]): each.value
        for each in samples(text)
        if each.name == f"{name}_bucket" and each.labels["route"] == "/"
    }
    assert min(below) == 0.001
    assert sorted(below)[-2] == 10.0
    assert (below[0.001], below[0.005], below[10.0], below[math.inf]) == (1, 3, 3, 4)
    assert value(text, f"{name}_sum", route="/", outcome="answered") == pytest.approx(60.0084)


def test_refusals_do_not_make_answers_look_quick() -> None:
    metrics = Metrics()
    for status in (200, 404, 429, 503, 503, 500, 504, 499, 0):
        metrics.request("/", "GET", status, 0.1)
    text, _ = metrics.text()
    counted = {
        each.labels["outcome"]: each.value
        for each in samples(text)
        if each.name == "fmnist_request_seconds_count"
    }
    assert counted == {"answered": 1, "refused": 4, "failed": 3, "left": 1}


def test_what_is_going_on_now_and_how_long_its_parts_take() -> None:
    metrics = Metrics()
    metrics.in_flight(1)
    metrics.in_flight(1)
    metrics.in_flight(-1)
    metrics.connections(7)
    began = time.perf_counter()
    assert timed(lambda n: 2 * n, metrics.network)(21) == 42
    with pytest.raises(ZeroDivisionError):
        timed(lambda: 1 / 0, metrics.prepared)()
    taken = time.perf_counter() - began
    text, _ = metrics.text()
    assert value(text, "fmnist_requests_in_flight") == 1
    assert value(text, "fmnist_connections") == 7
    assert value(text, "fmnist_network_seconds_count") == 1
    assert 0 < value(text, "fmnist_network_seconds_sum") <= taken
    assert value(text, "fmnist_photo_seconds_count") == 1


def test_batches_queues_and_answers() -> None:
    metrics = Metrics()
    metrics.batch(1)
    metrics.batch(32)
    metrics.waiting("tensors", 7)
    metrics.waiting("tensors", 3)
    metrics.predicted("Ankle boot", accepted=True)
    metrics.predicted("Ankle boot", accepted=False)
    text, _ = metrics.text()
    assert value(text, "fmnist_batch_images_bucket", le="1.0") == 1
    assert value(text, "fmnist_batch_images_sum") == 33
    assert value(text, "fmnist_waiting", queue="tensors") == 3
    assert value(text, "fmnist_waiting", queue="photos") == 0
    for accepted in ("true", "false"):
        labels = {"label": "Ankle boot", "accepted": accepted}
        assert value(text, "fmnist_predictions_total", **labels) == 1


def test_which_model_and_what_the_process_takes() -> None:
    metrics = Metrics()
    metrics.model("photo", "0123456789abcdef" * 4, "0.1.0")
    text, _ = metrics.text()
    labels = {"name": "photo", "sha256": "0123456789ab", "version": "0.1.0"}
    assert value(text, "fmnist_model_info", **labels) == 1
    assert value(text, "process_resident_memory_bytes") > 10_000_000
    assert value(text, "process_start_time_seconds") > 0


def test_two_servers_in_one_process_count_apart() -> None:
    one, other = Metrics(), Metrics()
    one.batch(5)
    assert value(other.text()[0], "fmnist_batch_images_count") == 0


COUNTING = """
from fmnist.serving.metrics import Metrics
metrics = Metrics()
metrics.model("photo", "ab" * 32, "0.1.0")
metrics.request("/", "GET", 200, 0.002)
metrics.batch(4)
metrics.waiting("photos", 3)
print("counted", flush=True)
input()
metrics.batch(4)
print(metrics.text()[0].decode(), end="", flush=True)
"""


def test_processes_count_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SHARED, str(tmp_path))
    command = [sys.executable, "-c", COUNTING]
    workers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(3)
    ]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == b"counted\n"
    try:
        text, _ = workers[0].communicate(b"\n", timeout=PATIENCE)
    finally:
        for worker in workers[1:]:
            worker.communicate(b"\n", timeout=PATIENCE)
    assert value(text, "fmnist_requests_total", route="/", method="GET", status="200") == 3
    assert value(text, "fmnist_request_seconds_count", route="/", outcome="answered") == 3
    assert value(text, "fmnist_batch_images_sum") == 3 * 4 + 4
    assert value(text, "fmnist_waiting", queue="photos") == 9
    assert value(text, "process_resident_memory_bytes") > 3 * 10_000_000
    assert b"process_resident_memory_bytes Resident memory size in bytes. Summed over the" in text
    monkeypatch.delenv(SHARED)
    began = "process_start_time_seconds"  # a server's, when the parent of its workers did: we
    assert value(text, began) == value(Metrics().text()[0], began)
    labels = {"name": "photo", "sha256": "ab" * 6, "version": "0.1.0"}
    assert value(text, "fmnist_model_info", **labels) == 1
