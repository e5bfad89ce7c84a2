import json
import os
import platform
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

from fmnist import environment
from fmnist.environment import git_commit, keras_backend, machine, versions

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
    done = subprocess.run(
        ["git", "-C", str(folder), *identity, *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file in a new git repository that `git_commit` takes for its own; not yet committed."""
    for variable in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(variable)
    source = tmp_path / "environment.py"
    source.write_text("first\n")
    (tmp_path / "README").write_text("first\n")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", "README")
    git(tmp_path, "commit", "--quiet", "-m", "readme")
    monkeypatch.setattr(environment, "__file__", str(source))
    return source


def test_versions_are_those_that_run_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "PACKAGES", ("fmnist", "numpy", "no-such-package"))
    monkeypatch.setattr(environment, "OF_KERAS", {})
    assert versions() == {
        "python": platform.python_version(),
        "fmnist": metadata.version("fmnist"),
        "numpy": np.__version__,
        "no-such-package": None,
    }


def test_versions_name_what_decides_the_numbers() -> None:
    always = {"python", "fmnist", "numpy", "torch", "safetensors"}
    assert set(versions()) - {"jax"} == {*always, "keras", "tensorflow"}


def test_an_engine_that_is_not_installed_is_not_named(monkeypatch: pytest.MonkeyPatch) -> None:
    one = {"absent": ("no-such-package",), "numbers": ("no-such-package", "numpy")}
    monkeypatch.setattr(environment, "OF_KERAS", one)
    assert "absent" not in versions()
    assert versions()["numbers"] == np.__version__


def test_the_backend_of_keras_is_known_before_keras_is_imported(
    own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    assert keras_backend() == "tensorflow"
    settings = own_home / ".keras" / "keras.json"
    settings.parent.mkdir()
    settings.write_text('{"backend": "jax"}')
    assert keras_backend() == "jax"
    settings.write_text("{")
    assert keras_backend() == "tensorflow"
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    assert keras_backend() == "torch"


def test_machine_is_described_as_json() -> None:
    told = machine()
    assert set(told) == {"platform", "processor", "cores", "memory_gib"}
    assert json.loads(json.dumps(told)) == told
    assert 1 <= told["cores"] <= (os.cpu_count() or 1)
    assert told["memory_gib"] > 0.2
    assert told["processor"]


def test_machine_without_proc_is_described_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreadable(self: Path, encoding: str) -> str:
        raise FileNotFoundError(self)

    def unknown(name: str) -> int:
        raise ValueError(name)

    monkeypatch.setattr(Path, "read_text", unreadable)
    monkeypatch.setattr(os, "sysconf", unknown)
    told = machine()
    assert told["processor"]
    assert told["memory_gib"] is None


@needs_git
def test_the_commit_is_that_of_the_sources(source: Path) -> None:
    git(source.parent, "add", "environment.py")
    git(source.parent, "commit", "--quiet", "-m", "source")
    head = git(source.parent, "rev-parse", "HEAD")
    git(source.parent, "tag", "v1")
    assert git_commit() == head
    source.write_text("second\n")
    assert git_commit() == f"{head}-dirty"


@needs_git
def test_sources_installed_in_somebodys_repository_are_not_at_its_commit(source: Path) -> None:
    assert git_commit() is None


def test_there_is_no_commit_where_there_is_no_git(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_commit() is None
