"""Slow twin of the pruner: w = S_d(θ) in the forward pass with identity gradient, written from the formula.

Shares no code with the package: θ are the model's own parameters, the weights are built anew in every forward pass, and
the threshold is advanced by hand.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode


def scalar_soft_threshold(theta: float, threshold: float) -> float:
    """S_d(θ) = sign(θ)·max(|θ| − d, 0) of one number."""
    return math.copysign(1.0, theta) * (abs(theta) - threshold) if abs(theta) > threshold else 0.0


def nearest_latent(weight: float, threshold: float, near: float) -> float:
    """The θ with S_d(θ) = w that is closest to `near`, by cases over the solution set."""
    if weight > 0:
        return weight + threshold
    if weight < 0:
        return weight - threshold
    if abs(near) <= threshold:
        return near
    return threshold if near > 0 else -threshold


def what_is_left(theta: Tensor, threshold: float | Tensor, proximal: str) -> Tensor:
    """What a map leaves of weights of either sign beyond the threshold; what it is elsewhere does not matter."""
    if proximal == "hard":
        return theta
    if proximal == "garrote":
        return theta - threshold**2 / theta
    return torch.where(theta > 0, theta - threshold, theta + threshold)


class StraightThrough(torch.autograd.Function):
    """Forward a proximal map of θ, backward the identity."""

    @staticmethod
    def forward(ctx: Any, theta: Tensor, threshold: float | Tensor, proximal: str) -> Tensor:  # noqa: ARG004 - autograd's
        kept = (theta > threshold) | (theta < -threshold)
        return torch.where(kept, what_is_left(theta, threshold, proximal), torch.zeros_like(theta))

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:  # noqa: ARG004 - autograd's signature
        return gradients[0], None, None


def straight_through(theta: Tensor, threshold: float | Tensor, proximal: str = "soft") -> Tensor:
    """A proximal map of θ ("soft", "hard" or "garrote") with the identity as its gradient."""
    weight: Tensor = StraightThrough.apply(theta, threshold, proximal)  # type: ignore[no-untyped-call]
    return weight


class ReparameterisedTwin(nn.Module):
    """A model whose parameters are θ and whose forward pass uses w = S_d(θ).

    Args:
        model: its parameters become θ.
        groups: names of the pruned parameters, one list per optimizer group.
        l1: the L1 coefficient μ of LATS.
        proximal: the map in place of S_d.
    """

    def __init__(self, model: nn.Module, groups: Sequence[Sequence[str]], l1: float, proximal: str = "soft") -> None:
        super().__init__()
        self.model = model
        self.groups = [list(names) for names in groups]
        self.l1 = l1
        self.proximal = proximal
        self.thresholds: list[Any] = [0.0 for _ in self.groups]

    def weights(self) -> dict[str, Tensor]:
        """What the forward pass uses for each parameter."""
        weights: dict[str, Tensor] = dict(self.model.named_parameters())
        for names, threshold in zip(self.groups, self.thresholds, strict=True):
            for name in names:
                weights[name] = straight_through(weights[name], threshold, self.proximal)
        return weights

    def forward(self, x: Tensor) -> Tensor:
        """The model's output with w = S_d(θ)."""
        output: Tensor = torch.func.functional_call(self.model, self.weights(), (x,))
        return output

    def advance(self, rates: Sequence[float]) -> None:
        """d ← d + μ·η, group by group; call it after the optimizer's step with the rates that it used."""
        self.thresholds = [d + self.l1 * rate for d, rate in zip(self.thresholds, rates, strict=True)]


class _Counting(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen[str(func)] += 1
        return func(*args, **(kwargs or {}))


@contextmanager
def counted_operations() -> Iterator[Counter[str]]:
    """Counts every kernel and view that torch dispatches, by name."""
    with _Counting() as mode:
        yield mode.seen
