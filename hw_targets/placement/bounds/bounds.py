"""A lower bound on cores: for each resource what the whole network needs of it, over what one core has.

K cores offer K·L of a resource, so that K ≥ ⌈need / L⌉ if no placement needs less in all. Neurons and axons are counted
so that this is a proof. Memory is the larger of two counts, population by population: whole lists in their cheapest
format, and the weights in the copies that no placement avoids (`copies`, `partitions`), each at the fewest bits of any
format. The second is a proof where equal lists come from equal kernels or columns alone. Chance can make lists of a few
synapses equal, too, and lists can take less memory in pieces; both are rare and small.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from hw_targets.chips.chip import Chip
from hw_targets.ir.connectivity import Ints, edges, fan_out
from hw_targets.ir.network import Array, ChipNetwork, Conv2d, Synapses
from hw_targets.placement.bounds.copies import Geometry, geometry, least_copies
from hw_targets.placement.cores.formats import DELAY_SHIFT, distinct_lists, least_bits_per_synapse, total_bits

FEW_CHANNELS = 4
"""Target channels per source channel below which lists through different taps may well be equal."""


def totals(network: ChipNetwork, chip: Chip) -> dict[str, int]:
    """What the network needs at least of each resource that the chip limits, by the name of the chip's fact.

    Neurons: all that live on the chip. Axons: one per source neuron that has synapses, more where its targets exceed
    the neurons of a core. Memory: each source's synapses to a population as one list in the cheapest format, each
    kernel of a convolution once; or, where that is more, all weights in the copies that they need at least, at the
    fewest bits that a synapse takes.
    """
    on_chip = [p for p in network.populations if not p.is_input]
    found = {"neurons_per_core": sum(p.size for p in on_chip)}
    axons = {p.name: _axons(network, p.name, chip) for p in network.populations}
    found["input_axons_per_core"] = sum(axons.values())
    found["output_axons_per_core"] = sum(axons[p.name] for p in on_chip)
    if chip.weight_bits is not None:
        found["synaptic_bits_per_core"] = sum(
            max(_bits(network, p.name, chip), stored_bits(network, p.name, chip)) for p in on_chip
        )
    return {key: need for key, need in found.items() if getattr(chip, key) is not None}


def lower_bound(network: ChipNetwork, chip: Chip) -> int:
    """Largest of `totals` over the limit of one core, rounded up: no resource alone allows fewer cores."""
    return max(cores_by_resource(totals(network, chip), chip).values(), default=0)


def cores_by_resource(need: Mapping[str, int], chip: Chip) -> dict[str, int]:
    """Cores that each resource alone asks for."""
    return {key: -(-count // getattr(chip, key)) for key, count in need.items()}


def _axons(network: ChipNetwork, name: str, chip: Chip) -> int:
    """Axons that lead from a population at least."""
    assert chip.neurons_per_core is not None
    by_target: dict[str, Ints] = {}
    for group in network.outgoing(name):
        count = fan_out(group, network).reshape(-1)
        by_target[group.target] = np.maximum(by_target.get(group.target, np.zeros_like(count)), count)
    reached = sum(by_target.values(), np.zeros(1, np.int64))
    return int((-(-reached // chip.neurons_per_core)).sum())


def stored_bits(network: ChipNetwork, name: str, chip: Chip) -> int:
    """Bits of `stored_weights`, each at the fewest that a synapse takes, and its delay's beside it where it has one."""
    least, delay = least_bits_per_synapse(chip), chip.delay_bits or 0
    counts = stored_weights(network, name)
    return int(np.floor(sum(count * (least + delay * (held > 0)) for held, count in counts.items()) + 1e-6))


def stored_weights(network: ChipNetwork, name: str) -> dict[int, float]:
    """Weights that the cores of a population store at least, by their delay, if equal lists come from equal kernels.

    A dense layer stores each weight, but equal columns (sources with equal weights to all targets) once. A convolution
    stores each kernel as often as `least_copies` says, equal kernels of different source channels to all target
    channels once. Left out are synapses of differing delays; relays, neurons that listen to a single synapse; and equal
    weights of a kernel whose lists reach few channels: those of a pool, one channel each, are equal throughout.
    """
    found, seen = dict[int, float](), set[tuple[object, ...]]()
    for group in network.incoming(name):
        op, delay = group.op, _one_delay(group)
        if delay is None:
            continue
        # Relays listen to one source with one weight, so that their lists are equal wherever they are.
        relays = np.count_nonzero(op.weight.reshape(len(op.weight), -1), axis=1) <= 1
        weight = np.where(relays.reshape(-1, *[1] * (op.weight.ndim - 1)), 0, op.weight)
        grid: Geometry | None = None
        per_group, copies = len(weight), (weight != 0).astype(float)
        if isinstance(op, Conv2d):
            source = network[group.source].shape
            per_group, grid = len(weight) // op.groups, geometry(op, source)
            weight = _without_ties(weight) if per_group < FEW_CHANNELS else weight
            copies = least_copies(replace(op, weight=weight), source)
        columns = np.ascontiguousarray(weight.swapaxes(0, 1))
        for begin in range(0, len(weight), per_group):
            for column in range(weight.shape[1]):
                kernels = slice(begin, begin + per_group)
                key = (delay, grid, _stripped(columns[column, kernels]).tobytes())
                if key not in seen:
                    found[delay] = found.get(delay, 0.0) + float(copies[kernels, column].sum())
                seen.add(key)
    return found


def _one_delay(group: Synapses) -> int | None:
    """The delay that all synapses of a group have; None where they differ."""
    if group.delay is None:
        return 0
    return int(group.delay.flat[0]) if group.delay.size and (group.delay == group.delay.flat[0]).all() else None


def _without_ties(weight: Array) -> Array:
    """Kernels without the weights that occur more than once in them."""
    kernels = weight.reshape(-1, weight[0, 0].size)
    is_tied = (kernels[:, :, None] == kernels[:, None, :]).sum(axis=2) > 1
    return np.where(is_tied, 0, kernels).reshape(weight.shape)


def _stripped(column: Array) -> Array:
    """A source's weights from its first to its last target; lists begin at their first synapse wherever that is."""
    used = np.flatnonzero(column.reshape(len(column), -1).any(axis=1))
    return column[used[0] : used[-1] + 1] if used.size else column[:0]


def _bits(network: ChipNetwork, name: str, chip: Chip) -> int:
    """Memory of a population's synapses, each list (or kernel, by source channel) whole and stored once."""
    lists, positions, contents = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    base = 0
    for group in network.incoming(name):
        which, position, weight = _lists(group, network)
        lists.append(which + base)
        positions.append(position)
        contents.append(weight + ((_one_delay(group) or 0) << DELAY_SHIFT))
        base += network[group.source].size
    which, position, content = np.concatenate(lists), np.concatenate(positions), np.concatenate(contents)
    order = np.lexsort((position, which))
    start = np.flatnonzero(np.diff(which[order], prepend=-1))
    return total_bits(distinct_lists(position[order], content[order], start, chip).bits, chip) or 0


def _lists(group: Synapses, network: ChipNetwork) -> tuple[Ints, Ints, Ints]:
    """(list, position, weight) of a group's synapses; of a convolution one list per source channel.

    Delays are left out here: a list that is cut between cores stores their bits only where they are needed, unless all
    of its synapses have one.
    """
    op = group.op
    if not isinstance(op, Conv2d):
        found = edges(group, network)
        return found.source, found.target, found.weight.astype(np.int64)
    source = network[group.source].shape
    meets = np.zeros(op.weight.shape[2:], dtype=bool)
    meets[np.ix_(*(_taps_inside(op, k, source[1 + k], op.output_shape(source)[1 + k]) for k in (0, 1)))] = True
    out, within, row, column = np.nonzero((op.weight != 0) & meets)
    which = out // (op.weight.shape[0] // op.groups) * op.weight.shape[1] + within
    # Each channel of a grouped convolution reaches its own, at the same place of its list.
    position = (row * op.weight.shape[3] + column) * op.weight.shape[0] + (out if op.groups == 1 else 0)
    return which, position, op.weight[out, within, row, column].astype(np.int64)


def _taps_inside(op: Conv2d, dimension: int, size: int, targets: int) -> Ints:
    """Taps along rows (0) or columns (1) that fall into the image for some target."""
    kernel, k = op.weight.shape[2 + dimension], dimension
    place = np.arange(targets)[:, None] * op.stride[k] + np.arange(kernel) * op.dilation[k] - op.padding[k]
    return np.flatnonzero(((place >= 0) & (place < size)).any(0))
