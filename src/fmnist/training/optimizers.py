"""Optimizers as recipes name them, and their learning rate as a function of the step."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

from fmnist import recipes
from fmnist.errors import ModelError
from fmnist.recipes import Recipe

# Coefficients of the quintic that pulls singular values to about 1 in few steps:
# K. Jordan, "Muon: An optimizer for hidden layers in neural networks" (2024).
_QUINTIC = (3.4445, -4.7750, 2.0315)
_SMALL = 64


class Optimizer(Protocol):
    """What updates some of a network's parameters.

    Not a `torch.optim.Optimizer`: making one of those imports PyTorch's compiler, which takes more
    than a tenth of the shortest training here.
    """

    learning_rate: float
    parameters: list[Tensor]

    def step(self, share: float | Tensor) -> None:
        """Update the parameters from their gradients with `share` of the learning rate.

        On a GPU it is a tensor (), which a recorded step reads anew each time.
        """

    def moments(self) -> dict[str, Tensor]:
        """Return all that is remembered from step to step; writing into it restores it."""


class Muon:
    """Momentum whose update of each convolution filter is made orthogonal.

    Filters (out, in, k, k) count as matrices (out, in * k * k). K. Jordan, "Muon" (2024).
    """

    def __init__(
        self,
        filters: Sequence[Tensor],
        learning_rate: float,
        momentum: float,
        precision: str = "float32",
    ) -> None:
        """Orthogonalise in `precision`, "float32" or "bfloat16" where the processor has it."""
        self.parameters, self.learning_rate, self.momentum = list(filters), learning_rate, momentum
        self.dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
        self.averages = [torch.zeros_like(bank) for bank in filters]

    @torch.no_grad()
    def step(self, share: float | Tensor) -> None:
        """Update every filter that has a gradient."""
        rate = self.learning_rate * share
        for bank, average in zip(self.parameters, self.averages, strict=True):
            if bank.grad is None:
                continue
            average.mul_(self.momentum).add_(bank.grad)
            nesterov = bank.grad.add(average, alpha=self.momentum)
            # Each filter bank keeps its norm sqrt(out): only its direction is learned.
            bank.mul_(len(bank) ** 0.5 / (bank.norm() + 1e-7))
            update = orthogonal(nesterov.flatten(1), self.dtype).view_as(bank)
            if isinstance(rate, float):
                bank.add_(update, alpha=-rate)
            else:
                bank.sub_(update * rate)

    def moments(self) -> dict[str, Tensor]:
        """Return the averages of gradients."""
        return {f"{index}.average": average for index, average in enumerate(self.averages)}


class Adam:
    """Adam (Kingma & Ba, arXiv 1412.6980) as PyTorch computes it in one pass."""

    def __init__(
        self,
        parameters: Sequence[Tensor],
        learning_rate: float,
        betas: tuple[float, float],
        epsilon: float,
    ) -> None:
        self.parameters, self.learning_rate = list(parameters), learning_rate
        self.betas, self.epsilon = betas, epsilon
        # Walked side by side with the parameters in memory, so in the same memory order.
        self.averages = [torch.zeros_like(parameter) for parameter in parameters]
        self.squares = [torch.zeros_like(parameter) for parameter in parameters]
        self.steps = [torch.zeros((), device=parameter.device) for parameter in parameters]

    @torch.no_grad()
    def step(self, share: float | Tensor) -> None:
        """Update every parameter that has a gradient."""
        lists = self.parameters, self.averages, self.squares, self.steps
        some = [each for each in zip(*lists, strict=True) if each[0].grad is not None]
        parameters, averages, squares, steps = ([*column] for column in zip(*some, strict=True))
        adam(
            parameters,
            [parameter.grad for parameter in parameters],
            averages,
            squares,
            [],
            steps,
            fused=True,
            amsgrad=False,
            beta1=self.betas[0],
            beta2=self.betas[1],
            lr=self.learning_rate * share,
            weight_decay=0.0,
            eps=self.epsilon,
            maximize=False,
        )

    def moments(self) -> dict[str, Tensor]:
        """Return both moments and the count of steps of each parameter."""
        named = {"average": self.averages, "square": self.squares, "step": self.steps}
        return {
            f"{index}.{name}": tensor
            for name, tensors in named.items()
            for index, tensor in enumerate(tensors)
        }


def orthogonal(matrix: Tensor, dtype: torch.dtype = torch.float32, steps: int = 3) -> Tensor:
    """Return a matrix (m, n) near the U V^T of the given one's U S V^T, in its dtype.

    Large ones are multiplied in `dtype`.
    """
    a, b, c = _QUINTIC
    # bfloat16 loses more by the conversions within a small product than its arithmetic gains.
    x = matrix.to(dtype) if min(matrix.shape) > _SMALL else matrix
    x = x / (x.norm() + 1e-7)
    if matrix.shape[0] > matrix.shape[1]:
        x = x.T
    for _ in range(steps):
        square = x @ x.T
        x = torch.addmm(x, torch.addmm(square, square, square, beta=b, alpha=c), x, beta=a)
    result: Tensor = x.T if matrix.shape[0] > matrix.shape[1] else x
    return result.to(matrix.dtype)


def make_optimizers(
    network: nn.Module, recipe: Recipe, precision: str = "float32"
) -> list[Optimizer]:
    """Return the optimizers of a recipe over all parameters that are trained.

    `precision` is that of the device.

    Raises ModelError if there are none.
    """
    parameters = [p for p in network.parameters() if p.requires_grad]
    if not parameters:
        raise ModelError(f"the network of {recipe.name} has no parameter that can be trained")
    match recipe.optimizer:
        case recipes.Adam(learning_rate, beta1, beta2, epsilon):
            return [Adam(parameters, learning_rate, (beta1, beta2), epsilon)]
        case recipes.Muon() as muon:
            # A bank of 3x3 filters over one channel has no directions to make orthogonal.
            filters = [p for p in parameters if p.ndim == 4 and p.shape[1] > 1]
            others = [p for p in parameters if not (p.ndim == 4 and p.shape[1] > 1)]
            betas = (muon.other_beta1, muon.other_beta2)
            made: list[Optimizer] = []
            if filters:
                made.append(Muon(filters, muon.learning_rate, muon.momentum, precision))
            if others:
                made.append(Adam(others, muon.other_learning_rate, betas, epsilon=1e-8))
            return made


def rate_at(recipe: Recipe, step: int, steps: int) -> float:
    """Return the share of the recipe's learning rates, 0..1, used in step 0 .. steps - 1."""
    warm = round(recipe.warmup * steps)
    if step < warm:
        return (step + 1) / warm
    if recipe.schedule == "constant":
        return 1.0
    return (steps - step) / (steps - warm)
