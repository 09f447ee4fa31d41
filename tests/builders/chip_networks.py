"""Chip networks and inputs drawn at random, and the comparison of two activities."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw_targets.ir.activity import Activity
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
from tests.twins.chip import SlowRun

Array = NDArray[Any]


def assert_same(ours: Activity, slow: SlowRun) -> None:
    """Every spike, the output, and every lost bit."""
    assert set(ours.spikes) == set(slow.spikes)
    for name, spikes in slow.spikes.items():
        np.testing.assert_array_equal(ours.spikes[name], spikes, err_msg=name)
    np.testing.assert_array_equal(ours.output, slow.output)
    assert dict(ours.overflows) == slow.lost


def weights(rng: np.random.Generator, shape: tuple[int, ...], largest: int) -> Array:
    """Integers, a third of them zero."""
    return (rng.integers(-largest, largest + 1, shape) * (rng.random(shape) < 0.67)).astype(np.int32)


def random_op(rng: np.random.Generator, source: tuple[int, ...], budget: int) -> Op:
    """A convolution of any stride, padding, dilation and groups, or a dense layer; `budget` bounds Σ|w| of a row."""
    if len(source) == 3 and rng.random() < 0.75:
        groups = int(rng.choice([g for g in (1, 2) if source[0] % g == 0]))
        kernel = tuple(int(k) for k in rng.integers(1, 4, 2))
        fan_in = source[0] // groups * kernel[0] * kernel[1]
        op = Conv2d(
            weights(rng, (2 * groups, source[0] // groups, *kernel), max(1, budget // fan_in)),
            stride=(int(rng.integers(1, 3)), int(rng.integers(1, 3))),
            padding=(int(rng.integers(0, 3)), int(rng.integers(0, 3))),
            dilation=(int(rng.integers(1, 3)), int(rng.integers(1, 3))),
            groups=groups,
        )
        if min(op.output_shape(source)[1:]) > 0:
            return op
    size = int(np.prod(source))
    return Dense(weights(rng, (int(rng.integers(1, 6)), size), max(1, budget // size)))


def random_neuron(rng: np.random.Generator, budget: int) -> CubaLIF:
    return CubaLIF(
        int(rng.integers(-2, max(2, budget // 2))),
        v_decay=int(rng.choice([0, 0, 1, 1024, 2048, 4095, 4096])),
        i_decay=int(rng.choice([4096, 4096, 4096, 0, 1, 2048, 3000])),
    )


def random_network(seed: int, *, budget: int, graded: bool) -> ChipNetwork:
    """An input, up to four populations with one to three groups of synapses each, and one output that hears all."""
    rng = np.random.default_rng(seed)
    # Currents stay below 2^18, so that u wraps at most once: what happens beyond is not defined by the hardware notes.
    largest = 255 if graded else 1
    shape = (int(rng.choice([1, 2, 4])), int(rng.integers(2, 6)), int(rng.integers(2, 6)))
    populations = [Population("in", shape, GradedInput() if graded else SpikeInput())]
    synapses: list[Synapses] = []
    for index in range(int(rng.integers(1, 5))):
        source = populations[int(rng.integers(len(populations)))]
        part = max(1, budget // 3 // (largest if source.is_input else 1))
        op = random_op(rng, source.shape, part)
        target = f"p{index}"
        synapses.append(Synapses(source.name, target, op))
        for twin in [p for p in populations[1:] if p.shape == source.shape][:2]:
            # Another term of the same sum: through the very same weights (a SEW ADD), or through others.
            other = op if rng.random() < 0.5 else replace(op, weight=op.weight[::-1].copy())
            synapses.append(Synapses(twin.name, target, other))
        out = op.output_shape(source.shape)
        bias = weights(rng, (out[0],), max(1, budget // 8)) if rng.random() < 0.6 else None
        populations.append(Population(target, out, random_neuron(rng, budget), bias))
    heard = {s.source for s in synapses}
    silent = [p for p in populations if p.name not in heard and not p.is_input]
    outputs = int(rng.integers(1, 4))
    neuron = Accumulator() if rng.random() < 0.6 else random_neuron(rng, budget)
    bias = weights(rng, (outputs,), max(1, budget // 8)) if rng.random() < 0.5 else None
    for p in silent:
        synapses.append(Synapses(p.name, "out", Dense(weights(rng, (outputs, p.size), max(1, budget // 3 // p.size)))))
    populations.append(Population("out", (outputs,), neuron, bias))
    return ChipNetwork(tuple(populations), tuple(synapses), chip="loihi1", time_steps=int(rng.integers(1, 7)))


def random_inputs(network: ChipNetwork, samples: int, seed: int, *, per_step: bool) -> Array:
    rng = np.random.default_rng(seed)
    entry = network.inputs[0]
    top = 255 if isinstance(entry.neuron, GradedInput) else 1
    lead = (network.time_steps, samples) if per_step else (samples,)
    return rng.integers(0, top + 1, (*lead, *entry.shape))
