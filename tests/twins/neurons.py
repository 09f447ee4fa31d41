"""`NeuronEquation` neuron by neuron and step by step: plain loops, written from its documentation."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuroprune.frameworks import NeuronEquation


def run_equation(equation: NeuronEquation, inputs: NDArray[Any]) -> NDArray[np.int64]:
    """Spikes (T, N) of neurons that get the currents (T, N), in double precision."""
    steps, neurons = inputs.shape
    spikes = np.zeros((steps, neurons), np.int64)
    for n in range(neurons):
        u, v, fired = 0.0, 0.0, 0
        for t in range(steps):
            before = fired
            level = equation.v_threshold * (2 if equation.withholds and v > equation.v_threshold else 1)
            u = (1.0 - equation.i_decay) * u + equation.input_gain * float(inputs[t, n])
            v = (1.0 - equation.v_decay) * v + u
            if equation.reset_delay and before:
                v = {"zero": 0.0, "subtract": v - equation.v_threshold, "none": v}[equation.reset]
            fired = int(v > level if equation.strict else v >= level)
            if not equation.reset_delay and fired:
                v = {"zero": 0.0, "subtract": v - equation.v_threshold, "none": v}[equation.reset]
            spikes[t, n] = fired
    return spikes
