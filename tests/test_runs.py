import functools
import io
import json
import os
import re
import threading
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fmnist.errors import RunError
from fmnist.runs import Run, SeedRuns, SplitLogits, claim_folder, create_run, open_run

THREADS = 8

FACTS: dict[str, Any] = {
    "named": "classic",
    "recipe": {"name": "classic"},
    "resumed": 0,
    "versions": {},
    "machine": {},
    "git_commit": None,
    "seed": 7,
    "engine": "torch",
    "all_data": False,
    "state": "finished",
    "data": {"sha256": {}},
    "device": "cpu",
    "precision": "float32",
    "threads": 2,
    "parameters": 467_626,
    "seconds": {"train": 60.5, "total": 60.5},
}
EPOCH = {"epoch": 1, "train_loss": 0.5, "validation_loss": 0.4, "validation_accuracy": 0.8}
JUDGED = {
    "accuracy": 0.9,
    "accuracy_interval": [0.89, 0.91],
    "loss": 0.3,
    "top2_accuracy": 0.98,
    "calibration_error": 0.02,
    "images": 10_000,
}
LOGITS = SplitLogits(
    np.linspace(-9, 9, 40, dtype=np.float32).reshape(4, 10),
    np.array([3, 1, 4, 1], np.uint8),
    np.array([9, 8, 7, 6], np.int64),
)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = create_run(tmp_path / "run", "classic", 7)
    run.write(FACTS)
    return run


def race(ask: Callable[[], Any]) -> list[Any]:
    """What each of THREADS threads got that asked at the same moment."""
    together = threading.Barrier(THREADS)

    def attempt(_: int) -> Any:
        together.wait()
        try:
            return ask()
        except RunError as error:
            return error

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(attempt, range(THREADS)))


@pytest.mark.parametrize("exists", [False, True])
@pytest.mark.parametrize("lock", ["lock", "checkpoint/lock"])
def test_of_many_that_ask_for_one_directory_one_gets_it(
    tmp_path: Path, lock: str, exists: bool
) -> None:
    for attempt in range(20):
        folder = tmp_path / str(attempt)
        if exists:
            folder.mkdir()
        answers = race(functools.partial(claim_folder, folder, "any", lock))
        assert sum(isinstance(answer, Path) for answer in answers) == 1
        refusals = [str(answer) for answer in answers if isinstance(answer, RunError)]
        assert all("with --out" in refusal for refusal in refusals)


def test_default_directories_are_all_different(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folders = {answer.folder for answer in race(lambda: create_run(None, "my recipe/π", 3))}
    assert len(folders) == THREADS
    for folder in folders:
        assert folder.is_dir()
        assert re.fullmatch(r"runs/my-recipe--s3-\d{8}-\d{6}(-\d)?", folder.as_posix())


def test_a_claim_is_a_file_that_can_be_locked(tmp_path: Path) -> None:
    folder = claim_folder(tmp_path / "a", "")
    assert [path.name for path in folder.iterdir()] == ["lock"]
    assert (create_run(tmp_path / "b", "classic", 0).checkpoints / "lock").is_file()
    with pytest.raises(RunError, match="is not empty; name a new directory with --out"):
        claim_folder(folder, "")
    plan = {**dict.fromkeys(SeedRuns.PLAN), "named": "sprint"}
    SeedRuns(folder).write(plan)
    with pytest.raises(RunError, match=f"seeds that go on with: fmnist train --resume {folder}"):
        claim_folder(folder, "")


def test_an_empty_directory_is_taken_and_a_full_one_refused(tmp_path: Path) -> None:
    empty, full = tmp_path / "empty", tmp_path / "full"
    empty.mkdir()
    full.mkdir()
    (full / "thesis.tex").write_text("years of work")
    assert create_run(empty, "classic", 0).folder == empty
    with pytest.raises(RunError, match=r"full is not empty; name a new directory with --out"):
        create_run(full, "classic", 0)
    assert os.listdir(full) == ["thesis.tex"]


def test_the_directory_of_another_run_is_refused_with_the_way_to_go_on(run: Run) -> None:
    with pytest.raises(RunError, match="holds a finished run; name a new directory"):
        create_run(run.folder, "classic", 7)
    run.write({**FACTS, "state": "training"})
    with pytest.raises(RunError, match=f"goes on with: fmnist train --resume {run.folder}"):
        create_run(run.folder, "classic", 7)
    with pytest.raises(RunError, match=f"not finished; go on with: .*--resume {run.folder}"):
        run.read_metrics()


@pytest.mark.parametrize("below", ["", "deeper"])
def test_a_file_is_refused(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="is a file, not a directory; name another with --out"):
        create_run(tmp_path / "file" / below, "classic", 0)


def test_open_run_says_what_is_wrong(run: Run, tmp_path: Path) -> None:
    assert open_run(str(run.folder)) == run
    with pytest.raises(RunError, match="is not a directory; `fmnist train` prints where"):
        open_run(tmp_path / "missing")
    with pytest.raises(RunError, match=r"holds no run\.json, so it is not a run of fmnist"):
        open_run(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"run\.json is damaged"),
        (b'{"recipe": {', r"run\.json is damaged"),
        (b"\xff\xfe\x00{}", r"run\.json is damaged"),
        (b"[1, 2]", "does not hold a JSON object"),
        (b"null", "does not hold a JSON object"),
        (b"{}", "was not written by fmnist"),
        (b'{"name": "another program\'s"}', "was not written by fmnist"),
    ],
)
def test_a_damaged_run_json_is_refused(run: Run, content: bytes, message: str) -> None:
    (run.folder / "run.json").write_bytes(content)
    with pytest.raises(RunError, match=message) as told:
        open_run(run.folder)
    assert "\n" not in str(told.value)


def test_what_was_asked_beside_a_run_is_not_in_its_total(run: Run) -> None:
    run.set_seconds(evaluate=2.0, suite=100.0)
    assert run.read()["seconds"] == {"train": 60.5, "evaluate": 2.0, "total": 62.5, "suite": 100.0}


def test_the_time_to_predictions_is_that_of_what_they_need(run: Run) -> None:
    run.write({**FACTS, "seconds": {}})
    run.set_seconds(setup=2.0, train=4.0, checkpoint=8.0, validation=16.0, predict=32.0)
    assert "to_predictions" not in run.read()["seconds"]  # how long the data took is not known
    run.set_seconds(data=1.0, evaluate=64.0, report=128.0)
    assert run.read()["seconds"]["to_predictions"] == 1 + 2 + 4 + 8 + 32
    assert run.read()["seconds"]["total"] == 255


def test_run_json_keeps_what_is_written_and_adds_up_its_seconds(run: Run) -> None:
    assert run.read() == FACTS
    run.set_seconds(evaluate=3.0)
    run.set_seconds(evaluate=2.0, report=1.0)
    assert run.read()["seconds"] == {
        "train": 60.5,
        "evaluate": 2.0,
        "report": 1.0,
        "total": 63.5,
    }
    assert run.read() == {**FACTS, "seconds": run.read()["seconds"]}


def test_a_number_that_json_has_not_is_never_written(run: Run) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        run.write({**FACTS, "seed": float("nan")})
    assert run.read() == FACTS


def test_history_is_a_line_an_epoch(run: Run) -> None:
    assert run.read_history() == []
    epochs: list[dict[str, Any]] = [EPOCH, {**EPOCH, "epoch": 2, "validation_loss": None}]
    run.write_history(epochs)
    assert run.read_history() == epochs
    assert len((run.folder / "history.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize("content", [b'{"epoch": 1}\n{"epo', b"\xff", b"null\n", b"{}\n\n{}"])
def test_a_damaged_history_is_refused(run: Run, content: bytes) -> None:
    (run.folder / "history.jsonl").write_bytes(content)
    with pytest.raises(RunError, match=r"history\.jsonl is damaged .*; train again"):
        run.read_history()


def same(told: SplitLogits, expected: SplitLogits) -> bool:
    return all(
        a.dtype == b.dtype and np.array_equal(a, b)
        for a, b in zip(vars(told).values(), vars(expected).values(), strict=True)
    )


def test_logits_come_back_as_they_were(run: Run) -> None:
    run.write_logits("test", LOGITS)
    assert same(run.read_logits("test"), LOGITS)


def test_commands_in_messages_are_fit_for_a_shell(tmp_path: Path) -> None:
    run = create_run(tmp_path / "my run", "classic", 0)
    run.write({**FACTS, "named": "mine:RECIPE"})
    with pytest.raises(RunError, match=f"fmnist evaluate '{run.folder}' --recipe mine:RECIPE"):
        run.read_logits("test")
    with pytest.raises(RunError, match=f"evaluate '{run.folder}' --split validation --recipe mine"):
        run.read_logits("validation")
    run.write({**FACTS, "named": "mine:RECIPE", "state": "training"})
    with pytest.raises(RunError, match=f"fmnist train mine:RECIPE --resume '{run.folder}'"):
        create_run(run.folder, "classic", 0)
    assert run.evaluate_command() == f"fmnist evaluate '{run.folder}' --recipe mine:RECIPE"


def test_missing_logits_say_what_makes_them(run: Run) -> None:
    with pytest.raises(RunError, match=f"run: fmnist evaluate {run.folder}"):
        run.read_logits("test")


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=200
)
@given(data=st.data())
def test_a_damaged_byte_in_logits_is_noticed_or_harmless(run: Run, data: st.DataObject) -> None:
    path = run.folder / "logits-test.npz"
    if not path.exists():
        run.write_logits("test", LOGITS)
        (run.folder / "whole").write_bytes(path.read_bytes())
    content = bytearray((run.folder / "whole").read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    try:
        told = run.read_logits("test")
    except RunError as error:
        assert f"is damaged; run: fmnist evaluate {run.folder}" in str(error)  # noqa: PT017
    else:
        assert same(told, LOGITS)


def npz(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def npy() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, LOGITS.logits)
    return buffer.getvalue()


def zip_of_text() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("logits.npy", "not an array")
    return buffer.getvalue()


PARTS = vars(LOGITS)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"PK\x03\x04 and no more", id="no zip"),
        pytest.param(npz(**PARTS)[:-30], id="cut"),
        pytest.param(npy(), id="one array"),
        pytest.param(zip_of_text(), id="zip of text"),
        pytest.param(npz(logits=LOGITS.logits, labels=LOGITS.labels), id="no indices"),
        pytest.param(npz(**{**PARTS, "labels": LOGITS.labels[:3]}), id="lengths differ"),
        pytest.param(npz(**{**PARTS, "labels": np.uint8(3)}), id="a label without axis"),
        pytest.param(npz(**{**PARTS, "logits": LOGITS.logits[:, :9]}), id="nine classes"),
        pytest.param(npz(**{**PARTS, "logits": LOGITS.logits.astype("f8")}), id="float64"),
    ],
)
def test_damaged_logits_are_refused(run: Run, content: bytes) -> None:
    (run.folder / "logits-test.npz").write_bytes(content)
    with pytest.raises(RunError, match=f"is damaged; run: fmnist evaluate {run.folder}"):
        run.read_logits("test")


class Trap:
    """Runs code when it is unpickled."""

    sprung = False

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return setattr, (Trap, "sprung", True)


def test_a_pickled_object_in_logits_is_refused_and_not_run(run: Run) -> None:
    trap = np.array([Trap()] * 4, dtype=object)
    (run.folder / "logits-test.npz").write_bytes(npz(**{**PARTS, "labels": trap}))
    with pytest.raises(RunError, match="is damaged"):
        run.read_logits("test")
    assert not Trap.sprung


def test_metrics_come_back_and_say_what_makes_them(run: Run) -> None:
    with pytest.raises(RunError, match=f"is missing; run: fmnist evaluate {run.folder}"):
        run.read_metrics()
    run.write_metrics({"temperature": 1.25})
    assert run.read_metrics() == {"temperature": 1.25}
    (run.folder / "metrics.json").write_text('{"temperature": 1.')
    with pytest.raises(RunError, match=r"metrics\.json is damaged"):
        run.read_metrics()


def test_summary_of_a_run_that_was_not_judged(run: Run) -> None:
    assert run.summary()["validation"] is None
    run.write_history([{**EPOCH, "validation_loss": 9.0}, EPOCH])
    summary = run.summary()
    assert summary["validation"] == {"accuracy": 0.8, "loss": 0.4}
    assert summary["test"] is summary["report"] is summary["temperature"] is None
    assert summary["run"] == str(run.folder)
    assert (summary["recipe"], summary["seed"]) == ("classic", 7)
    assert summary["seconds"] == {"train": 60.5, "total": 60.5}
    assert json.loads(json.dumps(summary)) == summary


def test_summary_of_a_run_on_all_images_has_no_validation(run: Run) -> None:
    run.write_history([{**EPOCH, "validation_loss": None, "validation_accuracy": None}])
    assert run.summary()["validation"] is None


def test_summary_of_a_run_that_was_judged_and_shown(run: Run) -> None:
    run.write_history([EPOCH])
    splits = {"test": JUDGED, "validation": {**JUDGED, "accuracy": 0.91}}
    run.write_metrics({"temperature": 1.3, "splits": splits})
    run.report.write_text("<html>")
    summary = run.summary()
    assert summary["test"] == {key: JUDGED[key] for key in JUDGED if key != "images"}
    assert summary["validation"]["accuracy"] == 0.91
    assert summary["temperature"] == 1.3
    assert summary["report"] == str(run.folder / "report.html")
