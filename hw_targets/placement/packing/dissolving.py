"""Emptying the lightest cores: their neurons move, in pieces, into the room that other cores have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from hw_targets.chips.chip import Chip
from hw_targets.ir.connectivity import Ints
from hw_targets.ir.network import ChipNetwork
from hw_targets.placement.cores.cost import CoreUsage, Part, Window, usage_of
from hw_targets.placement.packing.packing import LIMITS, count_destinations
from hw_targets.placement.tiles.convolution import Convolution, Tile, as_tile, is_convolution

MOST_CORES, MOST_FAILURES = 256, 3
"""Cores up to which this is tried, and light cores that may fail before it ends."""


def dissolve(network: ChipNetwork, cores: Sequence[Sequence[Part]], chip: Chip) -> list[list[Part]]:
    """The same neurons on as many cores or fewer. A core goes if every piece of it fits elsewhere, counted exactly.

    More cores listening to a neuron cost its core output axons, so all cores are checked again before one goes.
    """
    result = [list(parts) for parts in cores]
    if len(result) > MOST_CORES or any(group.is_recurrent for group in network.synapses):
        return result
    pieces = _Pieces(network, chip)
    sizes = {p.name: p.size for p in network.populations}
    failures = 0
    while len(result) > 1 and failures < MOST_FAILURES:
        destinations = count_destinations(result, sizes)
        usages = [usage_of(parts, destinations, chip) for parts in result]
        order = sorted(range(len(result)), key=lambda k: max(_fractions(usages[k], chip)))
        for index in order[failures:]:
            found = _without(result, index, order, destinations, pieces)
            if found is not None and _all_fit(found, sizes, chip):
                result, failures = found, 0
                break
            failures += 1
            if failures == MOST_FAILURES:
                break
        else:
            break
    return result


def _all_fit(cores: Sequence[Sequence[Part]], sizes: Mapping[str, int], chip: Chip) -> bool:
    destinations = count_destinations(cores, sizes)
    return not any(usage_of(parts, destinations, chip).exceeded(chip) for parts in cores)


def _fractions(usage: CoreUsage, chip: Chip) -> list[float]:
    """How much of each known limit a core uses."""
    values = (usage.neurons, usage.input_axons, usage.output_axons, usage.synaptic_bits or 0)
    return [v / limit for v, key in zip(values, LIMITS, strict=True) if (limit := getattr(chip, key)) is not None]


def _without(
    cores: Sequence[list[Part]], index: int, order: Sequence[int], destinations: Mapping[str, Ints], pieces: _Pieces
) -> list[list[Part]] | None:
    """All cores but one, whose parts are spread over the others, those of most room first; None if some are left."""
    result = [list(parts) for parts in cores]
    for part in cores[index]:
        left: Part | None = part
        for core in order:
            if left is None:
                break
            if core != index:
                result[core], left = pieces.moved(left, result[core], destinations)
        if left is not None:
            return None
    return result[:index] + result[index + 1 :]


class _Pieces:
    """Cuts parts, and puts pieces on cores."""

    def __init__(self, network: ChipNetwork, chip: Chip) -> None:
        self._network, self._chip = network, chip
        self._order = {name: k for k, name in enumerate(network.order)}
        self._convolutions: dict[str, Convolution | None] = {}

    def moved(self, part: Part, core: list[Part], destinations: Mapping[str, Ints]) -> tuple[list[Part], Part | None]:
        """A core with the largest piece of a part that it can take, and what is left of the part."""
        chip, kinds = self._chip, len(core) + 1
        if any(p.population == part.population for p in core):
            return core, part
        if chip.populations_per_core is not None and kinds > chip.populations_per_core:
            return core, part
        used = sum(p.neurons.size for p in core)
        units, unit = self._units(part)
        assert chip.neurons_per_core is not None
        fits, fails = 0, min(units, (chip.neurons_per_core - used) // unit) + 1
        best: tuple[list[Part], Part | None] = (core, part)
        probe = fails - 1
        while fails - fits > 1:
            first, rest = self._split(part, probe)
            together = sorted((*core, first), key=lambda p: self._order[p.population])
            if usage_of(together, destinations, chip).exceeded(chip):
                fails = probe
            else:
                fits, best = probe, (together, rest)
            probe = (fits + fails) // 2
        return best

    def _units(self, part: Part) -> tuple[int, int]:
        """Into how many pieces a part may be cut at most, and the neurons of each: channels of a tile, or neurons."""
        tile = self._tile(part)
        if tile is None:
            return part.neurons.size, 1
        channels = tile[0][1] - tile[0][0]
        return channels, part.neurons.size // channels

    def _split(self, part: Part, count: int) -> tuple[Part, Part | None]:
        """The first units of a part, and the others."""
        tile, convolution = self._tile(part), self._convolution(part.population)
        if count == self._units(part)[0]:
            return part, None
        if tile is not None and convolution is not None:
            (low, high), rows, columns = tile
            both = [Tile(c, rows, columns) for c in ((low, low + count), (low + count, high))]
            return convolution.part(both[0]), convolution.part(both[1])
        return self._window(part.population, part.neurons[:count]), self._window(part.population, part.neurons[count:])

    def _window(self, name: str, neurons: Ints) -> Part:
        sends = np.zeros(self._network[name].size, np.int64)
        return Window(self._network, name, neurons, sends, self._chip).part(neurons.size)

    def _tile(self, part: Part) -> Tile | None:
        if self._convolution(part.population) is None:
            return None
        return as_tile(self._network[part.population].shape, part.neurons)

    def _convolution(self, name: str) -> Convolution | None:
        if name not in self._convolutions:
            fits = is_convolution(self._network, name)
            self._convolutions[name] = Convolution(self._network, name, self._chip) if fits else None
        return self._convolutions[name]
