"""A training that was killed and taken up again has the bytes of one that never stopped."""

import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
SCRIPT = Path(__file__).with_name("train_and_die.py")
STEPS_PER_EPOCH = 14  # 440 garments in batches of 32; three epochs

# Drawn anew each time: the promise holds at any step. The seed is in the test's name.
SEED = random.randrange(10**6)
KILLED_AT = random.Random(SEED).sample(range(1, STEPS_PER_EPOCH), 3)
MID_EPOCH = [epoch * STEPS_PER_EPOCH + step for epoch, step in enumerate(KILLED_AT)]


def run_script(folder: Path, run: Path, when: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), str(folder), str(run), when],
        capture_output=True,
        text=True,
        timeout=300,
        env={"PYTHONPATH": str(TESTS), "PATH": "/usr/bin:/bin", "HOME": str(run.parent)},
    )


@pytest.fixture(scope="module")
def never_stopped(garments_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("whole") / "run"
    done = run_script(garments_dir, run, "never")
    assert done.returncode == 0, done.stderr
    return run


@pytest.mark.parametrize(
    "deaths",
    [
        pytest.param([f"step:{step}" for step in MID_EPOCH], id=f"three-steps-{MID_EPOCH}"),
        pytest.param(["save:5:fsync", "save:3:replace"], id="inside-two-saves"),
        pytest.param(["step:0"], id="before-the-first-checkpoint"),
    ],
)
def test_killed_training_resumes_to_the_same_bytes(
    deaths: list[str], never_stopped: Path, garments_dir: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    for death in deaths:
        assert run_script(garments_dir, run, death).returncode == -signal.SIGKILL
        assert not (run / "weights.safetensors").exists()
    done = run_script(garments_dir, run, "never")
    assert done.returncode == 0, done.stderr
    whole = (never_stopped / "weights.safetensors").read_bytes()
    assert (run / "weights.safetensors").read_bytes() == whole
    assert not (run / "checkpoint").exists()


def test_same_seed_same_bytes(never_stopped: Path, garments_dir: Path, tmp_path: Path) -> None:
    again = tmp_path / "run"
    assert run_script(garments_dir, again, "never").returncode == 0
    whole = (never_stopped / "weights.safetensors").read_bytes()
    assert (again / "weights.safetensors").read_bytes() == whole
