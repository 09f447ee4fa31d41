"""What neurons cost on one core: the exact count of every limited resource.

A core receives, per source neuron (input axon) and group of synapses, one list of synapses (see `formats`). Neurons of
a core are numbered population by population in the network's order, and within one in `core_order`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from hw_targets.chips.chip import Chip
from hw_targets.ir.connectivity import Edges, Ints, edges
from hw_targets.ir.network import Array, ChipNetwork, Population, Synapses
from hw_targets.placement.cores.formats import DELAY_SHIFT, Lists, distinct_lists, fits_slots, total_bits

Scalar = TypeVar("Scalar", bound=np.generic)
Counts: TypeAlias = npt.NDArray[np.integer[Any]] | npt.NDArray[np.bool_]


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


class Reach(NamedTuple):
    """Source neurons that some neurons of a core listen to: `begin` plus each of `offsets`, ascending flat indices.

    Tiles that are translates of each other share their offsets.
    """

    source: str
    size: int
    offsets: npt.NDArray[np.int32]
    begin: int = 0

    def neurons(self) -> npt.NDArray[np.int32]:
        """Flat indices among the `size` neurons of the source."""
        return self.offsets + self.begin if self.begin else self.offsets

    def add_to(self, counts: Counts) -> None:
        """Add one to `counts` (flat, one value per neuron of the source) for each; flags are set."""
        counts[self.neurons()] += True


@dataclass(frozen=True, eq=False)
class Part:
    """Neurons of a population that share a core, in `core_order`, and what they listen to; `synapses` are non-zero.

    `synaptic_bits` is what its lists take on a core of their own (see `formats.total_bits`).
    """

    population: str
    neurons: Ints
    input_axons: int
    synapses: int
    synaptic_bits: int | None
    lists: Lists
    reach: tuple[Reach, ...]

    def usage(self, output_axons: int) -> CoreUsage:
        """Usage of a core that holds this part alone; `output_axons` is what its neurons send to."""
        held = ((self.population, self.neurons.size),)
        return CoreUsage(held, self.input_axons, output_axons, self.synapses, self.synaptic_bits)


def usage_of(parts: Sequence[Part], destinations: Mapping[str, Ints], chip: Chip) -> CoreUsage:
    """Exact usage of a core that holds parts of different populations: equal lists and common sources count once."""
    sends = sum(int(destinations[part.population][part.neurons].sum()) for part in parts)
    if len(parts) == 1:
        return parts[0].usage(sends)
    held = tuple((part.population, part.neurons.size) for part in parts)
    return CoreUsage(held, _joint_axons(parts), sends, sum(part.synapses for part in parts), _joint_bits(parts, chip))


def _joint_bits(parts: Sequence[Part], chip: Chip) -> int | None:
    """Memory of several parts' lists, equal ones stored once: the sum of theirs where none are equal."""
    alone = [part.synaptic_bits for part in parts if part.synaptic_bits is not None]
    if len(alone) < len(parts):
        return None
    signature = np.concatenate([part.lists.signature for part in parts])
    # Each part's signatures ascend, and a stable sort merges runs.
    order = np.argsort(signature, kind="stable")
    ordered = signature[order]
    is_again = np.zeros(order.size, dtype=np.bool_)
    is_again[1:] = ordered[1:] == ordered[:-1]
    if fits_slots(parts[0].lists.bits, chip):
        cheapest = np.concatenate([part.lists.cheapest for part in parts])
        return sum(alone) - int(cheapest[order[is_again]].sum())
    return total_bits(np.concatenate([part.lists.bits for part in parts])[order[~is_again]], chip)


def _joint_axons(parts: Sequence[Part]) -> int:
    """Distinct source neurons of several parts: neurons are marked only where parts have a source in common."""
    axons = sum(part.input_axons for part in parts)
    for reaches in by_source(parts).values():
        if len(reaches) > 1:
            counts = np.zeros(reaches[0].size, np.int16)
            for reach in reaches:
                reach.add_to(counts)
            axons -= int(counts.sum()) - int(np.count_nonzero(counts))
    return axons


def by_source(parts: Sequence[Part]) -> dict[str, list[Reach]]:
    """What several parts listen to, by source population."""
    found: dict[str, list[Reach]] = {}
    for part in parts:
        for reach in part.reach:
            found.setdefault(reach.source, []).append(reach)
    return found


def add_once(reaches: Sequence[Reach], counts: Ints) -> None:
    """Add one to `counts` for each neuron of one population that several parts listen to."""
    if len(reaches) == 1:
        reaches[0].add_to(counts)
    else:
        counts += _heard(reaches)


def values_of(reaches: Sequence[Reach], values: npt.NDArray[Scalar]) -> npt.NDArray[Scalar]:
    """Entries of `values` for the neurons of one population that several parts listen to, each once."""
    return values[reaches[0].neurons() if len(reaches) == 1 else _heard(reaches)]


def _heard(reaches: Sequence[Reach]) -> npt.NDArray[np.bool_]:
    flags = np.zeros(reaches[0].size, dtype=np.bool_)
    for reach in reaches:
        reach.add_to(flags)
    return flags


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
        #: Of the number of targets asked about last, which is most often the one that becomes a part.
        self._costed = lru_cache(maxsize=1)(self._cost)
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
        self._axon, first = np.unique(axon[order], return_index=True)
        self._axon_position = np.minimum.reduceat(self._position, first) if first.size else first
        self._axon_sorted = np.sort(self._axon_position)

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

    def _cost(self, neurons: int) -> tuple[CoreUsage, Lists]:
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
        heard = self._axon[self._axon_position < neurons]
        reach = tuple(
            Reach(name, size, (heard[slice(*np.searchsorted(heard, (base, base + size)))] - base).astype(np.int32))
            for name, (base, size) in self._sources.items()
        )
        targets = self.targets[:neurons]
        return Part(self._population, targets, usage.input_axons, usage.synapses, usage.synaptic_bits, lists, reach)


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
