"""The part of docs/audit.md that tells what the audit finds."""

from collections.abc import Mapping
from typing import Any


def found(results: Mapping[str, Any]) -> list[list[str]]:
    """Return what was found with each seed, a line each."""
    rows = [_line(audit) for audit in results["audits"]]
    return [["seed", "labels in doubt", "near-duplicate pairs", "known errors", "time"], *rows]


def _line(audit: Mapping[str, Any]) -> list[str]:
    pairs, known = audit["duplicates"], audit["known"]
    return [
        str(audit["seed"]),
        f"{audit['suspects']['train']:,} in train, {audit['suspects']['test']:,} in test",
        f"{pairs['train']} in train, {pairs['test']} in test, {pairs['across']} across",
        f"{known['in_top_percent']} of {len(known['indices'])} among the first 1 %, "
        f"the last on place {max(known['ranks']):,}",
        f"{audit['seconds'] / 60:.1f} min",
    ]


def planted(results: Mapping[str, Any]) -> list[list[str]]:
    """Return how many planted errors are among the first suspects."""
    noise = results["planted"]
    rows = [
        [f"{part['first']:,}", f"{100 * part['precision']:.1f} %", f"{100 * part['recall']:.1f} %"]
        for part in noise["at"]
    ]
    return [["first suspects", f"planted, of {noise['planted']:,}", "found of all planted"], *rows]


def scores(results: Mapping[str, Any]) -> list[list[str]]:
    """Return the score of each run on all test images and on fewer."""
    parts = ("official", "without_suspects", "without_duplicates", "clean", "flagged")
    head = ["run", "test split", "without labels in doubt", "without repeats", "without both"]
    rows = [
        [_name(scored), *[_score(scored[part]) for part in parts]] for scored in results["scores"]
    ]
    return [[*head, "of those left out"], *rows]


def _name(scored: Mapping[str, Any]) -> str:
    seeds = f", {scored['runs']} seeds" if scored["runs"] > 1 else ""
    return f"`{scored['run']}`{seeds}"


def _score(part: Mapping[str, Any]) -> str:
    if part["accuracy"] is None:
        return ""
    sd = "" if part["sd"] is None else f" ± {100 * part['sd']:.2f}"
    return f"{100 * part['accuracy']:.2f}{sd} %"


def tables(results: Mapping[str, Any]) -> list[list[list[str]]]:
    """Return all three, each with its header first."""
    return [found(results), planted(results), scores(results)]
