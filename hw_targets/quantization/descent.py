"""Integers that change the fewest spikes: coordinate descent on what the neurons of one population do.

The squared error of a drive (`rounding`) knows neither thresholds nor resets. It takes no notice of ties, for example:
where an image is blank all neurons of a channel get one and the same drive, and a bias that is a trifle off delays the
spikes of half an image. So the last word is left to the spikes themselves, row by row (a row is one output channel).
Rows know nothing of each other, so that some are taken at a time, as many as the processor's cache holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hw_targets.ir.dynamics import Ints, RowCounter
from hw_targets.quantization.receptive import Column, columns
from hw_targets.quantization.rounding import Reals, Rows

Flags: TypeAlias = npt.NDArray[np.bool_]
#: Steps tried on a weight, which lies between its two neighbours, and on a bias, which may go wherever it is held.
WEIGHT_MOVES, BIAS_MOVES = (1, -1), (1, -1, 2, -2, 5, -5)
#: Columns whose inputs are held in memory together as floats, and bytes of them all that are kept from row to row.
COLUMNS_AT_ONCE, KEPT_BYTES = 64, 1 << 27
#: Steps × positions × rows of currents that are looked at together: 512 KiB.
BLOCK = 1 << 17


class Descent:
    """Integers of one population, the current they cause, and how many spikes of each row differ from the real ones.

    Args:
        count: the chip's neuron; its current lasts one step, so that a bias is a current as any other.
        rows: the population's weights.
        scale: of the population.
        integers: (rows, columns) to begin with.
        real: (T, N, rows, positions), the spikes to come near to.
        columns: inputs of each column.
        constant: (rows, positions), what else drives the neurons in every step.
    """

    def __init__(
        self,
        count: RowCounter,
        rows: Rows,
        scale: float,
        integers: Reals,
        real: Flags,
        columns: Sequence[Column],
        constant: Ints | None = None,
    ) -> None:
        steps, samples, height, positions = real.shape
        self._count = count
        self._real = np.ascontiguousarray(real.transpose(2, 0, 1, 3)).reshape(height, steps, -1)
        self._inputs = _Inputs(columns, (steps, samples, positions))
        self._low, self._high = rows.neighbours(scale)
        self._bias_at = rows.real.shape[1] - 1 if rows.has_bias else None
        if rows.has_bias:
            held = np.where(rows.real[:, -1] == 0, 0.0, rows.limit[-1])
            self._low[:, -1], self._high[:, -1] = -held, held
        self.integers = integers.copy()
        self._current = self._inputs.weighed(self.integers)
        if constant is not None:
            self._current += np.tile(constant.astype(np.int32), (1, samples))[:, None, :]
        size = max(1, BLOCK // max(1, steps * samples * positions))
        self._blocks = [slice(start, start + size) for start in range(0, height, size)]
        counts = [count(self._current[at], self._real[at]) for at in self._blocks]
        self._differing = np.concatenate(counts)

    @property
    def differing(self) -> int:
        """Spikes that differ."""
        return int(self._differing.sum())

    @property
    def spikes(self) -> int:
        """Spikes to come near to."""
        return int(np.count_nonzero(self._real))

    def run(self, sweeps: int) -> None:
        """Move the biases, and then, `sweeps` times, each weight to its other side and the biases again.

        Each where fewer spikes of the row differ for it; a row in which nothing moved any more is done.
        """
        for at in self._blocks:
            self._biases(at)
            for _ in range(sweeps):
                before = int(self._differing[at].sum())
                for k in range(len(self._inputs)):
                    if k != self._bias_at:
                        self._move(at, k, WEIGHT_MOVES)
                self._biases(at)
                if int(self._differing[at].sum()) == before:
                    break

    def _biases(self, at: slice) -> None:
        if self._bias_at is not None:
            self._move(at, self._bias_at, BIAS_MOVES)

    def _move(self, at: slice, k: int, moves: Sequence[int]) -> None:
        """Add each of `moves` to column k of those rows of a block for which fewer spikes differ then."""
        low, high, integers = self._low[at, k], self._high[at, k], self.integers[at, k]
        current, real, differing = self._current[at], self._real[at], self._differing[at]
        free = (low < high) & (differing > 0)
        column: Ints | None = None
        for step in moves:
            moved = integers + step
            rows = np.flatnonzero(free & (moved >= low) & (moved <= high))
            if not len(rows):
                continue
            if column is None:
                column = self._inputs[k]
                if column is None:  # nothing comes in here
                    return
            together = slice(rows[0], rows[-1] + 1)  # one after the other they need not be copied
            seen = together if len(rows) == rows[-1] + 1 - rows[0] else rows
            tried = current[seen] + (column if step == 1 else np.int32(step) * column)
            found = self._count(tried, real[seen])
            better = np.flatnonzero(found < differing[seen])
            if len(better):
                chosen = rows[better]
                current[chosen], differing[chosen] = tried[better], found[better]
                integers[chosen] += step


class _Inputs:
    """The columns' inputs, (T, N·positions) each; those of spikes and pixels take a byte and are kept."""

    def __init__(self, columns: Sequence[Column], shape: tuple[int, int, int]) -> None:
        self._columns, self._shape = columns, shape
        self._kept: dict[int, Ints] = {}
        self._silent: set[int] = set()
        if len(columns) * int(np.prod(shape)) <= KEPT_BYTES:
            for k in range(len(columns)):
                x = self._made(k)
                low, high = int(x.min(initial=0)), int(x.max(initial=0))
                if low == high == 0:
                    self._silent.add(k)
                if 0 <= low <= high <= 255:
                    self._kept[k] = x.astype(np.uint8)

    def __len__(self) -> int:
        return len(self._columns)

    def __getitem__(self, k: int) -> Ints | None:
        """A column's inputs as int32; None where it is known that all are zero."""
        if k in self._silent:
            return None
        return (self._kept[k] if k in self._kept else self._made(k)).astype(np.int32)

    def weighed(self, integers: Reals) -> npt.NDArray[np.int32]:
        """Σ_k q_k·x_k, (rows, T, N·positions). Sums of whole numbers below 2^24, as all currents are, fit float32."""
        steps, samples, positions = self._shape
        total = np.zeros((len(integers), steps * samples * positions), np.float32)
        used = np.flatnonzero(integers.any(0))
        for start in range(0, len(used), COLUMNS_AT_ONCE):
            some = used[start : start + COLUMNS_AT_ONCE]
            inputs = [(self._kept[k] if k in self._kept else self._made(k)).reshape(-1) for k in some.tolist()]
            total += integers[:, some].astype(np.float32) @ np.stack(inputs).astype(np.float32)
        return total.astype(np.int32).reshape(len(integers), steps, -1)

    def _made(self, k: int) -> Ints:
        return np.broadcast_to(self._columns[k](), self._shape).reshape(self._shape[0], -1)


def columns_of(rows: Rows, sent: Mapping[str, npt.NDArray[Any]]) -> list[Column]:
    """Inputs of all columns of a population's rows, from what its sources sent, (T, N, *shape) each."""
    result: list[Column] = []
    for group in rows.groups:
        x = np.sum([sent[s.source] for s in group], axis=0, dtype=np.int32)
        op = group[0].op
        result += columns(op, x)
    if rows.has_bias:
        result.append(lambda: np.ones((1, 1, 1), np.int32))
    return result
