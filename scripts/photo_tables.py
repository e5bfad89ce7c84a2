"""The parts of docs/photos.md, docs/model-card.md and README that tell of photos."""

from collections.abc import Mapping
from typing import Any

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
    names = {row["index"]: row["name"] for row in real["classes"]}
    rows = []
    for row in real["classes"]:
        others = {
            name: count
            for name, count in enumerate(real["confusion"][row["index"]])
            if name != row["index"] and count
        }
        most = max(others, key=lambda index: others[index], default=None)
        mistaken = "" if most is None else f"{names.get(most, 'Bag')} ({others[most]})"
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
        [f"{kind}, photos by held-out senders", str(figures["photos"]), share(figures)]
        for kind, figures in chosen["strangers_refused_by_kind"].items()
    ]
    rows.append(
        ["all these photos", str(chosen["strangers_refused"]["photos"]),
         share(chosen["strangers_refused"])]
    )  # fmt: skip
    called = {"mnist_test": "digits of MNIST's test split", "noise": "noise", "black": "black"}
    return rows + [
        [called.get(name, name), f"{figures['images']:,}", share(figures)]
        for name, figures in found["outliers"].items()
    ]


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
    photos = facts["photos"]
    return [
        ["recipe", f"`{facts['recipe']['name']}`, seed {facts['seed']}"],
        ["network", f"`{facts['network']}`, its answer and that to the mirror image averaged"],
        ["arithmetic", facts["precision"]],
        ["code", f"commit `{facts['git_commit']}`, fmnist {facts['fmnist']}"],
        ["Fashion-MNIST", f"all 60,000 training images, SHA-256 `{facts['data_sha256']}`"],
        ["photos", f"{photos['count']} of the senders called {' and '.join(photos['parts'])}, "
         f"as prepared SHA-256 `{photos['sha256']}`"],
        ["of no class among these", ", ".join(photos["strangers"])],
        ["temperature", f"{facts['temperature']:.3f}, {facts['temperature_source']}"],
        ["least probability", f"{facts['least_probability']}: what is less probable is not sure"],
        ["parity on 5,000 validation images", f"{100 * facts['parity']['accuracy']:.2f} % in "
         f"{facts['precision']}, {100 * facts['parity']['accuracy_of_run']:.2f} % in float32"],
    ]  # fmt: skip
