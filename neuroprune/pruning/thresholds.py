"""Which thresholds each parameter has in force, given its group's: caps, limits on synapses, the optimizer's metric."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from neuroprune.pruning.costs import Costs
from neuroprune.pruning.fan_in import Cap, Caps, column_thresholds, row_thresholds
from neuroprune.pruning.latent import Latent
from neuroprune.pruning.magnitudes import Layer, capped_threshold, most_growth
from neuroprune.pruning.maps import ProximalMap
from neuroprune.pruning.metric import Preconditioner, has_stepped
from neuroprune.pruning.shards import WHOLE, Shards
from neuroprune.schedules import Schedule


class Pruned(NamedTuple):
    """A pruned parameter, the index of its group, its latent value, its cap, and its limit on fan-out."""

    group: int
    parameter: nn.Parameter
    latent: Latent
    max_sparsity: float
    fan_out: Cap | None = None


class Thresholds:
    """Sets thresholds in force, and says of each parameter what a schedule wants to know.

    Args:
        optimizer: whose parameters.
        schedule: rule for the groups' thresholds.
        proximal: how latent values and thresholds become weights.
        caps: limits on the synapses per neuron.
        precondition: how thresholds are scaled by the optimizer's metric.
        costs: of the weights, by which thresholds are scaled, too.
        shards: of the parameters; what is said of θ here is of the rows of it that are here.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        schedule: Schedule,
        proximal: ProximalMap,
        caps: Caps | None,
        precondition: Preconditioner | None,
        costs: Costs | None,
        shards: Shards = WHOLE,
    ) -> None:
        self._optimizer = optimizer
        self._schedule = schedule
        self._proximal = proximal
        self._caps = caps
        self._planned = 0 if caps is None else caps.steps(schedule)
        self._precondition = precondition
        self._costs = costs
        self._shards = shards

    @property
    def scaled(self) -> bool:
        """Whether every weight has a threshold of its own."""
        return self._precondition is not None or self._costs is not None

    def put_in_force(self, pruned: Pruned, threshold: float, step: int, *, growth: float, renewed: bool) -> None:
        """Set a parameter's threshold before optimizer step number `step`.

        Args:
            pruned: the parameter.
            threshold: its group's.
            step: the number of steps taken.
            growth: by how much `threshold` is above the one before.
            renewed: whether the schedule looked at the weights for it.
        """
        if not self.scaled:
            pruned.latent.threshold = self._capped(pruned, pruned.latent.theta, _own(pruned.latent, threshold), step)
        elif not self._schedule.ranked:
            if growth != 0:
                self._grow(pruned, growth)
        elif renewed or pruned.max_sparsity < 1 or self._caps is not None:
            scale = self._scale(pruned)
            score = scale * pruned.latent.theta
            limit = self._capped(pruned, score, threshold, step)
            zeros = score.abs_() <= limit
            pruned.latent.threshold = _apart(scale.reciprocal_().mul_(limit), pruned.latent.theta.abs(), zeros)

    def start(self, pruned: Pruned, threshold: float) -> None:
        """Set the threshold of a parameter that is new, or back; in a metric it begins at 0 with its first step."""
        if not self.scaled:
            pruned.latent.threshold = self._capped(pruned, pruned.latent.theta, _own(pruned.latent, threshold), step=0)

    def layer(self, pruned: Pruned, threshold: float, pace: float) -> Layer:
        """For `View.distance`; with a metric in units of the group's threshold."""
        latent = pruned.latent
        if not self.scaled:
            zeros = latent.theta.abs() <= latent.threshold if isinstance(latent.threshold, Tensor) else None
            return Layer(latent.theta, threshold, pace, pruned.max_sparsity, zeros)
        if not self._has_scale(pruned):
            return Layer(latent.theta, 0.0, 0.0)
        scale = self._scale(pruned)
        reached = torch.as_tensor(latent.threshold).to(scale) * scale
        return Layer(scale.mul_(latent.theta), reached, pace, pruned.max_sparsity)

    def ranked_layer(self, pruned: Pruned, step: int) -> Layer:
        """For `View.quantile`: |θ|, or with a metric |θ|·hᑫ.

        Weights beyond a limit on their neuron's synapses are zero in any case, and count.
        """
        theta = pruned.latent.theta
        if self.scaled:
            theta = self._scale(pruned).mul_(theta)
        rows = self.limited(pruned.parameter, pruned.fan_out, theta, 0.0, step)
        zeros = theta.abs() <= rows if isinstance(rows, Tensor) else None
        return Layer(theta, 0.0, 1.0, pruned.max_sparsity, zeros)

    def limited(
        self, parameter: nn.Parameter, fan_out: Cap | None, theta: Tensor, threshold: float, step: int
    ) -> float | Tensor:
        """The threshold, raised where a limit on a neuron's synapses cuts before optimizer step number `step`.

        Rows first; of a column, what is left of it then counts.
        """
        limits = self._caps
        if limits is None:
            return threshold
        found: float | Tensor = threshold
        if limits.fan_in is not None:
            fan_in = math.prod(parameter.shape[1:])
            allowed = limits.fan_in.allowed(fan_in, step, self._planned)
            found = row_thresholds(theta, threshold, allowed, self._shards) if allowed < fan_in else threshold
        if fan_out is not None:
            weights = parameter.shape[0] * math.prod(parameter.shape[2:])
            allowed = fan_out.allowed(weights, step, self._planned)
            if allowed < weights:
                found = column_thresholds(theta, found, allowed, parameter, self._shards)
        return found

    def _capped(self, pruned: Pruned, theta: Tensor, threshold: float, step: int) -> float | Tensor:
        cap = pruned.max_sparsity
        threshold = threshold if cap == 1 else capped_threshold(theta, threshold, cap, self._shards)
        return self.limited(pruned.parameter, pruned.fan_out, theta, threshold, step)

    def _grow(self, pruned: Pruned, growth: float) -> None:
        """d ← d + growth/hᑫ, by less where the cap binds; no step of the optimizer, no proximal step either."""
        if not self._has_scale(pruned):
            return
        latent, scale = pruned.latent, self._scale(pruned)
        if not isinstance(latent.threshold, Tensor):
            latent.threshold = torch.full_like(scale, latent.threshold)
        if pruned.max_sparsity < 1:
            most = most_growth(scale * latent.theta, scale * latent.threshold, pruned.max_sparsity, self._shards)
            growth = min(growth, most)
        latent.threshold.add_(scale.reciprocal_().mul_(growth)).clamp_min_(0.0)

    def _scale(self, pruned: Pruned) -> Tensor:
        """(h/c)ᑫ, a new tensor."""
        if self._precondition is None:
            h = torch.ones_like(pruned.latent.theta)
        else:
            h = self._precondition.h(self._optimizer, pruned.group, pruned.parameter, self._shards)
        if self._costs is not None:
            h.div_(self._costs.of(pruned.parameter))
        return self._proximal.scale_(h)

    def _has_scale(self, pruned: Pruned) -> bool:
        """Not before the optimizer has moved the parameter, where its metric is asked for."""
        return self._precondition is None or has_stepped(self._optimizer, pruned.parameter)


def _own(latent: Latent, threshold: float) -> float:
    """The group's threshold, or the learned one of a parameter that learns its own."""
    return threshold if latent.learned is None else latent.learned.threshold


def _apart(threshold: Tensor, magnitude: Tensor, zeros: Tensor) -> Tensor:
    """Thresholds moved, by no more than rounding, to where they zero these weights and no others; in place."""
    below = magnitude * (1.0 - torch.finfo(magnitude.dtype).eps)
    return torch.where(zeros, torch.maximum(threshold, magnitude), torch.minimum(threshold, below), out=threshold)
