"""What the rows of an op's weights are multiplied with: the receptive fields of the neurons they lead to."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import numpy as np

from hw_targets.ir.dynamics import Ints
from hw_targets.ir.ops import Array, Conv2d, Op
from hw_targets.quantization.rounding import Reals

#: What one column of weights is multiplied with: (T, N, positions), made when it is asked for.
Column: TypeAlias = Callable[[], Ints]


def patches(frames: Array, op: Op, frame: Array, position: Array) -> Reals:
    """Inputs of the neurons at `position` in `frame`: (len(frame), in·kH·kW), or the whole frame for a matrix."""
    if not isinstance(op, Conv2d):
        return frames.reshape(len(frames), -1)[frame].astype(np.float64)
    (py, px), (dy, dx), (sy, sx), (ky, kx) = op.padding, op.dilation, op.stride, op.weight.shape[2:]
    padded = np.pad(frames, ((0, 0), (0, 0), (py, py), (px, px)))
    width = op.output_shape(frames.shape[1:])[2]
    y, x = np.divmod(position, width)
    rows = (y * sy)[:, None] + np.arange(ky) * dy
    columns = (x * sx)[:, None] + np.arange(kx) * dx
    taken = padded[
        frame[:, None, None, None],
        np.arange(frames.shape[1])[:, None, None],
        rows[:, None, :, None],
        columns[:, None, None, :],
    ]
    patches: Reals = taken.reshape(len(frame), -1).astype(np.float64)
    return patches


def columns(op: Op, x: Ints) -> list[Column]:
    """The inputs of each column of weights, in their order, for sources that sent x (T, N, *shape)."""
    return _taps(x, op) if isinstance(op, Conv2d) else _features(x)


def _features(x: Ints) -> list[Column]:
    flat = x.reshape(*x.shape[:2], -1)
    return [partial(flat.__getitem__, (slice(None), slice(None), slice(k, k + 1))) for k in range(flat.shape[2])]


def _taps(x: Ints, op: Conv2d) -> list[Column]:
    (py, px), (dy, dx), (sy, sx) = op.padding, op.dilation, op.stride
    _, height, width = op.output_shape(x.shape[2:])
    padded = np.pad(x, ((0, 0), (0, 0), (0, 0), (py, py), (px, px)))

    def tap(channel: int, i: int, j: int) -> Ints:
        lines = slice(i * dy, i * dy + sy * (height - 1) + 1, sy)
        seen = padded[:, :, channel, lines, j * dx : j * dx + sx * (width - 1) + 1 : sx]
        return seen.reshape(*seen.shape[:2], -1)

    return [partial(tap, *at) for at in np.ndindex(x.shape[2], *op.weight.shape[2:])]
