"""One axis of a convolution seen from a tile: which source rows reach it, and through which taps of the kernel."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, TypeAlias

import numpy as np

from hw_targets.ir.connectivity import Ints

Taps: TypeAlias = tuple[tuple[int, int], ...]
"""What connects one source row to a tile: (target row from the first one reached, tap) pairs."""


class Grid(NamedTuple):
    """One axis of a convolution: kernel size, stride, padding, dilation, and the source's size."""

    kernel: int
    stride: int
    padding: int
    dilation: int
    size: int


@dataclass(frozen=True)
class Axis:
    """Source rows `begin` … `begin + len(of_row) − 1` grouped into classes that reach the tile in the same way.

    Rows of one class send equal lists of synapses to the tile, since lists count positions from their first target.
    `of_row` is each row's class (−1: no tap falls on it), `counts` the rows of each class.
    """

    begin: int
    of_row: tuple[int, ...]
    classes: tuple[Taps, ...]
    counts: tuple[int, ...]

    @property
    def rows(self) -> slice:
        """The source rows."""
        return slice(self.begin, self.begin + len(self.of_row))

    @cached_property
    def row_classes(self) -> Ints:
        """`of_row` as an array."""
        return np.array(self.of_row, dtype=np.int64)

    @cached_property
    def is_whole(self) -> bool:
        """Whether a tap falls on every row."""
        return -1 not in self.of_row

    @cached_property
    def taps_of_class(self) -> Ints:
        """(classes, most): the taps of each class, the first one again where there are fewer."""
        most = max(len(taps) for taps in self.classes)
        padded = [[tap for _, tap in taps] + [taps[0][1]] * (most - len(taps)) for taps in self.classes]
        return np.array(padded, dtype=np.int64)

    @cached_property
    def row_counts(self) -> Ints:
        """`counts` as an array."""
        return np.array(self.counts, dtype=np.int64)

    def by_tap(self, kernel: int) -> tuple[Ints, Ints, Ints]:
        """For each tap how many classes have it, which (taps, most), and the target row in each (taps, most)."""
        found: list[list[tuple[int, int]]] = [[] for _ in range(kernel)]
        for number, taps in enumerate(self.classes):
            for row, tap in taps:
                found[tap].append((number, row))
        most = max((len(f) for f in found), default=0)
        table = np.zeros((2, kernel, max(1, most)), dtype=np.int64)
        for tap, pairs in enumerate(found):
            for k, (number, row) in enumerate(pairs):
                table[:, tap, k] = number, row
        return np.array([len(f) for f in found], dtype=np.int64), table[0], table[1]


def axis(grid: Grid, low: int, high: int) -> Axis:
    """Classes of the source rows that reach target rows low … high − 1."""
    reached: dict[int, list[tuple[int, int]]] = {}
    for target in range(low, high):
        for tap in range(grid.kernel):
            row = target * grid.stride + tap * grid.dilation - grid.padding
            if 0 <= row < grid.size:
                reached.setdefault(row, []).append((target, tap))
    if not reached:
        return Axis(0, (), (), ())
    taps = {row: tuple((target - found[0][0], tap) for target, tap in found) for row, found in reached.items()}
    classes = tuple(sorted(set(taps.values())))
    number = {key: k for k, key in enumerate(classes)}
    begin = min(taps)
    of_row = tuple(number[taps[row]] if row in taps else -1 for row in range(begin, max(taps) + 1))
    return Axis(begin, of_row, classes, tuple(of_row.count(k) for k in range(len(classes))))
