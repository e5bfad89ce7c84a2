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
    """Print each split's numbers and classes, the temperature, and what the full suite found."""
    for name, judged in evaluation["splits"].items():
        _print_split(name, judged)
    print(f"temperature {evaluation['temperature']:.3f} ({evaluation['temperature_source']})")
    if evaluation.get("corruptions"):
        _print_corruptions(evaluation["corruptions"])
    if evaluation.get("outliers"):
        _print_outliers(evaluation["outliers"])
    if evaluation.get("speed"):
        _print_speed(evaluation["speed"])
    if evaluation["report"]:
        print(evaluation["report"])


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
    print(f"most confused: {confused}")
    answered = judged["selective"]["accuracy_at"].items()
    at = ", ".join(
        f"{percent(share)} of the surest {100 * float(at):.0f} %" for at, share in answered
    )
    print(f"when it may decline: right on {at}; AURC {judged['selective']['aurc']:.4f}")
    columns = ("loss", "brier", "calibration_error")
    rows = [
        [when, *[f"{part[column]:.4f}" for column in columns]]
        for when, part in (("as it is", judged), ("tempered", judged["calibrated"]))
    ]
    print_table(["probabilities", "loss", "Brier score", "calibration error"], rows)


def _print_corruptions(corruptions: Mapping[str, Any]) -> None:
    severities = (1, 2, 3, 4, 5)
    by_kind: dict[str, dict[Any, str]] = {}
    for row in corruptions["kinds"]:
        cells = by_kind.setdefault(row["kind"], {})
        cells[row["severity"]] = f"{100 * row['accuracy']:.1f}"
        if row["fashion_mnist_c"]:
            cells["usual"] = percent(row["accuracy"])
    rows = [
        [kind.replace("_", " "), cells["usual"], *[cells.get(each, "") for each in severities]]
        for kind, cells in by_kind.items()
    ]
    print_table(
        ["corruption", "Fashion-MNIST-C", *[f"severity {each}" for each in severities]],
        rows,
        f"corrupted test images: accuracy {percent(corruptions['mean_accuracy'])}, "
        f"mean corruption error {corruptions['mean_corruption_error']:.3f} "
        f"({corruptions['relative_to']}: 1)",
    )
    asked = {row["fashion_mnist_c"]: f"{row['images']:,}" for row in corruptions["kinds"]}
    print(f"of {asked[True]} images as Fashion-MNIST-C has it, of {asked[False]} else\n")


def _print_outliers(outliers: Mapping[str, Any]) -> None:
    rows = []
    for row in outliers["sets"]:
        for score, told in row["scores"].items():
            figures = [f"{told[key]:.4f}" for key in told] if told else ["says nothing", "", ""]
            rows.append([printable(row["name"]), score.replace("_", " "), *figures])
    title = f"telling {outliers['inliers']:,} test images from what is no clothes"
    print_table(["outliers", "by", "AUROC", "AUPR", "FPR at 95 % TPR"], rows, title)


def _print_speed(speed: Mapping[str, Any]) -> None:
    rows = [
        ["images a second", f"{speed['images_per_second']:,.0f} ({speed['batch_size']:,} at once)"],
        ["a single image", f"{speed['milliseconds_one_image']:.2f} ms"],
        [
            "on",
            (speed["device"] or "not known")
            + (f", {speed['threads']} threads" if speed["threads"] else ""),
        ],
    ]
    for key, unit in (("parameters", ""), ("multiply_adds", " an image"), ("file_bytes", "")):
        if speed[key] is not None:
            rows.append([key.replace("_", " "), f"{speed[key]:,}{unit}"])
    print_table(["", ""], rows, "speed")


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


def print_seeds(summary: Mapping[str, Any]) -> None:
    """Print each seed's result, and their distribution."""
    split = "test" if summary["test"] else "validation"
    rows = [
        [
            str(run["seed"]),
            percent(run[split]["accuracy"]),
            f"{run[split]['loss']:.4f}",
            seconds(run["seconds"]["train"]),
            run["run"],
        ]
        for run in summary["runs"]
        if run[split]
    ]
    print_table(["seed", f"{split} accuracy", "loss", "training", "run"], rows)
    if summary[split]:
        print(f"{split} accuracy {spread_of_accuracy(summary[split]['accuracy'])}")
    spent = [f"{name.replace('_', ' ')} {_span(span)}" for name, span in summary["seconds"].items()]
    print(f"seconds, median (least to most): {', '.join(spent)}")
    if summary["mixed"]:
        print(f"the seeds were not trained alike: {', '.join(summary['mixed'])} differ")
    print(summary["folder"])


def spread_of_accuracy(accuracy: Mapping[str, Any]) -> str:
    """Return "94.27 ± 0.05 % (n = 5), 95 % interval of the mean 94.21 to 94.33"."""
    if accuracy["sd"] is None:
        return f"{percent(accuracy['mean'])} (n = 1)"
    low, high = accuracy["interval"]
    return (
        f"{100 * accuracy['mean']:.2f} ± {100 * accuracy['sd']:.2f} % (sd, n = {accuracy['n']}), "
        f"95 % interval of the mean {100 * low:.2f} to {100 * high:.2f}"
    )


def _span(span: Mapping[str, float]) -> str:
    return f"{span['median']:.1f} ({span['least']:.1f} to {span['most']:.1f})"


def print_leaderboard(board: Mapping[str, Any]) -> None:
    """Print a row for each training or model, and under the table what makes it and its doubts."""
    from fmnist.reporting.leaderboard import cells, column_names, legend, remarks

    rows = [[*cells(row, board), row["machine"]] for row in board["rows"]]
    print_table([*column_names(board), "on"], rows)
    print(legend(board))
    for row in board["rows"]:
        print(printable(f"{row['name']}: {row['command']}"))
        if said := remarks(row):
            print(printable(f"  beware: {said}"))


def print_bench(result: Mapping[str, Any]) -> None:
    """Print what was assumed of a model, what is doubtful, its numbers, and where they lie."""
    notes = [[note["what"], note["value"], note["because"]] for note in result["assumed"]]
    print_table(["taken as", "", "because"], notes, f"{result['name']}: {result['target']}")
    for warning in result["warnings"]:
        print(f"WARNING: {printable(warning)}\n")
    if result["scores"] == "classes":
        _print_bare_classes(result["splits"]["test"])
        print(result["report"] or result["bench"])
    else:
        print_evaluation({**result, "report": result["report"] or result["bench"]})


def _print_bare_classes(judged: Mapping[str, Any]) -> None:
    """Print what can be said of a split of which only the predicted classes are known."""
    low, high = (100 * bound for bound in judged["accuracy_interval"])
    measures = ("precision", "recall", "f1")
    rows = [
        [row["name"], *[percent(row[measure]) for measure in measures]] for row in judged["classes"]
    ]
    title = f"test: accuracy {percent(judged['accuracy'])} (95 % interval {low:.2f} to {high:.2f})"
    print_table(["class", "precision", "recall", "F1"], rows, title)


def print_comparison(comparison: Mapping[str, Any]) -> None:
    """Print the plain sentence, what to beware of, and the numbers behind it."""
    print(printable(comparison["sentence"]))
    for warning in comparison["warnings"]:
        print(f"beware: {printable(warning)}")
    rows = [
        [group["name"], spread_of_accuracy(group["accuracy"]), ", ".join(group["runs"])]
        for group in comparison["groups"]
    ]
    print_table(["", f"{comparison['split']} accuracy", "runs"], rows)
    if len(comparison["pairs"]) > 1:
        for pair in comparison["pairs"]:
            print(printable(pair["sentence"]))
    if comparison["classes"]:
        _print_class_differences(comparison)
    if comparison["page"]:
        print(comparison["page"])


def _print_class_differences(comparison: Mapping[str, Any]) -> None:
    first, second = (group["name"] for group in comparison["groups"])
    rows = []
    for row in comparison["classes"]:
        interval = " to ".join(f"{100 * bound:+.2f}" for bound in row["interval"] or ())
        p = "" if row["p_adjusted"] is None else f"{row['p_adjusted']:.3f}"
        shares = [percent(row[f"{which}_accuracy"]) for which in ("first", "second")]
        rows.append([row["name"], *shares, f"{100 * row['difference']:+.2f}", interval, p])
    print_table(["class", first, second, "points", "95 % interval", "p of ten (Holm)"], rows)
    differing = comparison["differing"]
    print(
        f"they differ on {differing['count']:,} of {comparison['images']:,} images: only {first} "
        f"is right on {differing['only_first_right']:,}, only {second} on "
        f"{differing['only_second_right']:,}"
    )


def print_audit(audit: Mapping[str, Any]) -> None:
    """Print what an audit found, or the scores that were asked for."""
    if audit["scores"]:
        for scored in audit["scores"]:
            _print_clean_score(scored)
        print(audit["scores"][0]["bias"])
        return
    parts = ("train", "test", "across")
    rows = [
        [what, *[f"{audit[what][part]:,}" if part in audit[what] else "" for part in parts]]
        for what in ("suspects", "duplicates", "outliers")
    ]
    print_table(["", *parts], rows, f"audit by {audit['recipe']}")
    known = audit["known"]
    if known is not None:
        found, count = known["in_top_percent"], len(known["indices"])
        print(f"known wrong training labels among the first 1 % by doubt: {found} of {count}")
    print(f"time {seconds(audit['seconds'])}; page: {printable(audit['page'])}")


def _print_clean_score(scored: Mapping[str, Any]) -> None:
    names = {
        "official": "test split",
        "without_suspects": "without labels in doubt",
        "without_duplicates": "without repeats of training images",
        "clean": "without both",
        "flagged": "left out by that",
    }
    rows = []
    for key, name in names.items():
        part = scored[key]
        if part["accuracy"] is None:
            rows.append([name, "0", "", ""])
            continue
        low, high = (100 * bound for bound in part["accuracy_interval"])
        sd = "" if part["sd"] is None else f" ± {100 * part['sd']:.2f}"
        accuracy = f"{100 * part['accuracy']:.2f}{sd} %"
        rows.append([name, f"{part['images']:,}", accuracy, f"{low:.2f} to {high:.2f}"])
    seeds = f", mean and sd of {scored['runs']} seeds" if scored["runs"] > 1 else ""
    title = printable(scored["run"]) + seeds
    print_table(["", "images", "accuracy", "95 % interval"], rows, title)
    if scored["same_network"]:
        print("warning: its network is the one that flagged the images, so the bias is larger")
