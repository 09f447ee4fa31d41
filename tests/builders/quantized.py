"""Networks to quantize, and the limits that every integer must hold."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw_targets.ir.network import (
    LIF,
    Accumulator,
    ChipNetwork,
    Conv2d,
    Dense,
    GradedInput,
    Network,
    Population,
    SpikeInput,
    Synapses,
)
from hw_targets.targets.loihi.neuron import CubaLIF
from tests.twins.chip import current_bounds

Array = NDArray[Any]


def sparse(rng: np.random.Generator, *shape: int, size: float = 1.0) -> Array:
    """Half of the weights are exactly zero."""
    values: Array = size * rng.standard_normal(shape) * (rng.random(shape) < 0.5)
    return values


def sew(seed: int = 0, *, decay: float = 0.0, size: float = 0.4, steps: int = 4, graded: bool = True) -> Network:
    """A stem, two SEW blocks (the second halves the grid, with a shortcut), an average over the grid, a readout."""
    rng = np.random.default_rng(seed)
    neuron = LIF(1.0, decay)
    pad = (1, 1)

    def kernel(outputs: int, inputs: int, k: int = 3) -> Array:
        return sparse(rng, outputs, inputs, k, k, size=size * float(rng.uniform(0.3, 3)))

    def fires(name: str, channels: int, side: int) -> Population:
        return Population(name, (channels, side, side), neuron, sparse(rng, channels, size=0.2))

    populations = (
        Population("in", (2, 6, 6), GradedInput() if graded else SpikeInput()),
        fires("stem", 3, 6), fires("a1", 3, 6), fires("a2", 3, 6), fires("b1", 4, 3), fires("b2", 4, 3),
        fires("cut", 4, 3), Population("out", (3,), Accumulator(), sparse(rng, 3)),
    )  # fmt: skip
    first, short = Conv2d(kernel(4, 3), (2, 2), pad), Conv2d(kernel(4, 3, 1), (2, 2))
    last = Dense(np.repeat(sparse(rng, 3, 4), 9, axis=1) / 9)
    synapses = (
        Synapses("in", "stem", Conv2d(kernel(3, 2), padding=pad)),
        Synapses("stem", "a1", Conv2d(kernel(3, 3), padding=pad)),
        Synapses("a1", "a2", Conv2d(kernel(3, 3), padding=pad)),
        Synapses("stem", "b1", first), Synapses("a2", "b1", first),
        Synapses("stem", "cut", short), Synapses("a2", "cut", short),
        Synapses("b1", "b2", Conv2d(kernel(4, 4), padding=pad)),
        Synapses("b2", "out", last), Synapses("cut", "out", last),
    )  # fmt: skip
    return Network(populations, synapses, time_steps=steps)


def pixels(network: Network | ChipNetwork, samples: int = 2, seed: int = 0) -> Array:
    top = 255 if isinstance(network.inputs[0].neuron, GradedInput) else 1
    return np.random.default_rng(seed).integers(0, top + 1, (samples, *network.inputs[0].shape))


def assert_inside_the_chip(network: ChipNetwork) -> None:
    """Weights, biases, thresholds, decays and currents of every population, for any input whatsoever."""
    for s in network.synapses:
        assert np.issubdtype(s.op.weight.dtype, np.integer)
        assert np.abs(s.op.weight.astype(np.int64)).max(initial=0) <= 127, s.name
    for p in network.populations:
        if p.is_input:
            continue
        if p.bias is not None:
            assert np.issubdtype(p.bias.dtype, np.integer)
            if not isinstance(p.neuron, Accumulator):
                assert np.abs(p.bias.astype(np.int64)).max(initial=0) <= 4095, p.name
        low, high = current_bounds(network, replace(p, bias=None))
        assert -(1 << 17) < low <= high < 1 << 17, p.name
        if isinstance(p.neuron, CubaLIF):
            assert 0 <= p.neuron.v_threshold < 1 << 17
            assert 0 <= p.neuron.v_decay <= 4096
            assert p.neuron.i_decay == 4096
        else:
            low, high = current_bounds(network, p)
            assert network.time_steps * low > -(1 << 17)
            assert network.time_steps * high < 1 << 17
