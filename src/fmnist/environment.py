"""What a result was made with: versions, machine, commit. It goes into every run.json."""

import json
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("fmnist", "numpy", "torch", "safetensors")
# Named only where installed; the second distribution holds the same package.
OF_KERAS = {
    "keras": ("keras",),
    "tensorflow": ("tensorflow", "tensorflow-cpu"),
    "jax": ("jax",),
}


def versions() -> dict[str, str | None]:
    """Return the version of Python and of the packages that decide numbers; None: not installed."""
    found = {
        name: next(filter(None, map(_version, distributions)), None)
        for name, distributions in OF_KERAS.items()
    }
    return {
        "python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
        **{name: version for name, version in found.items() if version},
    }


def keras_backend() -> str:
    """Return the backend that Keras takes when imported: a variable's, its file's, its own."""
    if named := os.environ.get("KERAS_BACKEND"):
        return named
    home = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")
    try:
        return str(json.loads((home / "keras.json").read_text("utf-8"))["backend"])
    except (OSError, ValueError, KeyError, TypeError, RuntimeError):
        return "tensorflow"


def machine() -> dict[str, Any]:
    """Return platform, processor, cores this process may use, and memory in GiB (None: unknown)."""
    return {
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "memory_gib": _memory_gib(),
    }


def physical_cores() -> int:
    """Return the number of cores this process may use, two hardware threads counted as one.

    Linear algebra keeps a core's arithmetic busy with one thread; a second only evicts its cache.
    A container's share of processor time is respected.
    """
    return min(_cores_allowed(), _cores_of_container())


def _cores_of_container() -> int:
    """Return the whole cores of the control group's quota (cgroup v2), or a large number."""
    try:
        with open("/sys/fs/cgroup/cpu.max", encoding="ascii") as file:
            quota, period = file.read().split()
    except (OSError, ValueError):
        return 10**6
    return 10**6 if quota == "max" else max(1, int(quota) // int(period))


def _cores_allowed() -> int:
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    if allowed is None:
        return max(1, (os.cpu_count() or 2) // (2 if platform.machine() == "x86_64" else 1))
    cores = set()
    for processor in allowed:
        siblings = f"/sys/devices/system/cpu/cpu{processor}/topology/thread_siblings_list"
        try:
            with open(siblings, encoding="ascii") as file:
                cores.add(file.read().strip())
        except OSError:
            cores.add(str(processor))
    return len(cores)


def git_commit() -> str | None:
    """Return the commit of fmnist's own sources, "-dirty" if they changed; None outside git."""
    here = Path(__file__).resolve().parent
    # An installed copy inside somebody's repository (their .venv) is not at that one's commit.
    if _git(here, "ls-files", "--error-unmatch", "environment.py") is None:
        return None
    commit = _git(here, "rev-parse", "HEAD")
    changed = _git(here, "status", "--porcelain", "--untracked-files=no", ".")
    return f"{commit}-dirty" if commit and changed else commit


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _memory_gib() -> float | None:
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None
    return round(size / 2**30, 1)
