"""Small networks of Xylo's neurons."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from hw_targets.ir.network import Dense, Network, Population, SpikeInput, Synapses
from hw_targets.targets.xylo.neuron import XyloNeuron


def weights(rng: np.random.Generator, targets: int, sources: int, density: float = 0.6) -> NDArray[np.float64]:
    """Whole numbers in 8 bits, more of them above zero."""
    found = rng.integers(-70, 128, (targets, sources)) * (rng.random((targets, sources)) < density)
    return found.astype(np.float64)


def random_network(rng: np.random.Generator, *, biases: bool = True) -> Network:
    """Inputs, one to three hidden layers, some of them recurrent, outputs; every layer has other decays."""
    sizes = [int(n) for n in rng.integers(2, 9, int(rng.integers(3, 6)))]
    populations = [Population("in", (sizes[0],), SpikeInput(int(rng.integers(1, 16))))]
    synapses: list[Synapses] = []
    shift = int(rng.integers(0, 7))
    for index, (sources, size) in enumerate(pairwise(sizes)):
        is_output, name = index == len(sizes) - 2, f"layer{index}"
        dash_mem, dash_syn = (int(dash) for dash in rng.integers(1, 6, 2))
        threshold = int(rng.integers(20, 200)) << shift
        neuron = XyloNeuron(threshold, dash_mem, dash_syn, shift, 1 if is_output else 31)
        bias = rng.integers(-threshold // 8, threshold // 4, size).astype(np.float64) if biases and index else None
        populations.append(Population(name, (size,), neuron, bias))
        synapses.append(Synapses(populations[index].name, name, Dense(weights(rng, size, sources))))
        if not is_output and rng.integers(2):
            synapses.append(Synapses(name, name, Dense(weights(rng, size, size, 0.3))))
    return Network(tuple(populations), tuple(synapses), time_steps=int(rng.integers(5, 30)))


def random_inputs(rng: np.random.Generator, network: Network, samples: int) -> NDArray[np.int64]:
    """(T, N, inputs) counts that the input may send, mostly none."""
    entry = network.inputs[0]
    shape = (network.time_steps, samples, *entry.shape)
    found: NDArray[np.int64] = rng.integers(1, entry.neuron.most_sent + 1, shape) * (rng.random(shape) < 0.3)
    return found
