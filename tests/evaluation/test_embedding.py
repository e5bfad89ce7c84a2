import sys

import numpy as np
import pytest
import torch
from torch import nn

from fmnist.data import Dataset
from fmnist.errors import MissingExtra
from fmnist.evaluation import embedding
from fmnist.evaluation.embedding import last_layer_of_run, lay_out, read_embedding, save_embedding
from fmnist.evaluation.suite import evaluate
from fmnist.models import NETWORKS
from fmnist.runs import Bench, Run
from fmnist.training.trained import load_network
from tiny import Tiny


def _last_linear(run: Run) -> nn.Linear:
    return [layer for layer in load_network(run).modules() if isinstance(layer, nn.Linear)][-1]


def test_the_last_layer_makes_the_logits_of_what_it_sees(run: Run, data: Dataset) -> None:
    seen = last_layer_of_run(run, data.test_images, device="cpu")
    assert seen is not None
    with torch.no_grad():
        logits = _last_linear(run)(torch.from_numpy(seen)).numpy()
        pixels = torch.from_numpy(data.test_images.copy()).unsqueeze(1).float() / 255
        expected = load_network(run).eval()(pixels).numpy()
    assert np.abs(logits - expected).max() < 1e-5


class Convolved(nn.Module):
    """A network without a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 10, 28)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.conv(x).flatten(1)
        return logits


def test_without_a_linear_layer_the_logits_are_laid_out(
    run: Run, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.torch import save

    evaluate(run, data, splits=["test"])
    monkeypatch.setitem(NETWORKS, "tiny", Convolved)
    run.weights.write_bytes(save(Convolved().state_dict()))
    assert last_layer_of_run(run, data.test_images) is None
    assert save_embedding(run, data.test_images).made_of == "its ten logits"


def test_what_is_saved_is_read_back_and_not_made_again(
    run: Run, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = save_embedding(run, data.test_images, device="cpu")
    assert made.points.shape == (len(data.test_images), 2)
    assert made.points.dtype == np.float32
    width = _last_linear(run).in_features
    assert made.made_of == f"the {width} numbers that its last layer sees"
    read = read_embedding(run)
    assert read is not None
    assert np.array_equal(read.points, made.points)
    monkeypatch.setattr(embedding, "lay_out", None)
    again = save_embedding(run, data.test_images)
    assert np.array_equal(again.points, made.points)


def test_a_map_of_other_weights_or_a_damaged_one_is_none(run: Run, data: Dataset) -> None:
    assert read_embedding(run) is None
    save_embedding(run, data.test_images)
    path = run.folder / "embedding-test.npz"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert read_embedding(run) is None
    path.write_bytes(whole)
    assert read_embedding(run) is not None
    run.weights.write_bytes(run.weights.read_bytes() + b" ")
    assert read_embedding(run) is None


def test_of_a_model_made_elsewhere_the_logits_are_laid_out(run: Run, data: Dataset) -> None:
    evaluate(run, data, splits=["test"])
    bench = Bench(run.folder.parent / "bench")
    bench.write_logits("test", run.read_logits("test"))
    made = save_embedding(bench, data.test_images)
    assert made.made_of == "its ten logits"
    assert np.array_equal(made.points, lay_out(run.read_logits("test").logits))


def test_what_is_alike_lies_together_and_the_same_each_time() -> None:
    random = np.random.default_rng(0)
    centres = random.standard_normal((3, 64)) * 20
    group = np.arange(90) % 3
    features = (centres[group] + random.standard_normal((90, 64))).astype(np.float32)
    points = lay_out(features)
    assert np.array_equal(points, lay_out(features))
    distances = np.linalg.norm(points[:, None] - points[None], axis=2) + np.eye(90) * 1e9
    assert (group[distances.argmin(axis=1)] == group).all()


def test_without_scikit_learn_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.decomposition", None)
    with pytest.raises(MissingExtra, match=r"scikit-learn.*fmnist\[train\]"):
        lay_out(np.zeros((9, 4), np.float32))


def test_tiny_is_what_these_tests_take_it_for() -> None:
    assert any(isinstance(layer, nn.Linear) for layer in Tiny().modules())
