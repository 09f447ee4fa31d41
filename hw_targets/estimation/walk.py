"""Spikes followed to the cores they reach, block by block of cores, so that memory stays bounded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod

import numpy as np
import numpy.typing as npt

from hw_targets.estimation.mesh import ENTRY, hops
from hw_targets.estimation.times import Seconds, StepLoad, Times
from hw_targets.ir.activity import Activity
from hw_targets.ir.connectivity import Ints, edges
from hw_targets.ir.depth import depths
from hw_targets.ir.network import Dense, Graph, Synapses
from hw_targets.placement import Placement
from hw_targets.placement.placement import placed_populations

CORES_AT_ONCE, EDGES_AT_ONCE, VALUES_AT_ONCE = 32, 1 << 20, 1 << 22


@dataclass(frozen=True, eq=False)
class Block:
    """Synapses from each neuron of `source` to each core of `cores`: int64 (neurons, len(cores))."""

    source: str
    cores: Ints
    synapses: Ints


def blocks(placement: Placement) -> Iterator[Block]:
    """Every (source population, block of cores) that has synapses, whatever populations share a core.

    A source and a core meet in one block only, so that messages, one for each neuron and core, can be counted there.
    """
    network = placement.network
    for start in range(0, placement.core_count, CORES_AT_ONCE):
        cores = np.arange(start, min(placement.core_count, start + CORES_AT_ONCE), dtype=np.int64)
        members = {p.name: _members(placement.cores[p.name], cores) for p in placed_populations(network)}
        for source in network.populations:
            groups = [s for s in network.outgoing(source.name) if any(len(m) for m in members[s.target])]
            if groups:
                columns = [_synapses(groups, network, members, k) for k in range(len(cores))]
                yield Block(source.name, cores, np.stack(columns, axis=1))


def _members(where: npt.NDArray[np.int32], cores: Ints) -> list[Ints]:
    """The neurons of a population on each of some consecutive cores."""
    order = np.argsort(where, kind="stable").astype(np.int64)
    bounds = np.searchsorted(where[order], np.append(cores, cores[-1] + 1))
    return [order[a:b] for a, b in pairwise(bounds.tolist())]


def _synapses(groups: Sequence[Synapses], network: Graph, members: Mapping[str, Sequence[Ints]], core: int) -> Ints:
    """Non-zero synapses from each source neuron to one core, all groups together."""
    count = np.zeros(network[groups[0].source].size, np.int64)
    for group in groups:
        targets, fan_in = members[group.target][core], prod(group.op.weight.shape[1:])
        step = max(1, EDGES_AT_ONCE // max(1, fan_in))
        for start in range(0, len(targets), step):
            some = targets[start : start + step]
            if isinstance(group.op, Dense):  # a column of its weight is a source neuron: no list of edges is needed
                count += np.count_nonzero(group.op.weight[some], axis=0)
            else:
                count += np.bincount(edges(group, network, some).source, minlength=len(count))
    return count


@dataclass(frozen=True, eq=False)
class Routes:
    """Per neuron of a block's source and core of the block: whether it sends there, and the way there."""

    reached: Ints
    east_west: Ints
    north_south: Ints
    off_chip: Ints


def routes(block: Block, placement: Placement, positions: Ints) -> Routes:
    """Ways of the messages of a block, each int64 (neurons, len(cores)); zeros where no synapse leads."""
    reached = (block.synapses > 0).astype(np.int64)
    if block.source in placement.cores:
        start = positions[placement.cores[block.source]]
    else:
        start = np.broadcast_to(np.array(ENTRY, np.int64), (len(block.synapses), 3))
    east_west, north_south, leaves = hops(start[:, None, :], positions[block.cores][None, :, :])
    return Routes(reached, reached * east_west, reached * north_south, reached * leaves)


def in_chip_time(activity: Activity, network: Graph) -> Activity:
    """An activity as the chip's steps see it: samples one after the other, each population `depths` steps late.

    The result has T·N + (greatest depth) steps and one sample.
    """
    depth = depths(network)
    steps = activity.time_steps * activity.samples
    spikes = {}
    for name, values in activity.spikes.items():
        late = np.zeros((steps + max(depth.values(), default=0), 1, *values.shape[2:]), values.dtype)
        late[depth[name] : depth[name] + steps, 0] = np.moveaxis(values, 1, 0).reshape(steps, *values.shape[2:])
        spikes[name] = late
    return Activity(spikes, activity.output[-1:], activity.overflows)


def load_of(placement: Placement, aligned: Activity) -> StepLoad:
    """What holds and fires on every core in every step; `add_block` adds the messages."""
    neurons = np.zeros(placement.core_count, np.int64)
    for where in placement.cores.values():
        np.add.at(neurons, where, 1)
    load = StepLoad.zeros(aligned.time_steps, neurons)
    for name, where in placement.cores.items():
        if name in aligned.spikes:
            used = np.unique(where)
            member = (where[:, None] == used[None, :]).astype(np.float64)
            for steps, sent in _rows(aligned, name):
                load.fired[steps, used] += sent @ member
    return load


def add_block(load: StepLoad, block: Block, ways: Routes, aligned: Activity, times: Times) -> None:
    """Add to every step what the spikes of a block's source ask of its cores."""
    way = times.east_west_hop * ways.east_west + times.north_south_hop * ways.north_south
    longest = way.max(axis=1, initial=0)
    for steps, sent in _rows(aligned, block.source):
        load.events[steps, block.cores] += sent @ block.synapses.astype(np.float64)
        load.received[steps, block.cores] += sent @ ways.reached.astype(np.float64)
        load.route[steps] = np.maximum(load.route[steps], (sent * longest).max(axis=1, initial=0.0))


def _rows(aligned: Activity, name: str) -> Iterator[tuple[slice, Seconds]]:
    """Some steps at a time, and whether each neuron sends in them: float64 (steps, neurons)."""
    flat = aligned.spikes[name].reshape(aligned.time_steps, -1)
    at_once = max(1, VALUES_AT_ONCE // max(1, flat.shape[1]))
    for start in range(0, len(flat), at_once):
        steps = slice(start, min(len(flat), start + at_once))
        yield steps, (flat[steps] != 0).astype(np.float64)
