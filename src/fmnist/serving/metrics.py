"""What a server counts, for Prometheus; several workers add up."""

import os
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Literal

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

# Where prometheus_client, when it is imported, finds that several processes count together.
SHARED = "PROMETHEUS_MULTIPROC_DIR"
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
IMAGES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """The numbers of one process, or, where SHARED names a folder, of all that count there.

    No label is a client's choice, so their number is bounded. Each child of a metric is looked up
    once: prometheus_client checks and locks at each look-up.
    """

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # series that nobody reads
        self._registry = registry = CollectorRegistry()
        self._requests = Counter(
            "fmnist_requests",
            "Requests answered.",
            ("route", "method", "status"),
            registry=registry,
        )
        self._seconds = Histogram(
            "fmnist_request_seconds",
            "From a request's headers to the end of its answer, by route.",
            ("route",),
            buckets=SECONDS,
            registry=registry,
        )
        self._batches = Histogram(
            "fmnist_batch_images",
            "28x28 images that the network was asked about at once.",
            buckets=IMAGES,
            registry=registry,
        )
        self._waiting = Gauge(
            "fmnist_waiting",
            "Requests for the network (tensors), or pictures to be prepared (photos), that wait.",
            ("queue",),
            multiprocess_mode="livesum",
            registry=registry,
        )
        self._predictions = Counter(
            "fmnist_predictions",
            "Pictures answered, by the likeliest class and whether it was likely enough.",
            ("label", "accepted"),
            registry=registry,
        )
        self._model = Gauge(
            "fmnist_model_info",
            "1; the labels say which model answers.",
            ("name", "sha256", "version"),
            multiprocess_mode="max",
            registry=registry,
        )
        self._counts: dict[tuple[str, str, int], Counter] = {}
        self._times: dict[str, Histogram] = {}
        self._answers: dict[tuple[str, bool], Counter] = {}
        self._queues = {name: self._waiting.labels(name) for name in ("tensors", "photos")}

    def model(self, name: str, sha256: str, version: str) -> None:
        """Note which model answers: its name, the hash of its file, the version of fmnist."""
        self._model.labels(name, sha256[:12], version).set(1)

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Note an answered request; `route` is a template of ours, never a path as asked for."""
        key = (route, method if method in METHODS else "other", status)
        count = self._counts.get(key)
        if count is None:
            count = self._counts[key] = self._requests.labels(*key)
        count.inc()
        times = self._times.get(route)
        if times is None:
            times = self._times[route] = self._seconds.labels(route)
        times.observe(seconds)

    def batch(self, images: int) -> None:
        """Note that the network is asked about so many images at once."""
        self._batches.observe(images)

    def waiting(self, queue: Literal["tensors", "photos"], n: int) -> None:
        """Note how many wait now."""
        self._queues[queue].set(n)

    def predicted(self, label: str, accepted: bool) -> None:
        """Note an answer about a picture."""
        count = self._answers.get((label, accepted))
        if count is None:
            named = self._predictions.labels(label, "true" if accepted else "false")
            count = self._answers[label, accepted] = named
        count.inc()

    def text(self) -> tuple[bytes, str]:
        """Return all numbers as Prometheus reads them, and their Content-Type."""
        folder = os.environ.get(SHARED)
        registry = CollectorRegistry()
        if folder:
            MultiProcessCollector(registry, folder)  # type: ignore[no-untyped-call]
            registry.register(_Processes(Path(folder)))
        else:
            registry.register(self._registry)
            ProcessCollector(registry=registry)
        return generate_latest(registry), CONTENT_TYPE_LATEST


class _Processes(Collector):
    """Processor time, memory and files of the processes that count in a folder, added up."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterable[Metric]:
        """Return the sums; when they started is said for each alone and left out."""
        sums: dict[str, Metric] = {}
        for metric in self._each():
            if metric.name == "process_start_time_seconds":
                continue
            known = sums.setdefault(metric.name, metric)
            if known is not metric:
                value = known.samples[0].value + metric.samples[0].value
                known.samples = [known.samples[0]._replace(value=value)]
        return sums.values()

    def _each(self) -> Iterable[Metric]:
        for file in self._folder.glob("gauge_livesum_*.db"):
            pid = file.stem.rpartition("_")[2]
            yield from ProcessCollector(pid=partial(str, pid), registry=None).collect()
