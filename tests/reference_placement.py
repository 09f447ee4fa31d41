"""Slow twin of the placement: plain loops over Python ints, sharing no code with what it checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from hw_targets.chip import Chip
from hw_targets.network import ChipNetwork, Conv2d, Synapses


class Synapse(NamedTuple):
    """One weight between two neurons, numbered in C order."""

    target: int
    source: int
    weight: int


class Recount(NamedTuple):
    """What one core holds."""

    population: str
    neurons: int
    input_axons: int
    output_axons: int
    synapses: int
    synaptic_bits: int | None


def all_synapses(synapses: Synapses, network: ChipNetwork, zeros: bool = False) -> list[Synapse]:
    """Every synapse of a group whose tap lies inside the image; zero weights only if asked for."""
    op = synapses.op
    found: list[Synapse] = []
    if not isinstance(op, Conv2d):
        for o in range(op.weight.shape[0]):
            for i in range(op.weight.shape[1]):
                found.append(Synapse(o, i, int(op.weight[o, i])))
        return [s for s in found if zeros or s.weight != 0]
    channels, height, width = network[synapses.source].shape
    out_channels, in_channels, rows, columns = op.weight.shape
    _, out_height, out_width = op.output_shape((channels, height, width))
    for o in range(out_channels):
        group = o // (out_channels // op.groups)
        for y in range(out_height):
            for x in range(out_width):
                for c in range(in_channels):
                    for i in range(rows):
                        for j in range(columns):
                            r = y * op.stride[0] + i * op.dilation[0] - op.padding[0]
                            q = x * op.stride[1] + j * op.dilation[1] - op.padding[1]
                            if 0 <= r < height and 0 <= q < width:
                                source = ((group * in_channels + c) * height + r) * width + q
                                target = (o * out_height + y) * out_width + x
                                found.append(Synapse(target, source, int(op.weight[o, c, i, j])))
    return [s for s in found if zeros or s.weight != 0]


def pixel_order(shape: Sequence[int]) -> list[int]:
    """Flat (C, H, W) indices, pixel by pixel, the channels of a pixel together."""
    if len(shape) == 1:
        return list(range(shape[0]))
    channels, height, width = shape
    return [(c * height + y) * width + x for y in range(height) for x in range(width) for c in range(channels)]


def bits_of_list(entries: Sequence[tuple[int, int]], chip: Chip) -> int:
    """Cheapest storage of one list of (target position, weight), sorted by position."""
    assert chip.weight_bits is not None
    if chip.index_bits is None or chip.entry_synapses is None or chip.entry_header_bits is None:
        return chip.weight_bits * len(entries)
    sparse, left = 0, len(entries)
    while left > 0:
        taken = min(left, chip.entry_synapses)
        sparse += chip.entry_header_bits + taken * (chip.weight_bits + chip.index_bits)
        left -= taken
    dense, left = 0, entries[-1][0] - entries[0][0] + 1
    while left > 0:
        taken = min(left, chip.entry_synapses)
        dense += chip.entry_header_bits + chip.index_bits + taken * chip.weight_bits
        left -= taken
    bits = min(sparse, dense)
    while chip.word_bits is not None and bits % chip.word_bits:
        bits += 1
    return bits


def count_core(network: ChipNetwork, population: str, neurons: Sequence[int], chip: Chip, output_axons: int) -> Recount:
    """Usage of a core that holds `neurons`, numbered in this order, of one population."""
    position = {neuron: k for k, neuron in enumerate(neurons)}
    axons: set[tuple[str, int]] = set()
    distinct: set[tuple[tuple[int, int], ...]] = set()
    synapses = bits = 0
    for group in network.incoming(population):
        lists: dict[int, list[tuple[int, int]]] = {}
        for synapse in all_synapses(group, network):
            if synapse.target in position:
                axons.add((group.source, synapse.source))
                lists.setdefault(synapse.source, []).append((position[synapse.target], synapse.weight))
        for entries in lists.values():
            entries.sort()
            synapses += len(entries)
            shape = tuple((place - entries[0][0], weight) for place, weight in entries)
            if shape not in distinct:
                distinct.add(shape)
                bits += bits_of_list(entries, chip) if chip.weight_bits is not None else 0
    known = bits if chip.weight_bits is not None else None
    return Recount(population, len(neurons), len(axons), output_axons, synapses, known)


def destination_counts(network: ChipNetwork, cores: Mapping[str, Sequence[int]]) -> dict[str, list[int]]:
    """Distinct cores each neuron sends to."""
    reached: dict[str, list[set[int]]] = {p.name: [set() for _ in range(p.size)] for p in network.populations}
    for group in network.synapses:
        for synapse in all_synapses(group, network):
            reached[group.source][synapse.source].add(int(cores[group.target][synapse.target]))
    return {name: [len(s) for s in sets] for name, sets in reached.items()}


def recount(network: ChipNetwork, chip: Chip, cores: Mapping[str, Sequence[int]]) -> list[Recount]:
    """Usage of every core, in core order."""
    destinations = destination_counts(network, cores)
    usage: dict[int, Recount] = {}
    for name, assigned in cores.items():
        for core in sorted({int(core) for core in assigned}):
            neurons = [n for n in pixel_order(network[name].shape) if assigned[n] == core]
            sends = sum(destinations[name][n] for n in neurons)
            assert core not in usage, "a core holds two populations"
            usage[core] = count_core(network, name, neurons, chip, sends)
    return [usage[core] for core in sorted(usage)]


def breaks_a_limit(usage: Recount, chip: Chip) -> bool:
    """Whether any published limit is exceeded."""
    pairs = [
        (usage.neurons, chip.neurons_per_core),
        (usage.input_axons, chip.input_axons_per_core),
        (usage.output_axons, chip.output_axons_per_core),
        (usage.synaptic_bits, chip.synaptic_bits_per_core),
    ]
    return any(used is not None and limit is not None and used > limit for used, limit in pairs)
