"""Parts of ops: a convolution that is flattened before its neurons."""

from __future__ import annotations

import numpy as np

from hw_targets import emulate, remove_dead_neurons
from hw_targets.ir.network import Accumulator, ChipNetwork, Conv2d, Dense, Population, SpikeInput, Synapses
from hw_targets.targets.loihi.neuron import CubaLIF


def test_dead_neurons_before_a_flattened_convolution() -> None:
    rng = np.random.default_rng(0)
    network = ChipNetwork(
        (
            Population("in", (2, 6, 6), SpikeInput()), Population("a", (3, 4, 4), CubaLIF(2)),
            Population("flat", (8,), CubaLIF(2)), Population("out", (4,), Accumulator()),
        ),
        (
            Synapses("in", "a", Conv2d(rng.integers(-3, 4, (3, 2, 3, 3)).astype(np.int32))),
            Synapses("a", "flat", Conv2d(rng.integers(-3, 4, (2, 3, 3, 3)).astype(np.int32))),
            Synapses("flat", "out", Dense(rng.integers(-3, 4, (4, 8)).astype(np.int32))),
        ),
        time_steps=5,
    )  # fmt: skip
    x = (rng.random((5, 3, 2, 6, 6)) < 0.5).astype(np.uint8)
    left = remove_dead_neurons(network)
    assert left["flat"].size == 8
    assert np.array_equal(emulate(left, x).output, emulate(network, x).output)
