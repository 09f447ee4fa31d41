"""Slow twin of STR: θ and s are parameters, w = sign(θ)·relu(|θ| − σ(s)) is built in every forward pass, autograd does
the rest. Written from Kusupati et al., ICML 2020; shares no code with the package."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class LearnedThresholdTwin(nn.Module):
    """A model whose parameters are θ, with one learnable s for every pruned one.

    Args:
        model: its parameters become θ.
        names: names of the pruned parameters.
        s_init: s before the first step.
    """

    def __init__(self, model: nn.Module, names: Sequence[str], s_init: float) -> None:
        super().__init__()
        self.model = model
        self.names = list(names)
        self.s = nn.ParameterList(nn.Parameter(torch.tensor(s_init, dtype=torch.float64)) for _ in names)

    def weights(self) -> dict[str, Tensor]:
        """What the forward pass uses."""
        weights: dict[str, Tensor] = dict(self.model.named_parameters())
        for name, s in zip(self.names, self.s, strict=True):
            theta = weights[name]
            weights[name] = torch.sign(theta) * torch.relu(theta.abs() - torch.sigmoid(s).to(theta.dtype))
        return weights

    def forward(self, x: Tensor) -> Tensor:
        """The model's output with w."""
        output: Tensor = torch.func.functional_call(self.model, self.weights(), (x,))
        return output

    @property
    def thresholds(self) -> list[float]:
        """σ(s) of every pruned parameter."""
        return [float(torch.sigmoid(s.detach())) for s in self.s]
