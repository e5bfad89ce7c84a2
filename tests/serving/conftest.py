"""One server for all tests that do not change it."""

from collections.abc import Iterator

import pytest

from servers import Server, running


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """`fmnist serve` with its defaults, on a free port."""
    with running() as started:
        yield started


@pytest.fixture(scope="session")
def guarded() -> Iterator[tuple[Server, str]]:
    """`fmnist serve` that asks for a token, and the token."""
    token = "open-sesame-open-sesame"
    with running("--token", token) as started:
        yield started, token
