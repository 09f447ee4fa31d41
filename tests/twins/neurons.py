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
    if equation.difference:
        return _run_difference(equation, inputs)
    for n in range(neurons):
        u, v, fired = 0.0, 0.0, 0
        theta, gain = of_neuron(equation, "v_threshold", n), of_neuron(equation, "input_gain", n)
        v_decay, i_decay = of_neuron(equation, "v_decay", n), of_neuron(equation, "i_decay", n)
        for t in range(steps):
            before = fired
            level = theta * (2 if equation.withholds and v > theta else 1)
            u = (1.0 - i_decay) * u + gain * float(inputs[t, n])
            v = (1.0 - v_decay) * v + u
            if equation.reset_delay and before:
                v = {"zero": 0.0, "subtract": v - theta, "none": v}[equation.reset]
            fired = int(v > level if equation.strict else v >= level)
            if not equation.reset_delay and fired:
                v = {"zero": 0.0, "subtract": v - theta, "none": v}[equation.reset]
            spikes[t, n] = fired
    return spikes


def of_neuron(equation: NeuronEquation, name: str, n: int) -> float:
    """A value of the n-th neuron, its own where they differ."""
    several = getattr(equation, f"{name}s")
    return float(getattr(equation, name)) if several is None else float(several.reshape(-1)[n])


def _run_difference(equation: NeuronEquation, inputs: NDArray[Any]) -> NDArray[np.int64]:
    """Two traces a neuron, cleared a step after a spike where it resets."""
    spikes = np.zeros(inputs.shape, np.int64)
    assert equation.strict
    assert equation.reset_delay == (equation.reset == "zero")
    for n in range(inputs.shape[1]):
        u = w = 0.0
        for t in range(len(inputs)):
            x = of_neuron(equation, "input_gain", n) * float(inputs[t, n])
            u = (1.0 - of_neuron(equation, "i_decay", n)) * u + x
            w = (1.0 - of_neuron(equation, "v_decay", n)) * w + x
            if equation.reset == "zero" and t and spikes[t - 1, n]:
                u = w = 0.0
            spikes[t, n] = u - w > of_neuron(equation, "v_threshold", n)
    return spikes
