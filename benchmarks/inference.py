"""Milliseconds to classify: Keras, PyTorch, ONNX Runtime and our classifier, side by side.

    python benchmarks/inference.py runs/classic runs/sprint --out benchmarks/results/inference.json

The first run must be of `classic`: Keras answers with its weights, in stock Keras, by `predict` and
by `model(x)`, on images scaled before the clock starts. Every run is asked in PyTorch (float32 and
bfloat16), in a bare ONNX Runtime session and through `load_classifier`, in float32 and int8; those
get uint8. Each engine is a process of its own for each number of threads; the processes take turns,
several rounds. A round's figure is the median of its calls.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fmnist.data import load_dataset
from rounds import ask_process, provenance, ratios, say, spread, write_results

IMAGES = (1, 32, 256, 1000, 10_000)  # in a call
LARGEST_BATCH = 1000  # of all but our classifier, which cuts what it is handed itself
SECONDS, QUICK = 0.5, 0.05  # of one figure, after a first call
CALLS = (2, 400)  # at least and at most, however long they take

Ask: TypeAlias = Callable[[NDArray[np.uint8]], object]
Figures: TypeAlias = dict[str, dict[int, list[float]]]  # engine, images: ms of each round


def keras_engines(file: str, threads: int) -> Iterator[tuple[str, Ask]]:
    """Yield stock Keras' two ways to ask a model."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import keras
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    model = keras.saving.load_model(file)
    yield "Keras predict", lambda x: model.predict(x, batch_size=LARGEST_BATCH, verbose=0)
    yield "Keras model(x)", lambda x: [model(part) for part in _batches(x)]


def torch_engines(run: str, threads: int) -> Iterator[tuple[str, Ask]]:
    """Yield PyTorch in eager mode."""
    from fmnist.runs import open_run
    from fmnist.training.device import Device, cpu_has_bfloat16, on_device, processor_settings
    from fmnist.training.inference import infer
    from fmnist.training.trained import load_network

    opened = open_run(run)
    flip = opened.read()["recipe"]["flip_at_test"]
    for precision in ("float32", "bfloat16") if cpu_has_bfloat16() else ("float32",):
        device = Device("cpu", precision)
        with processor_settings(threads):
            network = on_device(load_network(opened), device)
            yield (
                f"PyTorch {precision}",
                lambda x, device=device, network=network: infer(network, x, device, flip=flip),  # type: ignore[misc]
            )


def onnx_engines(folder: str, threads: int) -> Iterator[tuple[str, Ask]]:
    """Yield a bare session of ONNX Runtime and our public call, on every file of the folder."""
    import onnxruntime

    import fmnist

    for file in sorted(Path(folder).glob("*.onnx")):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(
            file.read_bytes(), options, providers=["CPUExecutionProvider"]
        )
        classifier = fmnist.load_classifier(file, threads=threads)
        precision = classifier.facts["precision"]
        yield (
            f"ONNX Runtime {precision}",
            lambda x, session=session: [  # type: ignore[misc]
                session.run(["logits"], {"images": part}) for part in _batches(x)
            ],
        )
        yield f"classifier {precision}", classifier.classes


ENGINES = {"keras": keras_engines, "torch": torch_engines, "onnx": onnx_engines}


def measure_here(kind: str, path: str, threads: int, seconds: float) -> dict[str, dict[int, float]]:
    """Return the median milliseconds of a call, by engine and number of images."""
    images = load_dataset().split("validation").images
    images = np.ascontiguousarray(np.concatenate([images, images]))
    x: Any = images
    if kind == "keras":
        x = images[..., None].astype(np.float32) / 255
    return {
        name: {n: _median_ms(ask, x[:n], seconds) for n in IMAGES}
        for name, ask in ENGINES[kind](path, threads)
    }


def _median_ms(ask: Ask, x: Any, seconds: float) -> float:
    ask(x)
    spent: list[float] = []
    while len(spent) < CALLS[0] or (sum(spent) < seconds and len(spent) < CALLS[1]):
        began = time.perf_counter()
        ask(x)
        spent.append(time.perf_counter() - began)
    return 1000 * statistics.median(spent)


def _batches(x: Any) -> list[Any]:
    return [x[at : at + LARGEST_BATCH] for at in range(0, len(x), LARGEST_BATCH)]


def export(run: str, folder: Path) -> dict[str, Any]:
    """Write a run's files into `folder`; return what its network is, and each file's accuracy."""
    import fmnist

    wanted = [("onnx", "float32.onnx", []), ("onnx", "int8.onnx", ["--int8"])]
    facts = fmnist.open_run(run).read()
    if facts["recipe"]["network"] == "classic":
        wanted.append(("keras", "model.keras", []))
    for format, name, options in wanted:
        out = ["--out", str(folder / name), *options]
        command = [sys.executable, "-m", "fmnist", "export", run, "--format", format, *out]
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    test = load_dataset().split("test")
    right = {
        precision: fmnist.load_classifier(folder / f"{precision}.onnx").classes(test.images)
        for precision in ("float32", "int8")
    }
    return {
        "recipe": facts["recipe"]["name"],
        "seed": facts["seed"],
        "all_data": facts["all_data"],
        "parameters": facts["parameters"],
        "test_accuracy_of_run": fmnist.open_run(run).read_metrics()["splits"]["test"]["accuracy"],
        "test_accuracy": {p: float((said == test.labels).mean()) for p, said in right.items()},
        "bytes": {p: (folder / f"{p}.onnx").stat().st_size for p in right},
    }


def measure(
    runs: list[str], folders: list[Path], threads: list[int], rounds: int, seconds: float
) -> dict[tuple[int, int], Figures]:
    """Return the milliseconds of every round, by number of threads and of the run."""
    cells: dict[tuple[int, int], Figures] = {}
    for number in range(rounds):
        for count in threads:
            turns = [(0, "keras", str(folders[0] / "model.keras"))]
            for place, run in enumerate(runs):
                turns += [(place, "torch", run), (place, "onnx", str(folders[place]))]
            for place, kind, path in turns:
                arguments = "--once", kind, path, str(count), str(seconds)
                said = ask_process(__file__, *arguments, OMP_NUM_THREADS=str(count))
                figures = cells.setdefault((count, place), {})
                for engine, by_images in said.items():
                    for n, ms in by_images.items():
                        figures.setdefault(engine, {}).setdefault(int(n), []).append(ms)
        print(f"round {number + 1} of {rounds} done", file=sys.stderr, flush=True)
    return cells


def table(figures: Figures) -> dict[str, dict[str, Any]]:
    """Return, by engine and images in a call, milliseconds with their spread, and images/s."""
    return {
        engine: {
            str(n): {"ms": spread(ms), "images_per_second": round(1000 * n / statistics.median(ms))}
            for n, ms in by_images.items()
        }
        for engine, by_images in figures.items()
    }


def compare(classic: Figures, ours: Figures) -> dict[str, dict[str, Any]]:
    """Return how many times as fast as Keras' `classic` our classifier is, by its precision."""
    wanted = {
        "single image, Keras model(x) / classifier": ("Keras model(x)", 1),
        "single image, Keras predict / classifier": ("Keras predict", 1),
        "1,000 images, Keras predict / classifier": ("Keras predict", 1000),
        "10,000 images, Keras predict / classifier": ("Keras predict", 10_000),
    }
    return {
        what: {
            engine: ratios(classic[theirs][n], ours[engine][n])
            for engine in ours
            if engine.startswith("classifier")
        }
        for what, (theirs, n) in wanted.items()
    }


def results(runs: list[str], threads: list[int], rounds: int, seconds: float) -> dict[str, Any]:
    """Return the results file."""
    with tempfile.TemporaryDirectory() as folder:
        folders = [Path(folder, str(place)) for place in range(len(runs))]
        models = [export(run, into) for run, into in zip(runs, folders, strict=True)]
        if models[0]["recipe"].partition("-")[0] != "classic":
            sys.exit("the first run must be of classic: Keras is asked with its weights")
        cells = measure(runs, folders, threads, rounds, seconds)
    return {
        "what": "milliseconds of a call that classifies images, and images per second",
        "rounds": rounds,
        "seconds_of_a_figure": seconds,
        "models": models,
        "threads": {
            str(count): [
                {
                    "recipe": model["recipe"],
                    "test_accuracy": model["test_accuracy"],
                    "engines": table(cells[count, place]),
                    "ratios": compare(cells[count, 0], cells[count, place]),
                }
                for place, model in enumerate(models)
            ]
            for count in threads
        },
        **provenance("onnxruntime", "onnx", "keras"),
    }


def show(found: dict[str, Any]) -> None:
    """Print the results for a person."""
    for count, models in found["threads"].items():
        for model in models:
            accuracy = ", ".join(
                f"{100 * v:.2f} % in {p}" for p, v in model["test_accuracy"].items()
            )
            print(f"\n{model['recipe']}, threads: {count}; test accuracy {accuracy}")
            for engine, cells in model["engines"].items():
                calls = [f"{n}: {say(cell['ms'], ' ms')}" for n, cell in cells.items()]
                fastest = max(cell["images_per_second"] for cell in cells.values())
                print(f"  {engine:22s} {'; '.join(calls)}; at most {fastest:,} images/s")
            for what, engines in model["ratios"].items():
                for engine, figures in engines.items():
                    print(f"  {what} ({engine.split()[1]}): {say(figures)}")


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="*", help="run directories, the first of classic")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument(
        "--quick", action="store_true", help="one short round, to see that it works"
    )
    parser.add_argument("--out", type=Path)
    parser.add_argument("--once", nargs=4, metavar=("ENGINE", "PATH", "THREADS", "SECONDS"))
    chosen = parser.parse_args()
    if chosen.once:
        kind, path, threads, seconds = chosen.once
        print(json.dumps(measure_here(kind, path, int(threads), float(seconds))))
        return
    if not chosen.runs:
        parser.error("name a run of classic, and others to compare")
    rounds, seconds = (1, QUICK) if chosen.quick else (chosen.rounds, SECONDS)
    found = results(chosen.runs, chosen.threads, rounds, seconds)
    show(found)
    if chosen.out:
        write_results(chosen.out, found)


if __name__ == "__main__":
    main()
