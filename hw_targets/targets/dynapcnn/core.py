"""What one core of the chip is told: a square kernel, integrate-and-fire neurons, and the pool of what it is sent.

A core holds one convolution layer. What our networks hold as one map, an average pool and the convolution behind it, is
taken apart again: the pool is a sum of spikes at the sending core (`pool`), its division is in the weights.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isqrt

import numpy as np

from hw_targets.errors import UnsupportedModel
from hw_targets.ir import ops
from hw_targets.ir.network import Array, ChipNetwork, Conv2d, Network, Op, Shape
from hw_targets.targets.dynapcnn.neuron import IAF

#: Largest kernel and largest side of an output. Source: sinabs 904eb89, documentation of DYNAP-CNN.
LARGEST_KERNEL, LARGEST_SIDE = 16, 64


@dataclass(frozen=True, eq=False)
class Kernel:
    """A layer's convolution: weight (f, c, k, k) on its sources' spikes, summed over `pool` × `pool` first."""

    weight: Array
    stride: int
    padding: int
    pool: int


@dataclass(frozen=True, eq=False)
class Core:
    """A population on its core: `sources` by name, all of whose spikes meet the same kernel; bias (f,) or None."""

    name: str
    sources: tuple[str, ...]
    source_shape: Shape
    kernel: Kernel
    bias: Array | None
    neuron: IAF


def cores_of(network: ChipNetwork) -> tuple[Core, ...]:
    """Every population but the input, sources first.

    Raises:
        UnsupportedModel: as `kernel_of`.
    """
    found = []
    for name in network.order:
        population = network[name]
        if population.is_input:
            continue
        assert isinstance(population.neuron, IAF)
        sources = tuple(s.source for s in network.incoming(name))
        shape = network[sources[0]].shape
        found.append(Core(name, sources, shape, kernel_of(network, name), population.bias, population.neuron))
    return tuple(found)


def kernel_of(network: Network | ChipNetwork, name: str) -> Kernel:
    """The kernel of a population's core.

    Raises:
        UnsupportedModel: what a core cannot hold; the message names the population, what it has, and what to use.
    """
    population, incoming = network[name], network.incoming(name)
    first = incoming[0]
    source = network[first.source].shape
    op = _as_convolution(first.op, source)
    kernel: Kernel | None = None
    reason = None
    if any(not ops.equal(s.op, first.op) or network[s.source].shape != source for s in incoming[1:]):
        reason = "reads several sources with different weights, but a core has one kernel; add them up before one layer"
    elif any(s.is_recurrent or s.delay is not None for s in incoming):
        reason = "has delays or hears itself, but a core's synapses do neither; use a feed-forward layer"
    elif op.groups != 1:
        reason = f"has {op.groups} groups, but a core's kernel reads every channel; use groups=1"
    elif op.dilation != (1, 1):
        reason = f"has a dilation of {op.dilation}, but a core's kernel has none; use dilation=1"
    elif population.bias is not None and len(population.bias) != population.shape[0]:
        reason = "has a bias per neuron, but a core has one per channel; give the channels one"
    if reason is None:
        kernel = _taken_apart(op)
        reason = "has no square kernel, stride, padding and pool, which is all a core knows; use those"
        if kernel is not None:
            reason = _beyond(kernel, population.shape)
    if reason is not None:
        raise UnsupportedModel(f"quantize: {name} {reason}")
    assert kernel is not None
    # A matrix has one place to be at, so that its stride is nobody's.
    return kernel if first.op.is_spatial else replace(kernel, stride=1)


def _beyond(kernel: Kernel, shape: Shape) -> str | None:
    side = max(shape[1:], default=1)
    if kernel.weight.shape[2] > LARGEST_KERNEL:
        return f"has a kernel of {kernel.weight.shape[2]}, but a core's reach {LARGEST_KERNEL}; pool before it"
    if side > LARGEST_SIDE:
        return f"has an output {side} wide, but a core's reach {LARGEST_SIDE}; use a stride or a smaller input"
    return None


def _as_convolution(op: Op, source: Shape) -> Conv2d:
    """A matrix as a convolution over all of its source."""
    if isinstance(op, Conv2d):
        return op
    grid = source if len(source) == 3 else (source[0], 1, 1)
    weight = op.weight.reshape(len(op.weight), *grid)
    return Conv2d(weight, (weight.shape[2], weight.shape[3]), taps_unpooled=op.taps_unpooled)


def _taken_apart(op: Conv2d) -> Kernel | None:
    """The kernel without the pool in it; None where it is not square."""
    (rows, columns), (stride, across), (padding, beside) = op.weight.shape[2:], op.stride, op.padding
    if rows != columns or stride != across or padding != beside:
        return None
    pool = 1
    if op.taps_unpooled is not None:
        side = isqrt(op.taps_unpooled)
        pool = rows // side if side * side == op.taps_unpooled and rows % side == 0 else 1
    small = op.weight[:, :, ::pool, ::pool]
    if stride % pool or padding % pool or not np.array_equal(small.repeat(pool, 2).repeat(pool, 3), op.weight):
        return None
    return Kernel(small, stride // pool, padding // pool, pool)
