"""A training that was killed and taken up again has the bytes of one that never stopped."""

import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
SCRIPT = Path(__file__).with_name("train_and_die.py")
EPOCHS_BEGIN = (0, 14, 25)  # 440 garments in batches of 32; the middle one of three is pruned

# Drawn anew each time: the promise holds at any step. The test's name says which.
SEED = random.randrange(10**6)
MID_EPOCH = [begin + random.Random(SEED + begin).randrange(1, 11) for begin in EPOCHS_BEGIN]


def run_script(
    folder: Path, run: Path, recipe: str, every: int, when: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), str(folder), str(run), recipe, str(every), when],
        capture_output=True,
        text=True,
        timeout=300,
        env={"PYTHONPATH": str(TESTS), "PATH": "/usr/bin:/bin", "HOME": str(run.parent)},
    )


@pytest.fixture(scope="module")
def never_stopped(garments_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The weights of each recipe, trained in one go."""
    weights = {}
    for recipe in ("TINY", "TINY_ADAM"):
        run = tmp_path_factory.mktemp("whole") / "run"
        done = run_script(garments_dir, run, recipe, 1, "never")
        assert done.returncode == 0, done.stderr
        weights[recipe] = (run / "weights.safetensors").read_bytes()
    return weights


@pytest.mark.parametrize(
    ("recipe", "every", "deaths"),
    [
        pytest.param("TINY", 3, [f"step:{n}" for n in MID_EPOCH], id=f"three-steps-{MID_EPOCH}"),
        pytest.param("TINY_ADAM", 1, ["step:20"], id="adam"),
        pytest.param("TINY", 1, ["save:5:fsync", "save:3:replace"], id="inside-two-saves"),
        pytest.param("TINY", 1, ["step:0"], id="before-the-first-checkpoint"),
    ],
)
def test_killed_training_resumes_to_the_same_bytes(
    recipe: str,
    every: int,
    deaths: list[str],
    never_stopped: dict[str, bytes],
    garments_dir: Path,
    tmp_path: Path,
) -> None:
    run = tmp_path / "run"
    for death in deaths:
        killed = run_script(garments_dir, run, recipe, every, death)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert not (run / "weights.safetensors").exists()
    done = run_script(garments_dir, run, recipe, every, "never")
    assert done.returncode == 0, done.stderr
    assert (run / "weights.safetensors").read_bytes() == never_stopped[recipe]
    assert not (run / "checkpoint").exists()


def test_same_seed_same_bytes(
    never_stopped: dict[str, bytes], garments_dir: Path, tmp_path: Path
) -> None:
    assert run_script(garments_dir, tmp_path / "run", "TINY", 1, "never").returncode == 0
    again = (tmp_path / "run" / "weights.safetensors").read_bytes()
    assert again == never_stopped["TINY"]
