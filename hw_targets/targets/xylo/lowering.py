"""Networks in Xylo's integers: as they were trained in them, or the nearest where that was asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from math import log2

import numpy as np

from hw_targets.errors import QuantizationError, UnsupportedModel
from hw_targets.ir.network import LIF, Accumulator, Array, ChipNetwork, Network, Population
from hw_targets.targets.xylo.arithmetic import (
    HIGH,
    LARGEST_DASH,
    LARGEST_THRESHOLD,
    LOW,
    MOST_HIDDEN,
    MOST_INPUT,
    MOST_OUTPUT,
    WEIGHT_HIGH,
    WEIGHT_LOW,
)
from hw_targets.targets.xylo.layout import laid_out, specification
from hw_targets.targets.xylo.neuron import DYNAMICS, XyloNeuron

#: Weight shift of approximated networks where nothing saturates on it: more bits for what a shift of a decay rounds.
#: From 3 on no fewer spikes differed in trials, and potentials far below zero saturate sooner.
FINEST_SHIFT = 3
#: Advice that many refusals end in.
TRAIN = "train with hw_targets.XyloLayer, which computes what the chip does"


def in_integers(network: Network, *, approximate: bool) -> ChipNetwork:
    """The integers that a network was trained in; with `approximate` the nearest ones of any other.

    Raises:
        UnsupportedModel: neurons, inputs or readouts that the chip does not have, or biases that charge a layer before
            its input arrives, unless approximated.
        QuantizationError: weights or biases beyond the chip's.
    """
    _check_ends(network)
    if network.in_integers:
        found = _as_trained(network)
        early = tuple(_early_biases(found))
        if early and not approximate:
            raise UnsupportedModel(f"quantize: {early[0]}; use bias=False there, or pass approximate=True")
        return replace(found, notes=(*found.notes, *early))
    if not approximate:
        raise UnsupportedModel(f"quantize: {next(_refusals(network))}")
    return _nearest(network)


def _check_ends(network: Network) -> None:
    for entry in network.inputs:
        if entry.neuron.is_graded or entry.neuron.most_sent > MOST_INPUT:
            raise UnsupportedModel(
                f"quantize: {entry.name} sends values of 0 … {entry.neuron.most_sent}, but Xylo takes spikes, up to"
                f" {MOST_INPUT} a step; encode them first (rate, level crossings)"
            )
    for population in network.populations:
        if isinstance(population.neuron, Accumulator):
            raise UnsupportedModel(
                f"quantize: {population.name} reads out a potential, but Xylo's outputs are neurons that spike; end in"
                " XyloLayer(..., output=True), and count its spikes"
            )


def _refusals(network: Network) -> Iterator[str]:
    for population in network.populations:
        if population.lif is not None:
            yield f"{population.name} {DYNAMICS.refusal(population.lif)}"
    yield f"the network mixes Xylo's neurons with others; {TRAIN}"


def _as_trained(network: Network) -> ChipNetwork:
    for population in network.populations:
        if not population.is_input and not isinstance(population.neuron, XyloNeuron):
            raise UnsupportedModel(
                f"quantize: {population.name} was trained in the integers of another chip"
                f" ({type(population.neuron).__name__}); {TRAIN}"
            )
    for group in network.synapses:
        _check_range(f"weights of {group.name}", group.op.weight, WEIGHT_LOW, WEIGHT_HIGH)
    for population in network.populations:
        if population.bias is not None:
            _check_range(f"biases of {population.name}", population.bias, LOW, HIGH)
    found = network.as_integers()
    specification(found)
    return found


def _check_range(what: str, values: Array, low: int, high: int) -> None:
    numbers = np.asarray(values, np.float64)
    if numbers.size and not low <= numbers.min() <= numbers.max() <= high:
        raise QuantizationError(
            f"quantize: the {what} span {numbers.min():g} … {numbers.max():g}, but Xylo holds {low} … {high}"
        )


def _early_biases(network: ChipNetwork) -> Iterator[str]:
    """Populations that biases charge before their input arrives, as hops on the chip take a step."""
    late = laid_out(network).late
    for name, steps in late.items():
        bias = network[name].bias
        if steps and bias is not None and bias.any():
            yield (
                f"{name} has biases and hears its input {steps} steps late on the chip, where biases charge it before;"
                " its spikes differ from the model's"
            )


def _nearest(network: Network) -> ChipNetwork:
    """Decays rounded to powers of two, weights to 8 bits on a scale of each population's, thresholds on that."""
    layout = laid_out(network)
    scales = {p.name: _scale(network, p) for p in network.populations if not p.is_input}
    weights = {id(s): np.rint(s.op.weight * scales[s.target]).astype(np.int32) for s in network.synapses}
    hidden = min((_shift(network, network[name], scales[name], weights) for name in layout.first), default=0)
    populations, notes = list[Population](), list[str]()
    for population in network.populations:
        if population.is_input:
            populations.append(population)
            continue
        name, lif = population.name, population.lif
        if lif is None:
            raise UnsupportedModel(f"quantize: {next(_refusals(network))}")
        if lif.beyond_one_leak is not None:
            raise UnsupportedModel(f"quantize: {name} {lif.beyond_one_leak}, which no shift is near to; {TRAIN}")
        is_output = name == layout.output
        shift = _shift(network, population, scales[name], weights) if is_output else hidden
        neuron, unit = _neuron(lif, scales[name], shift, most=MOST_OUTPUT if is_output else MOST_HIDDEN)
        bias = None if population.bias is None else _bias(population.bias, lif, unit)
        populations.append(replace(population, neuron=neuron, bias=bias))
        notes.append(_note(name, lif, neuron))
    synapses = tuple(replace(s, op=replace(s.op, weight=weights[id(s)])) for s in network.synapses)
    found = ChipNetwork(
        tuple(populations),
        synapses,
        time_steps=network.time_steps,
        scales={**{p.name: p.neuron.unit_sent for p in network.inputs}, **scales},
        notes=(*network.notes, *notes),
    )
    specification(found)
    return replace(found, notes=(*found.notes, *_early_biases(found)))


def _scale(network: Network, population: Population) -> float:
    """The largest weight is the largest that 8 bits hold, with either sign."""
    largest = max((float(np.abs(s.op.weight).max(initial=0)) for s in network.incoming(population.name)), default=0.0)
    return WEIGHT_HIGH / largest if largest else 1.0


def _shift(network: Network, population: Population, scale: float, weights: Mapping[int, object]) -> int:
    """The finest shift with which one spike of every source saturates no current, and the threshold fits."""
    total: float = 0.0
    for group in network.incoming(population.name):
        rows = np.abs(np.asarray(weights[id(group)])).reshape(len(group.op.weight), -1)
        total += float(rows.sum(1).max(initial=0))
    lif = population.lif
    level = max(total, 1.0, 0.0 if lif is None else lif.v_threshold * scale)
    return int(max(0, min(FINEST_SHIFT, np.floor(log2(HIGH / level)))))


def _neuron(lif: LIF, scale: float, shift: int, *, most: int) -> tuple[XyloNeuron, float]:
    """The nearest neuron, and the integer that stands for 1.0 of its potential.

    A current's decay acts on what arrives in the step, too: Σ (1 − 2^−k)^t of it, t = 1, 2, …, where the model has
    t = 0, 1, …; the factor is taken off threshold and bias. What lasts one step in the model is spread over several, a
    half in each, and the same in sum.
    """
    dash_syn, lasts = _dash(lif.i_decay), lif.i_decay < 1.0
    dash_syn = max(1, dash_syn)
    unit = scale * (1 << shift) * ((1.0 - 2.0**-dash_syn) if lasts else 1.0)
    threshold = round(lif.v_threshold * unit)
    if not 1 <= threshold <= LARGEST_THRESHOLD:
        raise QuantizationError(
            f"quantize: a threshold of {lif.v_threshold:g} is {threshold} where the largest weight is {WEIGHT_HIGH},"
            f" but Xylo holds 1 … {LARGEST_THRESHOLD}; train with weight decay or prune, so that it is nearer"
        )
    return XyloNeuron(threshold, _dash(lif.v_decay), dash_syn, shift, most), unit


def _bias(bias: Array, lif: LIF, unit: float) -> Array:
    """Added to the potential; one of a lasting current at the value that this settles at."""
    settled = bias / lif.i_decay if lif.bias_lasts and lif.i_decay > 0.0 else bias
    result: Array = np.clip(np.rint(settled * unit), LOW, HIGH).astype(np.int32)
    return result


def _dash(decay: float) -> int:
    """The power of two nearest to a decay, as its negative exponent; the slowest where nothing decays."""
    return LARGEST_DASH if decay <= 0.0 else min(LARGEST_DASH, max(0, round(-log2(decay))))


def _note(name: str, lif: LIF, neuron: XyloNeuron) -> str:
    return (
        f"{name} {lif.reset_in_words}, its potential decays by {lif.v_decay:.4g} and its current by {lif.i_decay:.4g};"
        f" here it resets by subtraction, up to {neuron.most} spikes a step, and they decay by shifts of"
        f" {neuron.dash_mem} and {neuron.dash_syn} bits (2^−{neuron.dash_mem}, 2^−{neuron.dash_syn})"
    )
