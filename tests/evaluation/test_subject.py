import time
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fmnist.data import Dataset
from fmnist.errors import ModelError
from fmnist.evaluation import speed
from fmnist.evaluation.speed import measure_speed
from fmnist.evaluation.subject import Subject, multiply_adds, run_subject
from fmnist.models import Classic, runner
from fmnist.runs import Run
from fmnist.training.trained import ask
from tiny import Tiny

TINY = 8 * 9 * 14 * 14 + 16 * 8 * 9 * 7 * 7 + 16 * 7 * 7 * 10


def by_hooks(network: nn.Module) -> int:
    """Multiply-adds of a network whose convolutions and products are all modules."""
    counts = []

    def count(module: Any, inputs: Any, output: Any) -> None:
        counts.append(output[0].numel() * module.weight[0].numel())

    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.register_forward_hook(count)
    network.eval()(torch.zeros(1, 1, 28, 28))
    return sum(counts)


def test_multiply_adds_are_those_of_the_arithmetic() -> None:
    assert multiply_adds(Tiny(), flip=False) == TINY
    assert multiply_adds(Classic(), flip=False) == by_hooks(Classic())


def test_what_is_no_module_is_counted_too() -> None:
    """Whitening and the last convolution of `runner` are functions."""
    network = runner()
    whitening = 32 * 4 * 9 * 14 * 14  # eight filters, shifted to the four pixels of a pool
    last = 512 * 128 * 9
    assert multiply_adds(network, flip=False) == by_hooks(network) + whitening + last


def test_the_mirror_image_counts() -> None:
    network = Tiny().train()
    assert multiply_adds(network, flip=True) == 2 * TINY
    assert network.training


def test_a_run_is_a_subject(run: Run, data: Dataset) -> None:
    subject = run_subject(run, device="cpu")
    images = data.test_images[:7]
    np.testing.assert_array_equal(subject.logits(images), ask(run, images, device="cpu"))
    assert subject.parameters == run.read()["parameters"]
    assert subject.multiply_adds == 2 * TINY  # the recipe asks about the mirror image too
    assert subject.file_bytes == len(run.weights.read_bytes())
    assert subject.device == "cpu"
    assert subject.threads


@pytest.mark.parametrize(
    "answer",
    [
        lambda n: np.zeros((n, 9)),
        lambda n: np.zeros((n + 1, 10)),
        lambda n: np.full((n, 10), np.nan),
    ],
)
def test_answers_that_mean_nothing_are_refused(answer: Any) -> None:
    subject = Subject("odd", lambda images: answer(len(images)).astype(np.float32))
    with pytest.raises(
        ModelError, match=r"odd does not answer images with finite logits \(n, 10\)"
    ):
        subject.logits(np.zeros((3, 28, 28), np.uint8))


def test_speed_is_that_of_the_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first answer to each takes a second, which is not counted; others 4 and 24 ms or more."""
    monkeypatch.setattr(speed, "SECONDS", 0.2)
    asked: list[int] = []

    def slow(images: Any) -> Any:
        first = len(images) not in asked
        asked.append(len(images))
        time.sleep(1 if first else 0.004 + 0.00002 * len(images))
        return np.zeros((len(images), 10), np.float32)

    told = measure_speed(Subject("slow", slow, 5, 6, 7, 2), np.zeros((30, 28, 28), np.uint8), print)
    assert told["batch_size"] == 1000
    assert 0.024 <= 1000 / told["images_per_second"] < 1
    assert 4 <= told["milliseconds_one_image"] < 1000
    assert set(asked) == {1, 1000}
    assert (told["parameters"], told["multiply_adds"], told["file_bytes"]) == (5, 6, 7)
    assert (told["threads"], told["device"]) == (2, "cpu")
