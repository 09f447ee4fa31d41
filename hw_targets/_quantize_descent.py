"""Integers that change the fewest spikes: coordinate descent on what the neurons of one population do.

The squared error of a drive (`rounding`) knows neither thresholds nor resets. It takes no notice of ties, for example:
where an image is blank all neurons of a channel get one and the same drive, and a bias that is a trifle off delays the
spikes of half an image. So the last word is left to the spikes themselves, row by row (a row is one output channel).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hw_targets.network import Conv2d, CubaLIF
from hw_targets.number_formats import DECAY_UNITY, FRACTION_BITS
from hw_targets.rounding import Reals, Rows

Ints: TypeAlias = npt.NDArray[np.integer[Any]]
Flags: TypeAlias = npt.NDArray[np.bool_]
#: What one column of weights is multiplied with: (T, N, positions), made when it is asked for.
Column: TypeAlias = Callable[[], Ints]
#: Steps tried on a weight, which lies between its two neighbours, and on a bias, which may go wherever it is held.
WEIGHT_MOVES, BIAS_MOVES = (1, -1), (1, -1, 2, -2, 5, -5)
#: Columns whose inputs are held in memory together.
COLUMNS_AT_ONCE = 64


class Descent:
    """Integers of one population, the current they cause, and how many spikes of each row differ from the real ones.

    Args:
        neuron: the chip's; its current lasts one step, so that a bias is a current as any other.
        rows: the population's weights.
        scale: of the population.
        integers: (rows, columns) to begin with.
        real: (T, N, rows, positions), the spikes to come near to.
        columns: inputs of each column.
        constant: (rows, positions), what else drives the neurons in every step.
    """

    def __init__(
        self,
        neuron: CubaLIF,
        rows: Rows,
        scale: float,
        integers: Reals,
        real: Flags,
        columns: Sequence[Column],
        constant: Ints | None = None,
    ) -> None:
        self._neuron, self._real, self._columns = neuron, real, columns
        self._low, self._high = rows.neighbours(scale)
        self._bias_at = rows.real.shape[1] - 1 if rows.has_bias else None
        if rows.has_bias:
            held = np.where(rows.real[:, -1] == 0, 0.0, rows.limit[-1])
            self._low[:, -1], self._high[:, -1] = -held, held
        self.integers = integers.copy()
        self._current = _current(self.integers, columns, real.shape)
        if constant is not None:
            self._current += constant.astype(np.int32)
        self._differing = self._count(self._current, real)

    @property
    def differing(self) -> int:
        """Spikes that differ."""
        return int(self._differing.sum())

    def biases(self) -> None:
        """Move each row's bias to where fewer of its spikes differ."""
        if self._bias_at is not None:
            self._move(self._bias_at, BIAS_MOVES)

    def sweep(self) -> bool:
        """Try each weight of each row on the other side, and then the biases; whether anything moved."""
        before = self.differing
        for k in range(len(self._columns)):
            if k != self._bias_at:
                self._move(k, WEIGHT_MOVES)
        self.biases()
        return self.differing < before

    def _move(self, k: int, moves: Sequence[int]) -> None:
        """Add each of `moves` to column k of the rows in which it is within reach and fewer spikes differ for it."""
        if not (self._low[:, k] < self._high[:, k]).any():
            return
        column = self._columns[k]()[:, :, None]
        for step in moves:
            moved = self.integers[:, k] + step
            rows = np.flatnonzero((moved >= self._low[:, k]) & (moved <= self._high[:, k]))
            if not len(rows):
                continue
            current = self._current[:, :, rows] + np.int32(step) * column
            found = self._count(current, self._real[:, :, rows])
            better = np.flatnonzero(found < self._differing[rows])
            if len(better):
                self._current[:, :, rows[better]] = current[:, :, better]
                self.integers[rows[better], k] += step
                self._differing[rows[better]] = found[better]

    def _count(self, current: Ints, real: Flags) -> Ints:
        """Differing spikes of each row."""
        total = np.zeros(current.shape[2], np.int64)
        for fired, wanted in zip(spikes_of(self._neuron, current), real, strict=True):
            total += np.count_nonzero(fired != wanted, axis=(0, 2))
        return total


def _current(integers: Reals, columns: Sequence[Column], shape: tuple[int, ...]) -> npt.NDArray[np.int32]:
    """Σ_k q_k·x_k, (T, N, rows, positions). Sums of whole numbers below 2^24, as all currents are, fit float32."""
    steps, samples, rows, positions = shape
    total = np.zeros((rows, steps * samples * positions), np.float32)
    used = np.flatnonzero(integers.any(0))
    for start in range(0, len(used), COLUMNS_AT_ONCE):
        some = used[start : start + COLUMNS_AT_ONCE]
        inputs = [np.broadcast_to(columns[k](), (steps, samples, positions)).reshape(-1) for k in some]
        total += integers[:, some].astype(np.float32) @ np.stack(inputs).astype(np.float32)
    current = total.reshape(rows, steps, samples, positions).transpose(1, 2, 0, 3)
    return np.ascontiguousarray(current.astype(np.int32))


def spikes_of(neuron: CubaLIF, current: Ints) -> list[Flags]:
    """Spikes of each step, given the current of each, (T, …); for currents that last one step and never overflow.

    v ← rz(v·(4096 − v_decay)) + a;  s = [v > v_threshold];  v ← 0 where s;  rz(x) = sign(x)·(|x| >> 12), v in 1/64.
    Source: as of `CubaLIF`.
    """
    plain = neuron.v_decay == 0
    shift = 0 if plain else FRACTION_BITS
    level, keep = neuron.v_threshold << shift, DECAY_UNITY - neuron.v_decay
    v: Ints = np.zeros((), np.int64)
    result = []
    for arriving in current:
        if plain:
            v = v + arriving if v.ndim else arriving
        else:
            product = v * keep
            v = np.sign(product) * (np.abs(product) >> 12) + (arriving.astype(np.int64) << shift)
        fired = v > level
        v = np.where(fired, v.dtype.type(0), v)
        result.append(fired)
    return result


def columns_of(rows: Rows, sent: Mapping[str, npt.NDArray[Any]]) -> list[Column]:
    """Inputs of all columns of a population's rows, from what its sources sent, (T, N, *shape) each."""
    result: list[Column] = []
    for group in rows.groups:
        x = np.sum([sent[s.source] for s in group], axis=0, dtype=np.int32)
        op = group[0].op
        result += _taps(x, op) if isinstance(op, Conv2d) else _features(x)
    if rows.has_bias:
        result.append(lambda: np.ones((1, 1, 1), np.int32))
    return result


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
