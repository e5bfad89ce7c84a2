"""How long it takes to load the cached 70,000 images again: verified, memory-mapped.

Fetches the data set first if need be. "first" is the first load of a new process, imports not
counted; "again" is a later load in the same process.

    python benchmarks/data_loading.py --out benchmarks/results/data_loading.json
"""

import argparse
import json
import os
import ssl
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from fmnist.data import load_dataset
from fmnist.environment import git_commit, machine, versions

LIMIT_SECONDS = 0.050


def seconds_of_a_load() -> float:
    """Seconds of one `load_dataset()`."""
    start = time.perf_counter()
    load_dataset()
    return time.perf_counter() - start


def in_a_new_process() -> float:
    """Seconds of the first `load_dataset()` of a new process."""
    done = subprocess.run(
        [sys.executable, __file__, "--once"], capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def summary(seconds: list[float]) -> dict[str, float]:
    """Number, median, minimum and maximum of `seconds`."""
    return {
        "n": len(seconds),
        "median": round(statistics.median(seconds), 5),
        "min": round(min(seconds), 5),
        "max": round(max(seconds), 5),
    }


def measure(loads: int) -> dict[str, Any]:
    """The results with what they were measured on."""
    load_dataset()  # fills the cache, and the system's own
    return {
        "command": " ".join(["python", "benchmarks/data_loading.py", *sys.argv[1:]]),
        "what": "load_dataset() of the cached 70,000 images with SHA-256 of all bytes, in seconds",
        "limit_seconds": LIMIT_SECONDS,
        "first": summary([in_a_new_process() for _ in range(loads)]),
        "again": summary([seconds_of_a_load() for _ in range(loads)]),
        "versions": {**versions(), "openssl": ssl.OPENSSL_VERSION},
        "machine": {**machine(), "load_average": round(os.getloadavg()[0], 2)},
        "git_commit": git_commit(),
    }


def main() -> int:
    """Measure, print, and write where `--out` says; 1 where the limit is not kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--loads", type=int, default=30)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--once", action="store_true", help="print the seconds of one load")
    arguments = parser.parse_args()
    if arguments.once:
        print(seconds_of_a_load())
        return 0
    text = json.dumps(results := measure(arguments.loads), indent=2) + "\n"
    print(text, end="")
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(text)
    return int(results["first"]["median"] > LIMIT_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
