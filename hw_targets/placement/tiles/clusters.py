"""Orders of neurons, or of a convolution's channels, in which neighbours listen to the same sources."""

from __future__ import annotations

import numpy as np

from hw_targets.chips.chip import Chip
from hw_targets.ir.connectivity import Ints, edges
from hw_targets.ir.network import ChipNetwork, Conv2d
from hw_targets.placement.tiles.kernels import first_alike

FEW_TAPS = 0.5
"""Part of a layer's weights up to which its channels may listen to different sources."""
MANY_CORES = 100
"""Cores that the axons of a layer fill from which on its channels are sorted; smaller ones are packed well without."""
UNLIMITED = 1 << 40


def by_shared_sources(network: ChipNetwork, name: str, chip: Chip) -> Ints:
    """Flat indices of a population, greedily ordered so that runs which about fill a core share their sources.

    A run begins with the unplaced neuron of largest fan-in; the neuron that adds the fewest sources to the run follows,
    of equals the one that shares most. Time grows with neurons² plus runs × synapses.
    """
    size = network[name].size
    target, source = _pairs(network, name)
    fan_in = np.bincount(target, minlength=size)
    by_target = np.concatenate(([0], np.cumsum(fan_in)))
    sources = int(source.max(initial=-1)) + 1
    order = np.argsort(source, kind="stable")
    listeners = target[order]
    by_source = np.concatenate(([0], np.cumsum(np.bincount(source, minlength=sources))))
    left = np.ones(size, dtype=bool)
    result: list[int] = []
    while len(result) < size:
        heard = np.zeros(sources, dtype=bool)
        shared = np.zeros(size, dtype=np.int64)
        chosen, count, synapses = int(np.argmax(np.where(left, fan_in, -1))), 0, 0
        while True:
            left[chosen] = False
            result.append(chosen)
            count, synapses = count + 1, synapses + int(fan_in[chosen])
            mine = source[by_target[chosen] : by_target[chosen + 1]]
            new = mine[~heard[mine]]
            heard[new] = True
            if new.size:
                gains = np.concatenate([listeners[by_source[s] : by_source[s + 1]] for s in new.tolist()])
                shared += np.bincount(gains, minlength=size)
            added = (fan_in - shared) * (size + 1) * 2 - shared
            chosen = int(np.argmin(np.where(left, added, np.iinfo(np.int64).max)))
            axons = int(heard.sum() + fan_in[chosen] - shared[chosen])
            if not left[chosen] or _is_full(count + 1, axons, synapses + int(fan_in[chosen]), chip):
                break
    return np.array(result, dtype=np.int64)


def channels_by_shared_sources(network: ChipNetwork, name: str, sends: Ints, chip: Chip) -> Ints | None:
    """An order of a convolution's channels in which those of a core share their sources; None where any will do.

    That is where a layer takes few cores, where a pixel's channels fit on one, where most weights are there, so that
    all share alike, and where a convolution is grouped. Otherwise runs of channels are gathered as neurons are in
    `by_shared_sources`, for one pixel in the middle of the image. `sends` counts the cores each neuron sends to.
    """
    groups = network.incoming(name)
    if any(not isinstance(group.op, Conv2d) or group.op.groups > 1 for group in groups):
        return None
    alike = first_alike(groups, network, delays=False)
    kernels = [groups[k].op.weight.reshape(network[name].shape[0], -1) != 0 for k in sorted(set(alike))]
    listened = np.concatenate(kernels, axis=1)
    times = np.repeat([alike.count(k) for k in sorted(set(alike))], [kernel.shape[1] for kernel in kernels])
    if np.count_nonzero(listened) > FEW_TAPS * listened.size:
        return None
    channels, sent = len(listened), sends.reshape(len(listened), -1).mean(axis=1)
    inputs, outputs = chip.input_axons_per_core or UNLIMITED, chip.output_axons_per_core or UNLIMITED
    to_a_pixel = max(times[listened.any(axis=0)].sum() / inputs, sent.sum() / outputs)
    if to_a_pixel <= 1 or to_a_pixel * network[name].size < MANY_CORES * channels:
        return None
    by_source = np.ascontiguousarray(listened.T) * times.astype(np.int32)[:, None]
    fan_in = by_source.sum(axis=0)
    left = np.ones(channels, dtype=bool)
    result: list[int] = []
    while len(result) < channels:
        heard, shared = np.zeros(listened.shape[1], dtype=bool), np.zeros(channels, np.int64)
        chosen, axons, spent = int(np.argmax(np.where(left, fan_in, -1))), 0.0, 0.0
        while True:
            left[chosen] = False
            result.append(chosen)
            new = listened[chosen] & ~heard
            heard |= new
            shared += by_source[new].sum(axis=0)
            axons, spent = axons + times[new].sum(), spent + sent[chosen]
            added = np.where(left, fan_in - shared, UNLIMITED)
            chosen = int(np.argmin(added))
            if not left[chosen] or axons + added[chosen] > inputs or spent + sent[chosen] > outputs:
                break
    return np.array(result, dtype=np.int64)


def common_sources(network: ChipNetwork, name: str, samples: int = 5) -> float:
    """Part of a neuron's sources that the neuron most like it shares: the median over some neurons."""
    size = network[name].size
    target, source = _pairs(network, name)
    begins = np.searchsorted(target, np.arange(size + 1))
    found = [0.0]
    for neuron in np.linspace(0, size - 1, samples, dtype=np.int64).tolist():
        mine = source[begins[neuron] : begins[neuron + 1]]
        shared = np.bincount(target[np.isin(source, mine)], minlength=size)
        shared[neuron] = 0
        found.append(float(shared.max(initial=0)) / max(1, mine.size))
    return float(np.median(found))


def _is_full(neurons: int, axons: int, synapses: int, chip: Chip) -> bool:
    """Whether a core could hardly hold this much."""
    memory = synapses * ((chip.weight_bits or 0) + (chip.index_bits_min or chip.index_bits or 0))
    pairs = (
        (neurons, chip.neurons_per_core),
        (axons, chip.input_axons_per_core),
        (memory, chip.synaptic_bits_per_core),
    )
    return any(limit is not None and used > limit for used, limit in pairs)


def _pairs(network: ChipNetwork, name: str) -> tuple[Ints, Ints]:
    """Distinct (target, source) pairs of all groups, sorted by target; sources of all populations numbered in a row."""
    bases: dict[str, int] = {}
    keys = [np.zeros(0, np.int64)]
    total = sum(network[s].size for s in dict.fromkeys(g.source for g in network.incoming(name)))
    for group in network.incoming(name):
        base = bases.setdefault(group.source, sum(network[s].size for s in bases))
        found = edges(group, network)
        keys.append(found.target * total + found.source + base)
    target, source = np.divmod(np.unique(np.concatenate(keys)), max(1, total))
    return target, source
