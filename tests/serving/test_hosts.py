from typing import Any

import pytest

from fmnist.serving.hosts import Hosts, is_cross_site
from fmnist.serving.settings import Settings


def hosts(**settings: Any) -> Hosts:
    return Hosts(Settings(**settings))


@pytest.mark.parametrize(
    "host",
    [
        b"127.0.0.1",
        b"127.0.0.1:8000",
        b"192.168.1.7:80",
        b"[::1]",
        b"[::1]:8000",
        b"[fe80::1]:8000",
        b"localhost",
        b"LocalHost:8000",
        b"localhost.",
        b"shop.example",
        b"shop.example:443",
    ],
)
def test_addresses_and_known_names_are_answered(host: bytes) -> None:
    assert hosts(allowed_hosts=("Shop.example",)).accept(host)


@pytest.mark.parametrize(
    "host",
    [
        b"",
        b":8000",
        b"rebound.example",
        b"sub.shop.example",
        b"shop.example.evil",
        b"localhost.evil:8000",
        b"127.0.0.1.evil.example",
        b"127.0.0.1:8000:1",
        b"127.0.0.1:port",
        b"127.0.0.1/",
        b"evil@127.0.0.1",
        b"127.0.0.1 evil",
        b"2130706433",
        b"::1",
        b"[::1",
        b"\xff",
        b"1" * 10_000,
    ],
)
def test_other_names_are_not(host: bytes) -> None:
    assert not hosts(allowed_hosts=("shop.example",)).accept(host)


def test_the_name_that_the_server_listens_at_is_known() -> None:
    assert hosts(host="box.lan", insecure=True).accept(b"box.lan:8000")


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        (b"127.0.0.1:8000", b"http://127.0.0.1:8000"),
        (b"shop.example", b"https://shop.example"),
        (b"shop.example", b"http://shop.example:80"),
        (b"shop.example:443", b"https://Shop.example"),
        (b"[::1]:8000", b"http://[::1]:8000"),
    ],
)
def test_the_page_of_the_server_may_ask(host: bytes, origin: bytes) -> None:
    assert not is_cross_site(host, origin, None)
    assert not is_cross_site(host, origin, b"same-origin")


@pytest.mark.parametrize(
    "origin",
    [
        b"http://evil.example",
        b"http://127.0.0.1:8001",
        b"http://127.0.0.1",
        b"http://127.0.0.1:8000.evil.example",
        b"http://evil@127.0.0.1:8000",
        b"http://127.0.0.1:8000/",
        b"ftp://127.0.0.1:8000",
        b"127.0.0.1:8000",
        b"null",
        b"",
    ],
)
def test_pages_of_others_may_not(origin: bytes) -> None:
    assert is_cross_site(b"127.0.0.1:8000", origin, None)


@pytest.mark.parametrize(
    ("site", "is_foreign"),
    [
        (b"cross-site", True),
        (b"same-site", True),
        (b"same-origin", False),
        (b"none", False),
    ],
)
def test_what_the_browser_says_of_a_site_counts(site: bytes, is_foreign: bool) -> None:
    assert is_cross_site(b"127.0.0.1:8000", None, site) == is_foreign


def test_a_client_that_is_no_browser_may() -> None:
    assert not is_cross_site(b"127.0.0.1:8000", None, None)
