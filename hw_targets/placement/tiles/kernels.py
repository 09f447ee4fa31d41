"""Non-zero kernel entries of a convolution, and which groups of synapses have the same."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import replace

import numpy as np

from hw_targets.ir.connectivity import Ints
from hw_targets.ir.network import ChipNetwork, Conv2d, Synapses
from hw_targets.placement.cores.formats import DELAY_SHIFT
from hw_targets.placement.tiles.axis import Grid


class Group:
    """Non-zero kernel entries of one group of synapses, sorted by target channel, those in a given order if any."""

    def __init__(self, synapses: Synapses, network: ChipNetwork, order: Ints | None = None) -> None:
        op = synapses.op
        assert isinstance(op, Conv2d)
        if order is not None:
            assert op.groups == 1
            op = replace(op, weight=op.weight[order])
        self.source = synapses.source
        self.is_grouped = op.groups > 1
        channels, height, width = network[synapses.source].shape
        self.shape = (channels, height, width)
        kernel = op.weight.shape[2:]
        self.grids = tuple(
            Grid(*values) for values in zip(kernel, op.stride, op.padding, op.dilation, (height, width), strict=True)
        )
        self.out, within, self.tap_row, self.tap_column = np.nonzero(op.weight)
        self.channel = self.out // (op.weight.shape[0] // op.groups) * op.weight.shape[1] + within
        self._place = (self.channel * kernel[0] + self.tap_row) * kernel[1] + self.tap_column
        self.delay = synapses.uniform_delay
        self.weight = op.weight[self.out, within, self.tap_row, self.tap_column].astype(np.int64)
        self.begins = np.searchsorted(self.out, np.arange(op.weight.shape[0] + 1))

    def read_from(self, source: str) -> Group:
        """The same kernels on another source of the same shape."""
        group = copy(self)
        group.source = source
        return group

    def stored(self, weight: Ints) -> Ints:
        """What lists store of its synapses with these weights, as `cores.cost.content`."""
        return weight + (self.delay << DELAY_SHIFT)

    def next_used(self, channel: int) -> Ints:
        """(source channel, tap row, tap column): first target channel ≥ `channel` with a weight there, or its count."""
        first = np.full((self.shape[0], self.grids[0].kernel, self.grids[1].kernel), self.begins.size - 1, np.int64)
        later = slice(int(self.begins[channel]), None)
        # Of what is assigned to one place the last stays, which is the lowest channel here.
        first.reshape(-1)[self._place[later][::-1]] = self.out[later][::-1]
        return first

    def taps_up_to(self) -> Ints:
        """(target channels + 1, tap row, tap column): non-zero weights of the channels before each."""
        count = np.zeros((self.begins.size, self.grids[0].kernel, self.grids[1].kernel), np.int64)
        np.add.at(count, (self.out + 1, self.tap_row, self.tap_column), 1)
        return np.cumsum(count, axis=0)


def first_alike(groups: Sequence[Synapses], network: ChipNetwork, *, delays: bool = True) -> list[int]:
    """For each group the first with equal kernels on a source of equal shape, which sends equal lists.

    Unless `delays`, lists may differ in these: SEW blocks send through one layer at several.
    """

    def alike(a: Synapses, b: Synapses) -> bool:
        same = a.op.layout == b.op.layout and (not delays or a.uniform_delay == b.uniform_delay)
        same = same and network[a.source].shape == network[b.source].shape
        return same and (a.op.weight is b.op.weight or np.array_equal(a.op.weight, b.op.weight))

    return [next(j for j, other in enumerate(groups) if alike(other, group)) for group in groups]
