import tracemalloc

import pytest

from fmnist.serving.rates import MOST, Rates, client_of, unmapped
from fmnist.serving.refusal import Refusal


class Clock:
    def __init__(self) -> None:
        self.now = 1e6

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def taken(rates: Rates, address: str, asked: int) -> int:
    """How many of so many requests are let through."""
    passed = 0
    for _ in range(asked):
        try:
            rates.take(address)
        except Refusal:
            continue
        passed += 1
    return passed


def test_a_burst_is_let_through_and_then_the_rate(clock: Clock) -> None:
    rates = Rates(5, 20, clock)
    assert taken(rates, "10.0.0.1", 30) == 20
    for _ in range(10):
        clock.now += 1
        assert taken(rates, "10.0.0.1", 30) == 5


def test_a_pause_fills_the_bucket_and_no_more(clock: Clock) -> None:
    rates = Rates(5, 20, clock)
    taken(rates, "10.0.0.1", 30)
    clock.now += 2
    assert taken(rates, "10.0.0.1", 30) == 10
    clock.now += 3600
    assert taken(rates, "10.0.0.1", 30) == 20


def test_a_client_under_its_rate_is_never_refused(clock: Clock) -> None:
    rates = Rates(10, 1, clock)
    for _ in range(1000):
        rates.take("10.0.0.1")
        clock.now += 0.1


def test_a_refusal_says_when_to_ask_again(clock: Clock) -> None:
    rates = Rates(0.25, 1, clock)
    rates.take("10.0.0.1")
    with pytest.raises(Refusal) as refusal:
        rates.take("10.0.0.1")
    assert refusal.value.status == 429
    assert refusal.value.headers == {"Retry-After": "4"}
    clock.now += 4
    rates.take("10.0.0.1")


def test_one_client_does_not_use_up_what_is_anothers(clock: Clock) -> None:
    rates = Rates(1, 1, clock)
    assert taken(rates, "10.0.0.1", 5) == 1
    assert taken(rates, "10.0.0.2", 5) == 1


def test_an_address_of_ipv6_does_not_escape_within_its_network() -> None:
    assert client_of("2001:db8::1") == client_of("2001:db8::ffff:1") == "2001:db8::/64"
    assert client_of("2001:db8:0:1::1") != client_of("2001:db8::1")
    assert client_of("fe80::1%eth0") == "fe80::/64"
    assert client_of("no:address") == client_of("x" * 10_000) == "unknown addresses"


def test_an_ipv4_client_of_a_socket_for_both_is_itself() -> None:
    assert client_of("::ffff:10.0.0.1") == client_of("10.0.0.1") == "10.0.0.1"


def test_an_address_is_what_a_proxy_is_known_by() -> None:
    assert unmapped("::ffff:10.0.0.2") == unmapped("10.0.0.2") == "10.0.0.2"
    assert unmapped("::ffff:1") == "::ffff:1"


def test_a_scan_of_many_addresses_takes_bounded_memory(clock: Clock) -> None:
    rates = Rates(1, 1, clock)
    tracemalloc.start()
    for n in range(5 * MOST):
        rates.take(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}")
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(rates) == MOST
    assert grown < 2**22


def test_who_asks_often_is_not_forgotten_for_those_who_asked_once(clock: Clock) -> None:
    rates = Rates(1e-3, 10, clock)
    passed = 0
    for n in range(2 * MOST):
        rates.take(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}")
        if n % (MOST // 2) == 0:
            passed += taken(rates, "192.168.0.1", 4)
    assert passed == 10
