"""How well photos are classified: on senders that nothing was tuned on, and beside others' ways.

    python benchmarks/photos.py --photos ../shared/photos --baseline classic.onnx \
        --out benchmarks/results/photos.json

`--photos` is a folder with a labels.csv: path, class_index (empty: none of the ten classes),
sender_id, source_label; the last two may be missing. Photos of one sender resemble each other, so
intervals come from drawing senders, not photos, with replacement (the cluster bootstrap: A. C.
Davison, D. V. Hinkley, "Bootstrap Methods and their Application", 1997, section 3.8). Without
sender_id each photo counts as a sender of its own.

`--simulated` photos are made of images of the test split, which is read here to report on it only.
"""

import argparse
import dataclasses
import hashlib
import io
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import fmnist
from fmnist.classifier import Classifier, Prediction
from fmnist.classifier.classifier import SHIPPED
from fmnist.errors import DataError, FmnistError, PhotoError
from fmnist.evaluation.metrics import confusion_matrix, wilson_interval
from fmnist.photos.folder import LabelledPhoto, read_labels, read_parts
from photo_simulator import KINDS, simulate
from rounds import provenance, write_results

SENDERS = Path(__file__).with_name("photo_senders.csv")
HELD_OUT = "held-out"
PARTS = (HELD_OUT, "fit", "train", "all")
ROUNDS, SEED = 2000, 0  # of the resampling
STRANGER = -2  # the label of what is none of the ten classes
NO_ANSWER = -1  # the class of what cannot be read: wrong, whatever it shows
MODEL, BASELINE = "the model", "the baseline network"
OURS, WEB_FORM, BEST_PUBLIC = "fmnist.photos", "the seed's web form", "the best public one"

Source: TypeAlias = Path | bytes
Bools: TypeAlias = NDArray[np.bool_]
Floats: TypeAlias = NDArray[np.float64]
Counts: TypeAlias = NDArray[np.int64]
Score: TypeAlias = Callable[[Counts], Floats]  # how often each photo was drawn -> score of a round


# The photos


def read_photos(folder: Path, senders: Path, part: str) -> list[LabelledPhoto]:
    """Return the photos of a folder that belong to a part of the senders.

    Who is not in the file `senders` is held out too: nothing was tuned on his photos. Without that
    file or without sender_id there is but one part. Raises DataError for files that are wrong.
    """
    photos = read_labels(folder)
    own = all(photo.sender == str(photo.path.relative_to(folder)) for photo in photos)
    if part != "all" and senders.exists() and not own:
        parts = read_parts(senders)
        photos = [photo for photo in photos if parts.get(photo.sender, HELD_OUT) == part]
    if all(photo.class_index is None for photo in photos):
        raise DataError(f"{folder}/labels.csv has no photo of a class in the part {part}")
    return photos


# Others' ways from a photo to 28x28


def web_form(source: Source) -> NDArray[np.uint8]:
    """Return a photo (28, 28) as the seed's web form made it: squashed by Pillow's default, grey.

    It is not inverted, and the EXIF orientation is not heeded.
    """
    with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as photo:
        return np.asarray(photo.resize((28, 28)).convert("L"))


def best_public(source: Source) -> NDArray[np.uint8]:
    """Return a photo (28, 28) as the best public way made it: squashed, perhaps inverted.

    It averages over areas, takes ITU-R BT.601 luma, and inverts where a border of four pixels is
    brighter than what is inside; the border's corners count twice.
    """
    with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as photo:
        small = photo.convert("RGB").resize((28, 28), Image.Resampling.BOX)
    grey = np.asarray(small) @ np.array([0.299, 0.587, 0.114])
    border = np.concatenate([grey[:4], grey[-4:], grey[:, :4].T, grey[:, -4:].T])
    inverted = 255 - grey if border.mean() > grey[4:-4, 4:-4].mean() else grey
    result: NDArray[np.uint8] = np.round(inverted).astype(np.uint8)
    return result


OTHER_WAYS: dict[str, Callable[[Source], NDArray[np.uint8]]] = {
    WEB_FORM: web_form,
    BEST_PUBLIC: best_public,
}


def try_way(way: Callable[[Source], NDArray[np.uint8]], source: Source) -> NDArray[np.uint8] | None:
    """Return a photo (28, 28), or None where it cannot be read."""
    try:
        return way(source)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


# Answers


@dataclass(frozen=True)
class Answers:
    """What was said of n photos: by the model, and the classes by each network behind each way."""

    probability: Floats  # (n,)
    accepted: Bools  # (n,)
    seconds: Floats  # (n,), preparing and predicting
    classes: dict[tuple[str, str], Counts]  # (network, way): (n,), NO_ANSWER where not readable

    @property
    def ours(self) -> Counts:
        """The classes (n,) that the model gave."""
        return self.classes[MODEL, OURS]


def ask_all(sources: Sequence[Source], networks: Mapping[str, Classifier]) -> Answers:
    """Return the answers for photos; the model is asked photo by photo, as users do it."""
    ask(sources[0], networks[MODEL])  # for what only a first call takes
    said = [ask(source, networks[MODEL]) for source in sources]
    images = {OURS: [answer.image if answer else None for answer, _ in said]}
    for name, way in OTHER_WAYS.items():
        images[name] = [try_way(way, source) for source in sources]
    classes = {
        (name, way): classes_of(taken, network)
        for name, network in networks.items()
        for way, taken in images.items()
    }
    # What the model says of a photo is what `predict` said, which asks about more than the image.
    said_of = [answer.class_index if answer else NO_ANSWER for answer, _ in said]
    classes[MODEL, OURS] = np.array(said_of)
    return Answers(
        probability=np.array([answer.probability if answer else 0.0 for answer, _ in said]),
        accepted=np.array([answer is not None and answer.accepted for answer, _ in said]),
        seconds=np.array([seconds for _, seconds in said]),
        classes=classes,
    )


def ask(source: Source, model: Classifier) -> tuple[Prediction | None, float]:
    """Return the answer for a photo, None where it cannot be read, and the seconds it took."""
    began = time.perf_counter()
    try:
        answer = model.predict(source)
    except PhotoError:
        answer = None
    if answer is not None:  # the steps of a thousand photos need not be kept
        answer = dataclasses.replace(answer, prepared=None)
    return answer, time.perf_counter() - began


def classes_of(images: Sequence[NDArray[np.uint8] | None], network: Classifier) -> Counts:
    """Return the classes (n,) of images (28, 28); NO_ANSWER for None."""
    classes = np.full(len(images), NO_ANSWER)
    there = [at for at, image in enumerate(images) if image is not None]
    if there:
        stack = np.stack([image for image in images if image is not None])
        classes[there] = network.classes(stack)
    return classes


# Scores, resampled by sender


def draw_senders(senders: Sequence[str]) -> Counts:
    """Return how often each photo is drawn (ROUNDS, n): in each round as many senders as there are.

    All photos of a sender are drawn together.
    """
    numbers, own = np.unique(list(senders), return_inverse=True)
    count = len(numbers)
    draws = np.random.default_rng(SEED).multinomial(count, [1 / count] * count, size=ROUNDS)
    result: Counts = draws[:, own]
    return result


def share(yes: Bools) -> Score:
    """Return the score that is the share of photos which are `yes` (n,)."""
    return lambda drawn: divide(drawn @ yes, drawn.sum(axis=1))


def macro_recall(right: Bools, labels: Counts) -> Score:
    """Return the score that is the mean over classes, those that were drawn, of their recall."""

    def score(drawn: Counts) -> Floats:
        classes = [labels == label for label in np.unique(labels)]
        recalls = [divide(drawn @ (right & one), drawn @ one) for one in classes]
        result: Floats = np.nanmean(recalls, axis=0)
        return result

    return score


def divide(part: Counts, whole: Counts) -> Floats:
    """Return part / whole, NaN where there is no whole."""
    result: Floats = np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)
    return result


def measured(score: Score, senders: Sequence[str]) -> dict[str, Any]:
    """Return a score and its 95 % interval, from the percentiles; None for a single sender."""
    value = float(score(np.ones((1, len(senders)), np.int64))[0])
    if len(set(senders)) < 2:
        return {"value": value, "interval": None}
    interval = np.nanpercentile(score(draw_senders(senders)), (2.5, 97.5))
    return {"value": value, "interval": [float(bound) for bound in interval]}


def less(one: Score, other: Score) -> Score:
    """Return the score that is a paired difference: both are of the same draws."""
    return lambda drawn: one(drawn) - other(drawn)


def area_under_curve(wanted: Floats, unwanted: Floats) -> float | None:
    """Return how often a wanted value is above an unwanted one, ties counted half; None for none.

    That is the area under the ROC curve (J. A. Hanley, B. J. McNeil, Radiology 143, 1982, p. 29).
    """
    if not len(wanted) or not len(unwanted):
        return None
    difference = wanted[:, None] - unwanted[None, :]
    return float((difference > 0).mean() + (difference == 0).mean() / 2)


# The results file


def judge(
    photos: Sequence[LabelledPhoto],
    answers: Answers,
    names: Sequence[str],
    learned: Sequence[str] = (),
) -> dict[str, Any]:
    """Return what the results file says of the photos.

    `learned` are the kinds of what is no class that the model learned to be unsure about.
    """
    labels = labels_of(photos)
    known = labels != STRANGER
    senders = [photo.sender for photo in photos if photo.class_index is not None]
    classes, truth = answers.ours[known], labels[known]
    read = classes != NO_ANSWER
    return {
        "photos": len(senders),
        "senders": len(set(senders)),
        "unreadable": int((answers.ours == NO_ANSWER).sum()),
        "accuracy": measured(share(classes == truth), senders),
        "mean_probability": float(answers.probability[known].mean()),
        "macro_recall": measured(macro_recall(classes == truth, truth), senders),
        "classes": recalls(classes, truth, names),
        "confusion": confusion_matrix(classes[read], truth[read]).tolist(),
        "seconds": {
            "median": float(f"{np.median(answers.seconds):.4g}"),
            "p95": float(f"{np.percentile(answers.seconds, 95):.4g}"),
        },
        "selective": selective(photos, answers, learned),
        "others": others(answers, known, truth, senders),
    }


def labels_of(photos: Sequence[LabelledPhoto]) -> Counts:
    """Return the labels (n,), 0..9 or STRANGER."""
    return np.array(
        [STRANGER if photo.class_index is None else photo.class_index for photo in photos]
    )


def recalls(classes: Counts, truth: Counts, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return photos and recall of each class that is there."""
    return [
        {
            "index": int(label),
            "name": names[label],
            "photos": int((truth == label).sum()),
            "recall": float((classes[truth == label] == label).mean()),
        }
        for label in np.unique(truth)
    ]


def selective(
    photos: Sequence[LabelledPhoto], answers: Answers, learned: Sequence[str]
) -> dict[str, Any]:
    """Return what "not sure" does: to right and wrong answers, and to strangers by kind."""
    labels = labels_of(photos)
    senders = np.array([photo.sender for photo in photos])
    kinds = np.array([photo.kind or "unnamed" for photo in photos])
    strange, right = labels == STRANGER, answers.ours == labels
    refused = ~answers.accepted

    def over(photos_of: Bools, yes: Bools) -> dict[str, Any] | None:
        if not photos_of.any():
            return None
        figures = measured(share(yes[photos_of]), senders[photos_of].tolist())
        return {"photos": int(photos_of.sum()), **figures}

    return {
        "accepted": over(~strange, answers.accepted),
        "right_answers_kept": over(right, answers.accepted),
        "wrong_answers_refused": over(~strange & ~right, refused),
        "strangers_refused": over(strange, refused),
        "strangers_of_unknown_kinds_refused": over(strange & ~np.isin(kinds, learned), refused),
        "kinds_learned": list(learned),
        "strangers_refused_by_kind": {
            str(kind): over(strange & (kinds == kind), refused)
            for kind in np.unique(kinds[strange])
        },
        "area_under_curve": area_under_curve(
            answers.probability[right], answers.probability[strange]
        ),
    }


def others(
    answers: Answers, known: Bools, truth: Counts, senders: Sequence[str]
) -> list[dict[str, Any]]:
    """Return the scores of each network behind each way, and how far the model is ahead of it."""
    ours = answers.ours[known] == truth
    rows = []
    for (network, way), classes in answers.classes.items():
        right = classes[known] == truth
        scores = {"accuracy": share(right), "macro_recall": macro_recall(right, truth)}
        best = {"accuracy": share(ours), "macro_recall": macro_recall(ours, truth)}
        row: dict[str, Any] = {"network": network, "way": way}
        for name, score in scores.items():
            row[name] = measured(score, senders)
            row[f"model_ahead_in_{name}"] = measured(less(best[name], score), senders)
        rows.append(row)
    return [row for row in rows if (row["network"], row["way"]) != (MODEL, OURS)]


def judge_simulated(networks: Mapping[str, Classifier], count: int) -> dict[str, Any]:
    """Return accuracies on `count` test images, as they are and on each kind of background."""
    data = fmnist.load_dataset()
    chosen = np.random.default_rng(SEED).permutation(len(data.test_labels))[:count]
    images, labels = data.test_images[chosen], data.test_labels[chosen].astype(np.int64)
    untouched = {
        name: proportion(network.classes(images) == labels) for name, network in networks.items()
    }
    kinds: dict[str, Any] = {}
    for number, kind in enumerate(KINDS):
        seeds = [np.random.default_rng((SEED, number, at)) for at in chosen.tolist()]
        photos = [simulate(*row) for row in zip(images, [kind] * len(seeds), seeds, strict=True)]
        answers = ask_all(photos, networks)
        right = answers.ours == labels
        kinds[kind] = {
            "right_answers_kept": proportion(answers.accepted[right]),
            "accuracy": [
                {"network": network, "way": way, **proportion(classes == labels)}
                for (network, way), classes in answers.classes.items()
            ],
        }
    return {
        "images": "of the test split, read here to report on it only",
        "count": len(chosen),
        "untouched": untouched,
        "backgrounds": kinds,
    }


def judge_test(model: Classifier) -> dict[str, Any]:
    """Return the accuracy on Fashion-MNIST's whole test split, and the share kept of the right."""
    data = fmnist.load_dataset()
    probabilities = model.probabilities(data.test_images)
    right = probabilities.argmax(axis=1) == data.test_labels
    accepted = probabilities.max(axis=1) >= model.least_probability
    return {
        "images": len(right),
        "accuracy": proportion(right),
        "right_answers_kept": proportion(accepted[right]),
    }


def judge_outliers(model: Classifier, file: Path | None) -> dict[str, Any]:
    """Return the shares refused of images of no class: a file's, noise, and empty ones."""
    noise = np.random.default_rng(SEED).integers(0, 256, (1000, 28, 28)).astype(np.uint8)
    sets = {"noise": noise}
    if file is not None:
        sets[file.stem] = read_outliers(file)
    return {
        name: {
            "images": len(images),
            **proportion(model.probabilities(images).max(axis=1) < model.least_probability),
        }
        for name, images in sets.items()
    }


def read_outliers(file: Path) -> NDArray[np.uint8]:
    """Return the images (n, 28, 28) uint8 that a file has as x."""
    try:
        with np.load(file, allow_pickle=False) as arrays:
            images: NDArray[np.uint8] = arrays["x"]
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{file} has no images named x: {error}") from error
    return images


def proportion(yes: Bools) -> dict[str, Any]:
    """Return a share with its Wilson interval; of none, None."""
    if not len(yes):
        return {"value": None, "interval": None}
    return {"value": float(yes.mean()), "interval": list(wilson_interval(int(yes.sum()), len(yes)))}


def tell(network: Classifier, file: Path | None) -> dict[str, Any]:
    """Return what a results file says of a network."""
    known = ("network", "seed", "git_commit", "least_probability", "temperature", "accuracy_of_run")
    facts = {name: network.facts[name] for name in known if name in network.facts}
    if file is None or file.is_file():
        facts["sha256"] = hashlib.sha256((file or SHIPPED).read_bytes()).hexdigest()
    return {"file": str(file) if file else "shipped", **facts}


# What is printed


def percent(figures: Mapping[str, Any] | None) -> str:
    """Return a share as a person reads it: "71.4 % (66.0 to 76.1)"."""
    if figures is None or figures["value"] is None:
        return "-"
    bounds = figures["interval"]
    spread = f" ({100 * bounds[0]:.1f} to {100 * bounds[1]:.1f})" if bounds else ""
    return f"{100 * figures['value']:.1f} %{spread}"


def lines(results: Mapping[str, Any], names: Sequence[str]) -> Iterator[str]:
    """Yield the results file as a person reads it."""
    found = results["real"]
    yield f"{results['part']}: {found['photos']} photos of {found['senders']} senders"
    yield f"left out      {results['photos_of_other_parts']} photos of other parts"
    yield f"accuracy      {percent(found['accuracy'])}"
    yield f"macro recall  {percent(found['macro_recall'])}"
    yield "a photo       {median:.3f} s, 95 % in {p95:.3f} s".format(**found["seconds"])
    for each in found["classes"]:
        yield f"  {each['name']:12} {100 * each['recall']:5.1f} % of {each['photos']}"
    yield "rows: true class; columns: the answer, 0 to 9"
    for name, row in zip(names, found["confusion"], strict=True):
        yield f"  {name:12}" + "".join(f"{count:5}" for count in row)
    chosen = found["selective"]
    for name in (
        "accepted",
        "right_answers_kept",
        "wrong_answers_refused",
        "strangers_refused",
        "strangers_of_unknown_kinds_refused",
    ):
        yield f"{name.replace('_', ' '):22} {percent(chosen[name])}"
    for kind, figures in chosen["strangers_refused_by_kind"].items():
        yield f"  {kind:20} {percent(figures)} of {figures['photos']}"
    if chosen["area_under_curve"] is not None:
        yield f"area under the curve   {chosen['area_under_curve']:.3f}"
    for row in found["others"]:
        yield f"{row['network']} behind {row['way']}:"
        for score in ("accuracy", "macro_recall"):
            ahead = percent(row[f"model_ahead_in_{score}"])
            yield f"  {score.replace('_', ' '):12} {percent(row[score])}; the model less it {ahead}"
    test = results["test"]
    yield f"{test['images']} test images: {percent(test['accuracy'])}"
    for name, figures in results["outliers"].items():
        yield f"refused of {figures['images']} {name}: {percent(figures)}"
    if results["simulated"]:
        yield from lines_of_simulated(results["simulated"])


def lines_of_simulated(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield the accuracies on simulated photos as a person reads them."""
    for network, figures in found["untouched"].items():
        yield f"{found['count']} test images as they are, {network}: {percent(figures)}"
    for kind, figures in found["backgrounds"].items():
        for row in figures["accuracy"]:
            yield f"  {kind:10} {row['network']} behind {row['way']}: {percent(row)}"


def measure(chosen: argparse.Namespace) -> dict[str, Any]:
    """Return the results file."""
    networks = {MODEL: fmnist.load_classifier(chosen.model)}
    if chosen.baseline:
        networks[BASELINE] = fmnist.load_classifier(chosen.baseline)
    photos = read_photos(chosen.photos, chosen.senders, chosen.part)
    answers = ask_all([photo.path for photo in photos], networks)
    known_photos = networks[MODEL].facts.get("photos") or {}
    learned = known_photos.get("strangers") or ()
    simulated = judge_simulated(networks, chosen.simulated) if chosen.simulated else None
    files = {MODEL: chosen.model, BASELINE: chosen.baseline}
    return {
        "what": "share of photos classified right; intervals of 95 %, resampled by sender",
        "part": chosen.part,
        "photos_of_other_parts": len(read_labels(chosen.photos)) - len(photos),
        "resampling": {"rounds": ROUNDS, "seed": SEED},
        "networks": {name: tell(network, files[name]) for name, network in networks.items()},
        "test": judge_test(networks[MODEL]),
        "real": judge(photos, answers, networks[MODEL].class_names, learned),
        "outliers": judge_outliers(networks[MODEL], chosen.outliers),
        "simulated": simulated,
        **provenance("onnxruntime", "opencv-python-headless", "pillow"),
    }


def main() -> None:
    """Measure, print, and write where `--out` says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, required=True, help="a folder with a labels.csv")
    parser.add_argument(
        "--senders", type=Path, default=SENDERS, help="sender_id, part: train, fit or held-out"
    )
    parser.add_argument("--part", choices=PARTS, default=PARTS[0])
    parser.add_argument("--model", type=Path, help="a run or a file [default: the shipped one]")
    parser.add_argument("--baseline", type=Path, help="a file, exported from a run of classic")
    parser.add_argument("--outliers", type=Path, help="an .npz with images of no class, as x")
    parser.add_argument("--simulated", type=int, default=1000, help="photos of each background")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    try:
        results = measure(chosen)
    except FmnistError as error:
        sys.exit(str(error))
    print(*lines(results, fmnist.CLASS_NAMES), sep="\n")
    if chosen.out:
        write_results(chosen.out, results)


if __name__ == "__main__":
    main()
