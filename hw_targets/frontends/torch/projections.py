"""Whether currents are what synapses make of spikes, told from a few random sums of a layer's channels.

A layer's currents y (channels × positions) should be W·x. To compute W·x costs as much as the layer itself; R·y =
(R·W)·x, with R of a few rows drawn from a normal distribution, costs as much as a layer of so few channels (R.
Freivalds, "Fast probabilistic algorithms", 1979). Where y is off by δ at a position, each row of R tells a number drawn
from N(0, ‖δ‖²) from zero.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import isfinite, prod
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from hw_targets.emulation.currents import bias_of, through
from hw_targets.ir.network import Op, Population

#: An op, and the spikes that are seen through it.
Group: TypeAlias = tuple[Op, Tensor]

#: Random sums per position. With `CLOSER`, currents that are off by more than the tolerance pass with a probability of
#: (√(2/π)·CLOSER)^SUMS = 2e-9; the fewer, the cheaper.
SUMS, CLOSER = 8, 0.1
#: Layers of fewer multiplications than this are computed as they are.
_SMALL = 1 << 24


class Sums:
    """Random sums of layers' channels; those of the weights of an op are made once."""

    def __init__(self) -> None:
        self._weights: dict[int, tuple[Op, Tensor]] = {}

    def agree(self, population: Population, model: Tensor, groups: Iterable[Group], tolerance: float) -> bool:
        """Whether currents (T, *shape) are surely Σ op(spikes) + bias, within `tolerance` of the largest.

        False says nothing: the currents may be others, or the layer one that is as quick to compute.

        Args:
            population: that they drive.
            model: the currents.
            groups: its synapses, each with the spikes (T, *source) that it is given.
            tolerance: a part of the largest.
        """
        channels = population.shape[0]
        if len(population.shape) < 3 or channels < 4 * SUMS or model.dtype != torch.float32:
            return False
        bias = bias_of(population, model).expand(population.shape)
        off = torch.matmul(_rows(channels).to(model), (model - bias).reshape(len(model), channels, -1))
        for op, spikes in groups:
            if not op.is_spatial or op.groups != 1 or op.weight.size * prod(model.shape[2:]) * len(model) < _SMALL:
                return False
            off -= through(op, self._of(op).to(model), spikes.to(model)).reshape(off.shape)
        largest = float(model.abs().amax())
        return isfinite(largest) and bool(off.abs().amax() <= CLOSER * tolerance * largest)

    def _of(self, op: Op) -> Tensor:
        """R·W, (sums, in, kH, kW)."""
        if id(op) not in self._weights:
            weight = np.tensordot(_rows(len(op.weight)).numpy(), op.weight, 1)
            self._weights[id(op)] = op, torch.from_numpy(weight)
        return self._weights[id(op)][1]


def _rows(channels: int) -> Tensor:
    """R, (sums, channels)."""
    return torch.randn(SUMS, channels, dtype=torch.float64, generator=torch.Generator().manual_seed(channels))
