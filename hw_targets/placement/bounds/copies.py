"""Copies of a kernel that no placement avoids: how often one weight of a convolution must be stored, over all cores.

Take one kernel whose weights differ from each other, s its stride and d its dilation (per axis). Source x sends to
target y through tap t when x = s·y + d·t − p. Two synapses with the same weight, (y, t) and (y + δ, t), share memory on
a core only if the lists of their sources x and x + s·δ are equal, that is if both sources reach the core through the
same taps. Write t_i = t − i·s·δ/d, where that is the place of a weight that is not zero: x reaches y + i·δ through t_i,
and x + s·δ reaches y + (i + 1)·δ through it. So for i = 1, 2, … as long as t_i exists: y + i·δ is on the core, hence
t_i is a tap of x, of x + s·δ as well, and y + (i + 1)·δ is on the core. In the same way for i = −1, −2, …: y + i·δ is
on the core. All these targets must therefore exist, which near the edges of an image, or in a small one, they do not.

If u(y, t) targets may share the weight with y, itself included, then whichever of them do share it have weights 1/u
that sum to one at most. Hence Σ_y 1/u(y, t) stored weights are needed for tap t at least, however neurons are placed.

That looks at pairs of targets and one tap. For kernels of up to nine taps `partitions` weighs all ways to spread a few
targets, which says more where those few are much of the image; the larger number counts.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import product
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hw_targets.ir.network import Conv2d
from hw_targets.placement.bounds.partitions import fewest_weights, reached_targets

MOST_STEPS = ((0, 40_000), (2, 3000), (1 << 60, 200))
"""By zeros of a kernel, (target, target, tap) triples up to which sharing is looked into; above, a weight counts once.

Fewer where kernels have zeros, since the patterns of zeros are many.
"""
MOST_TAPS, MOST_TARGETS = 9, ((2, 16), (1 << 60, 9))
"""Taps of a kernel, and by its zeros the targets, up to which all ways to spread targets are looked into."""
Place = tuple[int, int]


class Geometry(NamedTuple):
    """What decides which taps meet which pixels; per axis: rows, columns."""

    kernel: Place
    stride: Place
    padding: Place
    dilation: Place
    source: Place
    target: Place


def geometry(op: Conv2d, source: tuple[int, ...]) -> Geometry:
    """Of a convolution that reads a (C, H, W) source."""
    kernel = (op.weight.shape[2], op.weight.shape[3])
    target = op.output_shape(source)
    return Geometry(kernel, op.stride, op.padding, op.dilation, (source[1], source[2]), (target[1], target[2]))


def least_copies(op: Conv2d, source: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """(out, in/groups): how many weights the cores store at least for each kernel of a convolution.

    `source` is the shape (C, H, W) that the convolution reads.
    """
    used = (op.weight != 0).reshape(-1, op.weight[0, 0].size)
    code = used @ (1 << np.arange(used.shape[1])) if used.shape[1] < 63 else np.arange(len(used))
    _, first, which = np.unique(code, return_index=True, return_inverse=True)
    grid = geometry(op, source)
    found = [_fewest(grid, _upright(grid, tuple(used[k].tolist()))) for k in first.tolist()]
    return np.array(found)[which].reshape(op.weight.shape[:2])


@lru_cache(maxsize=4096)
def _fewest(grid: Geometry, used: tuple[bool, ...]) -> float:
    """The larger of both bounds."""
    places = product(range(grid.kernel[0]), range(grid.kernel[1]))
    taps = [place for place, is_used in zip(places, used, strict=True) if is_used]
    most = next(targets for zeros, targets in MOST_TARGETS if len(used) - len(taps) <= zeros)
    if len(used) > MOST_TAPS:
        return _copies(grid, used)
    sources = reached_targets(grid.source, grid.target, taps, grid.stride, grid.padding, grid.dilation)
    return max(_copies(grid, used), fewest_weights(sources, most))


def _upright(grid: Geometry, used: tuple[bool, ...]) -> tuple[bool, ...]:
    """The one that stands for all kernels that an image's symmetries turn into each other."""
    taps = np.array(used).reshape(grid.kernel)
    forms = [taps]
    for axis, values in enumerate(zip(*grid, strict=True)):
        kernel, stride, padding, dilation, source, target = values
        if stride * (target - 1) + dilation * (kernel - 1) - 2 * padding == source - 1:
            forms += [np.flip(form, axis) for form in forms]
    if all(rows == columns for rows, columns in grid):
        forms += [form.T for form in forms]
    return max(tuple(form.reshape(-1).tolist()) for form in forms)


def _copies(grid: Geometry, used: tuple[bool, ...]) -> float:
    """Σ over taps that are used and meet a pixel, and over their targets y, of 1/u(y, t)."""
    places = product(range(grid.kernel[0]), range(grid.kernel[1]))
    taps = {tap for tap, is_used in zip(places, used, strict=True) if is_used}
    most = next(steps for zeros, steps in MOST_STEPS if len(used) - len(taps) <= zeros)
    total = 0.0
    for tap in taps:
        rows, columns = (_met(grid, k, tap[k]) for k in (0, 1))
        if (len(rows) * len(columns)) ** 2 * len(taps) > most:
            total += 1.0
        else:
            met = [(row, column) for row in rows for column in columns]
            total += sum(1.0 / sum(_may_share(grid, taps, y, other, tap) for other in met) for y in met)
    return total


def _met(grid: Geometry, axis: int, tap: int) -> list[int]:
    """Targets along an axis for which a tap falls into the image."""
    first = tap * grid.dilation[axis] - grid.padding[axis]
    return [y for y in range(grid.target[axis]) if 0 <= first + y * grid.stride[axis] < grid.source[axis]]


def _may_share(grid: Geometry, taps: set[Place], y: Place, other: Place, tap: Place) -> bool:
    """Whether two targets may share the stored weight of a tap; a target always does with itself."""
    delta = (other[0] - y[0], other[1] - y[1])
    return delta == (0, 0) or all(_chain(grid, taps, y, delta, tap, step) for step in (1, -1))


def _chain(grid: Geometry, taps: set[Place], y: Place, delta: Place, tap: Place, step: int) -> bool:
    """Whether all targets exist that sharing asks for, going one way."""
    i = step
    while _tap(grid, delta, tap, i) in taps:
        ahead = i + 1 if step > 0 else i
        if not all(0 <= y[k] + ahead * delta[k] < grid.target[k] for k in (0, 1)):
            return False
        i += step
    return True


def _tap(grid: Geometry, delta: Place, tap: Place, i: int) -> Place | None:
    """t_i, or None where it is no whole number."""
    (row, a), (column, b) = (divmod(i * grid.stride[k] * delta[k], grid.dilation[k]) for k in (0, 1))
    return None if a or b else (tap[0] - row, tap[1] - column)
