import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor

from fmnist.data import Dataset
from fmnist.errors import FmnistError, ModelError, RunError
from fmnist.evaluation.logits import save_logits
from fmnist.recipes import CLASSIC, Recipe
from fmnist.runs import Run
from fmnist.training.trained import load_network
from tiny import Tiny


def spoil(run: Run, change: Callable[[dict[str, Tensor]], object]) -> None:
    weights = load(run.weights.read_bytes())
    change(weights)
    run.weights.write_bytes(save(weights))


def test_the_network_holds_the_runs_weights(run: Run) -> None:
    network = load_network(run)
    for name, value in load(run.weights.read_bytes()).items():
        assert torch.equal(network.state_dict()[name], value)


def test_saved_logits_are_what_is_returned_and_go_with_the_split(run: Run, data: Dataset) -> None:
    told, split = save_logits(run, data.split("test")), data.split("test")
    saved = run.read_logits("test")
    assert saved.logits.dtype == np.float32
    assert np.array_equal(saved.logits, told.logits)
    assert np.array_equal(saved.labels, split.labels)
    assert np.array_equal(saved.indices, split.indices)


def test_logits_are_the_mean_over_an_image_and_its_mirror_image(run: Run, data: Dataset) -> None:
    split = data.split("validation")
    x = torch.from_numpy(split.images.copy()).unsqueeze(1) / 255
    network = load_network(run).eval()
    with torch.no_grad():
        expected = (network(x) + network(x.flip(3))) / 2
    logits = save_logits(run, split, device="cpu").logits
    np.testing.assert_allclose(logits, expected.numpy(), atol=1e-5)


def test_a_network_of_ones_own_needs_its_recipe(
    run: Run,
) -> None:
    facts = run.read()
    run.write({**facts, "recipe": {**facts["recipe"], "network": "os:abort"}})
    with pytest.raises(
        RunError, match=r"is os:abort, code outside fmnist.*--recipe YOUR_MODULE:RECIPE"
    ):
        load_network(run)
    with pytest.raises(RunError, match="is os:abort, not classic"):
        load_network(run, CLASSIC)


def test_weights_that_are_missing_say_how_to_go_on(run: Run) -> None:
    run.weights.unlink()
    with pytest.raises(
        RunError, match=f"go on with: fmnist train YOUR_MODULE:RECIPE --resume {run.folder}"
    ):
        load_network(run)


@pytest.mark.parametrize("damage", ["cut", "noise", "empty"])
def test_damaged_weights_are_refused(run: Run, damage: str) -> None:
    content = run.weights.read_bytes()
    run.weights.write_bytes({"cut": content[:5000], "noise": content[::-1], "empty": b""}[damage])
    with pytest.raises(
        ModelError, match=r"weights\.safetensors is damaged .*; train again"
    ) as told:
        load_network(run)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda w: w.pop("layers.8.bias"), "Missing key"),
        (lambda w: w.update(extra=torch.zeros(1)), "Unexpected key"),
        (lambda w: w.update({"layers.8.bias": torch.zeros(11)}), "size mismatch"),
    ],
)
def test_weights_of_another_network_are_refused(
    run: Run, change: Callable[[dict[str, Tensor]], object], reason: str
) -> None:
    spoil(run, change)
    with pytest.raises(ModelError, match=f"does not fit the network: .*{reason}") as told:
        load_network(run)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(run: Run, value: float) -> None:
    spoil(run, lambda weights: weights["layers.3.weight"].view(-1)[7].fill_(value))
    with pytest.raises(ModelError, match="holds values that are not finite; train again"):
        load_network(run)


def test_logits_that_are_not_finite_are_not_saved(run: Run, data: Dataset) -> None:
    spoil(run, lambda weights: weights["layers.8.weight"].fill_(3e38))
    with pytest.raises(ModelError, match=r"logits of .* are not all finite; train again"):
        save_logits(run, data.split("test"))
    assert not list(run.folder.glob("logits-*"))


def test_a_device_that_is_not_there_is_refused(run: Run, data: Dataset) -> None:
    with pytest.raises(FmnistError, match="there is no device 'tpu'"):
        save_logits(run, data.split("test"), device="tpu")


def test_the_recipe_of_a_network_of_ones_own_lets_it_be_judged(
    data: Dataset, run: Run, recipe: Recipe
) -> None:
    expected = save_logits(run, data.split("test")).logits
    facts = run.read()
    run.write({**facts, "recipe": {**facts["recipe"], "network": "tiny:Tiny"}})
    own = dataclasses.replace(recipe, network=Tiny)
    told = save_logits(run, data.split("test"), recipe=own)
    assert np.array_equal(told.logits, expected)
