"""Random networks that fit DYNAP-CNN: convolutions, sum pools behind neurons, a matrix at the end."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from hw_targets.ir.network import LIF, Conv2d, Dense, Network, Population, SpikeInput, Synapses

MANY = 1 << 15


class Layer:
    """A convolution with float32 weights on sums over `pool` × `pool` spikes, and its neurons."""

    def __init__(self, rng: np.random.Generator, channels: int, side: int, *, last: bool) -> None:
        pools = [p for p in (1, 2) if side % p == 0 and side > 2]
        self.pool = int(rng.choice(pools or [1]))
        inner = side // self.pool
        self.size = inner if last else int(rng.integers(1, min(3, inner) + 1))
        self.stride = 1 if last else int(rng.integers(1, 3))
        self.padding = 0 if last else int(rng.integers(0, 2))
        out = int(rng.integers(2, 6))
        spread = float(rng.choice([0.3, 1.0, 3.0]))
        self.conv = nn.Conv2d(channels, out, self.size, self.stride, self.padding, bias=bool(rng.integers(2)))
        kept = rng.random(self.conv.weight.shape) < rng.choice([0.3, 1.0])
        values = rng.normal(0.1, spread, self.conv.weight.shape) / self.size * kept
        self.conv.weight.data = torch.from_numpy(values.astype(np.float32))
        if self.conv.bias is not None:
            self.conv.bias.data = torch.from_numpy(rng.normal(0, 0.2, out).astype(np.float32))
        self.threshold = float(np.float32(rng.choice([0.5, 1.0, 1.7])))
        self.v_min: float | None = [-1.0, -0.25, 0.0][int(rng.integers(3))]
        self.subtracts = bool(rng.integers(2))
        self.side = (inner + 2 * self.padding - self.size) // self.stride + 1
        self.last = last


def layers(seed: int) -> tuple[int, int, list[Layer]]:
    """(channels, side) of the input, and its layers."""
    rng = np.random.default_rng(seed)
    channels, side = int(rng.integers(1, 4)), int(rng.integers(4, 13))
    found, wide, here = [], channels, side
    for index in range(count := int(rng.integers(2, 5))):
        one = Layer(rng, wide, here, last=index == count - 1)
        found.append(one)
        wide, here = one.conv.out_channels, one.side
    return channels, side, found


def network(seed: int, time_steps: int) -> tuple[Network, list[Layer]]:
    """The network of `layers`, pools and kernels as one map, as our readers have them."""
    channels, side, found = layers(seed)
    populations = [Population("in", (channels, side, side), SpikeInput())]
    synapses = []
    for index, one in enumerate(found):
        weight = one.conv.weight.detach().double().numpy().repeat(one.pool, 2).repeat(one.pool, 3)
        taps = None if one.pool == 1 else one.size * one.size
        op: Any = Conv2d(weight, (one.stride * one.pool,) * 2, (one.padding * one.pool,) * 2, taps_unpooled=taps)
        shape: tuple[int, ...] = (one.conv.out_channels, one.side, one.side)
        if one.last:
            op, shape = Dense(weight.reshape(len(weight), -1), taps_unpooled=taps), shape[:1]
        neuron = LIF(
            one.threshold,
            reset="subtract" if one.subtracts else "zero",
            max_spikes=MANY,
            v_min=one.v_min,
        )
        bias = None if one.conv.bias is None else one.conv.bias.detach().double().numpy()
        populations.append(Population(f"n{index}", shape, neuron, bias))
        synapses.append(Synapses(populations[-2].name, f"n{index}", op))
    return Network(tuple(populations), tuple(synapses), time_steps=time_steps), found
