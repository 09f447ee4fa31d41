"""Which neuron is connected to which, exactly: only non-zero weights, only taps inside the image."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hw_targets.ir.network import Array, Conv2d, Dense, Graph, Synapses

Ints = npt.NDArray[np.int64]


class Edges(NamedTuple):
    """Synapses as three flat arrays of one length: target neuron, source neuron (both in C order), weight."""

    target: Ints
    source: Ints
    weight: Array


def edges(synapses: Synapses, network: Graph, targets: npt.ArrayLike | None = None) -> Edges:
    """Every non-zero synapse of a group that ends in the given target neurons (all of them if None).

    `targets` are flat indices into the target population, without repeats; edges come in their order, and for one
    target in ascending order of the kernel tap. Time and memory grow with the non-zero synapses returned, not with
    the dense size of the group.

    Raises:
        IndexError: a target that the population does not have.
    """
    size = network[synapses.target].size
    wanted = np.arange(size) if targets is None else np.asarray(targets, dtype=np.int64).reshape(-1)
    if wanted.size and not 0 <= int(wanted.min()) <= int(wanted.max()) < size:
        raise IndexError(f"targets of {synapses.name} must lie in 0 … {size - 1}")
    if isinstance(synapses.op, Dense):
        row, source = np.nonzero(synapses.op.weight[wanted])
        return Edges(wanted[row], source, synapses.op.weight[wanted[row], source])
    return _conv_edges(synapses.op, network[synapses.source].shape, wanted)


def _conv_edges(op: Conv2d, source: tuple[int, ...], targets: Ints) -> Edges:
    """Edges of a convolution of a (C, H, W) source: each target repeats the non-zero taps of its output channel."""
    _, height, width = op.output_shape(source)
    channel, row, column = np.unravel_index(targets, (op.weight.shape[0], height, width))
    used, slot = np.unique(channel, return_inverse=True)
    kernel = op.weight[used]
    tap_slot, tap_in, tap_row, tap_column = np.nonzero(kernel)
    tap_weight = kernel[tap_slot, tap_in, tap_row, tap_column]
    taps = np.bincount(tap_slot, minlength=used.size)
    repeats = taps[slot]
    edge = np.repeat(np.arange(targets.size), repeats)
    within = np.arange(edge.size) - np.repeat(np.cumsum(repeats) - repeats, repeats)
    tap = (np.cumsum(taps) - taps)[slot][edge] + within
    y = row[edge] * op.stride[0] - op.padding[0] + tap_row[tap] * op.dilation[0]
    x = column[edge] * op.stride[1] - op.padding[1] + tap_column[tap] * op.dilation[1]
    inside = (y >= 0) & (y < source[1]) & (x >= 0) & (x < source[2])
    edge, tap, y, x = edge[inside], tap[inside], y[inside], x[inside]
    group = channel[edge] // (op.weight.shape[0] // op.groups)
    plane = group * op.weight.shape[1] + tap_in[tap]
    return Edges(targets[edge], (plane * source[1] + y) * source[2] + x, tap_weight[tap])


def fan_out(synapses: Synapses, network: Graph, *, count_zeros: bool = False) -> Ints:
    """Synapses that leave each source neuron: int64 of the source's shape.

    Only non-zero weights count, unless `count_zeros`: then every tap inside the image does, as on hardware that
    stores and processes the zeros of a dense layer.
    """
    op, shape = synapses.op, network[synapses.source].shape
    stored = np.ones(op.weight.shape, dtype=np.int64) if count_zeros else (op.weight != 0).astype(np.int64)
    if isinstance(op, Dense):
        out: Ints = stored.sum(axis=0).reshape(shape)
        return out
    per_group = stored.reshape(op.groups, -1, *stored.shape[1:]).sum(axis=1)
    counts = np.zeros(shape, dtype=np.int64)
    for tap, (_, _), (rows, columns) in _taps(op, shape):
        counts[:, rows, columns] += per_group[:, :, tap[0], tap[1]].reshape(-1, 1, 1)
    return counts


def fan_in(synapses: Synapses, network: Graph, *, count_zeros: bool = False) -> Ints:
    """Synapses that reach each target neuron: int64 of the target's shape; `count_zeros` as in `fan_out`."""
    op, shape = synapses.op, network[synapses.target].shape
    stored = np.ones(op.weight.shape, dtype=np.int64) if count_zeros else (op.weight != 0).astype(np.int64)
    if isinstance(op, Dense):
        into: Ints = stored.sum(axis=1).reshape(shape)
        return into
    source = network[synapses.source].shape
    counts = np.zeros(op.output_shape(source), dtype=np.int64)
    per_channel = stored.sum(axis=1)
    for tap, (rows, columns), (_, _) in _taps(op, source):
        counts[:, rows, columns] += per_channel[:, tap[0], tap[1]].reshape(-1, 1, 1)
    return counts.reshape(shape)


_Slices = tuple[slice, slice]


def _taps(op: Conv2d, source: tuple[int, ...]) -> Iterator[tuple[tuple[int, int], _Slices, _Slices]]:
    """For each kernel tap the output pixels whose tap lies inside the image, and the source pixels it falls on."""
    _, height, width = op.output_shape(source)
    for i in range(op.weight.shape[2]):
        out_rows, rows = _reach(i * op.dilation[0] - op.padding[0], op.stride[0], source[1], height)
        for j in range(op.weight.shape[3]):
            out_columns, columns = _reach(j * op.dilation[1] - op.padding[1], op.stride[1], source[2], width)
            yield (i, j), (out_rows, out_columns), (rows, columns)


def _reach(shift: int, stride: int, source: int, target: int) -> _Slices:
    """Outputs o in [0, target) with 0 ≤ o·stride + shift < source, and those source pixels, as slices."""
    low = max(0, -(shift // stride))
    high = min(target, (source - 1 - shift) // stride + 1)
    if high <= low:
        return slice(0, 0), slice(0, 0)
    return slice(low, high), slice(low * stride + shift, (high - 1) * stride + shift + 1, stride)
