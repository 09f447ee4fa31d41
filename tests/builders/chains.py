"""Chains of layers drawn at random, recurrent and delayed ones among them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw_targets.ir.network import (
    Accumulator,
    ChipNetwork,
    Conv2d,
    Dense,
    GradedInput,
    Op,
    Population,
    SpikeInput,
    Synapses,
)
from hw_targets.targets.loihi.neuron import CubaLIF

Array = NDArray[Any]


def ints(rng: np.random.Generator, *shape: int, largest: int = 40) -> Array:
    return rng.integers(-largest, largest + 1, shape).astype(np.int32)


def random_delay(rng: np.random.Generator, targets: int, sources: int) -> Array:
    shape = [(1, 1), (targets, 1), (1, sources), (targets, sources)][int(rng.integers(4))]
    return rng.integers(0, 5, shape)


def random_chain(seed: int, *, graded: bool = False, plain: bool = False, wide: bool = False) -> ChipNetwork:
    """Conv or dense layers, one after the other; unless `plain`, with delays, recurrence and an input layer's neurons.

    `wide` weights make currents leave their 24 bits.
    """
    rng = np.random.default_rng(seed)
    shape: tuple[int, ...] = (int(rng.choice([1, 2])), 3, 3) if rng.random() < 0.6 else (int(rng.integers(2, 6)),)
    populations = [Population("in", shape, GradedInput() if graded else SpikeInput())]
    synapses: list[Synapses] = []

    def neuron() -> CubaLIF:
        return CubaLIF(
            int(rng.integers(0, 60)) * (60 if wide or graded else 1),
            v_decay=int(rng.choice([0, 0, 512, 4096])),
            i_decay=int(rng.choice([4096, 4096, 0, 1024])),
        )

    if not plain and rng.random() < 0.3:
        own: Op = Conv2d(np.full((shape[0], 1, 1, 1), 64, np.int32), groups=shape[0])
        own = own if len(shape) == 3 else Dense(np.eye(shape[0], dtype=np.int32) * 64)
        direct = replace(neuron(), i_decay=4096)
        populations.append(Population("own", shape, direct, np.full(shape[0], 9, np.int32)))
        synapses.append(Synapses("in", "own", own, immediate=True))
    for index in range(int(rng.integers(1, 4))):
        source, name, largest = populations[-1], f"n{index}", 30_000 if wide else 40
        if len(source.shape) == 3 and rng.random() < 0.6:
            # Lava's convolutions sum in 24 bits, its dense layers in 32.
            op: Op = Conv2d(ints(rng, 2, source.shape[0], 2, 2, largest=200 * largest), padding=(1, 1))
            op = op if wide else replace(op, weight=ints(rng, *op.weight.shape, largest=largest))
            delay = None
        else:
            outputs = int(rng.integers(1, 6))
            op = Dense(ints(rng, outputs, source.size, largest=largest))
            delay = random_delay(rng, outputs, source.size) if not plain and rng.random() < 0.5 else None
        shape = op.output_shape(source.shape)
        size = int(np.prod(shape))
        bias = ints(rng, shape[0] if rng.random() < 0.7 else size, largest=30) if rng.random() < 0.7 else None
        populations.append(Population(name, shape, neuron(), bias))
        synapses.append(Synapses(source.name, name, op, delay))
        if not plain and len(shape) == 1 and rng.random() < 0.5:
            loop = random_delay(rng, size, size) if rng.random() < 0.5 else None
            synapses.append(Synapses(name, name, Dense(ints(rng, size, size)), loop))
    if rng.random() < 0.4:
        last = populations[-1]
        populations.append(Population("out", (3,), Accumulator(), ints(rng, 3)))
        synapses.append(Synapses(last.name, "out", Dense(ints(rng, 3, last.size))))
    return ChipNetwork(tuple(populations), tuple(synapses), chip="loihi1", time_steps=int(rng.integers(2, 6)))


def frames_of(network: ChipNetwork, samples: int, seed: int) -> Array:
    entry = network.inputs[0]
    top = 255 if isinstance(entry.neuron, GradedInput) else 1
    shape = (network.time_steps, samples, *entry.shape)
    return np.random.default_rng(seed).integers(0, top + 1, shape).astype(np.int32)
