"""What a server counts, for Prometheus; several workers add up."""

import os
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Literal, ParamSpec, TypeAlias, TypeVar

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

P = ParamSpec("P")
T = TypeVar("T")

# Where prometheus_client, when it is imported, finds that several processes count together.
SHARED = "PROMETHEUS_MULTIPROC_DIR"
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
CLIENT_GONE = 499  # nginx's status for the log; nobody is answered
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
START = "process_start_time_seconds"
Outcome: TypeAlias = Literal["answered", "refused", "failed", "left"]
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
            "From a request's headers to the end of its answer, by route and outcome: answered, "
            "refused (status 4xx, 503), failed (other 5xx), or its client left (499).",
            ("route", "outcome"),
            buckets=SECONDS,
            registry=registry,
        )
        self._connections = Gauge(
            "fmnist_connections",
            "Connections that are open.",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self._in_flight = Gauge(
            "fmnist_requests_in_flight",
            "Requests that the application has in hand.",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self._batches = Histogram(
            "fmnist_batch_images",
            "28x28 images that the network was asked about at once.",
            buckets=IMAGES,
            registry=registry,
        )
        self._network = Histogram(
            "fmnist_network_seconds",
            "That the network took for a batch.",
            buckets=SECONDS,
            registry=registry,
        )
        self._preparing = Histogram(
            "fmnist_photo_seconds",
            "That a picture took to be prepared, waiting left out.",
            buckets=SECONDS,
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
        self._times: dict[tuple[str, Outcome], Histogram] = {}
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
        ended = route, _outcome(status)
        times = self._times.get(ended)
        if times is None:
            times = self._times[ended] = self._seconds.labels(*ended)
        times.observe(seconds)

    def in_flight(self, change: Literal[1, -1]) -> None:
        """Note that a request begins or ends."""
        self._in_flight.inc(change)

    def connections(self, n: int) -> None:
        """Note how many connections are open now."""
        self._connections.set(n)

    def batch(self, images: int) -> None:
        """Note that the network is asked about so many images at once."""
        self._batches.observe(images)

    def network(self, seconds: float) -> None:
        """Note how long the network took for a batch."""
        self._network.observe(seconds)

    def prepared(self, seconds: float) -> None:
        """Note how long a picture took to be prepared."""
        self._preparing.observe(seconds)

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


def _outcome(status: int) -> Outcome:
    """Return how a request ended; refusals are quick, and would make a busy server look so."""
    if 0 < status < 400:
        return "answered"
    if status == CLIENT_GONE:
        return "left"
    return "refused" if 400 <= status < 500 or status == 503 else "failed"


def timed(work: Callable[P, T], note: Callable[[float], None]) -> Callable[P, T]:
    """Return a function that does `work` and notes the seconds that it took."""

    def working(*arguments: P.args, **options: P.kwargs) -> T:
        began = time.perf_counter()
        try:
            return work(*arguments, **options)
        finally:
            note(time.perf_counter() - began)

    return working


class _Processes(Collector):
    """Processor time, memory and files of the processes that count in a folder, added up.

    The server started when their parent, which is ours, did.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterable[Metric]:
        """Return the sums, of which their help says that they are, and the start."""
        sums: dict[str, Metric] = {}
        for metric in self._each():
            known = sums.setdefault(metric.name, metric)
            if known is metric:
                metric.documentation += " Summed over the workers."
            else:
                value = known.samples[0].value + metric.samples[0].value
                known.samples = [known.samples[0]._replace(value=value)]
        parent = ProcessCollector(pid=os.getppid, registry=None).collect()
        sums.pop(START, None)
        return [*sums.values(), *(metric for metric in parent if metric.name == START)]

    def _each(self) -> Iterable[Metric]:
        for file in self._folder.glob("gauge_livesum_*.db"):
            pid = file.stem.rpartition("_")[2]
            yield from ProcessCollector(pid=partial(str, pid), registry=None).collect()
