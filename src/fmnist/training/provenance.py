"""What run.json says of a training: written when it starts, checked before it is taken up again."""

import logging
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from fmnist.data import Dataset
from fmnist.environment import OF_KERAS, git_commit, keras_backend, machine, versions
from fmnist.errors import DataError, RunError
from fmnist.models import make_network
from fmnist.recipes import Recipe, differing_fields
from fmnist.runs import Run
from fmnist.training.batches import epoch_lengths
from fmnist.training.device import Device, physical_cores, processor_settings

if TYPE_CHECKING:
    from fmnist.photos.folder import PhotoFolder

log = logging.getLogger("fmnist")


def starting_facts(
    named: str,
    recipe: Recipe,
    data: Dataset,
    seed: int,
    all_data: bool,
    engine: str,
    device: Device,
    photos: "PhotoFolder | None" = None,
) -> dict[str, Any]:
    """Return run.json as it stands before the first step; `named` is what one calls the recipe.

    Raises ModelError for a bad network, RunError where recipe or engine take no photos, DataError
    where these cannot be listed.
    """
    learning = data.indices("all" if all_data else "train")
    if photos is not None:
        _check_takes_photos(recipe, engine)
    count = 0 if photos is None else len(photos.read())
    threads = physical_cores()
    with processor_settings(threads):
        network = make_network(recipe.network)
    return {
        "named": named,
        "recipe": recipe.to_json(),
        "seed": seed,
        "engine": engine,
        "all_data": all_data,
        "argv": sys.argv,
        "started": now(),
        "finished": None,
        "state": "training",
        "resumed": 0,
        "versions": _versions(engine),
        "machine": machine(),
        "device": device.name,
        "precision": device.precision,
        "threads": threads,
        "data": {
            "sha256": data.sha256,
            "source": data.source,
            "validation_sha256": data.validation_sha256,
        },
        "git_commit": git_commit(),
        "photos": None if photos is None else photos.to_json(),
        "parameters": sum(p.numel() for p in network.parameters()),
        "steps": sum(epoch_lengths(recipe, len(learning) + recipe.strangers, count)),
        "seconds": {},
    }


def _check_takes_photos(recipe: Recipe, engine: str) -> None:
    if recipe.pruning is not None:
        raise RunError(
            f"recipe {recipe.name} leaves images out (pruning), which does not go with photos; "
            "use the recipe photo, or dataclasses.replace(recipe, pruning=None)"
        )
    if engine != "torch":
        raise RunError(f"the engine {engine} does not learn from photos; use torch")


def check_resumable(
    run: Run, recipe: Recipe, data: Dataset, device: str, engine: str | None
) -> None:
    """Raise RunError or DataError where going on would not continue the same training.

    Warns where it may not continue to the same bits: other versions, code or machine.
    """
    facts = run.read()
    differing = differing_fields(facts["recipe"], recipe.to_json())
    if differing:
        raise RunError(
            f"{run.folder} was started with another recipe than {recipe.name} is now "
            f"({', '.join(differing)} differ); start anew, or bring that recipe back"
        )
    if facts["data"]["sha256"] != data.sha256:
        raise DataError(f"{run.folder} was started on other data files than {data.folder} holds")
    if device not in ("auto", facts["device"]):
        raise RunError(
            f"{run.folder} was started on {facts['device']} and can only go on there; "
            "leave out --device"
        )
    if engine not in (None, facts["engine"]):
        raise RunError(
            f"{run.folder} was started with the engine {facts['engine']} and can only go on "
            "with it; leave out --engine"
        )
    before = {**facts["versions"], "commit": facts["git_commit"], **facts["machine"]}
    today = {**_versions(facts["engine"]), "commit": git_commit(), **machine()}
    changed = [
        f"{what} {was} -> {today.get(what)}"
        for what, was in before.items()
        if was != today.get(what)
    ]
    if changed:
        log.warning("%s: the weights may differ in bits", "; ".join(changed))


def _versions(engine: str) -> dict[str, str | None]:
    """Return the versions that decide what this engine makes."""
    if engine == "keras":
        return {**versions(), "keras_backend": keras_backend()}
    return {name: version for name, version in versions().items() if name not in OF_KERAS}


def now() -> str:
    """Return the time as ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
