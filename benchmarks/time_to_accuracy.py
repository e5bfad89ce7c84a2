"""The race: `sprint` against the published Keras notebook, from the images to test predictions.

    python benchmarks/time_to_accuracy.py --out benchmarks/results/time_to_accuracy.json

Twenty trainings of `sprint` (seeds 0 to 19, all 60,000 images, last epoch) and three of the
notebook take turns, each in a process of its own. A sprint is timed from loading the images to the
predictions of the test split, whitening included (`seconds.to_predictions`); the notebook from
loading the images to the end of its ten epochs, each judged on the test images as its author has
it. Starting Python and importing is reported beside both. Then, in the same run: where the time of
a step goes, and what share it reaches of the fastest bfloat16 convolution found on this machine.
"""

import argparse
import json
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from recipe_scores import run_seed
from rounds import ask_process, provenance, say, spread, write_results

CLAIM = 0.9254  # of the published README
NOTEBOOK = Path(__file__).parent / "notebook.py"
# (channels in and out, pixels) of 3x3 convolutions, batch 256, among which the peak is looked for.
SHAPES = ((128, 14), (64, 14), (256, 7), (128, 7), (64, 7), (256, 3), (128, 3))


def in_turn(sprints: int, notebooks: int) -> Iterator[tuple[str, int]]:
    """Yield competitor and seed, the few spread evenly among the many."""
    place = [("notebook", seed, (seed + 0.5) / notebooks) for seed in range(notebooks)]
    place += [("sprint", seed, (seed + 0.5) / sprints) for seed in range(sprints)]
    for name, seed, _ in sorted(place, key=lambda entry: entry[2]):
        yield name, seed


def race(recipe: str, sprints: int, notebooks: int) -> dict[str, list[dict[str, Any]]]:
    """Run them all in turn."""
    results: dict[str, list[dict[str, Any]]] = {"sprint": [], "notebook": []}
    for name, seed in in_turn(sprints, notebooks):
        if name == "sprint":
            result = run_seed(recipe, seed)
            took, accuracy = result["seconds"]["to_predictions"], result["accuracy"]
        else:
            result = ask_process(str(NOTEBOOK), "--seed", str(seed))
            took, accuracy = result["seconds"]["train"], result["test_accuracy"]
        results[name].append(result)
        print(f"{name} {seed}: {100 * accuracy:.2f} % in {took:.1f} s", flush=True)
    return results


def summarise(results: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Return means, spreads and the ratio of the medians, with its bounds."""
    ours = [run["accuracy"] for run in results["sprint"]]
    seconds = [run["seconds"]["to_predictions"] for run in results["sprint"]]
    theirs = [run["seconds"]["train"] for run in results["notebook"]]
    sd = statistics.stdev(ours)
    return {
        "sprint": {
            "accuracy": {
                "mean": statistics.fmean(ours),
                "sd": sd,
                "n": len(ours),
                "mean_less_two_standard_errors": statistics.fmean(ours) - 2 * sd / len(ours) ** 0.5,
            },
            "loss": statistics.fmean(run["loss"] for run in results["sprint"]),
            "to_predictions_seconds": spread(seconds),
            "starting_seconds": spread([run["seconds"]["starting"] for run in results["sprint"]]),
        },
        "notebook": {
            "accuracy": spread([run["test_accuracy"] for run in results["notebook"]]),
            "loss": statistics.fmean(run["test_loss"] for run in results["notebook"]),
            "train_seconds": spread(theirs),
            "import_seconds": spread([run["seconds"]["imports"] for run in results["notebook"]]),
        },
        "ratio": {
            "of_medians": statistics.median(theirs) / statistics.median(seconds),
            "least": min(theirs) / max(seconds),
            "most": max(theirs) / min(seconds),
        },
    }


def fastest(call: Callable[..., object], *arguments: Any, repeats: int = 40) -> float:
    """Return the 10 % quantile of the seconds that a call takes."""
    taken = []
    for _ in range(repeats):
        began = time.perf_counter()
        call(*arguments)
        taken.append(time.perf_counter() - began)
    return statistics.quantiles(taken, n=10)[0]


def convolution_peak() -> dict[str, float]:
    """Return GFLOP/s of the forward pass of each of SHAPES in bfloat16."""
    import torch
    import torch.nn.functional as F

    found: dict[str, float] = {}
    for channels, side in SHAPES:
        x = torch.randn(256, channels, side, side).bfloat16()
        weight = torch.randn(channels, channels, 3, 3).bfloat16()
        x, weight = (part.contiguous(memory_format=torch.channels_last) for part in (x, weight))
        seconds = fastest(F.conv2d, x, weight, None, 1, 1)
        operations = 2 * 256 * side**2 * channels**2 * 9
        found[f"{channels} channels, {side}x{side}"] = round(operations / seconds / 1e9)
    return found


def step_anatomy(recipe_name: str) -> dict[str, Any]:
    """Return milliseconds of the parts of a step, its GFLOP, and the peak, in this process."""
    import torch

    from fmnist.data import load_dataset
    from fmnist.environment import physical_cores
    from fmnist.models import StartsFromImages, make_network
    from fmnist.recipes import RECIPES
    from fmnist.training.batches import Batches
    from fmnist.training.device import find_device, processor_settings
    from fmnist.training.loop import SAMPLE
    from fmnist.training.state import State

    recipe, device, split = RECIPES[recipe_name], find_device("cpu"), load_dataset().split("all")
    taken: dict[str, list[float]] = defaultdict(list)

    def timed(part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            began = time.perf_counter()
            result = function(*arguments, **options)
            taken[part].append(time.perf_counter() - began)
            return result

        return call

    with torch.no_grad(), processor_settings(physical_cores()):
        peak = convolution_peak()
    with processor_settings(physical_cores()):
        batches = Batches(split.images, split.labels, recipe, device.torch)
        network = make_network(recipe.network)
        if isinstance(network, StartsFromImages):
            network.start_from(torch.tensor(split.images[:SAMPLE]).unsqueeze(1) / 255)
        state = State(network, recipe, sum(batches.lengths), len(split), device)
        operations = trained_operations(network) * recipe.batch_size
        state.network.forward = timed("forward", state.network.forward)
        backward = torch.Tensor.backward
        torch.Tensor.backward = timed("backward", backward)  # type: ignore[method-assign]
        for optimizer in state.optimizers:
            name = f"optimizer {type(optimizer).__name__}"
            optimizer.step = timed(name, optimizer.step)  # type: ignore[method-assign]
        epoch = batches.epoch(0, 0, torch.zeros(len(split)))
        draw, advance = timed("data", lambda: next(epoch)), timed("step", state.advance)
        for _ in range(batches.lengths[0] - 1):
            advance(draw())
        torch.Tensor.backward = backward  # type: ignore[method-assign]
    parts = {part: 1000 * statistics.median(seconds[10:]) for part, seconds in taken.items()}
    inside = sum(value for part, value in parts.items() if part not in ("step", "data"))
    parts["rest"] = parts["step"] - inside
    parts["step"] += parts["data"]
    reached = operations / parts["step"] / 1e6
    return {
        "milliseconds": {part: round(value, 2) for part, value in parts.items()},
        "gflop_a_step": round(operations / 1e9, 2),
        "gflops": round(reached),
        "convolution_gflops": peak,
        "share_of_peak": round(reached / max(peak.values()), 3),
    }


def trained_operations(network: Any) -> int:
    """Return the operations that training one image takes in the layers that are trained.

    Two for each multiply-add, forward, for the weights and for the input; the first layer's input
    needs no gradient. Norms, pooling and a whitening that is not trained are not counted.
    """
    import torch
    from torch import nn

    counts: dict[nn.Module, int] = {}

    def count(layer: Any, inputs: Any, output: torch.Tensor) -> None:
        counts[layer] = layer.weight.numel() * output[0, 0].numel()

    layers = [layer for layer in network.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    with torch.no_grad():
        network.eval()(torch.zeros(1, 1, 28, 28))
    network.train()
    for hook in hooks:
        hook.remove()
    # Weights that are used without their layer's own forward pass make one product of matrices.
    multiply_adds = [counts.get(layer, layer.weight.numel()) for layer in layers]
    return 6 * sum(multiply_adds) - 2 * multiply_adds[0]


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--recipe", default="sprint")
    parser.add_argument("--sprints", type=int, default=20, help="seeds 0 .. N - 1")
    parser.add_argument("--notebooks", type=int, default=3)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--anatomy", metavar="RECIPE", help="only where a step's time goes")
    options = parser.parse_args()
    if options.anatomy:
        print(json.dumps(step_anatomy(options.anatomy)))
        return
    made = provenance()  # before the race makes the machine's load
    runs = race(options.recipe, options.sprints, options.notebooks)
    result = {"recipe": options.recipe, **summarise(runs), "runs": runs, **made}
    if options.out:  # now, for the next line may fail
        write_results(options.out, result)
    result["step"] = ask_process(__file__, "--anatomy", options.recipe)
    if options.out:
        write_results(options.out, result)
    ours, theirs, ratio = result["sprint"], result["notebook"], result["ratio"]
    least = ours["accuracy"]["mean_less_two_standard_errors"]
    print(f"{options.recipe}: {100 * ours['accuracy']['mean']:.2f} % ", end="")
    print(f"(less two standard errors {100 * least:.2f}), {say(ours['to_predictions_seconds'])} s")
    print(f"notebook: {100 * theirs['accuracy']['median']:.2f} %, {say(theirs['train_seconds'])} s")
    print(f"ratio {ratio['of_medians']:.1f} ({ratio['least']:.1f} to {ratio['most']:.1f})")
    print(f"{'over' if least >= CLAIM else 'UNDER'} the published {100 * CLAIM} %")


if __name__ == "__main__":
    main()
