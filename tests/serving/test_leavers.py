"""Clients that leave in the middle of things, a thousand of them."""

import socket
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from processes import held, resident_mib
from servers import Server
from waiting import PATIENCE, wait_until
from wire import HOST, POST

HEAD = b"POST /v2/models/fmnist/infer HTTP/1.1\r\n" + HOST
PART = HEAD + b"Content-Length: 9000\r\nInference-Header-Content-Length: 9\r\n\r\n" + b"x" * 500
PICTURE = b"POST /api/predict HTTP/1.1\r\n" + HOST + b"Content-Length: 900000\r\n\r\n\xff\xd8"
ANSWERED = b"GET /v2 HTTP/1.1\r\n" + HOST + b"\r\n"
MIDDLES = (b"", POST[:9], HEAD, PART, PICTURE, ANSWERED, ANSWERED * 5)


def leave(port: int, clients: int, seed: int) -> None:
    """Connect, begin, and go: half of them with a reset."""
    chance = np.random.default_rng(seed)
    for _ in range(clients):
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client:
            client.sendall(MIDDLES[chance.integers(len(MIDDLES))])
            if chance.random() < 0.5:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="it is Linux that tells")
def test_a_thousand_clients_that_leave_midway_leave_nothing_behind(server: Server) -> None:
    leave(server.port, 50, seed=0)  # all threads that there will be are there
    files, threads = settled(server)
    memory = resident_mib(server.pid)
    crowd = [threading.Thread(target=leave, args=(server.port, 250, seed)) for seed in range(1, 5)]
    for each in crowd:
        each.start()
    for each in crowd:
        each.join()
    wait_until(lambda: near((files, threads), settled(server)))
    assert resident_mib(server.pid) - memory < 20


def near(before: tuple[int, int], after: tuple[int, int]) -> bool:
    return all(abs(now - then) <= 5 for then, now in zip(before, after, strict=True))


def settled(server: Server) -> tuple[int, int]:
    """How many files and threads it has once the connections before are seen to have ended."""
    before = (0, 0)
    for _ in range(20):
        assert server.get("/v2/health/live").status_code == 200
        now = held(server.pid)
        if now == before:
            break
        before = now
        time.sleep(0.3)
    return before
