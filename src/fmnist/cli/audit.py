"""The verb `audit`."""

from pathlib import Path
from typing import Annotated

import typer

from fmnist import tables
from fmnist.cli.options import DataDir, DeviceChoice, DeviceOption, Json, Quiet, set_log_level, show

OF_TRAINING = ("recipe", "folds", "seed", "device", "data_dir")


def audit(
    context: typer.Context,
    out: Annotated[
        Path, typer.Option(help="The audit's folder: a new one, or with --score one that is there.")
    ] = Path("audit"),
    recipe: Annotated[
        str,
        typer.Option(help="What judges the labels: a fast recipe, or your own as module:RECIPE."),
    ] = "sprint",
    folds: Annotated[int, typer.Option(min=2, max=100, help="So many networks are trained.")] = 5,
    seed: Annotated[int, typer.Option(min=0, max=2**31, help="Of folds and networks.")] = 0,
    score: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="RUN",
            help="Score the test logits of this run, bench or directory of seeds with and without "
            "the flagged images; repeatable.",
        ),
    ] = None,
    device: DeviceOption = DeviceChoice.auto,
    data_dir: DataDir = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Audit the data set: labels that look wrong, near-duplicates, outliers; a CSV and a page.

    With --score nothing is trained: the flags of an audit are used to score runs, beside the
    official score and not instead of it.

    Example: `fmnist audit --out audit`
    """
    if score:
        _check_unused(context)
    set_log_level(quiet)
    from fmnist.data import load_dataset
    from fmnist.evaluation.audit import audit as make_audit
    from fmnist.evaluation.audit import clean_test_score, open_audit

    if not score:
        data = load_dataset(data_dir)
        make_audit(data, out=out, recipe=recipe, folds=folds, seed=seed, device=device)
    audited = open_audit(out)
    scores = [clean_test_score(run, audited) for run in score or []]
    show({**audited.summary(), "scores": scores}, tables.print_audit, as_json)


def _check_unused(context: typer.Context) -> None:
    """Refuse options of the training that --score does without."""
    for name in OF_TRAINING:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            option = f"--{name.replace('_', '-')}"
            raise typer.BadParameter("--score trains nothing; leave it out", param_hint=option)
