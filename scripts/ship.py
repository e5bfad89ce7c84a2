"""Make the classifier that comes with fmnist, from the data set and a folder of labelled photos.

    python scripts/ship.py --photos ../clothes --runs runs/ship

1. Recipe `photo` is trained on the train split and the photos of the senders called `train`. Its
   temperature comes from the validation split, and what is "not sure" from the senders called
   `fit`: the probability above which KEPT of its right answers lie. That its 8 bits answer as well
   is checked on validation, which it has not seen.
2. The recipe is trained again with several seeds, on all 60,000 images and the photos of both. The
   mean of these networks, with that temperature and probability, is written in 8 bits into the
   package. They are not asked about mirror images: shoes face both ways in their training.

Senders that are held out are not read. What was trained before in `--runs` is not trained again.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import fmnist
from fmnist.classifier.classifier import SHIPPED
from fmnist.data import STRANGER
from fmnist.errors import FmnistError, RunError
from fmnist.files import write_whole
from fmnist.photos.folder import PhotoFolder, prepare_photos
from fmnist.recipes import differing_fields
from fmnist.runs import Run

SENDERS = Path(__file__).parents[1] / "benchmarks" / "photo_senders.csv"
KEPT = 0.92  # of right answers; on other senders at least 0.9 are wanted
STRANGERS = ("Hat", "Skirt")  # what of no class is learned from; other kinds are left to judge by


def make(
    photos: Path, senders: Path, runs: Path, seeds: Sequence[int], out: Path
) -> dict[str, object]:
    """Return what the export says; the file is at `out`. Raises FmnistError."""
    data = fmnist.load_dataset()
    alone = PhotoFolder(photos, senders, ("train",), STRANGERS)
    first = trained(runs / "fit", alone, seeds[0], all_data=False)
    fmnist.evaluate(first, data, splits=["validation"])
    least = least_probability(first, PhotoFolder(photos, senders, ("fit",)))
    both = PhotoFolder(photos, senders, ("train", "fit"), STRANGERS)
    finals = [trained(runs / f"all-{seed}", both, seed, all_data=True) for seed in seeds]
    for final in finals:
        fmnist.evaluate(final, data, temperature_from=first.folder)
    with tempfile.TemporaryDirectory() as folder:
        fmnist.export(first, "onnx", Path(folder) / "first.onnx", data, int8=True, mirror=False)
        made = Path(folder) / "all.onnx"
        told = fmnist.export(
            finals[0],
            "onnx",
            made,
            data,
            int8=True,
            mirror=False,
            ensemble_with=finals[1:],
            least_probability=least,
        )
        write_whole(out, made.read_bytes())
    return {**told, "out": str(out), "least_probability": least}


def trained(folder: Path, photos: PhotoFolder, seed: int, *, all_data: bool) -> Run:
    """Return the finished run of a folder, trained now or gone on with if it is not there yet.

    Raises RunError for a run of that name that was made otherwise.
    """
    if not (folder / "run.json").exists():
        return fmnist.train("photo", seed=seed, all_data=all_data, photos=photos, out=folder)
    facts = fmnist.open_run(folder).read()
    differing = differing_fields(facts["recipe"], fmnist.RECIPES["photo"].to_json())
    chosen = {**(facts["photos"] or {}), "seed": facts["seed"], "all_data": facts["all_data"]}
    wanted = {
        "parts": list(photos.parts),
        "strangers": list(photos.strangers),
        "seed": seed,
        "all_data": all_data,
    }
    differing += [name for name, value in wanted.items() if chosen.get(name) != value]
    if differing:
        raise RunError(f"{folder} was made with other {', '.join(differing)}; name other --runs")
    return fmnist.train("photo", resume=folder)  # returns at once where it has finished


def least_probability(run: Run, photos: PhotoFolder) -> float:
    """Return the probability above which KEPT of a run's right answers for photos lie."""
    shown = prepare_photos(photos.read())
    probabilities = fmnist.load_classifier(run.folder).photo_probabilities(shown.images)
    right = (probabilities.argmax(axis=1) == shown.labels) & (shown.labels != STRANGER)
    return round(float(np.quantile(probabilities[right].max(axis=1), 1 - KEPT)), 4)


def main() -> None:
    """Make it and say what it is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, required=True, help="a folder with a labels.csv")
    parser.add_argument("--senders", type=Path, default=SENDERS, help="sender_id, part")
    parser.add_argument("--runs", type=Path, required=True, help="where the two runs lie")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=SHIPPED)
    chosen = parser.parse_args()
    try:
        print(make(chosen.photos, chosen.senders, chosen.runs, chosen.seeds, chosen.out))
    except FmnistError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
