"""How long it takes to load the 70,000 images again: ours, Keras' and a plain reader's way.

    python benchmarks/data_loading.py --out benchmarks/results/data_loading.json

Fetches the data set first if need be. Ours maps the cached plain files and checks the SHA-256 of
all bytes; `keras.datasets` and the plain reader unpack the four gzip files, which this script packs
from our cache, and check nothing. Each load is a new process, the three in turn; imports are
reported apart. "again" is a later load of ours in the same process.
"""

import argparse
import gzip
import json
import ssl
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rounds import ask_process, provenance, ratios, say, spread, write_results

LIMIT_SECONDS = 0.050  # for ours, imports not counted
OURS = "fmnist"


def load_ours(folder: Path) -> tuple[float, Callable[[], object]]:
    """Return when the imports were done, and what loads."""
    from fmnist.data import load_dataset

    return time.perf_counter(), load_dataset


def load_keras(folder: Path) -> tuple[float, Callable[[], object]]:
    """Return the same for Keras, whose KERAS_HOME holds the files."""
    from keras.datasets import fashion_mnist

    return time.perf_counter(), fashion_mnist.load_data


def load_plainly(folder: Path) -> tuple[float, Callable[[], object]]:
    """Return the same for gzip and numpy, as the data set's own page shows it."""
    import numpy as np

    def load() -> object:
        arrays = []
        for kind in ("train", "t10k"):
            with gzip.open(folder / f"{kind}-labels-idx1-ubyte.gz") as file:
                arrays.append(np.frombuffer(file.read(), np.uint8, offset=8))
            with gzip.open(folder / f"{kind}-images-idx3-ubyte.gz") as file:
                pixels = np.frombuffer(file.read(), np.uint8, offset=16)
                arrays.append(pixels.reshape(-1, 28, 28))
        return arrays

    return time.perf_counter(), load


LOADERS = {OURS: load_ours, "keras.datasets": load_keras, "gzip and numpy": load_plainly}


def load_once(name: str, folder: Path) -> dict[str, float]:
    """Return seconds of the imports, of the first load and of the next in this process."""
    began = time.perf_counter()
    imported, load = LOADERS[name](folder)
    load()
    loaded = time.perf_counter()
    load()
    again = time.perf_counter()
    return {"import": imported - began, "load": loaded - imported, "again": again - loaded}


def pack(folder: Path) -> None:
    """Write the four gzip files into `folder` from our cache."""
    from fmnist.data import load_dataset

    dataset = load_dataset()
    folder.mkdir(parents=True)
    for name in dataset.sha256:
        plain = dataset.folder / name
        content = plain.read_bytes() if plain.exists() else None
        if content is None:
            sys.exit(f"{plain} is not there; unset FMNIST_DATA to use the cache")
        (folder / f"{name}.gz").write_bytes(gzip.compress(content, 6, mtime=0))


def measure(loads: int) -> dict[str, Any]:
    """Return the results file."""
    spent: dict[str, list[dict[str, float]]] = {name: [] for name in LOADERS}
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home, "datasets", "fashion-mnist")  # where Keras looks
        pack(folder)
        settings = {"KERAS_HOME": home, "TF_CPP_MIN_LOG_LEVEL": "3"}
        for _ in range(loads):
            for name in LOADERS:
                spent[name].append(ask_process(__file__, "--once", name, str(folder), **settings))
    seconds = {
        name: {phase: [one[phase] for one in each] for phase in each[0]}
        for name, each in spent.items()
    }
    ours = seconds[OURS]
    return {
        "what": "seconds to load 70,000 images; ours with SHA-256 of all bytes, memory-mapped",
        "limit_seconds": LIMIT_SECONDS,
        "first": spread(ours["load"]),
        "again": spread(ours["again"]),
        "seconds": {
            name: {phase: spread(values) for phase, values in phases.items()}
            for name, phases in seconds.items()
        },
        "times_ours": {
            name: ratios(phases["load"], ours["load"])
            for name, phases in seconds.items()
            if name != OURS
        },
        **provenance("keras"),
        "openssl": ssl.OPENSSL_VERSION,
    }


def main() -> int:
    """Measure, print, and write where `--out` says; 1 where the limit is not kept."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--loads", type=int, default=30)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--once", nargs=2, metavar=("LOADER", "FOLDER"))
    chosen = parser.parse_args()
    if chosen.once:
        print(json.dumps(load_once(chosen.once[0], Path(chosen.once[1]))))
        return 0
    results = measure(chosen.loads)
    for name, phases in results["seconds"].items():
        said = [f"{phase} {say(figures, ' s')}" for phase, figures in phases.items()]
        print(f"{name}: {'; '.join(said)}")
    for name, times in results["times_ours"].items():
        print(f"{name} takes {say(times)} times as long as ours")
    if chosen.out:
        write_results(chosen.out, results)
    return int(results["first"]["median"] > LIMIT_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
