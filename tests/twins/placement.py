"""Slow twin of the placement: plain loops over Python ints, sharing no code with what it checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import combinations
from typing import NamedTuple

from hw_targets.chips.chip import Chip
from hw_targets.ir.network import ChipNetwork, Conv2d, Op, Shape, Synapses


class Synapse(NamedTuple):
    """One weight between two neurons, numbered in C order."""

    target: int
    source: int
    weight: int


class Recount(NamedTuple):
    """What one core holds."""

    neurons_of: tuple[tuple[str, int], ...]
    input_axons: int
    output_axons: int
    synapses: int
    synaptic_bits: int | None


def all_synapses(synapses: Synapses, network: ChipNetwork, zeros: bool = False) -> tuple[Synapse, ...]:
    """Every synapse of a group whose tap lies inside the image; zero weights only if asked for."""
    return _all_synapses(synapses.op, network[synapses.source].shape, zeros)


@lru_cache(maxsize=64)  # every core of a network asks for the same ones
def _all_synapses(op: Op, source_shape: Shape, zeros: bool) -> tuple[Synapse, ...]:
    found: list[Synapse] = []
    if not isinstance(op, Conv2d):
        for o in range(op.weight.shape[0]):
            for i in range(op.weight.shape[1]):
                found.append(Synapse(o, i, int(op.weight[o, i])))
        return tuple(s for s in found if zeros or s.weight != 0)
    channels, height, width = source_shape
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
    return tuple(s for s in found if zeros or s.weight != 0)


def pixel_order(shape: Sequence[int]) -> list[int]:
    """Flat (C, H, W) indices, pixel by pixel, the channels of a pixel together."""
    if len(shape) == 1:
        return list(range(shape[0]))
    channels, height, width = shape
    return [(c * height + y) * width + x for y in range(height) for x in range(width) for c in range(channels)]


def formats_of(chip: Chip) -> list[tuple[str, int]]:
    """(encoding, field width) pairs a core may use."""
    assert chip.index_bits is not None
    formats = [("dense", 0)]
    for encoding, narrow, wide in (
        ("sparse", chip.index_bits_min, chip.index_bits),
        ("runlength", chip.skip_bits_min, chip.skip_bits),
    ):
        if wide is not None:
            low = wide if narrow is None else narrow
            formats += [(encoding, width) for width in sorted({low, (low + wide) // 2, wide})]
    return formats


def bits_of_list(entries: Sequence[tuple[int, int, int]], encoding: str, width: int, chip: Chip) -> int | None:
    """Storage of one list of (offset, weight, delay), sorted by offset, entry by entry; None if it cannot be stored."""
    assert chip.weight_bits is not None
    assert chip.index_bits is not None
    assert chip.entry_synapses is not None
    assert chip.entry_header_bits is not None
    value = chip.weight_bits
    if any(delay for _, _, delay in entries):
        value += chip.delay_bits or 0
    offsets = [offset for offset, _, _ in entries]
    bits = held = 0
    last = None
    header = chip.entry_header_bits + (0 if encoding == "sparse" else chip.index_bits)
    for offset in offsets:
        zeros = 0
        if last is None:
            opens = True
        elif encoding == "sparse":
            opens = False
            if offset >= 2**width and width != chip.index_bits:
                return None
        elif encoding == "runlength":
            opens = offset - last >= 2**width
        else:
            zeros = offset - last - 1
            opens = zeros * chip.weight_bits > header
            zeros = 0 if opens else zeros
        if opens:
            held = 0
        for _ in range(zeros + 1):
            if held % chip.entry_synapses == 0:
                bits += header
            held += 1
            bits += value + (0 if encoding == "dense" else width)
        last = offset
    if encoding == "sparse" and offsets[-1] + 1 > 2**width and width != chip.index_bits:
        return None
    bits += chip.list_tail_bits or 0
    while chip.word_bits is not None and bits % chip.word_bits:
        bits += 1
    return bits


def cheapest(lists: Sequence[Sequence[tuple[int, int, int]]], chip: Chip) -> int | None:
    """Memory of distinct lists with the best choice of formats for a core's slots."""
    if chip.weight_bits is None:
        return None
    if chip.index_bits is None or chip.entry_synapses is None or chip.entry_header_bits is None:
        extra = chip.delay_bits or 0
        return sum(
            len(entries) * (chip.weight_bits + (extra if any(d for _, _, d in entries) else 0)) for entries in lists
        )
    formats = formats_of(chip)
    slots = min(len(formats), chip.synapse_formats_per_core or len(formats))
    costs = [[bits_of_list(entries, *form, chip) for form in formats] for entries in lists]
    best: int | None = None
    for chosen in combinations(range(len(formats)), slots):
        total = 0
        for row in costs:
            able = [cost for k in chosen if (cost := row[k]) is not None]
            if not able:
                break
            total += min(able)
        else:
            best = total if best is None else min(best, total)
    return best


def count_core(
    network: ChipNetwork, held: Sequence[tuple[str, Sequence[int]]], chip: Chip, output_axons: int
) -> Recount:
    """Usage of a core that holds these neurons of these populations, numbered in this order."""
    axons: set[tuple[str, int]] = set()
    distinct: set[tuple[tuple[int, int, int], ...]] = set()
    synapses = 0
    for name, neurons in held:
        position = {neuron: k for k, neuron in enumerate(neurons)}
        for group in network.incoming(name):
            lists: dict[int, list[tuple[int, int, int]]] = {}
            for synapse in all_synapses(group, network):
                if synapse.target in position:
                    axons.add((group.source, synapse.source))
                    entry = (position[synapse.target], synapse.weight, delay_of(network, group, synapse))
                    lists.setdefault(synapse.source, []).append(entry)
            for entries in lists.values():
                entries.sort()
                synapses += len(entries)
                distinct.add(tuple((place - entries[0][0], weight, delay) for place, weight, delay in entries))
    counts = tuple((name, len(neurons)) for name, neurons in held)
    return Recount(counts, len(axons), output_axons, synapses, cheapest(list(distinct), chip))


def delay_of(network: ChipNetwork, group: Synapses, synapse: Synapse) -> int:
    """Delay of one synapse as the chip holds it: its own, and a step for each layer that its group passes over."""
    early = 0
    if group.source != group.target and not group.immediate:
        early = longest_way(network, group.target) - longest_way(network, group.source) - 1
    if group.delay is None:
        return early
    rows, columns = group.delay.shape
    return early + int(group.delay[synapse.target if rows > 1 else 0][synapse.source if columns > 1 else 0])


def longest_way(network: ChipNetwork, name: str) -> int:
    """Steps of the longest way from an input to a population."""
    ways = [0]
    for group in network.synapses:
        if group.target == name != group.source:
            ways.append(longest_way(network, group.source) + (0 if group.immediate else 1))
    return max(ways)


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
    usage = []
    for core in range(1 + max((max(assigned) for assigned in cores.values()), default=-1)):
        held = []
        for name, assigned in cores.items():
            neurons = [n for n in pixel_order(network[name].shape) if assigned[n] == core]
            if neurons:
                held.append((name, neurons))
        sends = sum(destinations[name][n] for name, neurons in held for n in neurons)
        usage.append(count_core(network, held, chip, sends))
    return usage


def breaks_a_limit(usage: Recount, chip: Chip) -> bool:
    """Whether any published limit is exceeded."""
    pairs = [
        (sum(count for _, count in usage.neurons_of), chip.neurons_per_core),
        (usage.input_axons, chip.input_axons_per_core),
        (usage.output_axons, chip.output_axons_per_core),
        (usage.synaptic_bits, chip.synaptic_bits_per_core),
        (len(usage.neurons_of), chip.populations_per_core),
    ]
    return any(used is not None and limit is not None and used > limit for used, limit in pairs)


def mesh_cost(
    network: ChipNetwork, cores: Mapping[str, Sequence[int]], positions: Sequence[Sequence[int]]
) -> tuple[int, int, int]:
    """(messages × hops on one chip, messages between chips, between cores), one message per neuron and core."""
    hops = between = messages = 0
    pairs = set()
    for group in network.synapses:
        if group.source in cores:
            for synapse in all_synapses(group, network):
                pairs.add((group.source, synapse.source, int(cores[group.target][synapse.target])))
    for name, neuron, receiver in pairs:
        sender = int(cores[name][neuron])
        if sender != receiver:
            messages += 1
            (chip_a, xa, ya), (chip_b, xb, yb) = positions[sender], positions[receiver]
            if chip_a == chip_b:
                hops += abs(xa - xb) + abs(ya - yb)
            else:
                between += 1
    return hops, between, messages
