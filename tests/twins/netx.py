"""A chip run event by event: one spike, one synapse, one neuron and one step at a time.

Written from lava-nc 0.10.0's process models, not from the package: every synapse schedules its weight for the step in
which it arrives, every neuron reads what has arrived. Only the data classes that describe a network and the twin of one
neuron (`reference_chip`) are shared.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw_targets.ir.network import Accumulator, ChipNetwork, Conv2d, Population, Synapses
from hw_targets.targets.loihi.neuron import CubaLIF
from tests.twins.chip import loihi_step, matrix

Array = NDArray[Any]


@dataclass(frozen=True)
class Trace:
    """`spikes[name]` (steps, neurons), `potentials[name]` (steps, neurons), `lost[name]` wraps and clips."""

    spikes: dict[str, Array]
    potentials: dict[str, Array]
    lost: dict[str, int]


def run_events(
    network: ChipNetwork, frames: Array, *, transport: int, resets: dict[str, int] | None = None, interval: int = 0
) -> Trace:
    """Run a network step by step.

    Args:
        network: populations listed sources first.
        frames: (steps, *shape) of the input.
        transport: steps every synapse takes: 1 on the chip, 0 in aligned time. Recurrent ones always take 1.
        resets: by population, the step (from 0) modulo `interval` that begins with cleared states.
        interval: steps between resets, 0 for none.
    """
    steps = len(frames)
    coming: dict[str, Any] = {p.name: defaultdict(int) for p in network.populations}
    outgoing = {p.name: _targets(network, p) for p in network.populations}
    spikes = {p.name: np.zeros((steps, p.size), np.int64) for p in network.populations}
    potentials = {p.name: np.zeros((steps, p.size), np.int64) for p in network.populations}
    state = {p.name: [(0, 0)] * p.size for p in network.populations}
    lost = {p.name: 0 for p in network.populations if not p.is_input}
    for step in range(steps):
        for p in network.populations:
            if p.is_input:
                spikes[p.name][step] = frames[step].reshape(-1)
            else:
                due = resets is not None and interval > 0 and step % interval == resets[p.name]
                for i in range(p.size):
                    u, v = (0, 0) if due else state[p.name][i]
                    u, v, spike, one = _neuron(network, p, i, u, v, coming[p.name].pop((step, i), 0))
                    state[p.name][i] = (u, v)
                    potentials[p.name][step, i] = v
                    spikes[p.name][step, i] = spike
                    lost[p.name] += one
            for i in np.flatnonzero(spikes[p.name][step]).tolist():
                for s, edges in outgoing[p.name]:
                    travel = 1 if s.source == s.target else 0 if s.immediate else transport
                    for target, weight, delay in edges[i]:
                        coming[s.target][step + travel + delay, target] += weight * int(spikes[p.name][step, i])
    return Trace(spikes, potentials, lost)


def _neuron(network: ChipNetwork, p: Population, i: int, u: int, v: int, arriving: int) -> tuple[int, int, int, int]:
    twice = False
    if any(isinstance(s.op, Conv2d) for s in network.synapses if s.target == p.name):
        wrapped = (arriving + (1 << 23)) % (1 << 24) - (1 << 23)
        twice, arriving = wrapped != arriving, wrapped
    bias = 0
    if p.bias is not None:
        bias = int(p.bias[i * len(p.bias) // p.size])
    neuron = p.neuron if isinstance(p.neuron, CubaLIF) else CubaLIF(1 << 17)
    assert isinstance(p.neuron, (CubaLIF, Accumulator))
    decayed = abs(u * (4096 - neuron.i_decay)) >> 12
    current = (decayed if u >= 0 else -decayed) + (arriving << 6)
    wraps = not -(1 << 23) < current <= 1 << 23
    u, v, spike, lost = loihi_step(u, v, arriving, bias, neuron)
    return u, v, spike, lost + (twice and not wraps)  # a current that wraps both times is lost once


def _targets(network: ChipNetwork, p: Population) -> list[tuple[Synapses, list[list[tuple[int, int, int]]]]]:
    """For each group of synapses that leaves a population: per source neuron, (target, weight, delay)."""
    found = []
    for s in network.synapses:
        if s.source != p.name:
            continue
        weights = matrix(s.op, p.shape)
        delays = np.zeros(weights.shape, np.int64) if s.delay is None else np.zeros(weights.shape, np.int64) + s.delay
        edges = [
            [(int(t), int(weights[t, i]), int(delays[t, i])) for t in np.flatnonzero(weights[:, i])]
            for i in range(p.size)
        ]
        found.append((s, edges))
    return found
