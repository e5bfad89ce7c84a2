"""Each verb's result as a person reads it; the argument is what the verb prints with --json."""

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from fmnist.console import blocks, percent, print_table, printable, seconds
from fmnist.errors import PhotoError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fmnist.classifier import Guess, Prediction

PORTRAITS = 5  # so many pictures are shown large; of more, each is a line
BAR = 24  # characters of a certain guess
NOT_SURE = "not sure"


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


def print_portrait(
    path: str,
    answer: "Prediction | PhotoError",
    top: int | None,
    out: Console,
    drawn: "NDArray[np.uint8] | None" = None,
) -> None:
    """Print a picture beside bars of the `top` guesses (3) and advice; an error on stderr.

    It is shown as the network saw it, or as `drawn` (h, w, 3).
    """
    if isinstance(answer, PhotoError):
        _print_unread(path, answer)
        return
    said = [Text(printable(path), "bold", overflow="fold"), _verdict(answer), Text()]
    said += [_bar(guess) for guess in answer.top[: top or 3]]
    if answer.warnings:
        said += [
            Text(),
            *[Text(f"advice: {printable(each)}", "yellow") for each in answer.warnings],
        ]
    picture = blocks(answer.image if drawn is None else drawn, out)
    beside: RenderableType = Group(*said)
    if picture is not None:
        beside = Table.grid(padding=(0, 3, 0, 0))
        beside.add_row(picture, Group(*said))
    out.print(beside, Text(), highlight=False)


def _verdict(answer: "Prediction") -> Text:
    if answer.accepted:
        return Text(f"{answer.label}, {_chance(answer.probability)}", "bold green")
    return Text(f"{NOT_SURE}; the best guesses are:", "bold yellow")


def _bar(guess: "Guess") -> Text:
    full, eighths = divmod(round(8 * BAR * guess.probability), 8)
    bar = "█" * full + " ▏▎▍▌▋▊▉"[eighths].strip()
    return Text(f"{guess.label:<11}  {bar:<{BAR}}  {_chance(guess.probability):>7}", no_wrap=True)


def print_answer(
    path: str, answer: "Prediction | PhotoError", top: int | None, out: Console
) -> None:
    """Print what is said of a picture on one line: the answer, the file, guesses and advice.

    Guesses are shown where `top` asks for them, and three of them where the answer is not sure. An
    error goes to stderr.
    """
    if isinstance(answer, PhotoError):
        _print_unread(path, answer)
        return
    name = answer.label if answer.accepted else NOT_SURE
    text = Text(f"{name:<11}", "green" if answer.accepted else "yellow")
    text.append(f"  {_chance(answer.probability):>7}  ", "default").append(printable(path))
    remarks = [printable(each) for each in answer.warnings]
    if top is not None or not answer.accepted:
        guesses = answer.top[: top or 3]
        said = (f"{guess.label} {_chance(guess.probability)}" for guess in guesses)
        remarks.insert(0, ", ".join(said))
    if remarks:
        text.append(f"  ({'; '.join(remarks)})", "dim")
    out.print(text, soft_wrap=True, highlight=False)


def _print_unread(path: str, error: PhotoError) -> None:
    print(f"fmnist: {printable(path)}: {printable(str(error))}", file=sys.stderr, flush=True)


def _chance(probability: float) -> str:
    """Return 0.934 as "93 %": a photo's probability has no more digits that mean anything."""
    if probability >= 0.995:
        return "> 99 %"
    return "< 1 %" if probability < 0.005 else f"{100 * probability:.0f} %"


def print_findings(examination: Mapping[str, Any]) -> None:
    """Print what doctor looked at."""
    print_table(
        ["", "what", "found", "what to do"],
        [
            ["ok" if check["ok"] else "!!", check["what"], check["found"], check["advice"]]
            for check in examination["checks"]
        ],
    )
