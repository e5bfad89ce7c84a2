"""Seconds, peak memory and page of the full suite: `fmnist bench --suite full`.

    python benchmarks/full_suite.py --outliers mnist_test.npz --out full_suite.json

The target is by default the classifier that comes with fmnist. Each round is a process of its own,
start-up, judging, the map of the test images and the page included.
"""

import argparse
import json
import shlex
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from fmnist.runs import Bench
from memory import measure_process
from rounds import provenance, say, spread, write_results


def bench_once(options: list[str]) -> dict[str, Any]:
    """Judge in a new process; return its seconds, peak, page and what it found."""
    program = str(Path(sys.executable).with_name("fmnist"))
    with tempfile.TemporaryDirectory() as folder:
        place = Bench(Path(folder, "bench"))
        command = [program, "bench", *options, "--out", str(place.folder), "--quiet", "--json"]
        began = time.perf_counter()
        peak, said = measure_process(command)
        return {
            "seconds": time.perf_counter() - began,
            "peak_mib": peak,
            "page_bytes": place.report.stat().st_size,
            "sha256": place.read()["sha256"],
            "threads": place.read()["threads"],
            "found": json.loads(said),
        }


def headlines(found: dict[str, Any]) -> dict[str, Any]:
    """Return the figures of what bench said, so that it can be seen that it measured."""
    corruptions = found["corruptions"]
    return {
        "name": found["name"],
        "accuracy": found["splits"]["test"]["accuracy"],
        "corruptions": {
            "images_asked": sum(row["images"] for row in corruptions["kinds"]),
            "mean_accuracy": corruptions["mean_accuracy"],
            "mean_corruption_error": corruptions["mean_corruption_error"],
            "relative_to": corruptions["relative_to"],
        },
        "outliers": [
            {
                "name": told["name"],
                "images": told["images"],
                "auroc": {score: part and part["auroc"] for score, part in told["scores"].items()},
            }
            for told in found["outliers"]["sets"]
        ],
        "speed": found["speed"],
    }


def measure(options: list[str], rounds: int) -> dict[str, Any]:
    """Return the results file."""
    told = [bench_once(options) for _ in range(rounds)]
    return {
        "what": shlex.join(["fmnist", "bench", *options]),
        "seconds": spread([each["seconds"] for each in told]),
        "peak_mib": spread([each["peak_mib"] for each in told]),
        "page_bytes": max(each["page_bytes"] for each in told),
        "threads": told[0]["threads"],
        "sha256": told[0]["sha256"],
        "found": headlines(told[0]["found"]),
        **provenance("onnxruntime", "scikit-learn"),
    }


def main() -> None:
    """Measure, print, and write where `--out` says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", nargs="?", metavar="TARGET")
    parser.add_argument("--outliers", type=Path, action="append", default=[])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    options = [chosen.target] if chosen.target else []
    options += ["--suite", "full"]
    options += [word for path in chosen.outliers for word in ("--outliers", str(path))]
    results = measure(options, chosen.rounds)
    print(f"{results['what']}: {say(results['seconds'], ' s')}", end=", ")
    print(f"{say(results['peak_mib'], ' MiB')}, page {results['page_bytes'] / 2**20:.1f} MiB")
    if chosen.out:
        write_results(chosen.out, results)


if __name__ == "__main__":
    main()
