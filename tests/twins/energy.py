"""Slow twin of the estimate: every synapse of every spike followed by plain loops, no code shared with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from hw_targets.ir.network import ChipNetwork
from tests.twins.placement import all_synapses

Spikes = Mapping[str, Sequence[Sequence[Sequence[int]]]]
"""What each neuron sent: by population [step][sample][neuron]."""


class CoreTally(NamedTuple):
    """What one core did."""

    events: int
    active: int
    inactive: int
    sent: int
    received: int
    east_west: int
    north_south: int
    off_chip: int


def follow(
    network: ChipNetwork,
    cores: Mapping[str, Sequence[int]],
    positions: Sequence[Sequence[int]],
    spikes: Spikes,
) -> tuple[list[CoreTally], CoreTally]:
    """Tallies of every core, and of what inputs send (from router 0, 0 of chip 0) and belongs to no core."""
    kinds = CoreTally._fields
    tally = [dict.fromkeys(kinds, 0) for _ in positions]
    outside = dict.fromkeys(kinds, 0)
    reach: dict[tuple[str, int], dict[int, int]] = {}
    for group in network.synapses:
        for synapse in all_synapses(group, network):
            there = reach.setdefault((group.source, synapse.source), {})
            core = int(cores[group.target][synapse.target])
            there[core] = there.get(core, 0) + 1
    for name, steps in spikes.items():
        for samples in steps:
            for neurons in samples:
                for neuron, value in enumerate(neurons):
                    home = outside if name not in cores else tally[int(cores[name][neuron])]
                    if name in cores:
                        home["active" if value else "inactive"] += 1
                    if not value:
                        continue
                    start = (0, 0, 0) if name not in cores else positions[int(cores[name][neuron])]
                    for core, synapses in reach.get((name, neuron), {}).items():
                        tally[core]["events"] += synapses
                        tally[core]["received"] += 1
                        home["sent"] += 1
                        if start[0] != positions[core][0]:
                            home["off_chip"] += 1
                        else:
                            home["east_west"] += abs(start[1] - positions[core][1])
                            home["north_south"] += abs(start[2] - positions[core][2])
    return [CoreTally(**t) for t in tally], CoreTally(**outside)


class Prices(NamedTuple):
    """Nanoseconds per operation."""

    synaptic_event: float
    active_update: float
    inactive_update: float
    message: float
    east_west_hop: float
    north_south_hop: float


def layer_of(network: ChipNetwork) -> dict[str, int]:
    """The longest chain of synapses from an input to each population, found by relaxing edges until nothing changes."""
    depth = {p.name: 0 for p in network.populations}
    for _ in network.populations:
        for group in network.synapses:
            if group.source != group.target:
                depth[group.target] = max(depth[group.target], depth[group.source] + 1)
    return depth


def slowest_cores(
    network: ChipNetwork,
    cores: Mapping[str, Sequence[int]],
    positions: Sequence[Sequence[int]],
    spikes: Spikes,
    prices: Prices,
) -> list[tuple[float, float, float]]:
    """(neurons, messages, longest route) in ns of every step of the chip, samples one after the other."""
    depth = layer_of(network)
    first = next(iter(spikes.values()))
    time_steps, samples = len(first), len(first[0])
    found = []
    for step in range(time_steps * samples + max(depth.values())):
        now: dict[str, list[int]] = {}
        for name, sent in spikes.items():
            sample, own = divmod(step - depth[name], time_steps)
            silent = [0] * len(sent[0][0])
            now[name] = list(sent[own][sample]) if 0 <= sample < samples else silent
        accumulators = {n: [0] * len(c) for n, c in cores.items() if n not in spikes}
        tallies, _ = follow(network, cores, positions, {n: [[v]] for n, v in {**now, **accumulators}.items()})
        neurons = [t.active * prices.active_update + t.inactive * prices.inactive_update for t in tallies]
        messages = [t.received * prices.message + t.events * prices.synaptic_event for t in tallies]
        routes = [0.0]
        for group in network.synapses:
            for synapse in all_synapses(group, network):
                if group.source in now and now[group.source][synapse.source]:
                    inside = group.source in cores
                    start = positions[int(cores[group.source][synapse.source])] if inside else (0, 0, 0)
                    end = positions[int(cores[group.target][synapse.target])]
                    routes.append(
                        abs(start[1] - end[1]) * prices.east_west_hop + abs(start[2] - end[2]) * prices.north_south_hop
                    )
        found.append((max(neurons, default=0.0), max(messages, default=0.0), max(routes)))
    return found
