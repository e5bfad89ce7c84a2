"""Most memory resident at once, in MiB: training each recipe, the Keras notebook, classifying.

    python benchmarks/memory.py runs/classic --out benchmarks/results/memory.json

The peak is what the kernel counted for the process when it ended (wait4). A training's is reached
in its first steps and in its evaluation, so an epoch stands for all; the notebook is stopped after
`--notebook-seconds`. "after" is the peak so far when a phase ended: what dominates is the phase in
which it rises. The run must be of `classic`, which Keras knows too; 10,000 images are classified.
"""

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rounds import provenance, say, spread, write_results

NOTEBOOK = Path(__file__).with_name("notebook.py")
LIMIT_MIB = 1536  # of training


def peak_mib() -> float:
    """Return this process's peak so far."""
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def train_once(recipe: str) -> Iterator[str]:
    """Train an epoch of a recipe and judge it; yield the name of each phase that ended."""
    import dataclasses

    from fmnist.data import load_dataset
    from fmnist.evaluation import evaluate
    from fmnist.recipes import RECIPES
    from fmnist.training import train

    yield "imports"
    data = load_dataset()
    yield "data"
    short = dataclasses.replace(RECIPES[recipe], epochs=1)
    with tempfile.TemporaryDirectory() as folder:
        run = train(short, data, out=Path(folder, "run"))
        yield "train"
        evaluate(run, data, recipe=short)
    yield "evaluate"


def classify_with_ours(file: str) -> Iterator[str]:
    """Classify the test images through the public call."""
    import fmnist

    images = fmnist.load_dataset().test_images
    classifier = fmnist.load_classifier(file)
    yield "imports"
    classifier.classes(images)
    yield "predict"


def classify_with_keras(file: str) -> Iterator[str]:
    """Classify the test images with stock Keras, scaled as the notebook does it."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import keras

    from fmnist.data import load_dataset

    images = load_dataset().test_images[..., None].astype("float32") / 255
    model = keras.saving.load_model(file)
    yield "imports"
    model.predict(images, verbose=0)
    yield "predict"


def classify_with_torch(run: str) -> Iterator[str]:
    """Classify the test images with PyTorch, in float32 and batches of 1,000."""
    from fmnist.data import load_dataset
    from fmnist.runs import open_run
    from fmnist.training.trained import ask

    images = load_dataset().test_images
    yield "imports"
    ask(open_run(run), images)
    yield "predict"


JOBS = {
    "train": train_once,
    "classifier": classify_with_ours,
    "keras": classify_with_keras,
    "torch": classify_with_torch,
}


def measure_process(command: list[str], seconds: float | None = None) -> tuple[float, str]:
    """Return the peak of a process in MiB, and what it printed; it is stopped after `seconds`.

    A child's figure begins at its parent's, so this script imports nothing heavy.
    """
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    timer = threading.Timer(seconds, process.terminate) if seconds else None
    if timer:
        timer.start()
    assert process.stdout is not None
    with process.stdout:
        said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if timer:
        timer.cancel()
    stopped = -signal.SIGTERM if timer else 0
    if process.returncode not in (0, stopped):
        sys.exit(f"{' '.join(command)} failed")
    return usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10), said


def measure_job(job: str, argument: str, rounds: int) -> dict[str, Any]:
    """Return the peaks of a job over several processes."""
    command = [sys.executable, __file__, "--once", job, argument]
    measured = [measure_process(command) for _ in range(rounds)]
    after = [json.loads(said.splitlines()[-1]) for _, said in measured]
    return {
        "peak_mib": spread([peak for peak, _ in measured]),
        "after": {phase: spread([one[phase] for one in after]) for phase in after[0]},
    }


def export(run: str, folder: Path) -> dict[str, Path]:
    """Write a run as files of every kind that is measured."""
    files = {}
    for name, format, options in (
        ("float32", "onnx", []),
        ("int8", "onnx", ["--int8"]),
        ("keras", "keras", []),
    ):
        files[name] = folder / f"{name}.{format}"
        command = [sys.executable, "-m", "fmnist", "export", run, "--format", format]
        command += ["--out", str(files[name]), *options]
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return files


def measure(run: str, recipes: list[str], rounds: int, notebook_seconds: float) -> dict[str, Any]:
    """Return the results file."""
    if notebook_seconds and not NOTEBOOK.exists():
        sys.exit(f"{NOTEBOOK} is missing; leave it out with --notebook-seconds 0")
    training = {recipe: measure_job("train", recipe, rounds) for recipe in recipes}
    if notebook_seconds:
        command = [sys.executable, str(NOTEBOOK)]
        peaks = [measure_process(command, notebook_seconds)[0] for _ in range(rounds)]
        training["the Keras notebook"] = {"peak_mib": spread(peaks)}
    with tempfile.TemporaryDirectory() as folder:
        files = export(run, Path(folder))
        inference = {
            "classifier float32": measure_job("classifier", str(files["float32"]), rounds),
            "classifier int8": measure_job("classifier", str(files["int8"]), rounds),
            "Keras predict": measure_job("keras", str(files["keras"]), rounds),
            "PyTorch float32": measure_job("torch", run, rounds),
        }
    return {
        "what": "peak resident memory in MiB",
        "rounds": rounds,
        "limit_of_training_mib": LIMIT_MIB,
        "training": training,
        "classifying 10,000 images": inference,
        **provenance("onnxruntime", "keras"),
    }


def main() -> int:
    """Measure, print, and write where `--out` says; 1 where a training is over the limit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", nargs="?", help="a run directory of classic")
    parser.add_argument("--recipes", nargs="*", help="[default: all]")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--notebook-seconds", type=float, default=60, help="0: leave it out")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--once", nargs=2, metavar=("JOB", "ARGUMENT"))
    chosen = parser.parse_args()
    if chosen.once:
        job, argument = chosen.once
        print(json.dumps({phase: peak_mib() for phase in JOBS[job](argument)}))
        return 0
    if not chosen.run:
        parser.error("name a run of classic")
    from fmnist.recipes import RECIPES

    recipes = list(RECIPES) if chosen.recipes is None else chosen.recipes
    results = measure(chosen.run, recipes, chosen.rounds, chosen.notebook_seconds)
    for kind in ("training", "classifying 10,000 images"):
        for name, figures in results[kind].items():
            after = ", ".join(f"{k} {v['median']:.0f}" for k, v in figures.get("after", {}).items())
            print(f"{kind}: {name}: {say(figures['peak_mib'], ' MiB')}; after {after}")
    if chosen.out:
        write_results(chosen.out, results)
    ours = [results["training"][recipe]["peak_mib"]["median"] for recipe in recipes]
    return int(max(ours, default=0) > LIMIT_MIB)


if __name__ == "__main__":
    sys.exit(main())
