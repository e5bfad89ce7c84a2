"""Seconds and peak memory of `fmnist predict` on a few photos and on many.

    python benchmarks/predict_many.py --photos DIR --out benchmarks/results/predict_many.json

Each command is a process of its own, start-up included, with --json. Memory is flat if the peak on
many photos is that on few. The folder's photos are taken in the order of their names, as many as
asked for; where there are fewer, again from the first.
"""

import argparse
import itertools
import sys
import time
from pathlib import Path
from typing import Any

from memory import measure_process
from rounds import provenance, say, spread, write_results

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


def measure(photos: list[Path], counts: list[int], rounds: int) -> dict[str, Any]:
    """Return the results file."""
    program = str(Path(sys.executable).with_name("fmnist"))
    figures: dict[int, list[tuple[float, float]]] = {count: [] for count in counts}
    for count in counts * rounds:
        chosen = map(str, itertools.islice(itertools.cycle(photos), count))
        began = time.perf_counter()
        peak, said = measure_process([program, "predict", "--json", *chosen])
        figures[count].append((time.perf_counter() - began, peak))
        assert len(said.splitlines()) == count
    return {
        "what": "fmnist predict --json on so many photos, from a cold shell",
        "photos": {
            str(count): {
                "seconds": spread([seconds for seconds, _ in told]),
                "peak_mib": spread([peak for _, peak in told]),
            }
            for count, told in figures.items()
        },
        **provenance("onnxruntime", "opencv-python-headless", "pillow"),
    }


def main() -> None:
    """Measure, print, and write where `--out` says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, required=True, help="a folder with photos in it")
    parser.add_argument("--counts", type=int, nargs="+", default=[1, 100, 1000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    photos = sorted(path for path in chosen.photos.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not photos:
        sys.exit(f"there are no photos in {chosen.photos}")
    results = measure(photos, chosen.counts, chosen.rounds)
    for count, told in results["photos"].items():
        seconds, peak = say(told["seconds"], " s"), say(told["peak_mib"], " MiB")
        print(f"{count} photos: {seconds}, {peak}")
    if chosen.out:
        write_results(chosen.out, results)


if __name__ == "__main__":
    main()
