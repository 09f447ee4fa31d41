"""Pruning that ends within a chip's limit on the synapses a neuron may receive."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from neuroprune.schedules import Schedule


@dataclass(frozen=True)
class Cap:
    """At most `limit` non-zero weights per neuron, reached by a threshold that is higher for the rows over it.

    A row is what one neuron receives: a row of a linear layer's matrix, a kernel of a convolution. While training, the
    number it may keep falls from its length n to the limit, n − (n − limit)·(1 − (1 − x)³), the cubic ramp of gradual
    pruning (Zhu & Gupta, 2017), x being the share of `ramp`·`steps` that is over; a row with more gets the smallest
    threshold that keeps to it. Rows below it keep the common threshold, and after the last planned step all rows are
    within the limit, without a final cut.

    Args:
        limit: synapses per neuron, at least 1, for example 4096 (Loihi 1's input axons per core).
        steps: planned optimizer steps; by default the schedule's, if it has them.
        ramp: share of the steps after which the limit holds, in (0, 1].

    Raises:
        ValueError: values outside their range.
    """

    limit: int
    steps: int | None = None
    ramp: float = 0.75

    def __post_init__(self) -> None:
        if isinstance(self.limit, bool) or not isinstance(self.limit, int) or self.limit < 1:
            raise ValueError(f"Cap: limit must be a whole number of synapses >= 1, got {self.limit!r}")
        if self.steps is not None and self.steps < 1:
            raise ValueError(f"Cap: steps must be at least 1, got {self.steps}")
        if not 0.0 < self.ramp <= 1.0:
            raise ValueError(f"Cap: ramp must lie in 0 … 1, 0 excluded, got {self.ramp}")

    def planned(self, schedule: Schedule) -> int:
        """Planned steps, its own or the schedule's.

        Raises:
            ValueError: neither says.
        """
        steps = self.steps if self.steps is not None else getattr(schedule, "steps", None)
        if not steps:
            raise ValueError(
                f"Cap: {type(schedule).__name__} does not say for how many steps it is planned; give"
                f" Cap({self.limit}, steps=...)"
            )
        return int(steps)

    def allowed(self, fan_in: int, step: int, steps: int) -> int:
        """Synapses a neuron with `fan_in` weights may keep before optimizer step number `step` of `steps`."""
        if fan_in <= self.limit:
            return fan_in
        over = min(1.0, step / max(1.0, math.floor(self.ramp * steps)))
        return round(fan_in - (fan_in - self.limit) * (1.0 - (1.0 - over) ** 3))


def row_thresholds(theta: Tensor, threshold: float, allowed: int) -> Tensor | float:
    """The smallest thresholds ≥ d that leave at most `allowed` weights of each row of θ (first axis: neurons).

    Returns:
        (out, 1, …), or d itself if no row has more.
    """
    magnitude = theta.detach().abs().flatten(1)
    over = torch.count_nonzero(magnitude > threshold, dim=1) > allowed
    if not bool(over.any()):
        return threshold
    rows = magnitude.new_full((theta.shape[0],), threshold)
    rows[over] = torch.kthvalue(magnitude[over], magnitude.shape[1] - allowed, dim=1).values
    return rows.view(-1, *(1,) * (theta.dim() - 1))
