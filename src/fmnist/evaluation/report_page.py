"""The page of what was judged: report.html, from what its directory holds."""

import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist.data import CLASS_NAMES, Dataset, SplitName, load_dataset
from fmnist.errors import DataError, RunError, missing_extra
from fmnist.evaluation.corruptions import corrupt
from fmnist.evaluation.embedding import read_embedding
from fmnist.evaluation.metrics import log_softmax
from fmnist.evaluation.peers import find_peers
from fmnist.files import write_whole
from fmnist.reporting import EmbeddingMap, Exhibits, Peer, confused, render, worst_mistakes
from fmnist.runs import Judged, Run, SplitLogits, open_judged

log = logging.getLogger("fmnist")

SHOWN_CORRUPTED = 0  # the test image that is shown under each corruption: an ankle boot


def report(judged: Judged | str | os.PathLike[str], data: Dataset | None = None) -> Path:
    """Write report.html from what the directory of a run or bench holds, and return its path.

    What the full suite measured is shown where it was run. Raises RunError if there is no
    evaluation yet, DataError if `data` is not what the model was judged on, MissingExtra without
    the libraries that draw it.
    """
    began = time.perf_counter()
    judged = judged if isinstance(judged, Judged) else open_judged(judged)
    data = data or load_dataset()
    _check_data(judged, data)
    metrics = judged.read_metrics()
    history = judged.read_history() if isinstance(judged, Run) else []
    try:
        page = render(judged.read(), history, metrics, _exhibits(judged, metrics, data))
    except ModuleNotFoundError as error:
        raise missing_extra(error) or error from error
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise RunError(
            f"what {judged.folder} holds is damaged ({type(error).__name__}: {error}); "
            f"{judged.how_to_judge()}"
        ) from error
    write_whole(judged.report, page.encode())
    if isinstance(judged, Run):
        judged.set_seconds(report=time.perf_counter() - began)
    return judged.report


def _exhibits(judged: Judged, metrics: dict[str, Any], data: Dataset) -> Exhibits:
    shown: SplitName = "test" if "test" in metrics["splits"] else "validation"
    saved, temperature = judged.read_logits(shown), metrics["temperature"]
    images = (data.test_images if shown == "test" else data.train_images)[saved.indices]
    told = (images, saved.labels, saved.logits, CLASS_NAMES)
    pairs = [(p["true"], p["predicted"]) for p in metrics["splits"][shown]["most_confused"]]
    # Bare classes are all as sure, so none is surest.
    has_confidence = metrics["splits"][shown]["loss"] is not None
    return Exhibits(
        mistakes=worst_mistakes(*told, temperature=temperature) if has_confidence else (),
        confused=confused(*told, pairs=pairs, temperature=temperature),
        corrupted=_corrupted(metrics.get("corruptions"), data),
        embedding=_map(judged, saved, images, temperature) if shown == "test" else None,
        peers=_peers(judged),
    )


def _peers(judged: Judged) -> Sequence[Peer]:
    """Return what the page compares the model with; none where something beside it is odd."""
    try:
        return find_peers(judged)
    except (RunError, LookupError, TypeError, ValueError) as error:
        log.warning(
            "report.html compares with no other model: what lies beside %s cannot be read (%s: %s)",
            *(judged.folder, type(error).__name__, error),
        )
        return ()


def _corrupted(
    corruptions: dict[str, Any] | None, data: Dataset
) -> dict[tuple[str, int | None], NDArray[np.uint8]]:
    """Return one test image under each corruption that was measured."""
    image = data.test_images[SHOWN_CORRUPTED : SHOWN_CORRUPTED + 1]
    if corruptions is None:
        return {}
    return {
        (kind["kind"], kind["severity"]): corrupt(
            image, kind["kind"], kind["severity"], seed=corruptions["seed"]
        )[0]
        for kind in corruptions["kinds"]
    }


def _map(
    judged: Judged, saved: SplitLogits, images: NDArray[np.uint8], temperature: float
) -> EmbeddingMap | None:
    """Return the map of the test images where the full suite laid them out."""
    embedding = read_embedding(judged)
    if embedding is None or len(embedding.points) != len(images):
        return None
    return EmbeddingMap(
        points=embedding.points,
        images=images,
        labels=saved.labels,
        predicted=saved.logits.argmax(axis=1).astype(np.uint8),
        confidence=np.exp(log_softmax(saved.logits / np.float32(temperature)).max(axis=1)),
        made_of=embedding.made_of,
    )


def _check_data(judged: Judged, data: Dataset) -> None:
    """Raise DataError if the model was judged on other files: its pictures would be others."""
    if judged.read()["data"]["sha256"] != data.sha256:
        did = "was trained on" if isinstance(judged, Run) else "was judged on"
        raise DataError(
            f"{judged.folder} {did} other data files than {data.folder} holds; "
            "name theirs with --data-dir"
        )
