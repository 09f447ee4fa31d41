"""Integers that change the fewest spikes: coordinate descent on what the neurons of one population do.

The squared error of a drive (`rounding`) knows neither thresholds nor resets. It takes no notice of ties, for example:
where an image is blank all neurons of a channel get one and the same drive, and a bias that is a trifle off delays the
spikes of half an image. So the last word is left to the spikes themselves, row by row (a row is one output channel).
Rows know nothing of each other, so that some are taken at a time, as many as the processor's cache holds.
"""

from __future__ import annotations

from functools import cached_property
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from hw_targets.ir.dynamics import Ints, RowCounter
from hw_targets.quantization.receptive import Inputs
from hw_targets.quantization.rounding import Reals, Rows

Flags: TypeAlias = npt.NDArray[np.bool_]
#: Steps tried on a bias, which may go wherever it is held.
BIAS_MOVES = (1, -1, 2, -2, 5, -5)
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
        inputs: of the rows.
        constant: (rows, positions), what else drives the neurons in every step.
    """

    def __init__(
        self,
        count: RowCounter,
        rows: Rows,
        scale: float,
        integers: Reals,
        real: Flags,
        inputs: Inputs,
        constant: Ints | None = None,
    ) -> None:
        steps, samples, height, positions = real.shape
        self._count = count
        self._real = np.ascontiguousarray(real.transpose(2, 0, 1, 3)).reshape(height, steps, -1)
        self._inputs = inputs
        self._rows, self._scale = rows, scale
        self._bias_at = rows.real.shape[1] - 1 if rows.has_bias else None
        self.integers = integers.copy()
        self._current = self._inputs.weighed(self.integers)
        if constant is not None:
            self._current += np.tile(constant.astype(np.int32), (1, samples))[:, None, :]
        size = max(1, BLOCK // max(1, steps * samples * positions))
        self._blocks = [slice(start, start + size) for start in range(0, height, size)]
        counts = [count(self._current[at], self._real[at]) for at in self._blocks]
        self._differing = np.concatenate(counts)
        self._tried = np.empty_like(self._current[:size])  # made once: to get the memory takes as long as to fill it

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
                        # To the other of its two neighbours, up in some rows and down in others.
                        up = self.integers[at, k] < self._between(k)[1][at]
                        self._move(at, k, np.where(up, 1, -1))
                self._biases(at)
                if int(self._differing[at].sum()) == before:
                    break

    def _biases(self, at: slice) -> None:
        if self._bias_at is not None:
            for move in BIAS_MOVES:
                self._move(at, self._bias_at, np.full(len(self.integers[at]), move))

    def _move(self, at: slice, k: int, moves: npt.NDArray[np.int64]) -> None:
        """Add its move to column k of each of those rows of a block for which fewer spikes differ then."""
        low, high = (side[at] for side in self._between(k))
        integers, differing = self.integers[at, k], self._differing[at]
        moved = integers + moves
        rows = np.flatnonzero((low < high) & (differing > 0) & (moved >= low) & (moved <= high))
        if not len(rows) or (column := self._inputs[k]) is None:  # nothing comes in here
            return
        together = slice(rows[0], rows[-1] + 1)  # one after the other they need not be copied
        seen = together if len(rows) == rows[-1] + 1 - rows[0] else rows
        current, tried = self._current[at], self._tried[: len(rows)]
        np.multiply(moves[rows].astype(np.int32)[:, None, None], column, out=tried)
        tried += current[seen]
        found = self._count(tried, self._real[at][seen])
        better = np.flatnonzero(found < differing[seen])
        if len(better):
            chosen = rows[better]
            current[chosen], differing[chosen] = tried[better], found[better]
            integers[chosen] = moved[chosen]

    def _between(self, k: int) -> tuple[Reals, Reals]:
        """What the integers of a column lie between, (rows,) each."""
        if k == self._bias_at:
            held = np.where(self._rows.real[:, k] == 0, 0.0, self._rows.limit[k])
            return -held, held
        low, high = self._neighbours
        return low[k], high[k]

    @cached_property
    def _neighbours(self) -> tuple[Reals, Reals]:
        """Of all columns, column by column in memory; where only biases are moved nobody asks."""
        low, high = (np.ascontiguousarray(side.T) for side in self._rows.neighbours(self._scale))
        return low, high
