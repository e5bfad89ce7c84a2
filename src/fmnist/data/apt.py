"""Debian's and Ubuntu's package of the data set, fetched and unpacked without root."""

import errno
import logging
import os
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

from fmnist.data.official import Verified, verify
from fmnist.errors import DataError

logger = logging.getLogger("fmnist")

PACKAGE = "dataset-fashion-mnist"
SECONDS = 120.0  # for one command; 30 MB took under one second where this was written
SPACE = 250 << 20  # bytes: the package, its content twice, and lists of its own
OPTIONS = (
    "-q",
    "--option=APT::Sandbox::User=",  # else a warning that _apt cannot enter
    "--option=Acquire::Retries=1",
    "--option=Acquire::http::Timeout=5",
    "--option=Acquire::https::Timeout=5",
    "--option=Acquire::Languages=none",
)


def download(names: list[str], workshop: Path) -> dict[str, Verified]:
    """Each of the named files, verified, from the package unpacked in the folder `workshop`.

    Raises DataError with the last words of apt-get where that cannot be done, OSError where
    `workshop` has no space for it.
    """
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise DataError("this system has no apt-get")
    logger.info("asking apt for the package %s", PACKAGE)
    if shutil.disk_usage(workshop).free < SPACE:  # dpkg-deb would not say why it fails
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    try:
        _run(workshop, "apt-get", *OPTIONS, "download", PACKAGE)
    except DataError:  # no lists on this system, or old ones
        own = _own_lists(workshop)
        with suppress(DataError):  # one dead repository of many is no matter
            _run(workshop, "apt-get", *OPTIONS, *own, "update")
        _run(workshop, "apt-get", *OPTIONS, *own, "download", PACKAGE)
    for package in workshop.glob(f"{PACKAGE}_*.deb"):
        _run(workshop, "dpkg-deb", "-x", package.name, "unpacked")
    files = workshop / "unpacked/usr/share/datasets/fashion-mnist"
    return {name: verify(name, files / f"{name}.gz") for name in names}


def _own_lists(workshop: Path) -> list[str]:
    lists, archives = workshop / "lists", workshop / "archives"
    for folder in (lists, archives):
        (folder / "partial").mkdir(parents=True)
    return [f"--option=Dir::State::Lists={lists}", f"--option=Dir::Cache={archives}"]


def _run(workshop: Path, *command: str) -> None:
    environment = {**os.environ, "LC_ALL": "C"}
    try:
        done = subprocess.run(
            command,
            cwd=workshop,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise DataError(f"{command[0]}: no answer within {SECONDS:g} s") from error
    if done.returncode:
        words = [line for line in done.stderr.splitlines() if line.startswith("E:")]
        last = (words or done.stderr.splitlines() or ["it failed"])[-1]
        raise DataError(f"{command[0]}: {last.removeprefix('E: ')}")
