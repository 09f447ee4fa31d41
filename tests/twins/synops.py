"""Slow twins: plain loops over NumPy arrays, written from the definition, sharing no code with the package."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def slow_synops_linear(spikes: Array, weight: Array) -> int:
    """SynOps of spikes (N, F_in) through weight (F_out, F_in): a spike crosses its column's non-zero weights."""
    total = 0
    for sample in spikes:
        for i, count in enumerate(sample):
            for row in weight:
                if row[i] != 0:
                    total += int(count)
    return total


def slow_synops_conv2d(
    spikes: Array,
    weight: Array,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (0, 0),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
) -> int:
    """SynOps of spikes (N, C, H, W) through weight (O, C/groups, kH, kW): follow every spike along every synapse.

    A spike at (y, x) crosses tap (a, b) when an output neuron sits at ((y + p - a·d) / s, (x + p - b·d) / s).
    """
    height, width = spikes.shape[2:]
    outputs, per_group, kernel_h, kernel_w = weight.shape
    out_h = (height + 2 * padding[0] - dilation[0] * (kernel_h - 1) - 1) // stride[0] + 1
    out_w = (width + 2 * padding[1] - dilation[1] * (kernel_w - 1) - 1) // stride[1] + 1
    total = 0
    for n, c, y, x in np.argwhere(spikes):
        for o, i, a, b in np.argwhere(weight):
            if (o // (outputs // groups)) * per_group + i != c:
                continue
            row, rest_y = divmod(int(y + padding[0] - a * dilation[0]), stride[0])
            column, rest_x = divmod(int(x + padding[1] - b * dilation[1]), stride[1])
            if rest_y == rest_x == 0 and 0 <= row < out_h and 0 <= column < out_w:
                total += int(spikes[n, c, y, x])
    return total
