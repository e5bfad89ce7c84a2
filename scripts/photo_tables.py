"""The parts of docs/photos.md, docs/model-card.md and README that tell of photos."""

from collections.abc import Mapping
from typing import Any

from fmnist.data import CLASS_NAMES

Figures = Mapping[str, Any]


def share(figures: Figures | None) -> str:
    """Return a share with its interval, in percent."""
    if figures is None or figures["value"] is None:
        return ""
    bounds = figures["interval"]
    spread = f" ({100 * bounds[0]:.1f} to {100 * bounds[1]:.1f})" if bounds else ""
    return f"{100 * figures['value']:.1f} %{spread}"


def headline(found: Figures) -> list[list[str]]:
    """Return what the shipped classifier reaches, a line each."""
    real, chosen = found["real"], found["real"]["selective"]
    held_out = f"{real['photos']} photos of {real['senders']} held-out senders"
    return [
        [
            f"Fashion-MNIST, {found['test']['images']:,} test images",
            share(found["test"]["accuracy"]),
        ],
        [f"{held_out}, accuracy", share(real["accuracy"])],
        ["the same, mean recall of the classes", share(real["macro_recall"])],
        ["right answers to them that are accepted", share(chosen["right_answers_kept"])],
        ["wrong answers to them that are not", share(chosen["wrong_answers_refused"])],
    ]


def recalls(found: Figures) -> list[list[str]]:
    """Return photos and recall of each class, and what it is taken for most often else."""
    real = found["real"]
    rows = []
    for row in real["classes"]:
        others = {
            name: count
            for name, count in enumerate(real["confusion"][row["index"]])
            if name != row["index"] and count
        }
        most = max(others, key=lambda index: others[index], default=None)
        mistaken = "" if most is None else f"{CLASS_NAMES[most]} ({others[most]})"
        rows.append([row["name"], str(row["photos"]), f"{100 * row['recall']:.0f} %", mistaken])
    return rows


def ways(found: Figures) -> list[list[str]]:
    """Return the networks behind each way from photo to 28x28."""
    real = found["real"]
    ours = ["this model", "fmnist.photos", share(real["accuracy"]), share(real["macro_recall"])]
    return [ours] + [
        [
            row["network"].replace("the model", "this model"),
            row["way"],
            share(row["accuracy"]),
            share(row["macro_recall"]),
        ]
        for row in real["others"]
    ]


def strangers(found: Figures) -> list[list[str]]:
    """Return the share of what is no class that is refused, by kind."""
    chosen = found["real"]["selective"]
    rows = [
        [f"{kind}: a kind that it {knows(kind, chosen)}", str(figures["photos"]), share(figures)]
        for kind, figures in chosen["strangers_refused_by_kind"].items()
    ]
    unknown = chosen["strangers_of_unknown_kinds_refused"]
    rows.append(["all photos of kinds that it never saw", str(unknown["photos"]), share(unknown)])
    called = {"mnist_test": "digits of MNIST's test split", "noise": "noise, as in its drawings"}
    return rows + [
        [called.get(name, name), f"{figures['images']:,}", share(figures)]
        for name, figures in found["outliers"].items()
    ]


def knows(kind: str, chosen: Figures) -> str:
    """Return whether the model was shown a kind, by other senders."""
    return "learned from" if kind in chosen["kinds_learned"] else "never saw"


def simulated(found: Figures) -> list[list[str]]:
    """Return the accuracies on simulated photos by background, for each network and way."""
    tried = found["simulated"]
    backgrounds = tried["backgrounds"]
    first = next(iter(backgrounds.values()))["accuracy"]
    return [
        [f"{row['network'].replace('the model', 'this model')}, {row['way']}"]
        + [share(kind["accuracy"][at]) for kind in backgrounds.values()]
        for at, row in enumerate(first)
    ]


def backgrounds(found: Figures) -> list[str]:
    """Return the kinds of backgrounds, in the order of `simulated`'s columns."""
    return list(found["simulated"]["backgrounds"])


def card(facts: Figures) -> list[list[str]]:
    """Return what the shipped file says of itself."""
    photos, parity = facts["photos"], facts["parity"]
    seeds = ", ".join(str(seed) for seed in facts["seeds"])
    views = "the image and its mirror image" if facts["flip_at_test"] else "the image"
    hashes = [
        facts["data_sha256"][name] for name in sorted(facts["data_sha256"]) if "train" in name
    ]
    return [
        ["recipe", f"`{facts['recipe']['name']}`, seeds {seeds}; the mean of their logits"],
        ["network", f"`{facts['network']}`, asked about {views}"],
        ["arithmetic", facts["precision"]],
        ["code", f"commit `{facts['git_commit']}`"],
        ["Fashion-MNIST", "all 60,000 training images, SHA-256 of the files "
         + ", ".join(f"`{value}`" for value in hashes)],
        ["photos", f"{photos['count']} of the senders called {' and '.join(photos['parts'])}, "
         f"as prepared SHA-256 `{photos['sha256']}`"],
        ["of no class among these", ", ".join(photos["strangers"])],
        ["temperature", f"{facts['temperature']:.3f}, from the first training's validation split"],
        ["least probability", f"{facts['least_probability']}: what is less probable is not sure"],
        ["8 bits against float32", f"{parity['differing_labels']} of {parity['images']:,} "
         "labels differ on the validation images, which these networks have learned from"],
    ]  # fmt: skip
