"""A core as the compiled loops take it: its parameters and states in arrays of the narrowest integers that hold them.

Samples are the last axis, so that a machine takes 16 or 32 of them at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from hw_targets.targets.xylo.specification import Ints, Specification


class Group(NamedTuple):
    """Hidden neurons or outputs: synapses that end there, neurons, states. A row is a neuron's synaptic state.

    Attributes:
        begins: (states·neurons + 1,) int64, where the synapses of a row begin that come from inputs: non-zero ones,
            in the order of their sources.
        sources: (synapses,) int64; `weights` (synapses,) int16, shifted.
        reaches: (states·neurons,) int64, the sum of the sizes of a row's weights.
        begins_far: the same of those that come from hidden neurons, as `sources_far`, `weights_far` and `reaches_far`.
        dashes: (states·neurons,) int16; `shifts`, `thresholds` and `biases` (neurons,) int16.
        ends: (neurons + 1,) int64, where a neuron's `aliases` int64 begin.
        isyn: (states·neurons, N) int16, currents; `vmem` (neurons, N) int16, potentials.
        lows: (states·neurons,) int64, the least of a row's currents over all samples; `highs` the largest.
        most: (inputs,) uint8, scratch; `most_before` (hidden,).
    """

    begins: Ints
    sources: Ints
    weights: Ints
    reaches: Ints
    begins_far: Ints
    sources_far: Ints
    weights_far: Ints
    reaches_far: Ints
    dashes: Ints
    shifts: Ints
    thresholds: Ints
    biases: Ints
    ends: Ints
    aliases: Ints
    isyn: Ints
    vmem: Ints
    lows: Ints
    highs: Ints
    most: Ints
    most_before: Ints


def hidden_of(spec: Specification, samples: int) -> Group:
    """A core's hidden neurons, their states cleared."""
    dashes = [spec.dash_syn, spec.dash_syn_2][: spec.states]
    return _group(
        _synapses(spec.weights_in, spec.weight_shift_in),
        _synapses(spec.weights_rec, spec.weight_shift_rec),
        (np.concatenate(dashes), spec.dash_mem, spec.threshold, spec.bias_hidden),
        spec.aliases or [()] * spec.hidden,
        (spec.inputs, spec.hidden, samples),
    )


def outputs_of(spec: Specification, samples: int) -> Group:
    """A core's outputs, their states cleared; no input leads there."""
    return _group(
        _synapses(np.zeros((spec.inputs, spec.outputs, 1), np.int64), 0),
        _synapses(spec.weights_out[:, :, None], spec.weight_shift_out),
        (spec.dash_syn_out, spec.dash_mem_out, spec.threshold_out, spec.bias_out),
        [()] * spec.outputs,
        (spec.inputs, spec.hidden, samples),
    )


def _synapses(weights: Ints, shift: int) -> tuple[Ints, Ints, Ints, Ints]:
    """`begins`, `sources`, `weights` and `reaches` of weights (sources, targets, states)."""
    ordered = np.ascontiguousarray(weights.transpose(2, 1, 0)).reshape(-1, len(weights))
    row, source = np.nonzero(ordered)
    begins = np.searchsorted(row, np.arange(len(ordered) + 1)).astype(np.int64)
    weight, reaches = ordered[row, source].astype(np.int64) << shift, np.zeros(len(ordered), np.int64)
    np.add.at(reaches, row, np.abs(weight))
    return begins, source.astype(np.int64), weight.astype(np.int16), reaches


def _group(
    from_inputs: tuple[Ints, Ints, Ints, Ints],
    from_hidden: tuple[Ints, Ints, Ints, Ints],
    neurons: tuple[Ints, Ints, Ints, Ints],
    aliases: Sequence[tuple[int, ...]],
    sizes: tuple[int, int, int],
) -> Group:
    """`sizes` are inputs, hidden neurons and samples."""
    (inputs, hidden, samples), rows, count = sizes, len(neurons[0]), len(neurons[1])
    narrow = (np.ascontiguousarray(part, dtype=np.int16) for part in neurons)
    ends = np.cumsum([0, *(len(targets) for targets in aliases)]).astype(np.int64)
    flat = np.array([target for targets in aliases for target in targets], np.int64)
    states = np.zeros((rows, samples), np.int16), np.zeros((count, samples), np.int16)
    bounds = np.zeros(rows, np.int64), np.zeros(rows, np.int64)
    scratch = np.zeros(inputs, np.uint8), np.zeros(hidden, np.uint8)
    return Group._make([*from_inputs, *from_hidden, *narrow, ends, flat, *states, *bounds, *scratch])
