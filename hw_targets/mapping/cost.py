"""What a set of neurons costs on one core: the exact count of every limited resource.

A core receives, per source neuron (input axon) and group of synapses, one list of synapses. A list of n synapses whose
targets span m neurons of the core takes, with w weight bits, i index bits, h header bits and entries of k synapses,

    SPARSE: n·(w + i) + ⌈n/k⌉·h      DENSE: m·w + ⌈m/k⌉·(h + i), the gaps filled with zeros

and the cheaper one is stored, rounded up to whole words. Lists with the same weights at the same offsets from their
first target are stored once per core: this is how positions of an image share a convolution kernel.
Sources: NxTF `data_structures.py` (entry format), nengo-loihi `SynapseConfig.bits_per_axon` (sharing of weights).
Where a chip's entry format is unpublished, the weights of the distinct lists alone are counted: a lower bound.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hw_targets.chip import Chip
from hw_targets.connectivity import Edges, Ints, edges
from hw_targets.network import Array, ChipNetwork, Population


@dataclass(frozen=True)
class CoreUsage:
    """What one core holds: neurons of one population, and the resources they take.

    `input_axons` are distinct source neurons; `output_axons` the (neuron, destination core) pairs; `synapses` the
    non-zero weights; `synaptic_bits` their memory (None if the chip's weight width is unknown).
    """

    population: str
    neurons: int
    input_axons: int
    output_axons: int
    synapses: int
    synaptic_bits: int | None

    def exceeded(self, chip: Chip) -> tuple[tuple[str, int, int], ...]:
        """Limits of a core that are exceeded: (name of the chip's fact, measured value, limit). Unknown limits pass."""
        pairs = (
            ("neurons_per_core", self.neurons, chip.neurons_per_core),
            ("input_axons_per_core", self.input_axons, chip.input_axons_per_core),
            ("output_axons_per_core", self.output_axons, chip.output_axons_per_core),
            ("synaptic_bits_per_core", self.synaptic_bits, chip.synaptic_bits_per_core),
        )
        return tuple(
            (key, used, limit) for key, used, limit in pairs if used is not None and limit is not None and used > limit
        )


def core_order(population: Population) -> Ints:
    """Flat neuron indices in the order cores are filled and number their neurons: pixel by pixel, channels together.

    A convolution connects all channels of neighbouring pixels. A core that holds a patch of pixels therefore needs
    few input axons and each source reaches few cores; cores filled channel by channel need the whole image each
    (measured on a 2.4 million synapse network: 57 Loihi cores in this order, 674 in flattened (C, H, W) order).
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
        self._sort([edges(group, network, self.targets) for group in groups], [group.source for group in groups])

    def _sort(self, found: list[Edges], names: list[str]) -> None:
        """Sort synapses by (list, target); keep each list's bounds and axon, and the running hash."""
        bases = [self._sources[name][0] for name in names]
        axon = _joined([edge.source + base for edge, base in zip(found, bases, strict=True)])
        group = np.repeat(np.arange(len(found)), [edge.source.size for edge in found])
        ascending = np.argsort(self.targets)
        target = _joined([edge.target for edge in found])
        position = ascending[np.searchsorted(self.targets[ascending], target)]
        order = np.argsort((axon * max(1, len(found)) + group) * (self.targets.size + 1) + position, kind="stable")
        axon, group, self._position = axon[order], group[order], position[order]
        weight = _joined([edge.weight for edge in found])[order]
        self._start = np.flatnonzero((np.diff(axon, prepend=-1) != 0) | (np.diff(group, prepend=-1) != 0))
        self._stop = np.append(self._start[1:], axon.size)[: self._start.size]
        first = self._position[self._start]
        offset = self._position - np.repeat(first, self._stop - self._start)
        self._hash = np.concatenate((np.zeros(1, np.uint64), np.cumsum(_mix(offset, weight), dtype=np.uint64)))
        by_axon = np.lexsort((first, axon[self._start]))
        self._axon, first = axon[self._start][by_axon], first[by_axon]
        is_first = np.diff(self._axon, prepend=-1) != 0
        self._axon, self._axon_position = self._axon[is_first], first[is_first]
        self._axon_sorted = np.sort(self._axon_position)

    def cost(self, neurons: int) -> CoreUsage:
        """Exact usage of a core that holds the first `neurons` targets of this window."""
        kept = np.concatenate(([0], np.cumsum(self._position < neurons)))
        length = kept[self._stop] - kept[self._start]
        used = length > 0
        start, length = self._start[used], length[used]
        signature = self._hash[start + length] - self._hash[start]
        _, distinct = np.unique(signature, return_index=True)
        span = self._position[start + length - 1] - self._position[start] + 1
        return CoreUsage(
            population=self._population,
            neurons=neurons,
            input_axons=int(np.searchsorted(self._axon_sorted, neurons)),
            output_axons=int(self._output_axons[neurons]),
            synapses=int(length.sum()),
            synaptic_bits=list_bits(length[distinct], span[distinct], self._chip),
        )

    def sources(self, neurons: int) -> Mapping[str, Ints]:
        """Source neurons, per population, that reach the first `neurons` targets of this window."""
        axon = self._axon[self._axon_position < neurons]
        return {
            name: axon[(axon >= base) & (axon < base + size)] - base for name, (base, size) in self._sources.items()
        }


def list_bits(synapses: Ints, span: Ints, chip: Chip) -> int | None:
    """Bits that lists of `synapses` non-zero weights over `span` neighbouring targets take, words rounded up."""
    if chip.weight_bits is None:
        return None
    if chip.index_bits is None or chip.entry_synapses is None or chip.entry_header_bits is None:
        return int(synapses.sum()) * chip.weight_bits
    header, entry = chip.entry_header_bits, chip.entry_synapses
    sparse = synapses * (chip.weight_bits + chip.index_bits) + -(-synapses // entry) * header
    dense = span * chip.weight_bits + -(-span // entry) * (header + chip.index_bits)
    word = chip.word_bits or 1
    return int((-(-np.minimum(sparse, dense) // word) * word).sum())


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


def _mix(offset: Ints, weight: Ints) -> npt.NDArray[np.uint64]:
    """64-bit hash of (offset, weight); a list's hash is the sum over its synapses, modulo 2^64.

    The finaliser of splitmix64 (Steele et al., OOPSLA 2014): chance of one collision among n lists ≈ n²/2^65.
    """
    z = offset.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z ^= weight.astype(np.uint64) * np.uint64(0xD1342543DE82EF95)
    z += np.uint64(0x632BE59BD9B4E019)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
