"""Exact cost of rectangular tiles (channels × rows × columns) of a convolutional population, from one list per class.

All source neurons of a channel whose row and column lie in the same classes (see `axis`) send the same list to a tile.
A tile's lists are therefore those of one representative per class, however large it is, and tiles of equal classes
cost the same.
"""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hw_targets.chips.chip import Chip
from hw_targets.ir.connectivity import Ints
from hw_targets.ir.network import ChipNetwork
from hw_targets.placement.cores.cost import Part, Reach, core_order
from hw_targets.placement.cores.formats import Lists, distinct_lists, total_bits
from hw_targets.placement.tiles.axis import Axis, axis
from hw_targets.placement.tiles.kernels import Group, first_alike

Mask = npt.NDArray[np.bool_]


class Tile(NamedTuple):
    """Channels, rows and columns [begin, end) of a population."""

    channels: tuple[int, int]
    rows: tuple[int, int]
    columns: tuple[int, int]

    @property
    def extent(self) -> tuple[int, int, int]:
        """Channels, rows, columns."""
        return tuple(high - low for low, high in self)  # type: ignore[return-value]  # a NamedTuple of three


class TileCost(NamedTuple):
    """What all tiles of equal classes share; `used[g]` says which (channel, row class, column class) send to them."""

    input_axons: int
    synapses: int
    synaptic_bits: int | None
    lists: Lists
    used: tuple[Mask, ...]


class Convolution:
    """A population all of whose synapses are convolutions, prepared for the cost of any tile."""

    def __init__(self, network: ChipNetwork, population: str, chip: Chip, channels: Ints | None = None) -> None:
        """`channels` are all channels in the order that tiles count them in; cores number neurons as ever."""
        self.name, self.shape = population, network[population].shape
        self._channels = np.arange(self.shape[0], dtype=np.int64) if channels is None else channels
        incoming = network.incoming(population)
        self.first_alike = first_alike(incoming, network)
        self.kernels = sorted(set(self.first_alike))
        #: For each group the first whose lists are the same but for the delay.
        self.undelayed = first_alike(incoming, network, delays=False)
        self.groups: list[Group] = []
        for synapses, first in zip(incoming, self.first_alike, strict=True):
            is_new = first == len(self.groups)
            self.groups.append(
                Group(synapses, network, channels) if is_new else self.groups[first].read_from(synapses.source)
            )
        self._chip = chip
        self._costs: dict[tuple[object, ...], TileCost] = {}
        self._offsets: dict[tuple[object, ...], list[npt.NDArray[np.int32]]] = {}
        self._kinds: dict[tuple[object, ...], int] = {}
        self.axis = lru_cache(maxsize=None)(self._axis)
        self.kind = lru_cache(maxsize=None)(self._kind)
        self.next_used = lru_cache(maxsize=512)(self._next_used)

    def _axis(self, dimension: int, low: int, high: int) -> tuple[Axis, ...]:
        """Classes of every group along rows (0) or columns (1)."""
        found: list[Axis] = []
        for group, first in zip(self.groups, self.first_alike, strict=True):
            is_new = first == len(found)
            found.append(axis(group.grids[dimension], low, high) if is_new else found[first])
        return tuple(found)

    def _kind(self, dimension: int, low: int, high: int) -> int:
        """The same number for rows (0) or columns (1) that sources reach in the same way."""
        found = tuple((axis.classes, axis.of_row) for axis in self.axis(dimension, low, high))
        return self._kinds.setdefault((high - low, found), len(self._kinds))

    def _next_used(self, group: int, channel: int) -> Ints:
        first = self.undelayed[group]
        return self.groups[group].next_used(channel) if first == group else self.next_used(first, channel)

    def bits_at_most(self, tile: Tile) -> int:
        """A cheap upper bound on a tile's memory: all its lists SPARSE with the widest index, no two of them equal."""
        chip, synapses, lists = self._chip, 0, 0
        rows, columns = self.axis(0, *tile.rows), self.axis(1, *tile.columns)
        for k in self.kernels:
            group, row, column = self.groups[k], rows[k], columns[k]
            entries = int(group.begins[tile.channels[1]] - group.begins[tile.channels[0]])
            times = [
                a.by_tap(grid.kernel)[0].max(initial=0) for a, grid in zip((row, column), group.grids, strict=True)
            ]
            stored = entries * int(times[0] * times[1])
            synapses += stored
            lists += min(stored, group.shape[0] * len(row.classes) * len(column.classes))
        header, per_entry = chip.entry_header_bits or 0, chip.entry_synapses or 1
        per_list = header + (chip.list_tail_bits or 0) + (chip.word_bits or 1) - 1
        delay = (chip.delay_bits or 0) if any(group.delay for group in self.groups) else 0
        per_synapse = (chip.weight_bits or 0) + delay + (chip.index_bits or 0)
        return synapses * per_synapse + synapses // per_entry * header + lists * per_list

    def cost(self, tile: Tile) -> TileCost:
        """Exact cost; computed once for tiles of equal classes."""
        rows, columns = self.axis(0, *tile.rows), self.axis(1, *tile.columns)
        key = tile.channels, self.kind(0, *tile.rows), self.kind(1, *tile.columns)
        if key not in self._costs:
            self._costs[key] = self._cost(tile, rows, columns)
        return self._costs[key]

    def neurons(self, tile: Tile) -> Ints:
        """Flat indices in `core_order`."""
        _, height, width = self.shape
        pixels = (np.arange(*tile.rows)[:, None] * width + np.arange(*tile.columns)).reshape(-1, 1)
        planes = np.sort(self._channels[slice(*tile.channels)]) * (height * width)
        found: Ints = (pixels + planes).reshape(-1)
        return found

    def planes(self, values: Ints) -> Ints:
        """One value per neuron as (C, H, W), channels in the order that tiles count them in."""
        return values.reshape(self.shape)[self._channels]

    def part(self, tile: Tile) -> Part:
        """The tile as a part of a core."""
        cost, rows, columns = self.cost(tile), self.axis(0, *tile.rows), self.axis(1, *tile.columns)
        key = tile.channels, self.kind(0, *tile.rows), self.kind(1, *tile.columns)
        if key not in self._offsets:
            several = zip(self.groups, cost.used, rows, columns, strict=True)
            self._offsets[key] = [_offsets(group.shape, used, row, column) for group, used, row, column in several]
        reach = tuple(
            Reach(group.source, prod(group.shape), offsets, row.begin * group.shape[2] + column.begin)
            for group, offsets, row, column in zip(self.groups, self._offsets[key], rows, columns, strict=True)
        )
        return Part(
            self.name, self.neurons(tile), cost.input_axons, cost.synapses, cost.synaptic_bits, cost.lists, reach
        )

    def _cost(self, tile: Tile, rows: tuple[Axis, ...], columns: tuple[Axis, ...]) -> TileCost:
        base = 0
        # A core numbers its channels by index, whatever the order in which tiles count them.
        rank = np.argsort(np.argsort(self._channels[slice(*tile.channels)]))
        alike: dict[int, _Sorted] = {}
        lists, positions, contents = [], [], []
        for k in self.kernels:
            first = self.undelayed[k]
            if first not in alike:
                alike[first] = _sorted(self.groups[first], tile, rows[first], columns[first], rank)
            found = alike[first]
            lists.append(found.which + base)
            positions.append(found.position)
            contents.append(self.groups[k].stored(found.weight))
            base += found.used.size
        if not lists:
            empty = np.zeros(0, np.int64)
            return self._counted(0, 0, distinct_lists(empty, empty, empty, self._chip), ())
        groups = [alike[first] for first in self.undelayed]
        axons, synapses = sum(one.axons for one in groups), sum(one.synapses for one in groups)
        start = np.flatnonzero(np.diff(np.concatenate(lists), prepend=-1))
        distinct = distinct_lists(np.concatenate(positions), np.concatenate(contents), start, self._chip)
        return self._counted(axons, synapses, distinct, tuple(one.used for one in groups))

    def _counted(self, axons: int, synapses: int, lists: Lists, used: tuple[Mask, ...]) -> TileCost:
        return TileCost(axons, synapses, total_bits(lists.bits, self._chip), lists, used)


def _offsets(shape: tuple[int, int, int], used: Mask, row: Axis, column: Axis) -> npt.NDArray[np.int32]:
    """Flat indices of the source neurons of used classes, ascending from the first row and column that are reached."""
    rows, columns = row.row_classes, column.row_classes
    mask = used.take(rows, axis=1).take(columns, axis=2)
    mask &= (rows >= 0)[:, None] & (columns >= 0)
    channel, i, j = np.nonzero(mask)
    return ((channel * shape[1] + i) * shape[2] + j).astype(np.int32)


class _Sorted(NamedTuple):
    """Synapses of a group's lists by (list, position), and which (channel, row class, column class) have any."""

    which: Ints
    position: Ints
    weight: Ints
    used: Mask
    axons: int
    synapses: int


def _sorted(group: Group, tile: Tile, row: Axis, column: Axis, rank: Ints) -> _Sorted:
    which, position, weight = _representatives(group, tile, row, column, rank)
    shape = (group.shape[0], len(row.classes), len(column.classes))
    length = np.bincount(which, minlength=int(np.prod(shape))).reshape(shape)
    each = row.row_counts[:, None] * column.row_counts
    order = np.argsort(which * prod(tile.extent) + position)
    used = length > 0
    counts = int((used * each).sum()), int((length * each).sum())
    return _Sorted(which[order], position[order], weight[order], used, *counts)


def _representatives(group: Group, tile: Tile, row: Axis, column: Axis, rank: Ints) -> tuple[Ints, Ints, Ints]:
    """(list, position on the core, weight) of the synapses of one source neuron per channel and class.

    `rank` is where each of the tile's channels comes on the core.
    """
    low, high = tile.channels
    entries = slice(int(group.begins[low]), int(group.begins[high]))
    tap_row, tap_column = group.tap_row[entries], group.tap_column[entries]
    times_row, class_row, at_row = row.by_tap(group.grids[0].kernel)
    times_column, class_column, at_column = column.by_tap(group.grids[1].kernel)
    times = times_row[tap_row] * times_column[tap_column]
    entry = np.repeat(np.arange(times.size), times)
    within = np.arange(entry.size) - np.repeat(np.cumsum(times) - times, times)
    i, j = tap_row[entry], tap_column[entry]
    a, b = np.divmod(within, times_column[j])
    channels, _, width = tile.extent
    out = rank[group.out[entries][entry] - low]
    position = (at_row[i, a] * width + at_column[j, b]) * channels + out
    which = (group.channel[entries][entry] * len(row.classes) + class_row[i, a]) * len(column.classes)
    return which + class_column[j, b], position, group.weight[entries][entry]


def is_convolution(network: ChipNetwork, name: str) -> bool:
    """Whether all synapses of a population are convolutions from different populations onto its own grid."""
    groups = network.incoming(name)
    sources = [group.source for group in groups]
    return (
        len(network[name].shape) == 3
        and len(set(sources)) == len(sources) > 0
        and name not in sources
        and all(
            g.op.is_spatial
            and (g.delay is None or g.delay.size == 1)
            and g.op.output_shape(network[g.source].shape) == network[name].shape
            for g in groups
        )
    )


def as_tile(shape: tuple[int, ...], neurons: Ints) -> Tile | None:
    """The rectangle that some neurons (flat indices) fill; None if they fill none."""
    bounds = tuple((int(part.min()), int(part.max()) + 1) for part in np.unravel_index(neurons, shape))
    tile = Tile(*bounds)
    return tile if int(np.prod(tile.extent)) == neurons.size else None


__all__ = ["Convolution", "Tile", "TileCost", "as_tile", "core_order", "is_convolution"]
