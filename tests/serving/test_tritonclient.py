"""NVIDIA's own client: 26 calls that tell whether a server speaks its protocol, and two more."""

import pytest

from nvidia import made
from servers import Server


@pytest.fixture(scope="module")
def faults(server: Server) -> dict[int, str | None]:
    """What went wrong in each call, all made once."""
    return made(server)


@pytest.mark.parametrize("number", range(1, 29))
def test_call(number: int, faults: dict[int, str | None]) -> None:
    assert faults[number] is None, faults[number]


def test_there_are_no_calls_that_nobody_looks_at(faults: dict[int, str | None]) -> None:
    assert list(faults) == list(range(1, 29))
