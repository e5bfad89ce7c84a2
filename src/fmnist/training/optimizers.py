"""Optimizers as recipes name them, and their learning rate as a function of the step."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from fmnist import recipes
from fmnist.errors import ModelError
from fmnist.recipes import Recipe

# Coefficients of the quintic that pulls singular values to about 1 in few steps:
# K. Jordan, "Muon: An optimizer for hidden layers in neural networks" (2024).
_QUINTIC = (3.4445, -4.7750, 2.0315)


class Muon(torch.optim.Optimizer):
    """Momentum whose update of each convolution filter is made orthogonal.

    Filters (out, in, k, k) count as matrices (out, in * k * k). K. Jordan, "Muon" (2024).
    """

    def __init__(self, filters: Iterable[Tensor], learning_rate: float, momentum: float) -> None:
        super().__init__(filters, {"lr": learning_rate, "momentum": momentum})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Update every filter from its gradient."""
        for group in self.param_groups:
            for filters in group["params"]:
                if filters.grad is None:
                    continue
                state = self.state[filters]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(filters)
                momentum = state["momentum_buffer"]
                momentum.mul_(group["momentum"]).add_(filters.grad)
                nesterov = filters.grad.add(momentum, alpha=group["momentum"])
                # Each filter bank keeps its norm sqrt(out): only its direction is learned.
                filters.mul_(len(filters) ** 0.5 / (filters.norm() + 1e-7))
                update = orthogonal(nesterov.flatten(1)).view_as(filters)
                filters.add_(update, alpha=-group["lr"])


def orthogonal(matrix: Tensor, steps: int = 3) -> Tensor:
    """Return a matrix (m, n) near the U V^T of the given one's U S V^T, in its dtype."""
    a, b, c = _QUINTIC
    x = matrix.bfloat16()
    x = x / (x.norm() + 1e-7)
    if matrix.shape[0] > matrix.shape[1]:
        x = x.T
    for _ in range(steps):
        square = x @ x.T
        x = torch.addmm(x, torch.addmm(square, square, square, beta=b, alpha=c), x, beta=a)
    result: Tensor = x.T if matrix.shape[0] > matrix.shape[1] else x
    return result.to(matrix.dtype)


def make_optimizers(network: nn.Module, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Return the optimizers of a recipe over all parameters that are trained.

    Raises ModelError if there are none.
    """
    parameters = [p for p in network.parameters() if p.requires_grad]
    if not parameters:
        raise ModelError(f"the network of {recipe.name} has no parameter that can be trained")
    match recipe.optimizer:
        case recipes.Adam(learning_rate, beta1, beta2, epsilon):
            betas = (beta1, beta2)
            return [torch.optim.Adam(parameters, learning_rate, betas, epsilon, fused=True)]
        case recipes.Muon() as muon:
            # A bank of 3x3 filters over one channel has no directions to make orthogonal.
            filters = [p for p in parameters if p.ndim == 4 and p.shape[1] > 1]
            others = [p for p in parameters if not (p.ndim == 4 and p.shape[1] > 1)]
            betas = (muon.other_beta1, muon.other_beta2)
            made: list[torch.optim.Optimizer] = []
            if filters:
                made.append(Muon(filters, muon.learning_rate, muon.momentum))
            if others:
                rate = muon.other_learning_rate
                made.append(torch.optim.Adam(others, rate, betas, fused=True))
            return made


def rate_at(recipe: Recipe, step: int, steps: int) -> float:
    """Return the share of the recipe's learning rates, 0..1, used in step 0 .. steps - 1."""
    warm = round(recipe.warmup * steps)
    if step < warm:
        return (step + 1) / warm
    if recipe.schedule == "constant":
        return 1.0
    return (steps - step) / (steps - warm)


def set_rates(
    optimizers: Sequence[torch.optim.Optimizer], base: Sequence[float], share: float
) -> None:
    """Set each optimizer's learning rate to `share` of its base."""
    for optimizer, rate in zip(optimizers, base, strict=True):
        for group in optimizer.param_groups:
            group["lr"] = rate * share
