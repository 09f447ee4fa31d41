"""Costs that make neurons, channels and axons go: what is left in a weak one costs more than what a strong one has."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from neuroprune.pruning.costs import Costs

#: ε: share of a layer's mean square that every group has, so that the costs of an empty one stay finite.
LEAST = 1e-2
#: Keys of the k-th of several costs are shifted by k times this, more than a model has parameters.
_APART = 1 << 20


class NeuronCosts:
    """Weights of weak neurons cost more than those of strong ones, so that neurons and their inputs empty one by one:

        costs = NeuronCosts(p for p in model.parameters() if p.dim() > 1)
        pruner = prune_to(0.95, optimizer, steps=steps, costs=costs)

    Groups are the rows of a weight, what ends in a neuron or channel, and its columns, what starts from one. With m_g
    the mean of θ² over a group and m that over the layer,

        c = Π_g (m_g/m + ε)^(−s) over the row and the column of a weight, divided by its mean over the layer,

    so that `prune_to` ranks weights by |θ|/√c, their size times the strength of the neurons they connect. It is the
    reweighting of Candès, Wakin & Boyd, "Enhancing Sparsity by Reweighted ℓ1 Minimization" (2008), with the size of a
    group in place of a weight's own. Weights differ more between groups with it, and less within. A neuron that
    nothing reads, or that nothing reaches and that does not fire of itself, is removed from the chip, exactly
    (`hw_targets.to_chip`).

    Latent values of pruned weights count, so that a group can recover. It is made for maps that do not shrink, as
    `prune_to`'s: under a soft threshold |θ| = |w| + d, and groups differ the less the larger d is.

    Args:
        parameters: weights of two or more dimensions whose groups count; others cost the mean.
        axes: 0 for rows, 1 for columns; both by default. Columns of a convolution in several groups of channels stand
            for the inputs of the same place in each.
        strength: s; 1 is as said, more tells groups further apart.
        every: optimizer steps between two looks.

    Raises:
        ValueError: values outside their range.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        *,
        axes: Sequence[int] = (0, 1),
        strength: float = 1.0,
        every: int = 10,
    ) -> None:
        self._parameters = list(parameters)
        if not self._parameters or any(p.dim() < 2 for p in self._parameters):
            raise ValueError(
                "NeuronCosts: expected weights of two or more dimensions, got"
                f" {[tuple(p.shape) for p in self._parameters if p.dim() < 2] or 'none'}"
            )
        if not axes or not set(axes) <= {0, 1} or not 0 < strength < math.inf or every < 1:
            raise ValueError(
                "NeuronCosts: expected axes of 0 and 1, a finite strength > 0 and every >= 1, got"
                f" {tuple(axes)}, {strength} and {every}"
            )
        self.axes, self.strength, self.every = tuple(axes), strength, every
        self._step = 0
        self._costs: dict[nn.Parameter, Tensor] = {}

    def of(self, parameter: nn.Parameter) -> Tensor:
        """c of a parameter's weights, (out, in, 1, …); 1 before the first look and for those not given."""
        found = self._costs.get(parameter)
        return torch.ones((), dtype=parameter.dtype, device=parameter.device) if found is None else found.to(parameter)

    @torch.no_grad()
    def advance(self) -> None:
        """Look at the latent values, which the parameters hold inside an optimizer's step."""
        if self._step % self.every == 0:
            self._costs = {p: group_costs(p, self.axes, self.strength) for p in self._parameters}
        self._step += 1

    def saved(self, parameters: Mapping[nn.Parameter, int]) -> dict[int, Tensor]:
        """The costs by the index of the parameter, and the number of steps as −1."""
        found = {parameters[p]: cost for p, cost in self._costs.items() if p in parameters}
        return {**found, -1: torch.tensor(self._step)}

    def restore(self, state: Mapping[int, Tensor], parameters: Mapping[nn.Parameter, int]) -> None:
        """Take over what `saved` gave."""
        by_index = {index: p for p, index in parameters.items()}
        values = {int(index): value for index, value in state.items()}
        self._step = int(values.pop(-1))
        self._costs = {by_index[index]: value.to(by_index[index].device) for index, value in values.items()}


def group_costs(theta: Tensor, axes: Sequence[int], strength: float) -> Tensor:
    """Π over the axes of (m_g/m + ε)^(−strength), over its mean: m_g is the mean square of a group, m of the layer.

    Args:
        theta: (out, in, …).
        axes: 0 for rows, 1 for columns.
        strength: as for `NeuronCosts`.

    Returns:
        Costs that broadcast to θ, their mean over its weights 1; all 1 where θ is 0 throughout.
    """
    squares = theta.detach().float().square()
    mean = squares.mean().clamp_min(torch.finfo(torch.float32).tiny)
    found = torch.ones((), device=theta.device)
    for axis in axes:
        others = [other for other in range(theta.dim()) if other != axis]
        found = found * (squares.mean(others, keepdim=True) / mean + LEAST).pow(-strength)
    return found / found.mean()


class ProductCosts:
    """Several costs at once, multiplied: `ProductCosts(SynapticCosts(model), NeuronCosts(weights))`.

    Their product has a mean of its own, near 1 where they have little to do with each other.

    Args:
        costs: at least one.

    Raises:
        ValueError: none are given.
    """

    def __init__(self, *costs: Costs) -> None:
        if not costs:
            raise ValueError("ProductCosts: expected at least one, got none")
        # Of a product of products the keys of what is saved would meet.
        self.costs: tuple[Costs, ...] = tuple(
            part for cost in costs for part in (cost.costs if isinstance(cost, ProductCosts) else (cost,))
        )

    def of(self, parameter: nn.Parameter) -> Tensor:
        """The product of theirs."""
        found = self.costs[0].of(parameter)
        for cost in self.costs[1:]:
            found = found * cost.of(parameter)
        return found

    def advance(self) -> None:
        """All of them do."""
        for cost in self.costs:
            cost.advance()

    def saved(self, parameters: Mapping[nn.Parameter, int]) -> dict[int, Tensor]:
        """What each gives, the keys of the k-th shifted by k·2²⁰."""
        return {
            index + k * _APART: value
            for k, cost in enumerate(self.costs)
            for index, value in cost.saved(parameters).items()
        }

    def restore(self, state: Mapping[int, Tensor], parameters: Mapping[nn.Parameter, int]) -> None:
        """Take over what `saved` gave."""
        values = {int(index): value for index, value in state.items()}
        for k, cost in enumerate(self.costs):
            # A key of −1, the number of steps, belongs to those above it.
            own = {index - k * _APART: value for index, value in values.items() if (index + 1) // _APART == k}
            cost.restore(own, parameters)


def kind_of(costs: Costs) -> str:
    """The names of what costs are made of, by which a state says whose it is."""
    if isinstance(costs, ProductCosts):
        return f"{type(costs).__name__}({', '.join(kind_of(part) for part in costs.costs)})"
    return type(costs).__name__
