"""One server for all tests that do not change it."""

from collections.abc import Iterator

import pytest

from servers import Server, running


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """`fmnist serve` with its defaults, on a free port."""
    with running() as started:
        yield started
