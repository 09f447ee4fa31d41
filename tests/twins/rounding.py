"""Slow twin of rounding while training: w = Q(S_d(θ)) in the forward pass with identity gradient.

Shares no code with the package: θ are the model's own parameters, and the weights are built anew in every forward pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tests.twins.pruner import ReparameterisedTwin


class Lattice(NamedTuple):
    """What a parameter may be: (q − zero_point)·step, q whole, low ≤ q ≤ high; tensors of the parameter's own shape."""

    step: Tensor
    zero_point: Tensor
    low: int
    high: int


def scalar_fake_quantize(x: float, step: float, zero_point: float, low: int, high: int) -> float:
    """(clamp(rint(x/step + z), low, high) − z)·step of one number, exactly until the last rounding to a float."""
    z = Fraction(zero_point)
    q = round(Fraction(x) / Fraction(step) + z)  # Python rounds a half to the even neighbour
    return float((min(max(q, low), high) - z) * Fraction(step))


class _StraightThrough(torch.autograd.Function):
    """Forward the second argument, backward the identity into the first."""

    @staticmethod
    def forward(ctx: Any, theta: Tensor, weight: Tensor) -> Tensor:  # noqa: ARG004 - autograd's signature
        return weight.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:  # noqa: ARG004 - autograd's signature
        return gradients[0], None


class RoundedTwin(ReparameterisedTwin):
    """A model whose parameters are θ and whose forward pass uses w = Q(S_d(θ)), or Q(m·θ) once `mask` was called.

    Args:
        model: its parameters become θ.
        groups: names of the pruned parameters, one list per optimizer group.
        l1: the L1 coefficient μ of LATS.
        lattices: by name of the parameter.
    """

    def __init__(
        self, model: nn.Module, groups: Sequence[Sequence[str]], l1: float, lattices: Mapping[str, Lattice]
    ) -> None:
        super().__init__(model, groups, l1)
        self.lattices = dict(lattices)
        self.masks: dict[str, Tensor] = {}

    def weights(self) -> dict[str, Tensor]:
        """What the forward pass uses for each parameter."""
        shrunk: dict[str, Tensor] = dict(self.model.named_parameters()) if self.masks else super().weights()
        result = {}
        for name, theta in self.model.named_parameters():
            weight = shrunk[name].detach()
            if name in self.masks:
                weight = torch.where(self.masks[name], weight, torch.zeros_like(weight))
            if name in self.lattices:
                step, zero_point, low, high = self.lattices[name]
                whole = torch.clamp(torch.round(weight / step + zero_point), low, high)
                weight = (whole - zero_point) * step
            result[name] = _StraightThrough.apply(theta, weight)  # type: ignore[no-untyped-call]
        return result

    @torch.no_grad()
    def mask(self) -> None:
        """From now on the present zeros of S_d(θ) stay, and the others train on from S_d(θ), with no threshold."""
        shrunk = super().weights()
        for names in self.groups:
            for name in names:
                self.model.get_parameter(name).copy_(shrunk[name])
                self.masks[name] = shrunk[name].detach() != 0
