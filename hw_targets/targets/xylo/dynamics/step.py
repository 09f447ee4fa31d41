"""One step of a Xylo core, the reference that the fast engine is held to.

For each hidden neuron, with i its one or two currents, x the inputs and s the hidden spikes of the step before:

    x ← min(x, 15)
    i ← sat(i + (w << shift)·x) for each input, then sat(i + (w << shift)·s) for each hidden neuron, in their order
    i ← i − decrement(i)
    v ← sat(v + sat(sat(−decrement(v) + i₁ + i₂) + bias))
    n = min(31 − a, ⌊v / threshold⌋) where v ≥ threshold, v ← v − threshold·n

sat holds a number in 16 bits. Neurons fire one after the other: a spikes were added to a neuron by those before it
whose alias it is, it sends a + n, and so many are added, up to 31, to each of its own aliases. Outputs do the same with
one current, the hidden spikes of the step before, and one spike at most.

Source: the behaviour of xylosim 0.1.3, which the tests compare every integer with. `arithmetic.decrement` says how a
decrement rounds.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from hw_targets.targets.xylo.arithmetic import LOW, MOST_HIDDEN, MOST_INPUT, MOST_OUTPUT, decrement, saturated
from hw_targets.targets.xylo.specification import Aliases, Ints, Specification


class State(NamedTuple):
    """Before a step, of any number of samples: `isyn` (N, hidden, states), `vmem` and `spikes` (N, hidden), int64.

    `isyn_out` and `vmem_out` are (N, outputs).
    """

    isyn: Ints
    vmem: Ints
    spikes: Ints
    isyn_out: Ints
    vmem_out: Ints


def cleared(spec: Specification, samples: int) -> State:
    """No current, no potential, nothing on its way."""
    hidden, outputs = (samples, spec.hidden), (samples, spec.outputs)
    return State(
        np.zeros((*hidden, spec.states), np.int64),
        np.zeros(hidden, np.int64),
        np.zeros(hidden, np.int64),
        np.zeros(outputs, np.int64),
        np.zeros(outputs, np.int64),
    )


def step(spec: Specification, state: State, inputs: Ints) -> tuple[State, Ints]:
    """The module's equations: the state after a step, and the outputs' spikes (N, outputs), for inputs (N, inputs)."""
    isyn = received(state.isyn, np.minimum(inputs, MOST_INPUT), spec.weights_in, spec.weight_shift_in)
    isyn = received(isyn, state.spikes, spec.weights_rec, spec.weight_shift_rec)
    isyn = isyn - decrement(isyn, spec.dashes)
    vmem = charged(state.vmem, isyn.sum(2), spec.bias_hidden, spec.dash_mem)
    vmem, spikes = fired(vmem, spec.threshold, MOST_HIDDEN, spec.aliases)
    isyn_out = received(state.isyn_out, state.spikes, spec.weights_out, spec.weight_shift_out)
    isyn_out = isyn_out - decrement(isyn_out, spec.dash_syn_out)
    vmem_out = charged(state.vmem_out, isyn_out, spec.bias_out, spec.dash_mem_out)
    vmem_out, sent = fired(vmem_out, spec.threshold_out, MOST_OUTPUT)
    return State(isyn, vmem, spikes, isyn_out, vmem_out), sent


def received(isyn: Ints, sent: Ints, weights: Ints, shift: int) -> Ints:
    """Currents (N, targets, …) after the spikes (N, sources) came through weights (sources, targets, …)."""
    extra = isyn.ndim - 1
    for source, row in enumerate(weights.astype(np.int64) << shift):
        isyn = saturated(isyn + row * sent[:, source].reshape(-1, *[1] * extra))
    return isyn


def charged(vmem: Ints, current: Ints, bias: Ints, dash: Ints) -> Ints:
    """Potentials (N, neurons) before they may fire."""
    taken = decrement(vmem, dash)
    # A potential of −32768 of which all is taken (`dash` 0) has no negative in 16 bits: −(−32768) is −32768 again.
    change = saturated(saturated(current - np.where(taken == LOW, -LOW, taken)) + bias)
    result: Ints = saturated(vmem + change)
    return result


def fired(vmem: Ints, threshold: Ints, most: int, aliases: Aliases = ()) -> tuple[Ints, Ints]:
    """Potentials after their reset, and spikes, both (N, neurons)."""
    if not any(aliases):
        spikes = np.clip(vmem // threshold, 0, most)
        return vmem - threshold * spikes, spikes
    vmem, spikes = vmem.copy(), np.zeros_like(vmem)
    for neuron, targets in enumerate(aliases):
        own = np.clip(vmem[:, neuron] // threshold[neuron], 0, most - spikes[:, neuron])
        vmem[:, neuron] = vmem[:, neuron] - threshold[neuron] * own
        spikes[:, neuron] = spikes[:, neuron] + own
        for target in targets:
            spikes[:, target] = np.minimum(spikes[:, target] + spikes[:, neuron], most)
    return vmem, spikes
