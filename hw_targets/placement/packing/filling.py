"""Room left on cores, filled with pieces of a convolution that reads only the network's inputs, or of a pool behind it.

Such a layer is often the largest, needs little memory, and can be cut anywhere at no cost to others: its sources live
off chip, so that smaller tiles raise no core's output axons. Cores that memory or axons fill have room for its neurons.
A pool (one source channel per channel) needs next to no memory; it goes first, so that the layer it reads knows its
output axons when its turn comes.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from hw_targets.chips.chip import Chip
from hw_targets.ir.connectivity import Ints
from hw_targets.ir.network import ChipNetwork
from hw_targets.placement.cores.cost import Part, usage_of
from hw_targets.placement.packing.packing import count_destinations
from hw_targets.placement.tiles.convolution import Convolution, Tile, is_convolution

HEIGHTS = (1, 2, 3, 4, 6, 8)
"""Heights of the bands a population is cut into."""
MANY, FEW_HEIGHTS = 2000, (2, 4)
"""Cores from which on fewer heights are tried."""
UNLIMITED = 1 << 60


class Room(NamedTuple):
    """What a core can still take, and which core (None: an empty one)."""

    core: int | None
    neurons: int
    input_axons: int
    output_axons: int
    bits: int


def can_fill(network: ChipNetwork, name: str) -> bool:
    """Whether a population is a convolution of inputs alone, or pools one that is."""
    if not is_convolution(network, name):
        return False
    return all(
        network[g.source].is_input
        or (g.op.is_spatial and g.op.groups == network[g.source].shape[0] and can_fill(network, g.source))
        for g in network.incoming(name)
    )


def fillers_of(network: ChipNetwork, cut: Container[str]) -> list[str]:
    """Populations among those `cut` in pieces that fill room, sources before targets.

    What one listens to is off chip, or fills room as well: a population that stays where it is would send to more cores
    than it was placed for.
    """
    found: list[str] = []
    for name in network.order:
        if not network[name].is_input and name in cut and can_fill(network, name):
            sources = {group.source for group in network.incoming(name)}
            found += [name] if all(network[source].is_input or source in found for source in sources) else []
    return found


def fill_all(
    network: ChipNetwork, names: Sequence[str], cores: Sequence[Sequence[Part]], chip: Chip
) -> list[list[Part]] | None:
    """`fill` with every population of `fillers_of`, the last one first; None if one fits nowhere."""
    sizes = {p.name: p.size for p in network.populations}
    filled, destinations = [list(parts) for parts in cores], count_destinations(cores, sizes)
    for name in reversed(names):
        found = fill(network, name, filled, destinations, chip)
        if found is None:
            return None
        # Neurons send to other numbers of cores through those alone that took something, and new ones.
        changed = [k for k, parts in enumerate(found) if k >= len(filled) or len(parts) > len(filled[k])]
        before = count_destinations([filled[k] for k in changed if k < len(filled)], sizes)
        after = count_destinations([found[k] for k in changed], sizes)
        destinations = {name: counts + after[name] - before[name] for name, counts in destinations.items()}
        filled = found
    return filled


def fill(
    network: ChipNetwork, name: str, cores: Sequence[Sequence[Part]], destinations: Mapping[str, Ints], chip: Chip
) -> list[list[Part]] | None:
    """The cores, and a population in their room and on cores of its own, as few as were found; None if it fits nowhere.

    `destinations` counts the cores each neuron sends to, which do not depend on how this population is cut.
    """
    convolution = Convolution(network, name, chip)
    rooms = _rooms(cores, destinations, chip)
    heights = HEIGHTS if len(cores) < MANY else FEW_HEIGHTS
    best: list[tuple[int | None, Tile]] | None = None
    for height in heights:
        if height > convolution.shape[1]:
            continue
        found = _Bands(convolution, destinations[name], rooms, chip).cut(height)
        if found is not None and (best is None or _new(found) < _new(best)):
            best = found
    if best is None:
        return None
    result = [list(parts) for parts in cores]
    order = {population: k for k, population in enumerate(network.order)}
    for core, tile in best:
        part = convolution.part(tile)
        together = [] if core is None else sorted((*result[core], part), key=lambda p: order[p.population])
        if core is not None and not usage_of(together, destinations, chip).exceeded(chip):
            result[core] = together
        else:
            result.append([part])
    return result


def _new(tiles: Sequence[tuple[int | None, Tile]]) -> int:
    return sum(core is None for core, _ in tiles)


def _rooms(cores: Sequence[Sequence[Part]], destinations: Mapping[str, Ints], chip: Chip) -> list[Room]:
    """Room of every core that may take one more population, most neurons first."""
    whole = _empty(chip)
    rooms = []
    for index, parts in enumerate(cores):
        if chip.populations_per_core is not None and len(parts) >= chip.populations_per_core:
            continue
        usage = usage_of(parts, destinations, chip)
        used = (usage.neurons, usage.input_axons, usage.output_axons, usage.synaptic_bits or 0)
        rooms.append(Room(index, *(limit - taken for limit, taken in zip(whole[1:], used, strict=True))))
    return sorted(rooms, key=lambda room: -room.neurons)


def _empty(chip: Chip) -> Room:
    limits = (
        chip.neurons_per_core,
        chip.input_axons_per_core,
        chip.output_axons_per_core,
        None if chip.weight_bits is None else chip.synaptic_bits_per_core,
    )
    return Room(None, *(UNLIMITED if limit is None else limit for limit in limits))


class _Bands:
    """A population cut into bands of rows, and each band from left to right into what the next room can take."""

    def __init__(self, convolution: Convolution, sends: Ints, rooms: Sequence[Room], chip: Chip) -> None:
        self._convolution, self._chip = convolution, chip
        self._channels, self._height, self._width = convolution.shape
        sent = sends.reshape(convolution.shape).sum(0)
        self._sent = np.pad(sent.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
        self._rooms, self._whole = list(rooms), _empty(chip)

    def cut(self, height: int) -> list[tuple[int | None, Tile]] | None:
        """(core, tile) pairs that cover the population; None if a core of its own cannot take one column of a band."""
        found: list[tuple[int | None, Tile]] = []
        for top in range(0, self._height, height):
            rows = (top, min(top + height, self._height))
            left = 0
            while left < self._width:
                room, right = self._next(rows, left)
                if right == left:
                    return None
                found.append((room.core, Tile((0, self._channels), rows, (left, right))))
                left = right
        return found

    def _next(self, rows: tuple[int, int], left: int) -> tuple[Room, int]:
        """The room to fill next and how far it reaches: the last one that reaches the end of the band, or the first."""
        while self._rooms:
            right = self._reach(self._rooms[0], rows, left)
            if right == left:
                self._rooms.pop(0)
                continue
            if right < self._width:
                return self._rooms.pop(0), right
            for index in range(len(self._rooms) - 1, 0, -1):
                if self._fits(self._rooms[index], rows, left, right):
                    return self._rooms.pop(index), right
            return self._rooms.pop(0), right
        return self._whole, self._reach(self._whole, rows, left)

    def _reach(self, room: Room, rows: tuple[int, int], left: int) -> int:
        """The column up to which a room can take a band from `left` on; `left` if nothing fits."""
        most = min(self._width - left, room.neurons // (self._channels * (rows[1] - rows[0])))
        if most < 1 or not self._fits(room, rows, left, left + 1):
            return left
        fits, fails = 1, most + 1
        probe = most
        while fails - fits > 1:
            if self._fits(room, rows, left, left + probe):
                fits = probe
            else:
                fails = probe
            probe = (fits + fails) // 2
        return left + fits

    def _fits(self, room: Room, rows: tuple[int, int], left: int, right: int) -> bool:
        if self._channels * (rows[1] - rows[0]) * (right - left) > room.neurons:
            return False
        sent = self._sent[[[rows[0]], [rows[1]]], [left, right]]
        if int(sent[0, 0] + sent[1, 1] - sent[0, 1] - sent[1, 0]) > room.output_axons:
            return False
        cost = self._convolution.cost(Tile((0, self._channels), rows, (left, right)))
        return cost.input_axons <= room.input_axons and (cost.synaptic_bits or 0) <= room.bits
