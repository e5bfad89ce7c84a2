"""Recipes: named, frozen experiments. Adding one is adding one value to RECIPES.

A recipe says everything that decides the weights except the seed: the network, how it is
optimised, how the images are varied, for how long. It knows nothing of PyTorch; a network is named
by its key in `fmnist.models.NETWORKS`, or given as a callable that makes one.

Their values were chosen on the validation split; docs/log.md tells how, and when a test score had
been seen before. The scores are test accuracies of the last epoch, trained on all 60,000 images,
over the seeds named in the results file.
"""

import dataclasses
import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fmnist.errors import RunError
from fmnist.imports import import_named


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma & Ba, arXiv 1412.6980) on every parameter."""

    learning_rate: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-7  # Keras' default; PyTorch's is 1e-8


@dataclass(frozen=True)
class Muon:
    """Muon (K. Jordan, 2024) on the convolution filters, Adam on all the rest."""

    learning_rate: float  # of the filters, whose updates are orthogonal matrices
    momentum: float
    other_learning_rate: float  # of norms, biases, the last layer, convolutions of one channel
    other_beta1: float = 0.9
    other_beta2: float = 0.95


@dataclass(frozen=True)
class Augmentation:
    """How training images are varied, anew each epoch."""

    flip: bool = False  # left-right: half of the images in an epoch, the others in the next
    shift: int = 0  # up to so many pixels each way, zeros coming in
    cutout: int = 0  # side, px, of a square made 0 around a random pixel (arXiv 1708.04552)
    photo_defects: bool = False  # what photos and their cut-outs suffer (training/defects.py)


@dataclass(frozen=True)
class Pruning:
    """Leave most easy images out of the epochs after the first.

    Easy are the `easy` share of all images with the least loss when last seen; of them a share of
    `kept`, drawn anew each epoch, is shown and counts 1 / kept times, so that the gradients of an
    epoch add up to those of all images in the mean: InfoBatch (Z. Qin et al., ICLR 2024, arXiv
    2303.04947, section 3), with the threshold at a quantile of the losses instead of their mean,
    so that epochs have a known length.
    """

    easy: float
    kept: float
    whole_last: bool = True  # the last epoch shows all images again, as the paper has it


@dataclass(frozen=True)
class Score:
    """What a recipe was measured at; every figure stands in `results` (benchmarks/results/)."""

    accuracy: float  # mean test accuracy, 0..1
    sd: float  # standard deviation over seeds
    loss: float  # mean test cross-entropy
    seeds: int
    seconds: float  # median of the training phase
    machine: str
    results: str


@dataclass(frozen=True)
class Recipe:
    """One experiment; see the module's first lines."""

    name: str
    network: str | Callable[[], Any]
    epochs: int
    batch_size: int
    optimizer: Adam | Muon
    source: str  # paper or project the recipe comes from, and the reason for it
    schedule: Literal["constant", "linear"] = "constant"  # linear: to zero after the last step
    warmup: float = 0.0  # share of the steps in which the learning rate rises from zero
    label_smoothing: float = 0.0
    augmentation: Augmentation = Augmentation()
    # The weights kept are a moving average over steps: this share of it stays at each. 0: the last.
    averaging: float = 0.0
    pruning: Pruning | None = None  # None: every epoch shows every image
    strangers: int = 0  # drawn images of no class, for which all classes are to be as likely
    photo_repeats: int = 1  # how often an epoch shows each photo, where there are photos
    photo_epochs: int = 1  # how many epochs, the last ones, show photos
    flip_at_test: bool = False  # logits are the mean of the image's and its mirror image's
    score: Score | None = None

    def __post_init__(self) -> None:
        """Raise RunError where a value makes no training."""
        broken = [rule for rule, holds in self._kinds().items() if not holds]
        broken = broken or [rule for rule, holds in self._ranges().items() if not holds]
        if broken:
            raise RunError(f"recipe {self.name}: {'; '.join(broken)}")

    def _kinds(self) -> dict[str, bool]:
        network, pruning = self.network, self.pruning
        return {
            "network must be a name, or a function or class of a module": isinstance(network, str)
            or inspect.isroutine(network)
            or inspect.isclass(network),
            "epochs must be a whole number from 1": _is_count(self.epochs),
            "batch_size must be a whole number from 1": _is_count(self.batch_size),
            "optimizer must be an Adam or a Muon": isinstance(self.optimizer, (Adam, Muon)),
            "augmentation must be an Augmentation": isinstance(self.augmentation, Augmentation),
            "strangers must be a whole number from 0": self.strangers == 0
            or _is_count(self.strangers),
            "photo_repeats must be a whole number from 1": _is_count(self.photo_repeats),
            "photo_epochs must be a whole number from 1": _is_count(self.photo_epochs),
            "pruning must be a Pruning or None": pruning is None or isinstance(pruning, Pruning),
            "schedule must be constant or linear": self.schedule in ("constant", "linear"),
        }

    def _ranges(self) -> dict[str, bool]:
        rates = [v for k, v in vars(self.optimizer).items() if k.endswith("learning_rate")]
        shares = [] if self.pruning is None else [self.pruning.easy, self.pruning.kept]
        return {
            "learning rates must be above 0 and finite": all(0 < rate < math.inf for rate in rates),
            "warmup must be in 0..1": 0 <= self.warmup <= 1,
            "label_smoothing must be in 0..1": 0 <= self.label_smoothing <= 1,
            "averaging must be in 0..1": 0 <= self.averaging < 1,
            "shift must be in 0..27": 0 <= self.augmentation.shift <= 27,
            "cutout must be in 0..28": 0 <= self.augmentation.cutout <= 28,
            "the shares of pruning must lie between 0 and 1": all(0 < s < 1 for s in shares),
            # Pruning goes by losses, and that of an image of no class says nothing.
            "pruning must be None where there are strangers": not (self.pruning and self.strangers),
        }

    def to_json(self) -> dict[str, Any]:
        """Return the fields that decide the weights, as JSON has them."""
        fields = dataclasses.asdict(dataclasses.replace(self, score=None))
        del fields["score"]
        network = self.network
        if not isinstance(network, str):
            fields["network"] = f"{network.__module__}:{network.__qualname__}"
        return {
            **fields,
            "optimizer": {"name": type(self.optimizer).__name__, **fields["optimizer"]},
        }


def completed(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recipe as JSON with all of today's fields, and without its source.

    A field that it lacks has its default: that is what training did before there was the field.
    """
    defaults = Recipe("", "", 1, 1, Adam(), "").to_json()
    augmentation = {**defaults["augmentation"], **recipe["augmentation"]}
    return {**defaults, **recipe, "augmentation": augmentation, "source": ""}


def differing_fields(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Return the fields in which two recipes, as JSON, would train different weights."""
    before, after = completed(one), completed(other)
    return [name for name in {**before, **after} if before.get(name) != after.get(name)]


def _is_count(value: object) -> bool:
    return isinstance(value, int) and value >= 1


CLASSIC = Recipe(
    name="classic",
    network="classic",
    epochs=10,
    batch_size=128,
    optimizer=Adam(),
    source="github.com/eugenekuloba/Fashion-MNIST, to the letter; it claims 92.54 % and loss 0.276",
    score=Score(
        accuracy=0.92050,
        sd=0.00234,
        loss=0.293,
        seeds=5,
        seconds=228,
        machine="2 cores of an AMD EPYC (Zen 4)",
        results="benchmarks/results/classic.json",
    ),
)

STANDARD = Recipe(
    name="standard",
    network="standard",
    epochs=11,
    batch_size=256,
    optimizer=Muon(learning_rate=0.05, momentum=0.85, other_learning_rate=0.02),
    source="cifar10-airbench (K. Jordan, arXiv 2404.00498) cut down to two CPU cores; docs/log.md",
    schedule="linear",
    warmup=0.1,
    label_smoothing=0.1,
    augmentation=Augmentation(flip=True, shift=1),
    averaging=0.99,
    pruning=Pruning(easy=0.7, kept=0.4),
    flip_at_test=True,
    score=Score(
        accuracy=0.94466,
        sd=0.00115,
        loss=0.233,
        seeds=10,
        seconds=163,
        machine="2 cores of an AMD EPYC (Zen 4)",
        results="benchmarks/results/standard.json",
    ),
)

SPRINT = Recipe(
    name="sprint",
    network="sprinter",
    epochs=3,
    batch_size=512,
    optimizer=Muon(learning_rate=0.1, momentum=0.8, other_learning_rate=0.03),
    source="the shortest way to 92.54 % on two CPU cores; docs/log.md",
    schedule="linear",
    warmup=0.1,
    label_smoothing=0.1,
    augmentation=Augmentation(flip=True),
    pruning=Pruning(easy=0.7, kept=0.4, whole_last=False),
    flip_at_test=True,
    score=Score(
        accuracy=0.92922,
        sd=0.00132,
        loss=0.280,
        seeds=20,
        seconds=6,
        machine="2 cores of an AMD EPYC (Zen 4)",
        results="benchmarks/results/sprint.json",
    ),
)

PHOTO = Recipe(
    name="photo",
    network="runner",
    epochs=24,
    batch_size=256,
    optimizer=Muon(learning_rate=0.05, momentum=0.85, other_learning_rate=0.02),
    source="standard, made to bear what photos suffer; docs/photos.md",
    schedule="linear",
    warmup=0.1,
    label_smoothing=0.1,
    augmentation=Augmentation(photo_defects=True),
    strangers=6000,
    photo_repeats=20,
    photo_epochs=10,
    flip_at_test=True,
)

STRONG = Recipe(
    name="strong",
    network="strong",
    epochs=50,
    batch_size=256,
    optimizer=Muon(learning_rate=0.05, momentum=0.85, other_learning_rate=0.02),
    source="the most that 45 minutes of two CPU cores give under a million parameters; docs/log.md",
    schedule="linear",
    warmup=0.1,
    label_smoothing=0.1,
    augmentation=Augmentation(flip=True, shift=1, cutout=8),
    averaging=0.998,
    pruning=Pruning(easy=0.7, kept=0.4),
    flip_at_test=True,
    score=Score(
        accuracy=0.94977,
        sd=0.00055,
        loss=0.220,
        seeds=3,
        seconds=1898,
        machine="one core of an AMD EPYC (Zen 4)",
        results="benchmarks/results/strong.json",
    ),
)


BEST = Recipe(
    name="best",
    network="wide",
    epochs=160,
    batch_size=512,
    optimizer=Muon(learning_rate=0.05, momentum=0.85, other_learning_rate=0.02),
    source="strong made wide, for a large GPU; not yet measured",
    schedule="linear",
    warmup=0.1,
    label_smoothing=0.1,
    augmentation=Augmentation(flip=True, shift=2, cutout=12),
    averaging=0.999,
    flip_at_test=True,
)

RECIPES = {recipe.name: recipe for recipe in (STANDARD, CLASSIC, SPRINT, STRONG, BEST, PHOTO)}


def find_recipe(name: str) -> Recipe:
    """Return a recipe of RECIPES, or one of a person's own as "module:NAME".

    The module is looked up as `python` would from the current directory: naming it is what allows
    its code to run. Raises RunError if there is none.
    """
    if ":" not in name:
        if name in RECIPES:
            return RECIPES[name]
        raise RunError(
            f"there is no recipe {name!r}; there are {', '.join(RECIPES)}, "
            "or your own as module:RECIPE"
        )
    try:
        recipe = import_named(name)
    except ImportError as error:
        raise RunError(f"no recipe can be read from {name} in {Path.cwd()}: {error}") from error
    if not isinstance(recipe, Recipe):
        raise RunError(f"{name} is a {type(recipe).__name__}, not a fmnist.recipes.Recipe")
    return recipe
