import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fmnist.errors import ModelError
from fmnist.models import (
    NETWORKS,
    PIXEL_MEAN,
    PIXEL_SD,
    Classic,
    StartsFromImages,
    Whitening,
    make_network,
    runner,
    sprinter,
)


def layer_shapes(network: nn.Module, n: int) -> list[tuple[str, tuple[int, ...]]]:
    """What each layer gives for n images, in the order of the forward pass."""
    seen: list[tuple[str, tuple[int, ...]]] = []
    for name, layer in network.named_children():

        def note(_: nn.Module, __: Any, output: Tensor, name: str = name) -> None:
            seen.append((name, tuple(output.shape)))

        layer.register_forward_hook(note)
    network(torch.zeros(n, 1, 28, 28))
    return seen


def test_classic_has_467626_parameters() -> None:
    assert sum(p.numel() for p in Classic().parameters()) == 467_626


def test_classic_is_the_network_of_the_issue_layer_by_layer() -> None:
    assert layer_shapes(Classic(), 3) == [
        ("conv1", (3, 32, 28, 28)),
        ("conv2", (3, 32, 28, 28)),
        ("conv3", (3, 64, 14, 14)),
        ("conv4", (3, 64, 14, 14)),
        ("dense1", (3, 128)),
        ("dense2", (3, 10)),
    ]
    assert {name: tuple(p.shape) for name, p in Classic().named_parameters()} == {
        "conv1.weight": (32, 1, 3, 3),
        "conv2.weight": (32, 32, 3, 3),
        "conv3.weight": (64, 32, 3, 3),
        "conv4.weight": (64, 64, 3, 3),
        "dense1.weight": (128, 3136),
        "dense1.bias": (128,),
        "dense2.weight": (10, 128),
        "dense2.bias": (10,),
    }


@pytest.mark.parametrize(
    ("name", "fan_in", "fan_out"),
    [
        ("conv1", 9, 288),
        ("conv2", 288, 288),
        ("conv3", 288, 576),
        ("conv4", 576, 576),
        ("dense1", 3136, 128),
        ("dense2", 128, 10),
    ],
)
def test_classic_starts_glorot_uniform(name: str, fan_in: int, fan_out: int) -> None:
    torch.manual_seed(0)
    weight = Classic().get_parameter(f"{name}.weight")
    bound = math.sqrt(6 / (fan_in + fan_out))
    assert 0.97 * bound < weight.abs().max().item() <= bound
    # A uniform distribution has the standard deviation bound / sqrt(3), here within 3 errors.
    assert weight.std().item() == pytest.approx(
        bound / math.sqrt(3), rel=2 / math.sqrt(weight.numel())
    )


def test_classic_starts_with_biases_at_zero() -> None:
    network = Classic()
    assert not network.dense1.bias.any()
    assert not network.dense2.bias.any()


def test_classic_cuts_negative_values_after_every_layer_but_the_last() -> None:
    network = Classic()
    nn.init.constant_(network.conv4.weight, -1.0)
    nn.init.constant_(network.dense2.bias, -0.5)
    assert torch.equal(network(torch.ones(1, 1, 28, 28)), torch.full((1, 10), -0.5))


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("n", [1, 3])
def test_every_network_maps_images_to_logits(name: str, n: int) -> None:
    network = make_network(name)
    assert network.training
    logits = network.eval()(torch.rand(n, 1, 28, 28))
    assert logits.shape == (n, 10)
    assert logits.dtype == torch.float32
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_learns_with_all_its_parameters(name: str) -> None:
    torch.manual_seed(0)
    network = make_network(name)
    learning = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(learning, lr=0.1)
    for _ in range(2):  # a block that starts as the identity learns inside from the second step on
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(network(torch.rand(8, 1, 28, 28)), torch.arange(8))
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert all(p.grad is not None and p.grad.any() for p in learning)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_answers_each_image_alone(name: str) -> None:
    torch.manual_seed(0)
    network = make_network(name).eval()
    images = torch.rand(3, 1, 28, 28)
    with torch.no_grad():
        torch.testing.assert_close(network(images)[1:2], network(images[1:2]))


def test_make_network_takes_a_callable() -> None:
    linear = make_network(lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 10)))
    assert isinstance(linear, nn.Sequential)


class TwoAnswers(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ("resnet", "there is no network 'resnet'; there are .*classic"),
        (lambda: "not a network", "made a str, not a torch.nn.Module"),
        (nn.Identity, r"must answer logits \(n, 10\) and answers \(2, 1, 28, 28\) for n = 2"),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 9)), r"answers \(2, 9\)"),
        (lambda: nn.Linear(5, 10), r"fails on images \(n, 1, 28, 28\): .*shapes"),
        (lambda: nn.Conv2d(3, 10, 3), r"fails on images .*channels"),
        (lambda: nn.Bilinear(1, 1, 1), "fails on images .*missing"),
        (lambda: 1 / 0, "cannot be made: ZeroDivisionError"),
        (TwoAnswers, "answers tuple for n = 2"),
    ],
)
def test_a_network_that_does_not_fit_is_refused(
    network: str | Callable[[], Any], message: str
) -> None:
    with pytest.raises(ModelError, match=message) as told:
        make_network(network)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("make", [runner, sprinter])
def test_a_network_has_the_parameters_that_it_says(make: Callable[[], nn.Module]) -> None:
    count = sum(parameter.numel() for parameter in make().parameters())
    assert f"{count:,} parameters" in (make.__doc__ or "")


def test_whitening_is_a_convolution_with_both_signs_pooled() -> None:
    torch.manual_seed(0)
    whitening, x = Whitening(), torch.randn(5, 1, 28, 28)
    whitening.start_from(x)
    both = torch.cat([whitening.filters, -whitening.filters])
    expected = F.relu(F.max_pool2d(F.conv2d(x, both, padding=1), 2))
    torch.testing.assert_close(whitening(x), expected, atol=1e-5, rtol=1e-5)


def test_whitening_makes_answers_of_variance_one_that_know_nothing_of_each_other() -> None:
    generator = torch.Generator().manual_seed(0)
    smooth = F.avg_pool2d(torch.randn(300, 1, 30, 30, generator=generator), 3, stride=1)
    whitening = Whitening()
    whitening.start_from(5 * smooth)
    answers = F.conv2d(5 * smooth, whitening.filters).transpose(0, 1).flatten(1)  # (8, many)
    torch.testing.assert_close(answers.cov(), torch.eye(8), atol=0.05, rtol=0)


def test_the_network_whitens_what_it_sees() -> None:
    torch.manual_seed(0)
    network = sprinter()
    assert isinstance(network, StartsFromImages)
    before = network.whitening.filters.clone()
    images = torch.rand(50, 1, 28, 28)
    network.start_from(images)
    filters = network.whitening.filters.clone()
    network.whitening.start_from((images - PIXEL_MEAN) / PIXEL_SD)
    assert torch.equal(network.whitening.filters, filters)
    assert not torch.equal(before, filters)
    assert "whitening.filters" in network.state_dict()  # saved, though it is not trained
