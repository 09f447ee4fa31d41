"""What neurons cost on one core: the exact count of every limited resource.

A core receives, per source neuron (input axon) and group of synapses, one list of synapses (see `formats`). Neurons of
a core are numbered population by population in the network's order, and within one in `core_order`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from hw_targets.chips.chip import Chip
from hw_targets.ir.connectivity import Edges, Ints, edges
from hw_targets.ir.network import Array, ChipNetwork, Population, Synapses
from hw_targets.placement.cores.formats import DELAY_SHIFT, Lists, distinct_lists, total_bits


@dataclass(frozen=True)
class CoreUsage:
    """What one core holds, and the resources that takes.

    `neurons_of` names each population on the core with its neurons there. `input_axons` are distinct source neurons;
    `output_axons` the (neuron, destination core) pairs; `synapses` the non-zero weights; `synaptic_bits` their memory
    (None if the chip's weight width is unknown).
    """

    neurons_of: tuple[tuple[str, int], ...]
    input_axons: int
    output_axons: int
    synapses: int
    synaptic_bits: int | None

    @property
    def population(self) -> str:
        """Name of the population on the core; of several, joined by " + "."""
        return " + ".join(name for name, _ in self.neurons_of)

    @property
    def neurons(self) -> int:
        """Neurons on the core."""
        return sum(count for _, count in self.neurons_of)

    def exceeded(self, chip: Chip) -> tuple[tuple[str, int, int], ...]:
        """Limits of a core that are exceeded: (name of the chip's fact, measured value, limit). Unknown limits pass."""
        pairs = (
            ("neurons_per_core", self.neurons, chip.neurons_per_core),
            ("input_axons_per_core", self.input_axons, chip.input_axons_per_core),
            ("output_axons_per_core", self.output_axons, chip.output_axons_per_core),
            ("synaptic_bits_per_core", self.synaptic_bits, chip.synaptic_bits_per_core),
            ("populations_per_core", len(self.neurons_of), chip.populations_per_core),
        )
        return tuple(
            (key, used, limit) for key, used, limit in pairs if used is not None and limit is not None and used > limit
        )


class Reach(Protocol):
    """Source neurons that some neurons of a core listen to."""

    @property
    def source(self) -> str:
        """Population the neurons belong to."""

    def neurons(self) -> Ints:
        """Their flat indices, ascending, without repeats."""

    def add_to(self, counts: Ints) -> None:
        """Add one to `counts` (flat, one value per neuron of the source) for each."""


class Sources:
    """A `Reach` by plain indices."""

    def __init__(self, source: str, neurons: Ints) -> None:
        self.source = source
        self._neurons = neurons.astype(np.int32)

    def neurons(self) -> Ints:
        """Flat indices."""
        return self._neurons.astype(np.int64)

    def add_to(self, counts: Ints) -> None:
        """Count each once."""
        counts[self._neurons] += 1


@dataclass(frozen=True, eq=False)
class Part:
    """Neurons of a population that share a core, in `core_order`, and what they listen to; `synapses` are non-zero."""

    population: str
    neurons: Ints
    input_axons: int
    synapses: int
    lists: Lists
    reach: tuple[Reach, ...]

    def usage(self, output_axons: int, chip: Chip) -> CoreUsage:
        """Usage of a core that holds this part alone; `output_axons` is what its neurons send to."""
        held = ((self.population, self.neurons.size),)
        return CoreUsage(held, self.input_axons, output_axons, self.synapses, total_bits(self.lists.bits, chip))


def usage_of(parts: Sequence[Part], destinations: Mapping[str, Ints], chip: Chip) -> CoreUsage:
    """Exact usage of a core that holds parts of different populations: equal lists and common sources count once."""
    sends = sum(int(destinations[part.population][part.neurons].sum()) for part in parts)
    if len(parts) == 1:
        return parts[0].usage(sends, chip)
    _, first = np.unique(np.concatenate([part.lists.signature for part in parts]), return_index=True)
    bits = np.concatenate([part.lists.bits for part in parts])[first]
    held = tuple((part.population, part.neurons.size) for part in parts)
    return CoreUsage(held, _joint_axons(parts), sends, sum(part.synapses for part in parts), total_bits(bits, chip))


def _joint_axons(parts: Sequence[Part]) -> int:
    """Distinct source neurons of several parts: neurons are listed only where parts have a source in common."""
    axons = sum(part.input_axons for part in parts)
    for reaches in by_source(parts).values():
        if len(reaches) > 1:
            listed = [reach.neurons() for reach in reaches]
            axons -= sum(neurons.size for neurons in listed) - int(np.unique(np.concatenate(listed)).size)
    return axons


def by_source(parts: Sequence[Part]) -> dict[str, list[Reach]]:
    """What several parts listen to, by source population."""
    found: dict[str, list[Reach]] = {}
    for part in parts:
        for reach in part.reach:
            found.setdefault(reach.source, []).append(reach)
    return found


def joint_neurons(reaches: Sequence[Reach]) -> Ints:
    """Distinct source neurons that several parts listen to in one population, ascending."""
    listed = [reach.neurons() for reach in reaches]
    return listed[0] if len(listed) == 1 else np.unique(np.concatenate(listed))


def core_order(population: Population) -> Ints:
    """Flat neuron indices in the order cores number their neurons: pixel by pixel, channels together.

    A convolution connects all channels of neighbouring pixels, so that this order leaves few gaps in a list.
    """
    flat: Ints = np.arange(population.size, dtype=np.int64).reshape(population.shape)
    return np.moveaxis(flat, 0, -1).reshape(-1) if flat.ndim == 3 else flat.reshape(-1)


class Window:
    """Neurons of one population, prepared so that the cost of any leading part of them is cheap to evaluate."""

    def __init__(
        self, network: ChipNetwork, population: str, targets: npt.ArrayLike, output_axons: Ints, chip: Chip
    ) -> None:
        """Collect and sort the synapses of `targets` (flat indices, in the order the core numbers its neurons).

        `output_axons[n]` is the number of destination cores of neuron n of the population.
        """
        self.targets = np.asarray(targets, dtype=np.int64)
        self._population, self._chip = population, chip
        self._output_axons = np.concatenate(([0], np.cumsum(output_axons[self.targets])))
        groups = network.incoming(population)
        self._sources = _numbered([group.source for group in groups], network)
        self._sort(groups, [edges(group, network, self.targets) for group in groups])

    def _sort(self, groups: Sequence[Synapses], found: list[Edges]) -> None:
        """Sort synapses by (list, target) and keep where each list begins."""
        bases = [self._sources[group.source][0] for group in groups]
        axon = _joined([edge.source + base for edge, base in zip(found, bases, strict=True)])
        which = np.repeat(np.arange(len(found)), [edge.source.size for edge in found])
        ascending = np.argsort(self.targets)
        target = _joined([edge.target for edge in found])
        position = ascending[np.searchsorted(self.targets[ascending], target)]
        order = np.argsort((axon * max(1, len(found)) + which) * (self.targets.size + 1) + position, kind="stable")
        self._position = position[order]
        self._content = _joined([content(g, e) for g, e in zip(groups, found, strict=True)])[order]
        self._list = axon[order] * max(1, len(found)) + which[order]
        self._axon = axon[order]
        first = np.full(sum(size for _, size in self._sources.values()), self.targets.size + 1, dtype=np.int64)
        np.minimum.at(first, self._axon, self._position)
        self._axon_position = first
        self._axon_sorted = np.sort(first)

    def most(self) -> int:
        """Leading targets that the chip's neurons and axons allow, whatever their synapses take; at least one."""
        most, chip = self.targets.size, self._chip
        if chip.neurons_per_core is not None:
            most = min(most, chip.neurons_per_core)
        if chip.input_axons_per_core is not None and self._axon_sorted.size > chip.input_axons_per_core:
            most = min(most, int(self._axon_sorted[chip.input_axons_per_core]))
        if chip.output_axons_per_core is not None:
            most = min(most, int(np.searchsorted(self._output_axons, chip.output_axons_per_core, side="right")) - 1)
        return max(1, most)

    def cost(self, neurons: int) -> CoreUsage:
        """Exact usage of a core that holds the first `neurons` targets of this window."""
        return self._costed(neurons)[0]

    def _costed(self, neurons: int) -> tuple[CoreUsage, Lists]:
        kept = self._position < neurons
        start = np.flatnonzero(np.diff(self._list[kept], prepend=-1))
        lists = distinct_lists(self._position[kept], self._content[kept], start, self._chip)
        usage = CoreUsage(
            ((self._population, neurons),),
            input_axons=int(np.searchsorted(self._axon_sorted, neurons)),
            output_axons=int(self._output_axons[neurons]),
            synapses=int(np.count_nonzero(kept)),
            synaptic_bits=total_bits(lists.bits, self._chip),
        )
        return usage, lists

    def part(self, neurons: int) -> Part:
        """The first `neurons` targets of this window as a part of a core."""
        usage, lists = self._costed(neurons)
        reach = tuple(
            Sources(name, np.flatnonzero(self._axon_position[base : base + size] < neurons))
            for name, (base, size) in self._sources.items()
        )
        targets = self.targets[:neurons]
        return Part(self._population, targets, usage.input_axons, usage.synapses, lists, reach)


def content(group: Synapses, edge: Edges) -> Ints:
    """What a list stores per synapse, as one integer: the weight, and the delay above it."""
    weight = edge.weight.astype(np.int64)
    if group.delay is None:
        return weight
    rows, columns = group.delay.shape
    delay = group.delay[edge.target if rows > 1 else 0, edge.source if columns > 1 else 0].astype(np.int64)
    stored: Ints = weight + (delay << DELAY_SHIFT)
    return stored


def _numbered(names: list[str], network: ChipNetwork) -> Mapping[str, tuple[int, int]]:
    """For each distinct population its (first axon number, size): source neurons numbered one after the other."""
    numbered: dict[str, tuple[int, int]] = {}
    total = 0
    for name in dict.fromkeys(names):
        numbered[name] = (total, network[name].size)
        total += network[name].size
    return numbered


def _joined(parts: list[npt.NDArray[np.int64]] | list[Array]) -> Ints:
    """Integer arrays end to end, as int64; empty if there are none."""
    return np.concatenate([np.zeros(0, np.int64), *(part.astype(np.int64) for part in parts)])
