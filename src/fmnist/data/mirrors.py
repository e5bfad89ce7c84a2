"""Download over HTTP(S) from several mirrors in turn."""

import logging
import os
import time
from contextlib import ExitStack
from pathlib import Path
from threading import Thread
from typing import IO, TYPE_CHECKING
from urllib.parse import urlsplit

from fmnist.data.official import OFFICIAL, Verified, verify
from fmnist.data.progress import download_bar
from fmnist.errors import DataError

if TYPE_CHECKING:
    import requests

logger = logging.getLogger("fmnist")

MIRRORS = (
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",  # it knows no HTTPS
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
)
CONNECT_SECONDS = 5.0  # for all mirrors together: they are tried at once
READ_SECONDS = 15.0
SLACK = 1 << 16  # packed is smaller than unpacked but where there is little to pack
ATTEMPTS = 2  # a cut connection or a 5xx is worth one more; an unknown host or a 404 is not


def download(names: list[str], workshop: Path) -> dict[str, Verified]:
    """Each of the named files, verified, from the first mirror that gives it; uses `workshop`.

    A mirror that fails is not asked again. Raises DataError that says what each mirror answered,
    and OSError where `workshop` cannot be written.
    """
    failures = _silent(MIRRORS)
    files = {}
    for name in names:
        for mirror in MIRRORS:
            if mirror not in failures:
                try:
                    files[name] = _from_mirror(mirror, name, workshop)
                    break
                except DataError as error:
                    failures[mirror] = str(error)
                    logger.info("%s: %s", _host(mirror), error)
        else:
            raise DataError("; ".join(f"{_host(m)}: {why}" for m, why in failures.items()))
    return files


def _host(mirror: str) -> str:
    return urlsplit(mirror).netloc


def _silent(mirrors: tuple[str, ...]) -> dict[str, str]:
    """The mirrors that nothing reaches within CONNECT_SECONDS, and why: one wait for them all.

    Where packets are dropped, one after the other (and one address of each after the other) would
    take minutes.
    """
    import requests

    silent = dict.fromkeys(mirrors, f"no answer within {CONNECT_SECONDS:g} s")

    def knock(mirror: str) -> None:
        try:
            requests.head(mirror, timeout=CONNECT_SECONDS).close()
            silent.pop(mirror)
        except requests.RequestException as error:
            silent[mirror] = _reason(error)

    threads = [Thread(target=knock, args=(mirror,), daemon=True) for mirror in mirrors]
    deadline = time.monotonic() + CONNECT_SECONDS
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    known = dict(silent)  # a thread may still be knocking
    return {mirror: known[mirror] for mirror in mirrors if mirror in known}


def _from_mirror(mirror: str, name: str, workshop: Path) -> Verified:
    import requests

    path = workshop / f"{name}.gz"
    for attempts_left in reversed(range(ATTEMPTS)):
        try:
            _get(mirror + path.name, path, OFFICIAL[name].size + SLACK)
            break
        except requests.RequestException as error:
            if not attempts_left or not _may_pass(error):
                raise DataError(f"{path.name}: {_reason(error)}") from error
    try:
        return verify(name, path)
    except DataError as error:
        raise DataError(str(error).removeprefix(f"{path.parent}{os.sep}")) from error


def _may_pass(error: "requests.RequestException") -> bool:
    """Whether a second attempt is worth it: the connection was cut, or the server was unwell."""
    import requests

    if error.response is not None:
        return error.response.status_code >= 500
    return isinstance(error, requests.exceptions.ChunkedEncodingError)


def _reason(error: "requests.RequestException") -> str:
    import requests

    if error.response is not None and isinstance(error, requests.HTTPError):
        return f"HTTP {error.response.status_code}"
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    if isinstance(error, requests.TooManyRedirects):
        return "it redirects without end"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection was cut"
    cause = repr(error)
    if "NameResolutionError" in cause:
        return "its name cannot be resolved"
    if "timed out" in cause:
        return "it stopped sending"
    return "connection refused" if "refused" in cause else "the connection failed"


def _get(url: str, path: Path, limit: int) -> None:
    """Write what `url` answers to `path`; an answer over `limit` bytes is a DataError."""
    import pooch

    logger.info("downloading %s", url)
    with ExitStack() as stack:

        def close_at_the_end(answer: "requests.Response", **_: object) -> None:
            stack.callback(answer.close)  # pooch leaves the connection of a failed download open

        file = stack.enter_context(path.open("wb"))
        fetch = pooch.HTTPDownloader(
            progressbar=stack.enter_context(download_bar(path.name)) or False,
            chunk_size=1 << 16,
            timeout=(CONNECT_SECONDS, READ_SECONDS),
            hooks={"response": close_at_the_end},
        )
        fetch(url, _Bounded(file, limit), None)


class _Bounded:
    """A file that refuses to grow past `limit` bytes."""

    def __init__(self, file: IO[bytes], limit: int) -> None:
        self.file, self.left = file, limit

    def write(self, chunk: bytes) -> None:
        self.left -= len(chunk)
        if self.left < 0:
            raise DataError("the answer is larger than the file awaited")
        self.file.write(chunk)

    def flush(self) -> None:
        self.file.flush()
