"""A network in DYNAP-CNN's integers, on the scales that sinabs chooses.

Each layer has one scale for weights, biases, threshold and lower bound: the largest for which all of them fit, 8 bits
for the first two and 16 for the last two; everything is rounded to the nearest, halves to even, in 32-bit floats.
Source: sinabs 3.1.3 `backend/dynapcnn/discretize.py`. What sinabs makes of a model without a lower bound, −32768 in the
model's own unit and so a scale of 1 at most, is not followed: such a potential is cut off at the chip's −32768.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from hw_targets.errors import QuantizationError, UnsupportedModel
from hw_targets.ir.formats import NumberFormats
from hw_targets.ir.network import ChipNetwork, Network, Population
from hw_targets.targets.dynapcnn.arithmetic import STATE_BITS, WEIGHT_BITS
from hw_targets.targets.dynapcnn.core import kernel_of
from hw_targets.targets.dynapcnn.neuron import DYNAMICS


def in_integers(network: Network, formats: NumberFormats) -> ChipNetwork:
    """Every layer on its own scale.

    Raises:
        UnsupportedModel: neurons or synapses that a core does not have; the message names them.
        QuantizationError: a threshold that rounds to nothing beside the layer's largest weight or bias.
    """
    populations, scales, weights = [], dict[str, float](), dict[int, npt.NDArray[np.int32]]()
    for population in network.populations:
        if population.is_input:
            populations.append(population)
            scales[population.name] = population.neuron.unit_sent
            continue
        _check(network, population)
        scale = scale_of(network, population)
        scales[population.name] = float(scale)
        lif = population.lif
        assert lif is not None
        if round(lif.v_threshold * float(scale)) < 1:
            raise QuantizationError(
                f"quantize: {population.name}'s threshold of {lif.v_threshold:g} rounds to 0 on the scale {scale:g}"
                " that its largest weight or bias leaves; train with weight decay, or lower its largest values"
            )
        for s in network.incoming(population.name):
            weights[id(s)] = _rounded(s.op.weight / network[s.source].neuron.unit_sent, scale)
        bias = None if population.bias is None else _rounded(population.bias, scale)
        neuron = DYNAMICS.lower(lif, float(scale), formats)
        populations.append(replace(population, neuron=neuron, bias=bias))
    synapses = tuple(replace(s, op=replace(s.op, weight=weights[id(s)])) for s in network.synapses)
    return ChipNetwork(
        tuple(populations),
        synapses,
        time_steps=network.time_steps,
        scales=scales,
        notes=network.notes,
        readout_dynamics=DYNAMICS,
    )


def scale_of(network: Network, population: Population) -> np.float32:
    """The integer that stands for 1.0 in a layer: the largest with which everything fits."""
    lif = population.lif
    assert lif is not None
    units = [s.op.weight / network[s.source].neuron.unit_sent for s in network.incoming(population.name)]
    weights = np.concatenate([unit.reshape(-1) for unit in units])
    bias = np.zeros(1) if population.bias is None else population.bias
    levels = np.array([0.0 if lif.v_min is None else lif.v_min, lif.v_threshold])
    return min(largest_scale(weights, WEIGHT_BITS), largest_scale(bias, WEIGHT_BITS), largest_scale(levels, STATE_BITS))


def largest_scale(values: npt.NDArray[np.floating[Any]], bits: int) -> np.float32:
    """With which values fit into two's complement of so many bits, as sinabs' `determine_discretization_scale`."""
    low, high = np.float32(values.min()), np.float32(values.max())
    lowest, highest = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    binds_above = abs(low) <= abs(high) * np.float32(abs(lowest / highest))
    limit, value = (highest, high) if binds_above else (lowest, low)
    return np.float32(np.inf) if value == 0 else abs(np.float32(limit) / value)


def _rounded(values: npt.NDArray[np.floating[Any]], scale: np.float32) -> npt.NDArray[np.int32]:
    found: npt.NDArray[np.int32] = np.rint(values.astype(np.float32) * scale).astype(np.int32)
    return found


def _check(network: Network, population: Population) -> None:
    if population.lif is None:
        raise UnsupportedModel(
            f"quantize: {population.name} is read out without firing, but all neurons of DYNAP-CNN fire; end in"
            " neurons, and count their spikes"
        )
    if (reason := DYNAMICS.refusal(population.lif)) is not None:
        raise UnsupportedModel(f"quantize: {population.name} {reason}")
    kernel_of(network, population.name)
