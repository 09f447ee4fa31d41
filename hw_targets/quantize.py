"""Real weights to a chip's integers.

Each population has one scale, the integer that stands for 1.0 of membrane potential: weights, bias and threshold are
rounded on it, and zeros stay zero. It is the largest for which every integer still fits the chip.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from hw_targets.chip import Chip
from hw_targets.errors import QuantizationError
from hw_targets.layers import assign_layers, crossings
from hw_targets.network import (
    LIF,
    Accumulator,
    ChipNetwork,
    CubaLIF,
    GradedInput,
    Network,
    Population,
    Synapses,
)

#: Decays are counted in 1/4096, states have 24 bits of which 6 lie below the weights' unit.
DECAY_UNITY = 4096
STATE_LIMIT = 1 << 17
#: netx always shifts biases by 6 bits onto the weights' unit, so the mantissa's 13 signed bits are all there are.
BIAS_LIMIT = (1 << 12) - 1
THRESHOLD_LIMIT = (1 << 17) - 1


def quantize(network: Network, chip: Chip) -> ChipNetwork:
    """Round a network to the integers of a Loihi-like chip.

    Populations that share a netx layer get the same integer threshold; in a layer that relays spikes it is at most the
    largest weight, so that a relay can fire from one spike.

    Raises:
        QuantizationError: a population for which no scale fits: the message names it and the limit that binds.
    """
    if chip.weight_bits is None:
        raise QuantizationError(f"quantize: {chip.name} does not say how many bits a weight has; add weight_bits to it")
    weight_limit = (1 << (chip.weight_bits - 1)) - 1
    layers = assign_layers(network)
    relayed = crossings(network, layers)
    scales: dict[str, float] = {}
    for layer in sorted(set(layers.values())):
        members = [network[name] for name in network.order if layers[name] == layer and not network[name].is_input]
        scales |= _layer_scales(network, members, weight_limit, has_relays=layer in relayed)
    return ChipNetwork(
        tuple(_population(p, scales) for p in network.populations),
        tuple(_synapses(network, s, scales) for s in network.synapses),
        chip=chip.name,
        time_steps=network.time_steps,
        scales={**{p.name: _input_scale(p) for p in network.inputs}, **scales},
    )


def dequantize(network: ChipNetwork) -> Network:
    """The real-valued network a chip network stands for: integers divided by their scales."""
    populations = []
    for p in network.populations:
        scale = network.scales[p.name]
        neuron = p.neuron
        if isinstance(neuron, CubaLIF):
            # Half a unit of v below the smallest value that fires, so that the rounding of reals cannot matter.
            level = neuron.v_threshold + (0.5 / 64 if neuron.v_decay else 0.5)
            neuron = LIF(level / scale, neuron.v_decay / DECAY_UNITY)
        bias = None if p.bias is None else p.bias.astype(np.float64) / scale
        populations.append(replace(p, neuron=neuron, bias=bias))
    synapses = []
    for s in network.synapses:
        unit = network.scales[s.target] / _input_scale(network[s.source])
        synapses.append(replace(s, op=replace(s.op, weight=s.op.weight.astype(np.float64) / unit)))
    return Network(tuple(populations), tuple(synapses), time_steps=network.time_steps)


@dataclass(frozen=True)
class _Demand:
    """What a population asks of its scale, per unit of scale: the largest values that must fit."""

    weight: float
    bias: float
    current: float


def _layer_scales(
    network: Network, members: Iterable[Population], weight_limit: int, *, has_relays: bool
) -> dict[str, float]:
    """One scale per population of a netx layer, such that all firing neurons have the same integer threshold."""
    scales: dict[str, float] = {}
    firing: dict[str, tuple[float, float]] = {}
    for population in members:
        limit = _largest_scale(population, _demand(network, population), network.time_steps, weight_limit)
        if isinstance(population.neuron, LIF):
            firing[population.name] = (limit, population.neuron.v_threshold)
        else:
            scales[population.name] = limit
    if not firing:
        return scales
    top = min([limit * threshold for limit, threshold in firing.values()] + [float(THRESHOLD_LIMIT)])
    if has_relays:
        top = min(top, float(weight_limit) - 1)
    level = int(np.floor(top))
    if level < 1:
        name = min(firing, key=lambda n: firing[n][0] * firing[n][1])
        raise QuantizationError(
            f"quantize: {name}'s threshold rounds to {top:.2g} of the integer unit in which its weights and biases fit"
            f" (weights ±{weight_limit}, bias ±{BIAS_LIMIT}, currents ±{STATE_LIMIT}), it must be at least 1; its"
            " largest weight or bias is far above its threshold: train with weight decay or a larger threshold"
        )
    return scales | {name: level / threshold for name, (_, threshold) in firing.items()}


def _largest_scale(population: Population, demand: _Demand, time_steps: int, weight_limit: int) -> float:
    """Largest scale for which weights, bias and one step's current fit; for accumulators the whole run's sum."""
    steps = time_steps if isinstance(population.neuron, Accumulator) else 1
    # Rounding can add half a unit to every term; 2 % covers it wherever the limit is reached by many terms.
    current = 0.98 * STATE_LIMIT / steps
    bounds = [
        weight_limit / demand.weight if demand.weight else np.inf,
        BIAS_LIMIT / demand.bias if demand.bias else np.inf,
        current / demand.current if demand.current else np.inf,
    ]
    # With nothing to hold (all zero) any scale will do.
    return float(min(*bounds, 1e6))


def _demand(network: Network, population: Population) -> _Demand:
    weight, excitation, inhibition = 0.0, 0.0, 0.0
    for synapses in network.incoming(population.name):
        source = network[synapses.source]
        matrix = synapses.op.weight.astype(np.float64) / _input_scale(source)
        weight = max(weight, float(np.abs(matrix).max(initial=0.0)))
        rows = matrix.reshape(len(matrix), -1) * _largest_value(source)
        excitation += float(np.maximum(rows, 0).sum(1).max())
        inhibition += float(np.maximum(-rows, 0).sum(1).max())
    bias = 0.0 if population.bias is None else float(np.abs(population.bias.astype(np.float64)).max())
    current = max(excitation, inhibition)
    if isinstance(population.neuron, Accumulator):
        current += bias
    return _Demand(weight, bias, current)


def _input_scale(population: Population) -> float:
    """The integer that stands for 1.0 of what a population sends."""
    return population.neuron.scale if isinstance(population.neuron, GradedInput) else 1.0


def _largest_value(population: Population) -> float:
    return float((1 << population.neuron.bits) - 1) if isinstance(population.neuron, GradedInput) else 1.0


def _population(population: Population, scales: dict[str, float]) -> Population:
    neuron = population.neuron
    if population.is_input:
        return population
    scale = scales[population.name]
    if isinstance(neuron, LIF):
        level = round(neuron.v_threshold * scale)
        decay = round(neuron.v_decay * DECAY_UNITY)
        # v counts in 1/64: without leak it is a multiple of 64, and v ≥ level means v > level − 1. With leak,
        # v > level differs from v ≥ level only where the two are equal, v > level − 1 by a whole unit.
        neuron = CubaLIF(level if decay else level - 1, v_decay=decay)
    bias = None if population.bias is None else _integers(population.bias * scale)
    return replace(population, neuron=neuron, bias=bias)


def _synapses(network: Network, synapses: Synapses, scales: dict[str, float]) -> Synapses:
    unit = scales[synapses.target] / _input_scale(network[synapses.source])
    op = synapses.op
    weight = _integers(op.weight * unit)
    return replace(synapses, op=replace(op, weight=weight))


def _integers(values: npt.NDArray[np.generic]) -> npt.NDArray[np.int32]:
    return np.rint(values).astype(np.int32)
