"""What the rows of an op's weights are multiplied with: the receptive fields of the neurons they lead to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property, partial
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hw_targets.ir.dynamics import Ints
from hw_targets.ir.ops import Array, Conv2d, Op
from hw_targets.quantization.rounding import Reals, Rows

#: What one column of weights is multiplied with: (T, N, positions), made when it is asked for.
Column: TypeAlias = Callable[[], Ints]
#: Bytes of all columns' inputs up to which they are kept.
KEPT_BYTES = 1 << 27


class Inputs:
    """What the columns of a population's rows are multiplied with; those of spikes and pixels take a byte.

    Args:
        rows: the population's weights.
        sent: by source, the whole numbers that it sends, (T, N, *shape) each.
        positions: neurons that one row serves.
    """

    def __init__(self, rows: Rows, sent: Mapping[str, npt.NDArray[Any]], positions: int) -> None:
        self._parts: list[tuple[Op, Ints]] = []
        for group in rows.groups:
            arriving = np.sum([sent[s.source] for s in group], axis=0, dtype=np.int32)
            self._parts.append((group[0].op, arriving))
        steps, samples = next(iter(sent.values())).shape[:2]
        self._shape, self._has_bias = (steps, samples, positions), rows.has_bias
        self._made: list[Column] = [column for op, x in self._parts for column in columns(op, x)]
        if rows.has_bias:
            self._made.append(lambda: np.ones((1, 1, 1), np.int32))

    def __len__(self) -> int:
        return len(self._made)

    def __getitem__(self, k: int) -> Ints | None:
        """A column's inputs (T, N·positions) as int32; None where it is known that all are zero."""
        if self._has_bias and k == len(self._made) - 1:
            return self._whole(k)
        kept, silent = self._kept
        if k in silent:
            return None
        return (kept[k] if k in kept else self._whole(k)).astype(np.int32)

    def weighed(self, integers: Reals) -> npt.NDArray[np.int32]:
        """Σ_k q_k·x_k, (rows, T, N·positions). Sums of whole numbers below 2^24, as all currents are, fit float32."""
        from hw_targets.emulation.currents import whole_sums

        steps, samples, positions = self._shape
        total = np.zeros((steps * samples, len(integers), positions), np.int32)
        at = 0
        for op, x in self._parts:
            width = int(np.prod(op.weight.shape[1:]))
            weight = integers[:, at : at + width].reshape(op.weight.shape)
            at += width
            if x.any():
                total += whole_sums(op, weight, x.reshape(-1, *x.shape[2:])).reshape(total.shape)
        if self._has_bias:
            total += integers[:, -1:].astype(np.int32)
        current = total.reshape(steps, samples, len(integers), positions).transpose(2, 0, 1, 3)
        return np.ascontiguousarray(current).reshape(len(integers), steps, -1)

    @cached_property
    def _kept(self) -> tuple[dict[int, npt.NDArray[np.uint8]], set[int]]:
        """Inputs by column, as far as there is memory for all, and the columns without any."""
        kept: dict[int, npt.NDArray[np.uint8]] = {}
        silent: set[int] = set()
        if len(self) * int(np.prod(self._shape)) <= KEPT_BYTES:
            for k in range(len(self) - self._has_bias):
                x = self._whole(k)
                low, high = int(x.min(initial=0)), int(x.max(initial=0))
                if low == high == 0:
                    silent.add(k)
                elif 0 <= low <= high <= 255:
                    kept[k] = x.astype(np.uint8)
        return kept, silent

    def _whole(self, k: int) -> Ints:
        return np.broadcast_to(self._made[k](), self._shape).reshape(self._shape[0], -1)


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
