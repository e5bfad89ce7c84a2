import logging
import mmap
import os
import random
import shutil
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from subprocess import Popen
from typing import Any

import numpy as np
import pytest

from fmnist.data import apt, folders, load_dataset
from fmnist.data.official import MNIST_COUNTS, OFFICIAL, TEST_LABELS, TRAIN_IMAGES
from fmnist.errors import DataError
from garments import idx_bytes

Child = Callable[..., "Popen[str]"]


@pytest.fixture
def tool(accepted: Path, tmp_path: Path, bare: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder where another tool left the files, the only one the product knows."""
    folder = tmp_path / "tool"
    shutil.copytree(accepted, folder)
    monkeypatch.setattr(folders, "other_tools", lambda: iter([("Tool", folder)]))
    return folder


def flip(path: Path, place: int, by: int = 1) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= by
    path.write_bytes(content)


def test_the_folder_given_goes_before_all(
    bare: Path, accepted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FMNIST_DATA", str(tmp_path / "nowhere"))
    dataset = load_dataset(accepted)
    assert (dataset.source, dataset.folder) == ("the folder given", accepted)
    assert not bare.exists()


def test_fmnist_data_goes_before_the_cache(
    mirror: Any, accepted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_dataset()
    monkeypatch.setenv("FMNIST_DATA", str(accepted))
    assert load_dataset().source == "FMNIST_DATA"


def test_the_cache_goes_before_other_tools_and_these_before_the_mirrors(
    mirror: Any, tool: Path, bare: Path
) -> None:
    assert load_dataset().folder == bare
    shutil.rmtree(tool)
    assert load_dataset().source == "cache"
    assert mirror.asked == []


def test_apt_is_asked_after_the_mirrors(mirror: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def found(names: list[str], workshop: Path) -> dict[str, object]:
        raise DataError("apt was asked")

    monkeypatch.setattr(apt, "download", found)
    mirror.answer = lambda request, content: request.send_error(404)
    with pytest.raises(DataError, match="HTTP 404; apt was asked"):
        load_dataset()


def test_a_plain_file_is_a_read_only_memory_map(garments: Any) -> None:
    base = garments.train_images
    while isinstance(base, np.ndarray):
        base = base.base
    owner = base.obj if isinstance(base, memoryview) else base
    assert isinstance(owner, mmap.mmap)
    with pytest.raises(ValueError, match="read-only"):
        garments.train_images[0] = 0


@pytest.mark.parametrize("variable", [True, False])
def test_a_wrong_folder_is_an_error_not_skipped(
    mirror: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: bool
) -> None:
    if variable:
        monkeypatch.setenv("FMNIST_DATA", str(tmp_path))
    named = "FMNIST_DATA" if variable else "the folder given"
    with pytest.raises(DataError, match=f"^{named}: {tmp_path}: .*is missing; put the four"):
        load_dataset(None if variable else tmp_path)
    assert mirror.asked == []


def test_a_wrong_file_in_the_folder_given_is_named(accepted: Path, tmp_path: Path) -> None:
    folder = tmp_path / "files"
    shutil.copytree(accepted, folder)
    flip(folder / TRAIN_IMAGES, 5_000)
    with pytest.raises(DataError, match=f"{folder / TRAIN_IMAGES}: its content has SHA-256"):
        load_dataset(folder)


def test_mnist_is_named_before_any_other_error(tmp_path: Path) -> None:
    for name in OFFICIAL:
        (tmp_path / name).write_bytes(b"junk")
    labels = np.repeat(np.arange(10, dtype=np.uint8), MNIST_COUNTS[1])
    (tmp_path / TEST_LABELS).write_bytes(idx_bytes(labels))
    with pytest.raises(DataError, match="digits of MNIST, not Fashion-MNIST"):
        load_dataset(tmp_path)


@pytest.mark.parametrize("harm", ["flip", "cut", "remove"])
def test_wrong_files_of_another_tool_are_skipped_with_a_warning(
    mirror: Any, tool: Path, caplog: pytest.LogCaptureFixture, harm: str
) -> None:
    if harm == "flip":
        flip(tool / TRAIN_IMAGES, 99)
    elif harm == "cut":
        os.truncate(tool / TRAIN_IMAGES, 99)
    else:
        (tool / TRAIN_IMAGES).unlink()
    assert load_dataset().source == "cache"
    assert len(mirror.asked) == 4
    (warning,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert warning.name == "fmnist"
    assert TRAIN_IMAGES in warning.getMessage()


@pytest.mark.parametrize("harm", ["flip", "cut", "empty", "remove"])
@pytest.mark.parametrize("name", OFFICIAL)
def test_a_damaged_cache_is_mended_by_one_download_of_that_file(
    mirror: Any, bare: Path, caplog: pytest.LogCaptureFixture, name: str, harm: str
) -> None:
    load_dataset()
    mirror.asked.clear()
    if harm == "flip":
        flip(bare / name, -1)
    elif harm == "remove":
        (bare / name).unlink()
    else:
        os.truncate(bare / name, 0 if harm == "empty" else 50)
    assert len(load_dataset().split("all")) == 480
    assert mirror.asked == [f"/{name}.gz"]
    assert ("the cache is damaged" in caplog.text) == (harm != "remove")
    assert sorted(os.listdir(bare)) == sorted(["lock", *OFFICIAL])


def test_a_damaged_cache_that_cannot_be_mended_keeps_its_good_files(
    mirror: Any, bare: Path, accepted: Path
) -> None:
    load_dataset()
    flip(bare / TEST_LABELS, 20)
    mirror.answer = lambda request, content: request.send_error(404)
    with pytest.raises(DataError, match=f"{TEST_LABELS}.* not whole in .*could not be fetched"):
        load_dataset()
    for name in OFFICIAL:
        same = (bare / name).read_bytes() == (accepted / name).read_bytes()
        assert same == (name != TEST_LABELS)


@pytest.mark.parametrize("value", ["1", "true"])
def test_offline_fetches_nothing_and_says_where_to_put_the_files(
    mirror: Any, bare: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("FMNIST_OFFLINE", value)
    with pytest.raises(DataError, match=r"FMNIST_OFFLINE forbids.*--data-dir or FMNIST_DATA"):
        load_dataset()
    assert mirror.asked == []


def test_an_empty_cache_that_cannot_be_written_is_done_without_where_a_tool_left_files(
    tool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("FMNIST_CACHE", str(tmp_path / "file"))
    dataset = load_dataset()
    assert len(dataset.split("all")) == 480
    assert dataset.folder == tool
    assert "cannot be written" in caplog.text
    assert "FMNIST_CACHE" in caplog.text


def test_an_empty_cache_that_cannot_be_written_downloads_nothing(
    mirror: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("FMNIST_CACHE", str(tmp_path / "file"))
    with pytest.raises(DataError, match=r"cannot be written.*set FMNIST_CACHE"):
        load_dataset()
    assert mirror.asked == []


def test_eight_processes_at_once_download_once(mirror: Any, own_home: Path, child: Child) -> None:
    rounds, start = 4, time.time() + 2.0
    code = f"""
        for round in range({rounds}):
            os.environ["FMNIST_CACHE"] = {str(own_home)!r} + f"/round{{round}}"
            time.sleep(max(0, {start} + round * 0.5 - time.time()))
            print(len(load_dataset().split("all")))
    """
    children = [child(code, mirror.url) for _ in range(8)]
    for done in children:
        said, errors = done.communicate(timeout=60)
        assert (said, errors) == ("480\n" * rounds, "")
    assert len(mirror.asked) == 4 * rounds
    for number in range(rounds):
        files = os.listdir(own_home / f"round{number}/fashion-mnist")
        assert sorted(files) == sorted(["lock", *OFFICIAL])


def heals(bare: Path, accepted: Path) -> None:
    """What the killed process left is whole or unseen, and the next run just works."""
    for name in OFFICIAL:
        if (bare / name).exists():
            assert (bare / name).read_bytes() == (accepted / name).read_bytes()
    assert len(load_dataset().split("all")) == 480
    assert sorted(os.listdir(bare)) == sorted(["lock", *OFFICIAL])


@pytest.mark.parametrize("request_number", [1, 2, 4])
def test_a_kill_in_a_download_is_healed(
    mirror: Any, bare: Path, accepted: Path, child: Child, request_number: int
) -> None:
    well, victims = mirror.answer, list[Any]()

    def kill(request: BaseHTTPRequestHandler, content: bytes) -> None:
        if len(mirror.asked) != request_number:
            well(request, content)
            return
        request.send_response(200)
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.wfile.write(content[: len(content) // 2])
        request.wfile.flush()
        victims[0].kill()

    mirror.answer = kill
    victims.append(child("load_dataset()", mirror.url))
    assert victims[0].communicate(timeout=60) == ("", "")
    assert victims[0].returncode == -9
    assert any(name.startswith("partial-") for name in os.listdir(bare))
    mirror.answer = well
    heals(bare, accepted)


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("number", [1, 3, 4])
def test_a_kill_in_a_write_is_healed(
    mirror: Any, bare: Path, accepted: Path, child: Child, call: str, number: int
) -> None:
    done = child(
        f"""
        calls, real = [], os.{call}
        def killing(*arguments):
            calls.append(arguments)
            real(*arguments)
            if len(calls) == {number}:
                os.kill(os.getpid(), signal.SIGKILL)
        os.{call} = killing
        load_dataset()
        """,
        mirror.url,
    )
    assert done.communicate(timeout=60) == ("", "")
    assert done.returncode == -9
    heals(bare, accepted)


def test_kills_at_random_moments_are_healed(
    mirror: Any, bare: Path, accepted: Path, child: Child
) -> None:
    choose = random.Random(20170831)
    for _ in range(6):
        victim = child('print("ready", flush=True); load_dataset()', mirror.url)
        assert victim.stdout is not None
        victim.stdout.readline()
        time.sleep(choose.uniform(0, 0.3))
        victim.kill()
        victim.communicate(timeout=60)
        heals(bare, accepted)
        shutil.rmtree(bare)
