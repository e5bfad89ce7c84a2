"""A client that loads an HTTP server from a process of its own; prints JSON.

    python benchmarks/load_client.py job.json

Open loop: requests leave at the times of a Poisson process of `rate`, whatever the server does, and
a latency counts from when the request was meant to leave, so that a server which stalls cannot hide
it (no coordinated omission). A request that finds every connection busy opens another one, up to
`connections`, and waits for one after that. Without `rate` the loop is closed: so many clients each
send the next request when they have the last answer.

A job: host, port, requests (base64 of whole HTTP/1.1 requests, sent in turn), rate (a second, or
null), seconds, connections, seed, and probe (base64 of a request for GET health, or null), which is
sent 50 times a second on connections of its own.
"""

import asyncio
import base64
import json
import random
import sys
import time
from collections import Counter, deque
from pathlib import Path
from typing import Any, cast

PROBES = 50.0  # a second
TICK = 0.001  # seconds: uvloop's clock knows no shorter wait, it would spin
PATIENCE = 30.0  # seconds for answers to come in after the last request


class Tally:
    """What came of the requests of one kind."""

    def __init__(self) -> None:
        self.sent = 0
        self.statuses: Counter[int] = Counter()
        self.latencies: list[tuple[float, int]] = []  # seconds from the intended time, and status
        self.broken = 0  # connections that ended before the answer
        self.ended = 0.0  # when the last answer came

    def take(self, intended: float, status: int) -> None:
        """Count an answer."""
        self.ended = time.perf_counter()
        self.statuses[status] += 1
        self.latencies.append((self.ended - intended, status))

    def summary(self) -> dict[str, Any]:
        """Return counts, and percentiles in milliseconds of the answers 200 and of the others."""
        good = sorted(seconds for seconds, status in self.latencies if status == 200)
        other = sorted(seconds for seconds, status in self.latencies if status != 200)
        return {
            "sent": self.sent,
            "statuses": {str(status): n for status, n in sorted(self.statuses.items())},
            "broken": self.broken,
            "unanswered": self.sent - len(self.latencies) - self.broken,
            "milliseconds": percentiles(good),
            "milliseconds_refused": percentiles(other),
        }


def percentiles(ordered: list[float]) -> dict[str, float] | None:
    """Return percentiles in milliseconds of ordered seconds; None of nothing."""
    if not ordered:
        return None
    last = len(ordered) - 1
    shares = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
    return {name: round(1e3 * ordered[round(share * last)], 3) for name, share in shares.items()}


class Connection(asyncio.Protocol):
    """One connection, with at most one request under way."""

    def __init__(self, client: "Client") -> None:
        self.client = client
        self.transport: asyncio.Transport
        self.received = b""
        self.intended: float | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note the transport."""
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it

    def send(self, request: bytes, intended: float) -> None:
        """Send a request that was meant to leave at `intended`."""
        self.intended = intended
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Count an answer that is whole, and take the next request."""
        self.received += data
        status = _status_of_whole(self.received)
        if status is None or self.intended is None:
            return
        last = b"\r\nconnection: close" in self.received.partition(b"\r\n\r\n")[0].lower()
        intended, self.intended, self.received = self.intended, None, b""
        self.client.tally.take(intended, status)
        if last:
            self.transport.close()
        else:
            self.client.free(self)

    def connection_lost(self, error: Exception | None) -> None:
        """Count a request that was under way as broken."""
        if self.intended is not None:
            self.client.tally.broken += 1
        self.client.lost(self)


def _status_of_whole(received: bytes) -> int | None:
    """Return the status of an answer that has arrived whole, else None."""
    end = received.find(b"\r\n\r\n")
    if end < 0:
        return None
    head = received[:end].lower() + b"\r\n"
    at = head.find(b"\r\ncontent-length:")
    if at < 0:
        raise ValueError("an answer without Content-Length")
    length = int(head[at + 17 : head.find(b"\r\n", at + 2)])
    return int(received[9:12]) if len(received) >= end + 4 + length else None


class Client:
    """Connections, and the requests that wait for one."""

    def __init__(self, job: dict[str, Any], requests: list[bytes], connections: int) -> None:
        self.where = job["host"], job["port"]
        self.requests = requests
        self.connections = connections
        self.tally = Tally()
        self.idle: deque[Connection] = deque()
        self.waiting: deque[float] = deque()  # intended times
        self.opened = 0
        self.closed_until = 0.0  # in a closed loop, when to send the last request
        self.opening: set[asyncio.Task[None]] = set()

    def want(self, intended: float) -> None:
        """Send the next request now, or as soon as a connection is free."""
        self.tally.sent += 1
        if self.idle:
            self._send(self.idle.pop(), intended)
            return
        self.waiting.append(intended)
        if self.opened < self.connections:
            self._open()

    def _open(self) -> None:
        self.opened += 1
        task = asyncio.get_running_loop().create_task(self._connect())
        self.opening.add(task)
        task.add_done_callback(self.opening.discard)

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            _, connection = await loop.create_connection(lambda: Connection(self), *self.where)
        except OSError:
            self.opened -= 1
            self.tally.broken += 1
            if self.waiting:
                self.waiting.popleft()
            return
        self.free(connection)

    def _send(self, connection: Connection, intended: float) -> None:
        # The probe's and the closed loop's first request take the same way as all others.
        connection.send(self.requests[self.tally.sent % len(self.requests)], intended)

    def free(self, connection: Connection) -> None:
        """Give a connection the request that waits longest, or none."""
        if self.waiting:
            self._send(connection, self.waiting.popleft())
        elif time.perf_counter() < self.closed_until:
            self.tally.sent += 1
            self._send(connection, time.perf_counter())
        else:
            self.idle.append(connection)

    async def close(self) -> None:
        """Hang up."""
        for connection in list(self.idle):
            connection.transport.close()
        while any(connection.transport.is_closing() for connection in self.idle):
            await asyncio.sleep(0.01)

    def lost(self, connection: Connection) -> None:
        """Forget a connection that has ended; open one for whoever waits."""
        self.opened -= 1
        if connection in self.idle:
            self.idle.remove(connection)
        if self.waiting or time.perf_counter() < self.closed_until:
            self._open()


async def open_loop(client: Client, rate: float, seconds: float, seed: int) -> None:
    """Send requests at the times of a Poisson process."""
    chance = random.Random(seed)
    now = time.perf_counter()
    due, end = now, now + seconds
    while True:
        due += chance.expovariate(rate)
        if due >= end:
            return
        while (wait := due - time.perf_counter()) > 0:
            await asyncio.sleep(max(wait, TICK))
        client.want(due)
        if chance.random() < 0.02:
            await asyncio.sleep(0)  # a client that lags behind must still read its answers


async def run(job: dict[str, Any]) -> dict[str, Any]:
    """Do a job and return what came of it."""
    requests = [base64.b64decode(each) for each in job["requests"]]
    client = Client(job, requests, job["connections"])
    began = time.perf_counter()
    tasks = []
    probe = None
    if job.get("probe"):
        probe = Client(job, [base64.b64decode(job["probe"])], 64)
        tasks.append(open_loop(probe, PROBES, job["seconds"], job["seed"] + 1))
    if job["rate"] is None:
        client.closed_until = began + job["seconds"]
        for _ in range(client.connections):
            client._open()
        tasks.append(asyncio.sleep(job["seconds"]))
    else:
        tasks.append(open_loop(client, job["rate"], job["seconds"], job["seed"]))
    await asyncio.gather(*tasks)
    clients = [client, *([probe] if probe else [])]
    await _patience(clients)
    opened = client.opened
    for each in clients:
        await each.close()
    taken = max(client.tally.ended - began, job["seconds"])
    good = client.tally.statuses[200]
    return {
        "rate": job["rate"],
        "seconds": round(taken, 3),
        "connections": opened,
        "good_a_second": round(good / taken, 2),
        "client_cores": round(time.process_time() / (time.perf_counter() - began), 2),
        "requests": client.tally.summary(),
        "health": probe and probe.tally.summary(),
    }


async def _patience(clients: list[Client]) -> None:
    """Wait until every request has its answer, but not for ever."""
    end = time.perf_counter() + PATIENCE
    while time.perf_counter() < end:
        tallies = [client.tally for client in clients]
        if all(len(each.latencies) + each.broken >= each.sent for each in tallies):
            return
        await asyncio.sleep(0.02)


if __name__ == "__main__":
    import uvloop

    print(json.dumps(uvloop.run(run(json.loads(Path(sys.argv[1]).read_text("utf-8"))))))
