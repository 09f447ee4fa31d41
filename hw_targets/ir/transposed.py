"""A transposed convolution, written in the ops there are."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from hw_targets.errors import UnsupportedModel
from hw_targets.ir.ops import Conv2d, Dense, Pair, Shape

Floats = npt.NDArray[np.floating[Any]]

#: Numbers a matrix may have (256 MiB of float64).
LARGEST_MATRIX = 1 << 25


def transposed_convolution(
    weight: Floats,
    source: Shape,
    target: Shape,
    *,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    groups: int = 1,
) -> Conv2d | Dense:
    """y[o, s·i − p + d·k] += Σ_c w[c, o, k]·x[c, i], as `torch.nn.functional.conv_transpose2d`.

    With a stride of 1 that is the convolution with the mirrored kernel, padded by d·(K − 1) − p; otherwise a matrix.

    Args:
        weight: (in, out/groups, kH, kW).
        source: (C, H, W) of what it takes.
        target: (C, H, W) of what it gives; this is what torch's `output_padding` decides.
        stride: s.
        padding: p.
        dilation: d.
        groups: of input and output channels.

    Raises:
        UnsupportedModel: a matrix of more than `LARGEST_MATRIX` numbers; the message is a verb phrase.
    """
    around = [d * (k - 1) - p for d, k, p in zip(dilation, weight.shape[2:], padding, strict=True)]
    if stride == (1, 1) and min(around) >= 0:
        split = weight.reshape(groups, -1, *weight.shape[1:]).swapaxes(1, 2)
        kernel = split.reshape(-1, *split.shape[2:])[:, :, ::-1, ::-1].copy()
        op = Conv2d(kernel, stride, (around[0], around[1]), dilation, groups)
        if op.output_shape(source) == target:
            return op
    if prod(source) * prod(target) > LARGEST_MATRIX:
        raise UnsupportedModel(
            f"is a transposed convolution with stride {stride} from {source} to {target}, whose matrix has"
            f" {prod(source) * prod(target)} numbers, more than {LARGEST_MATRIX}; use fewer channels or a smaller grid"
        )
    return Dense(_matrix(weight, source, target, stride, padding, dilation, groups))


def _matrix(
    weight: Floats, source: Shape, target: Shape, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> Floats:
    """(targets, sources), both in C order."""
    result = np.zeros((*target, *source), weight.dtype)
    taken, given = source[0] // groups, target[0] // groups
    for ky, kx in np.ndindex(*weight.shape[2:]):
        (from_y, to_y), (from_x, to_x) = (
            _reached(n, m, s, k * d - p)
            for n, m, s, k, d, p in zip(source[1:], target[1:], stride, (ky, kx), dilation, padding, strict=True)
        )
        for group in range(groups):
            inputs, outputs = slice(group * taken, (group + 1) * taken), slice(group * given, (group + 1) * given)
            block = result[outputs, to_y[:, None], to_x, inputs, from_y[:, None], from_x]
            result[outputs, to_y[:, None], to_x, inputs, from_y[:, None], from_x] = block + weight[inputs, :, ky, kx].T
    return result.reshape(prod(target), prod(source))


def _reached(positions: int, size: int, stride: int, shift: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Source positions whose tap lies inside, and where it lies."""
    start = np.arange(positions)
    end = start * stride + shift
    inside = (end >= 0) & (end < size)
    return start[inside], end[inside]
