"""Ops between some units of their populations, a unit being a channel of a grid or a neuron of a list."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from hw_targets.ir.ops import Array, Conv2d, Dense, Op

Mask = npt.NDArray[np.bool_]


def leaving(op: Op, sources: Mask, size: int) -> Mask:
    """Which weights lead from some units of a source of `size` neurons; broadcasts to the weights."""
    if isinstance(op, Conv2d):
        by_group = sources.reshape(op.groups, -1).repeat(len(op.weight) // op.groups, axis=0)
        return by_group[:, :, None, None]
    return np.repeat(sources, size // sources.size)[None]


def reaching(op: Op, targets: Mask, size: int, units: int) -> Mask:
    """Which of a source's `units` have a non-zero weight to some units of a target of `size` neurons."""
    used = op.weight != 0
    if isinstance(op, Conv2d):
        by_kernel = used.any(axis=(2, 3)) & _channels(op, targets)[:, None]
        heard: Mask = by_kernel.reshape(op.groups, -1, used.shape[1]).any(1).reshape(-1)
        return heard
    rows = np.repeat(targets, size // targets.size)
    found: Mask = (used & rows[:, None]).any(0).reshape(units, -1).any(1)
    return found


def between(op: Op, sources: Mask, targets: Mask, source_size: int, target_size: int) -> Op:
    """The op between the chosen units alone, of a source and a target of so many neurons before."""
    if isinstance(op, Dense):
        rows = np.repeat(targets, target_size // targets.size)
        columns = np.repeat(sources, source_size // sources.size)
        return replace(op, weight=op.weight[np.ix_(rows, columns)])
    targets = _channels(op, targets)
    if op.groups == 1:
        return replace(op, weight=op.weight[np.ix_(targets, sources)])
    if op.groups == sources.size == targets.size and np.array_equal(sources, targets):
        return replace(op, weight=op.weight[targets], groups=int(targets.sum()))
    return replace(op, weight=ungrouped(op)[np.ix_(targets, sources)], groups=1)


def _channels(op: Conv2d, targets: Mask) -> Mask:
    """Channels with a chosen unit: those of a flattened convolution are neurons, in C order."""
    found: Mask = targets.reshape(len(op.weight), -1).any(1)
    return found


def ungrouped(op: Conv2d) -> Array:
    """The kernel (out, in, kH, kW) of the same convolution without groups."""
    outs, ins, *taps = op.weight.shape
    whole = np.zeros((outs, op.groups, ins, *taps), op.weight.dtype)
    for group, block in enumerate(np.split(np.arange(outs), op.groups)):
        whole[block, group] = op.weight[block]
    return whole.reshape(outs, op.groups * ins, *taps)
