"""Each verb's result as a person reads it; the argument is what the verb prints with --json."""

from collections.abc import Mapping
from typing import Any

from fmnist.console import percent, print_table, seconds


def print_data(facts: Mapping[str, Any]) -> None:
    """Print where the data set is, its hashes, and images per class and split."""
    splits = facts["splits"]
    print(f"{facts['folder']}  ({facts['source']})")
    print_table(["file", "SHA-256 of the content"], list(facts["sha256"].items()))
    classes = [
        [name, *[f"{split['classes'][name]:,}" for split in splits.values()]]
        for name in splits["test"]["classes"]
    ]
    totals = ["all ten", *[f"{split['images']:,}" for split in splits.values()]]
    names = ["train + validation" if name == "all" else name for name in splits]
    print_table(["images", *names], [*classes, totals])
    if "samples" in facts:
        print(f"samples: {facts['samples']}")


def print_recipes(listing: Mapping[str, Any]) -> None:
    """Print the recipes with what they cost and what they were measured at."""
    rows = []
    for recipe in listing["recipes"]:
        score = recipe["score"]
        figures = ["not yet measured", "", "", ""]
        if score is not None:
            mean, sd = 100 * score["accuracy"], 100 * score["sd"]
            figures = [
                f"{mean:.2f} ± {sd:.2f} % (n = {score['seeds']})",
                f"{score['loss']:.3f}",
                seconds(score["seconds"]),
                score["machine"],
            ]
        rows.append([recipe["name"], str(recipe["epochs"]), *figures])
    print_table(["recipe", "epochs", "test accuracy", "loss", "training", "on"], rows)


def print_training(summary: Mapping[str, Any]) -> None:
    """Print what a training came to, and what it cost."""
    rows = []
    for split in ("test", "validation"):
        judged = summary[split]
        if judged is None:
            continue
        accuracy = percent(judged["accuracy"])
        if judged.get("accuracy_interval"):
            low, high = (100 * bound for bound in judged["accuracy_interval"])
            accuracy += f"  (95 % interval {low:.2f} to {high:.2f})"
        rows += [[f"{split} accuracy", accuracy], [f"{split} loss", f"{judged['loss']:.4f}"]]
    if summary["temperature"] is not None:
        value = f"{summary['temperature']:.3f}  ({summary['temperature_source']})"
        rows.append(["temperature", value])
    phases = {name: seconds(spent) for name, spent in summary["seconds"].items()}
    total = phases.pop("total")
    if "to_predictions" in phases:
        rows.append(["data to predictions", phases.pop("to_predictions")])
    rows.append(["time", f"{total}: {', '.join(f'{n} {spent}' for n, spent in phases.items())}"])
    rows.append(["run", summary["run"]])
    if summary["report"]:
        rows.append(["report", summary["report"]])
    print_table(["", ""], rows, f"{summary['recipe']}, seed {summary['seed']}")


def print_evaluation(evaluation: Mapping[str, Any]) -> None:
    """Print each split's numbers and classes, and the temperature."""
    for name, judged in evaluation["splits"].items():
        _print_split(name, judged)
    print(f"temperature {evaluation['temperature']:.3f} ({evaluation['temperature_source']})")


def _print_split(name: str, judged: Mapping[str, Any]) -> None:
    low, high = judged["accuracy_interval"]
    measures = ("precision", "recall", "f1")
    print_table(
        ["class", "precision", "recall", "F1", "images"],
        [
            [row["name"], *[percent(row[measure]) for measure in measures], f"{row['images']:,}"]
            for row in judged["classes"]
        ],
        f"{name}: accuracy {percent(judged['accuracy'])} "
        f"(95 % interval {100 * low:.2f} to {100 * high:.2f}), loss {judged['loss']:.4f}, "
        f"top-2 {percent(judged['top2_accuracy'])}, "
        f"calibration error {judged['calibration_error']:.4f}",
    )
    pairs = judged["most_confused"][:3]
    confused = "; ".join(f"{p['true']} as {p['predicted']} {p['images']}" for p in pairs)
    print(f"most confused: {confused}\n")


def print_export(result: Mapping[str, Any]) -> None:
    """Print where the network was written, and how near its answers are to the run's."""
    print(result["out"])
    print(
        f"as {result['run']} on {result['images']:,} validation images: "
        f"{result['differing_labels']} labels differ, "
        f"logits by at most {result['largest_difference']:.1e}; "
        f"accuracy {percent(result['accuracy'])}, the run's {percent(result['accuracy_of_run'])}"
    )


def print_findings(examination: Mapping[str, Any]) -> None:
    """Print what doctor looked at."""
    print_table(
        ["", "what", "found", "what to do"],
        [
            ["ok" if check["ok"] else "!!", check["what"], check["found"], check["advice"]]
            for check in examination["checks"]
        ],
    )
