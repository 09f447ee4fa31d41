"""Products of integer weights and spikes, exact: in bytes where the machine has fast ones, else in floating point.

A matrix product of bytes summed in 32 bits (AVX-512 VNNI or AMX on x86) takes a tenth of float32's time. Weights of a
chip fit into bytes once the zeros that all of them end on are shifted out, as from Loihi's even −256 … 254; values 0 …
255 of an image do with 128 taken off, which Σw·x = Σw·(x − 128) + 128·Σw puts back.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from math import prod
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from hw_targets.network import Conv2d, Dense, Op, Shape

#: Bytes of a kernel's row, or of a matrix's, below which preparing them costs more than the product saves.
SHORTEST_ROW = 32
#: Bytes multiplied at once, so that they are still in a second-level cache.
CACHED = 1 << 20
ByteProduct: TypeAlias = Callable[[Tensor, Tensor], Tensor]


class Weights:
    """Weights of a run in the form their products take, each made once.

    `dtype` is the precision to sum in where it is not in bytes.
    """

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        self.dtype, self.device = dtype, device
        self._floats: dict[Op, Tensor] = {}
        self._bytes: dict[Op, tuple[Tensor, Tensor, int] | None] = {}

    def floats(self, op: Op) -> Tensor:
        """Weights in `dtype`."""
        if op not in self._floats:
            self._floats[op] = torch.from_numpy(np.ascontiguousarray(op.weight)).to(self.device, self.dtype)
        return self._floats[op]

    def bytes(self, op: Op) -> tuple[Tensor, Tensor, int] | None:
        """(matrix (in, out) of int8, its sums (out,), shift) with weight = byte << shift; None if they do not fit.

        A kernel's inputs are (row, column, channel).
        """
        if op not in self._bytes:
            self._bytes[op] = _as_bytes(op)
        return self._bytes[op]


def in_bytes(op: Op, x: Tensor, weights: Weights) -> Tensor | None:
    """op(x) for x (n, *shape) in uint8, in `weights.dtype` and exact if the sums are; None where bytes do not serve."""
    multiply = byte_product() if x.device.type == "cpu" and x.dtype == torch.uint8 and x.numel() else None
    if multiply is None or not _is_suited(op, x.shape[1:]):
        return None
    found = weights.bytes(op)
    if found is None:
        return None
    # numpy's maximum of bytes is about 20 times faster than torch's.
    graded = int(x.numpy().max()) > 127
    matrix, sums, shift = found
    shape = op.output_shape(tuple(x.shape[1:]))
    y = torch.empty(len(x), *shape[1:], shape[0], dtype=weights.dtype)
    at_once = max(1, CACHED // (matrix.shape[0] * prod(shape[1:])))
    for first in range(0, len(x), at_once):
        block = slice(first, first + at_once)
        rows = x[block].flatten(1) if isinstance(op, Dense) else _patches(op, x[block])
        product = multiply(_in_rows((rows ^ 128 if graded else rows).contiguous().view(torch.int8)), matrix)
        if graded:
            product += sums * 128
        y[block] = product.view(y[block].shape)
    y = y.mul_(1 << shift) if shift else y
    return y if isinstance(op, Dense) else y.permute(0, 3, 1, 2)


@cache
def byte_product() -> ByteProduct | None:
    """(n, k) · (k, m) of int8, summed in int32; None where torch has none, or one that is not exact.

    torch's is not part of its documented interface. Processors without VNNI may add pairs in 16 bits, which saturates
    for large factors: so it is tried on the largest there are before it is trusted.
    """
    multiply: ByteProduct | None = getattr(torch, "_int_mm", None)
    if multiply is None:
        return None
    extremes = torch.tensor([-128, 127], dtype=torch.int8)
    a, b = extremes[:, None].repeat(32, 64), extremes.repeat(64, 16)
    try:
        exact = torch.equal(multiply(a, b).long(), a.long() @ b.long())
        few = torch.equal(multiply(a[:1], b).long(), a[:1].long() @ b.long())
    except (RuntimeError, TypeError, NotImplementedError):
        return None
    return multiply if exact and few else None


def _is_suited(op: Op, source: Shape) -> bool:
    if isinstance(op, Dense):
        return bool(op.weight.shape[1] >= SHORTEST_ROW)
    return op.groups == 1 and op.weight.shape[3] * source[0] >= SHORTEST_ROW


def _as_bytes(op: Op) -> tuple[Tensor, Tensor, int] | None:
    if not np.issubdtype(op.weight.dtype, np.integer) or not op.weight.size:
        return None
    weight = op.weight.transpose(0, 2, 3, 1) if isinstance(op, Conv2d) else op.weight
    bits = int(np.bitwise_or.reduce(weight, axis=None))
    shift = (bits & -bits).bit_length() - 1 if bits else 0
    low, high = int(weight.min()) >> shift, int(weight.max()) >> shift
    # Sums of at most 2^16 products of bytes fit into 32 bits.
    if low < -128 or high > 127 or weight[0].size >= 1 << 16:
        return None
    narrow = (weight >> shift).astype(np.int8).reshape(len(weight), -1)
    sums = torch.from_numpy(narrow.sum(1, dtype=np.int32))
    return _in_rows(torch.from_numpy(np.ascontiguousarray(narrow.T))), sums, shift


def _in_rows(matrix: Tensor) -> Tensor:
    """A contiguous matrix with the strides of one, also along an axis of length 1: torch's product relies on them."""
    return matrix.as_strided(matrix.shape, (matrix.shape[1], 1))


def _patches(op: Conv2d, x: Tensor) -> Tensor:
    """What each output position sees: (n·positions, row·column·channel)."""
    rows, columns = op.weight.shape[2:]
    _, height, width = op.output_shape(tuple(x.shape[1:]))
    (up, left), (down, right), (below, beside) = op.padding, op.stride, op.dilation
    x = x.permute(0, 2, 3, 1)
    x = F.pad(x, (0, 0, left, left, up, up)) if up or left else x.contiguous()
    image, row, column, channel = x.stride()
    size = (len(x), height, width, rows, columns, x.shape[3])
    seen = x.as_strided(size, (image, down * row, right * column, below * row, beside * column, channel))
    return seen.reshape(len(x) * height * width, -1)
