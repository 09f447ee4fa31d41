"""Linear maps of a grid of neurons, and what two of them make one after the other: one convolution, or a matrix.

A convolution of a convolution, of a pool or of a choice of channels is a convolution again, unless the padding between
the two hides something that the first would have computed there. What is none becomes a matrix, if that is small
enough. Weights are float64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import prod
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from hw_targets.errors import UnsupportedModel
from hw_targets.ir.network import Conv2d, Dense, Op, Pair, Shape
from hw_targets.ir.transposed import LARGEST_MATRIX
from hw_targets.ir.units import ungrouped

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class AvgPool:
    """Mean over windows, zero padding counted; with a `divisor` their sum, divided by that."""

    kernel: Pair
    stride: Pair
    padding: Pair = (0, 0)
    divisor: float | None = None

    @property
    def share(self) -> float:
        """What each value of a window counts."""
        return 1.0 / (prod(self.kernel) if self.divisor is None else self.divisor)


@dataclass(frozen=True, eq=False)
class Grid:
    """y[c] = rows · x[channels[c]] · columnsᵀ: channels chosen, rows and columns mixed alike in all of them.

    Attributes:
        channels: of the source, one for each of the target's, −1 for one that stays zero; None: all, as they are.
        rows: (target's, source's); None: as they are.
        columns: likewise.
    """

    channels: Ints | None = None
    rows: Floats | None = None
    columns: Floats | None = None


Via: TypeAlias = AvgPool | Grid | Op | None


def target_shape(via: Via, source: Shape) -> Shape:
    """Shape of what a map makes of a source: (C, H, W), or (F,) of a matrix or of features."""
    if via is None:
        return source
    if isinstance(via, (Conv2d, Dense)):
        return via.output_shape(source)
    if isinstance(via, AvgPool):
        size = _pooled_size(via, source)
        return (source[0], *size)
    channels = source[0] if via.channels is None else len(via.channels)
    sides = [n if m is None else len(m) for n, m in zip(source[1:], (via.rows, via.columns), strict=False)]
    return (channels, *sides)


def forward(via: Via, values: Floats) -> Floats:
    """What a map makes of a batch (B, *source): (B, *target)."""
    source = values.shape[1:]
    if via is None:
        return values
    if isinstance(via, Dense):
        return values.reshape(len(values), -1) @ via.weight.T
    if isinstance(via, Conv2d):
        return _conv_forward(via, values)
    grid = via if isinstance(via, Grid) else _as_grid(via, source)
    if grid.channels is not None:
        values = np.where((grid.channels >= 0).reshape(-1, *[1] * len(source[1:])), values[:, grid.channels], 0.0)
    if grid.rows is not None:
        values = np.einsum("yh,bchw->bcyw", grid.rows, values, optimize=True)
    return values if grid.columns is None else np.asarray(values @ grid.columns.T)


def back(via: Via, weight: Floats, source: Shape) -> Floats:
    """A matrix (R, *target) on what a map makes, as one on its source: (R, *source)."""
    if via is None:
        return weight
    if isinstance(via, Dense):
        return (weight.reshape(len(weight), -1) @ via.weight).reshape(-1, *source)
    if isinstance(via, Conv2d):
        return _conv_back(via, weight, source)
    grid = via if isinstance(via, Grid) else _as_grid(via, source)
    if grid.columns is not None:
        weight = np.asarray(weight @ grid.columns)
    if grid.rows is not None:
        weight = np.einsum("yh,rcyw->rchw", grid.rows, weight, optimize=True)
    if grid.channels is None:
        return weight
    result = np.zeros((len(weight), *source))
    for place in np.flatnonzero(grid.channels >= 0):
        result[:, grid.channels[place]] += weight[:, place]
    return result


def as_op(via: Via, source: Shape) -> Op:
    """A map as an op; plain spikes pass a 1×1 convolution of weight 1 for each channel.

    Raises:
        UnsupportedModel: a matrix that would be too large.
    """
    if isinstance(via, (Conv2d, Dense)):
        return via
    if len(source) == 1:
        return Dense(forward(via, np.eye(source[0])).T)
    found = _as_conv(via, source)
    return matrix(via, source) if found is None else found


def matrix(via: Via, source: Shape) -> Dense:
    """A map as a matrix.

    Raises:
        UnsupportedModel: it would be too large.
    """
    _check_size(prod(source), prod(target_shape(via, source)))
    return Dense(forward(via, np.eye(prod(source)).reshape(-1, *source)).reshape(prod(source), -1).T)


def composed(outer: AvgPool | Grid | Op, inner: Via, source: Shape, middle: Shape) -> Via:
    """outer∘inner, where `inner` makes `middle` of `source`.

    Raises:
        UnsupportedModel: it is no single convolution, and a matrix would be too large.
    """
    if isinstance(outer, Grid) and not isinstance(inner, Dense) and target_shape(inner, source) != middle:
        inner = matrix(inner, source)  # flattened in between, so that the grid chooses features
    if inner is None:
        return outer
    if isinstance(outer, Dense):
        pooled = isinstance(inner, AvgPool)
        if not isinstance(inner, AvgPool):
            _check_size(prod(source), len(outer.weight))
        weight = back(inner, outer.weight.reshape(-1, *_grid_of(inner, source, middle)), source)
        return Dense(weight.reshape(len(weight), -1), prod(middle) // source[0] if pooled else None)
    if isinstance(outer, (AvgPool, Grid)) and isinstance(inner, (AvgPool, Grid)):
        return _grids(_as_grid(outer, middle), _as_grid(inner, source))
    if isinstance(outer, Grid) and isinstance(inner, Conv2d) and outer.rows is None and outer.columns is None:
        return _chosen(outer, inner)
    if not isinstance(inner, Dense):
        after, before = _as_conv(outer, middle), _as_conv(inner, source)
        if after is not None and before is not None and (one := _convolutions(after, before, source, middle)):
            return replace(one, taps_unpooled=prod(after.weight.shape[2:])) if isinstance(inner, AvgPool) else one
    _check_size(prod(source), prod(middle))
    _check_size(prod(source), prod(target_shape(outer, middle)))
    made = forward(inner, np.eye(prod(source)).reshape(-1, *source)).reshape(-1, *middle)
    return Dense(forward(outer, made).reshape(prod(source), -1).T)


def scaled(via: Via, source: Shape, gain: Floats) -> Op:
    """Each output times a number of its own: one for every channel, or for every neuron of its target."""
    op = as_op(via, source)
    rows = len(op.weight)
    if len(gain) > rows:
        channels = gain.reshape(rows, -1)
        if (channels == channels[:, :1]).all():
            gain = channels[:, 0]
        else:
            op = matrix(op, source)
    # A matrix onto a grid has a row for every position of a channel.
    gain = gain.repeat(len(op.weight) // len(gain))
    return replace(op, weight=op.weight * gain.reshape(-1, *[1] * (op.weight.ndim - 1)))


def _grid_of(via: Via, source: Shape, middle: Shape) -> Shape:
    """The target of a map before it was flattened."""
    return middle if isinstance(via, Dense) else target_shape(via, source)


def _check_size(sources: int, targets: int) -> None:
    if sources * targets > LARGEST_MATRIX:
        raise UnsupportedModel(
            f"is no single convolution of the spikes before it, together with what stands between them, and the matrix"
            f" from {sources} to {targets} neurons has more than {LARGEST_MATRIX} numbers; put neurons in between, use"
            " windows that tile their input, or fewer channels"
        )


def _pooled_size(pool: AvgPool, source: Shape) -> Pair:
    sides = zip(source[1:], pool.kernel, pool.stride, pool.padding, strict=True)
    height, width = ((n + 2 * p - k) // s + 1 for n, k, s, p in sides)
    return height, width


def _as_grid(via: AvgPool | Grid, source: Shape) -> Grid:
    if isinstance(via, Grid):
        return via
    sides = zip(source[1:], _pooled_size(via, source), via.kernel, via.stride, via.padding, strict=True)
    rows, columns = (_windows(*side) for side in sides)
    return Grid(None, rows * via.share, columns)


def _windows(size: int, pooled: int, kernel: int, stride: int, padding: int) -> Floats:
    result = np.zeros((pooled, size))
    for i in range(pooled):
        start = i * stride - padding
        result[i, max(start, 0) : max(start + kernel, 0)] = 1.0
    return result


def _grids(outer: Grid, inner: Grid) -> Grid:
    channels = inner.channels if outer.channels is None else outer.channels
    if outer.channels is not None and inner.channels is not None:
        channels = np.where(outer.channels >= 0, inner.channels[outer.channels], -1)
    rows, columns = (
        b if a is None else a if b is None else a @ b
        for a, b in ((outer.rows, inner.rows), (outer.columns, inner.columns))
    )
    return Grid(channels, rows, columns)


def _chosen(grid: Grid, op: Conv2d) -> Conv2d:
    """A convolution's channels, chosen."""
    if grid.channels is None:
        return op
    weight = np.where((grid.channels >= 0)[:, None, None, None], ungrouped(op)[grid.channels], 0.0)
    return replace(op, weight=weight, groups=1)


def _as_conv(via: Via, source: Shape) -> Conv2d | None:
    """A map of a grid as a convolution; None where it is none."""
    if isinstance(via, (Conv2d, Dense)):
        return via if isinstance(via, Conv2d) else None
    if len(source) != 3:
        return None
    channels = source[0]
    if isinstance(via, AvgPool):
        kernel = np.full((channels, 1, *via.kernel), via.share)
        return Conv2d(kernel, via.stride, via.padding, groups=channels)
    grid = via or Grid()
    sides = [_window(m) for m in (grid.rows, grid.columns)]
    if sides[0] is None or sides[1] is None:
        return None
    (rows, down, above), (columns, right, beside) = sides[0], sides[1]
    taps = np.outer(rows, columns)
    if grid.channels is None:
        return Conv2d(np.tile(taps, (channels, 1, 1, 1)), (down, right), (above, beside), groups=channels)
    weight = np.zeros((len(grid.channels), channels, *taps.shape))
    kept = np.flatnonzero(grid.channels >= 0)
    weight[kept, grid.channels[kept]] = taps
    return Conv2d(weight, (down, right), (above, beside))


def _window(mixing: Floats | None) -> tuple[Floats, int, int] | None:
    """(taps, stride, padding) of the one-dimensional convolution that a matrix (target's, source's) is, or None."""
    if mixing is None:
        return np.ones(1), 1, 0
    targets, sources = mixing.shape
    if targets == 1:
        return mixing[0], sources, 0
    for stride in range(1, sources + 1):
        # d[i, j]: where source j lies as seen from target i.
        seen = np.arange(sources) - stride * np.arange(targets)[:, None]
        used = seen[mixing != 0]
        first, last = (int(used.min()), int(used.max())) if used.size else (0, 0)
        if last - first >= sources:
            # Any matrix at all is a convolution whose taps each meet one source once.
            continue
        taps = np.zeros(last - first + 1)
        inside = (seen >= first) & (seen <= last)
        taps[seen[inside] - first] = mixing[inside]
        if np.array_equal(np.where(inside, taps[np.where(inside, seen - first, 0)], 0.0), mixing):
            return _fitted(taps, -first, stride, sources, targets)
    return None


def _fitted(taps: Floats, padding: int, stride: int, sources: int, targets: int) -> tuple[Floats, int, int]:
    """Zeros around the taps, so that padding is the same on both sides, not negative, and gives so many targets."""
    front = max(0, -padding)
    # (sources + 2·padding − taps) must lie in (targets − 1)·stride … targets·stride − 1.
    lacking = (targets - 1) * stride - (sources + 2 * (padding + front) - (len(taps) + front))
    front += max(0, lacking)
    surplus = sources + 2 * (padding + front) - (len(taps) + front) - (targets * stride - 1)
    return np.pad(taps, (front, max(0, surplus))), stride, padding + front


def _convolutions(outer: Conv2d, inner: Conv2d, source: Shape, middle: Shape) -> Conv2d | None:
    """The convolution outer∘inner: the taps of the one spread by the stride of the other; None where it is none."""
    target = outer.output_shape(middle)
    if not all(_is_open(outer, inner, axis, source, middle, target) for axis in (0, 1)):
        return None
    step = [d * s for d, s in zip(outer.dilation, inner.stride, strict=True)]
    taps, inner_taps = outer.weight.shape[2:], inner.weight.shape[2:]
    size = [(t - 1) * a + (k - 1) * d + 1 for t, a, k, d in zip(taps, step, inner_taps, inner.dilation, strict=True)]
    if len(outer.weight) * inner.weight.shape[1] * prod(size) > LARGEST_MATRIX:
        return None
    groups, product = _channelwise(outer, inner)
    kernel = np.zeros((*product(0, 0).shape[:2], *size))
    (dy, dx), (ky, kx) = inner.dilation, inner_taps
    for y in range(taps[0]):
        for x in range(taps[1]):
            top, left = y * step[0], x * step[1]
            kernel[:, :, top : top + (ky - 1) * dy + 1 : dy, left : left + (kx - 1) * dx + 1 : dx] += product(y, x)
    stride = (outer.stride[0] * inner.stride[0], outer.stride[1] * inner.stride[1])
    padding = (
        outer.padding[0] * inner.stride[0] + inner.padding[0],
        outer.padding[1] * inner.stride[1] + inner.padding[1],
    )
    one = Conv2d(kernel, stride, padding, groups=groups)
    return one if one.output_shape(source) == target else None


def _channelwise(outer: Conv2d, inner: Conv2d) -> tuple[int, Callable[[int, int], Floats]]:
    """(groups of the product, the product of one of the outer's taps with all of the inner's)."""
    middle = len(inner.weight)
    if inner.groups == middle and inner.weight.shape[1] == 1:
        taken = outer.weight.shape[1]
        each = inner.weight.reshape(outer.groups, 1, taken, *inner.weight.shape[2:])

        def depthwise(y: int, x: int) -> Floats:
            taps = outer.weight[:, :, y, x].reshape(outer.groups, -1, taken)[..., None, None]
            product: Floats = (taps * each).reshape(len(outer.weight), taken, *each.shape[3:])
            return product

        return outer.groups, depthwise
    if outer.groups == middle == len(outer.weight):
        return inner.groups, lambda y, x: np.asarray(outer.weight[:, :, y, x, None, None] * inner.weight, np.float64)
    whole, first = ungrouped(outer), ungrouped(inner)
    return 1, lambda y, x: np.asarray(np.tensordot(whole[:, :, y, x], first, 1), np.float64)


def _is_open(outer: Conv2d, inner: Conv2d, axis: int, source: Shape, middle: Shape, target: Shape) -> bool:
    """Whether the inner convolution would be zero wherever the outer one pads, or leaves something out."""
    n, m = source[1 + axis], middle[1 + axis]
    taps = np.arange(outer.weight.shape[2 + axis]) * outer.dilation[axis] - outer.padding[axis]
    read = np.unique(np.arange(target[1 + axis])[:, None] * outer.stride[axis] + taps)
    padded = read[(read < 0) | (read >= m)]
    inner_taps = np.arange(inner.weight.shape[2 + axis]) * inner.dilation[axis] - inner.padding[axis]
    seen = padded[:, None] * inner.stride[axis] + inner_taps
    return not bool(((seen >= 0) & (seen < n)).any())


def _conv_forward(op: Conv2d, values: Floats) -> Floats:
    source, groups = values.shape[1:], op.groups
    result = np.zeros((len(values), *op.output_shape(source)))
    for weight, targets, sources in _taps(op, source):
        block = values[(..., *sources)]
        seen = block.reshape(len(values), groups, -1, prod(block.shape[2:]))
        result[(..., *targets)] += (weight @ seen).reshape(len(values), -1, *block.shape[2:])
    return result


def _conv_back(op: Conv2d, weight: Floats, source: Shape) -> Floats:
    result = np.zeros((len(weight), *source))
    for taps, targets, sources in _taps(op, source):
        block = weight[(..., *targets)]
        seen = block.reshape(len(weight), op.groups, -1, prod(block.shape[2:]))
        result[(..., *sources)] += (taps.swapaxes(1, 2) @ seen).reshape(len(weight), -1, *block.shape[2:])
    return result


_Box: TypeAlias = tuple[slice, slice]


def _taps(op: Conv2d, source: Shape) -> Iterator[tuple[Floats, _Box, _Box]]:
    """For each tap its weights (groups, out, in), the targets whose tap lies inside, and the sources it falls on."""
    target = op.output_shape(source)
    grouped = op.weight.reshape(op.groups, -1, *op.weight.shape[1:])
    for y, x in np.ndindex(*op.weight.shape[2:]):
        sides = [
            _reach(t * op.dilation[axis] - op.padding[axis], op.stride[axis], source[1 + axis], target[1 + axis])
            for axis, t in enumerate((y, x))
        ]
        if all(side is not None for side in sides):
            (rows, from_rows), (columns, from_columns) = (side for side in sides if side is not None)
            yield grouped[..., y, x], (rows, columns), (from_rows, from_columns)


def _reach(shift: int, stride: int, source: int, target: int) -> tuple[slice, slice] | None:
    """Targets o with 0 ≤ o·stride + shift < source, and those sources; None where there are none."""
    low = max(0, -(shift // stride))
    high = min(target, (source - 1 - shift) // stride + 1)
    if high <= low:
        return None
    return slice(low, high), slice(low * stride + shift, (high - 1) * stride + shift + 1, stride)
