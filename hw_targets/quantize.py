"""Real weights to a chip's integers.

Each population has one scale, the integer that stands for 1.0 of membrane potential: weights, bias and threshold are
rounded on it, and zeros stay zero. It is the largest for which every integer still fits the chip, or the one the
network was trained on (`LIF.unit`), where all integers of a layer fit on that. Decays are rounded to 1/4096.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from hw_targets.chip import Chip
from hw_targets.errors import QuantizationError, check_type
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
    check_type("quantize", network, Network, "the network that from_torch gives")
    check_type("quantize", chip, Chip, "what load_chip(name) gives")
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
        notes=(*network.notes, *(note for p in network.populations for note in _rounded_decays(p))),
    )


def dequantize(network: ChipNetwork) -> Network:
    """The real-valued network a chip network stands for: integers divided by their scales."""
    populations = []
    for p in network.populations:
        scale = network.scales[p.name]
        neuron = p.neuron
        if isinstance(neuron, CubaLIF):
            # Half a unit of v below the smallest value that fires, so that the rounding of reals cannot matter.
            level = neuron.v_threshold + (0.5 / 64 if _has_fractions(neuron) else 0.5)
            neuron = LIF(level / scale, neuron.v_decay / DECAY_UNITY, i_decay=neuron.i_decay / DECAY_UNITY)
        bias = None if p.bias is None else p.bias.astype(np.float64) / scale
        populations.append(replace(p, neuron=neuron, bias=bias))
    synapses = []
    for s in network.synapses:
        unit = network.scales[s.target] / _input_scale(network[s.source])
        synapses.append(replace(s, op=replace(s.op, weight=s.op.weight.astype(np.float64) / unit)))
    return Network(tuple(populations), tuple(synapses), time_steps=network.time_steps, notes=network.notes)


def _layer_scales(
    network: Network, members: Iterable[Population], weight_limit: int, *, has_relays: bool
) -> dict[str, float]:
    """One scale per population of a netx layer, such that all firing neurons have the same integer threshold."""
    firing = {p.name: p.neuron.v_threshold for p in members if isinstance(p.neuron, LIF)}
    limits = {p.name: _largest_scale(network, p, weight_limit) for p in members}
    scales = {name: _shrunk(network, network[name], limit) for name, limit in limits.items() if name not in firing}
    if firing and not has_relays and _fits_as_trained(network, firing, limits):
        scales |= {name: float(_unit(network[name])) for name in firing}
    elif firing:
        top = min(float(THRESHOLD_LIMIT), *(limits[name] * threshold for name, threshold in firing.items()))
        level = int(min(top, weight_limit - 1) if has_relays else top)
        while level >= 1 and not all(_current_fits(network, network[n], level / t) for n, t in firing.items()):
            level = min(level - 1, int(0.97 * level))
        if level < 1:
            raise _no_scale(min(firing, key=lambda n: limits[n] * firing[n]), weight_limit)
        scales |= {name: level / threshold for name, threshold in firing.items()}
    for name, scale in scales.items():
        _check_weights_survive(network, network[name], scale, weight_limit)
    return scales


def _largest_scale(network: Network, population: Population, weight_limit: int) -> float:
    """Largest scale for which weights and bias fit; groups from one source may have to share a synapse in netx."""
    weights: dict[str, float] = {}
    for s in network.incoming(population.name):
        largest = float(np.abs(s.op.weight).max(initial=0.0)) / _input_scale(network[s.source])
        weights[s.source] = weights.get(s.source, 0.0) + largest
    weight = max(weights.values(), default=0.0)
    bias = 0.0 if population.bias is None else float(np.abs(population.bias).max())
    # With nothing to hold (all zero) any scale will do.
    return min(weight_limit / weight if weight else 1e6, BIAS_LIMIT / bias if bias else 1e6, 1e6)


def _fits_as_trained(network: Network, firing: dict[str, float], limits: dict[str, float]) -> bool:
    """Whether all firing populations of a layer fit on the integers they were trained on, with one threshold."""
    units = {name: _unit(network[name]) for name in firing}
    levels = {round(units[name] * threshold) for name, threshold in firing.items()}
    fit = all(0 < unit <= limits[name] and _current_fits(network, network[name], unit) for name, unit in units.items())
    return fit and len(levels) == 1 and 1 <= max(levels) <= THRESHOLD_LIMIT


def _unit(population: Population) -> int:
    return population.neuron.unit or 0 if isinstance(population.neuron, LIF) else 0


def _shrunk(network: Network, population: Population, scale: float) -> float:
    """`scale`, or the next smaller one (in steps of 3 %) for which the current fits."""
    while not _current_fits(network, population, scale):
        scale *= 0.97
    return scale


def _current_fits(network: Network, population: Population, scale: float) -> bool:
    """Whether no input whatever makes the rounded weights' sum leave the state's bits.

    The current of neurons that fire, at its largest; for accumulators the sum, bias included, of all steps of a sample.
    """
    excitation, inhibition = 0.0, 0.0
    for s in network.incoming(population.name):
        source = network[s.source]
        weight = np.rint(s.op.weight * (scale / _input_scale(source)))
        rows = weight.reshape(len(weight), -1) * _largest_value(source)
        excitation += float(np.maximum(rows, 0).sum(1).max(initial=0.0))
        inhibition += float(np.maximum(-rows, 0).sum(1).max(initial=0.0))
    current = max(excitation, inhibition)
    if isinstance(population.neuron, Accumulator):
        if population.bias is not None:
            current += float(np.abs(np.rint(population.bias * scale)).max())
        current *= network.time_steps
    return current * _lasting(population, network.time_steps) < STATE_LIMIT - 1


def _lasting(population: Population, steps: int) -> float:
    """Σ (1 − i_decay)^t over a sample's steps: what a current of 1 in every step grows to."""
    keep = 1.0 - population.neuron.i_decay if isinstance(population.neuron, LIF) else 0.0
    return float(steps) if keep == 1.0 else (1.0 - keep**steps) / (1.0 - keep)


def _check_weights_survive(network: Network, population: Population, scale: float, weight_limit: int) -> None:
    """Refuse a population whose weights all round to zero although they alone could make it fire, or are read out."""
    incoming = network.incoming(population.name)
    units = [scale / _input_scale(network[s.source]) for s in incoming]
    if any(np.rint(s.op.weight * unit).any() for s, unit in zip(incoming, units, strict=True)):
        return
    drive = sum(
        float(np.maximum(s.op.weight, 0).reshape(len(s.op.weight), -1).sum(1).max(initial=0.0))
        * (_largest_value(network[s.source]) / _input_scale(network[s.source]))
        for s in incoming
    )
    drive *= _lasting(population, network.time_steps)
    threshold = population.neuron.v_threshold if isinstance(population.neuron, LIF) else 0.0
    if any(s.op.weight.any() for s in incoming) and drive * network.time_steps >= threshold:
        raise _no_scale(population.name, weight_limit)


def _no_scale(name: str, weight_limit: int) -> QuantizationError:
    return QuantizationError(
        f"quantize: {name}'s threshold or all of its weights round to zero on every integer scale that fits: weights"
        f" within ±{weight_limit}, biases within ±{BIAS_LIMIT}, currents below {STATE_LIMIT}; its largest weight,"
        " bias or sum of weights is too far above the rest: train with weight decay, prune, or narrow the layer"
    )


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
        chip = CubaLIF(level, v_decay=round(neuron.v_decay * DECAY_UNITY), i_decay=round(neuron.i_decay * DECAY_UNITY))
        # v counts in 1/64: without decays it is a multiple of 64, and v ≥ level means v > level − 1. With them,
        # v > level differs from v ≥ level only where the two are equal, v > level − 1 by a whole unit.
        neuron = chip if neuron.strict or _has_fractions(chip) else replace(chip, v_threshold=level - 1)
    bias = None if population.bias is None else _integers(population.bias * scale)
    return replace(population, neuron=neuron, bias=bias)


def _has_fractions(neuron: CubaLIF) -> bool:
    """Whether a potential is not always a whole number of the weights' unit."""
    return neuron.v_decay not in (0, DECAY_UNITY) or neuron.i_decay not in (0, DECAY_UNITY)


def _rounded_decays(population: Population) -> Iterator[str]:
    neuron = population.neuron
    if isinstance(neuron, LIF):
        for kind, decay in (("potential", neuron.v_decay), ("current", neuron.i_decay)):
            units = round(decay * DECAY_UNITY)
            if units / DECAY_UNITY != decay:
                yield f"{population.name}: the decay of its {kind}, {decay:.7g}, is {units}/4096 on the chip"


def _synapses(network: Network, synapses: Synapses, scales: dict[str, float]) -> Synapses:
    unit = scales[synapses.target] / _input_scale(network[synapses.source])
    op = synapses.op
    weight = _integers(op.weight * unit)
    return replace(synapses, op=replace(op, weight=weight))


def _integers(values: npt.NDArray[np.generic]) -> npt.NDArray[np.int32]:
    return np.rint(values).astype(np.int32)
