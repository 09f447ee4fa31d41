"""Products of integer weights and spikes, exact: in bytes where the machine has fast ones, else in floating point.

A product of bytes summed in 32 bits (AVX-512 VNNI or AMX on x86) takes a tenth of float32's time. Weights of a chip
fit into bytes once the zeros that all of them end on are shifted out, as from Loihi's even −256 … 254. oneDNN computes
such products through the operators of torch's quantized models: bytes without sign times bytes with one, and the sum
in float32 times a scale, here the power of two that was shifted out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from math import prod
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from hw_targets.ir.network import Conv2d, Dense, Op, Pair, Shape
from hw_targets.ir.ops import positions

#: Float32 holds all whole numbers up to here.
EXACT = 1 << 24
#: Bytes of a row of a patch, or of a matrix, below which preparing them costs more than the product saves.
SHORTEST_ROW = 32
#: Additions below which floating point takes less time than oneDNN takes to get ready, once in a process.
FEWEST = 1 << 19
#: Bytes of patches multiplied at once, so that they are still in a second-level cache.
CACHED = 1 << 20
#: No scale or offset of the result, which is to be float32, and no activation after it.
PLAIN: tuple[object, ...] = (1.0, 0, torch.float32, "none", [], "")


@dataclass(frozen=True, eq=False)
class Bytes:
    """Weights in bytes; weight = byte · scale, a power of two.

    `values` are in the weights' own shape, `scales` and `zeros` have one value per output. `largest` is the greatest
    sum of bytes of one sign that an output has: no sum over inputs of at most x exceeds x·largest. `trusted` says of
    shapes of images whether oneDNN's convolution was found to be right on them.
    """

    op_layout: tuple[Pair, Pair, Pair, int] | None
    values: Tensor
    scales: Tensor
    zeros: Tensor
    largest: int
    trusted: dict[Shape, bool] = field(default_factory=dict)

    @cached_property
    def matrix(self) -> Tensor:
        """Packed for a product with vectors; a kernel's inputs are (row, column, channel)."""
        rows = self.values if self.op_layout is None else self.values.permute(0, 2, 3, 1)
        packed: Tensor = torch.ops.onednn.qlinear_prepack(rows.flatten(1).contiguous(), None)
        return packed

    @cached_property
    def kernels(self) -> Tensor:
        """Packed for a convolution."""
        assert self.op_layout is not None
        packed: Tensor = torch.ops.onednn.qconv_prepack(self.values, self.scales, 1.0, 0, *self.op_layout, None)
        return packed


@dataclass(frozen=True, eq=False)
class Facts:
    """What follows from an op's weights: the largest Σ|w| of an output, and the weights in bytes if they fit."""

    largest: float
    twin: Op

    @cached_property
    def bytes(self) -> Bytes | None:
        """None if they do not fit."""
        return _as_bytes(self.twin)


def facts_of(op: Op) -> Facts:
    """Facts about an op as it is now; made once and kept as long as the op, unless its weights change in place."""
    known = _KNOWN.get(op)
    if known is None or not np.array_equal(known[0], op.weight):
        sums = np.abs(op.weight).sum(tuple(range(1, op.weight.ndim)), dtype=np.float64)
        # An equal op: one that led back to its own key would keep it alive.
        known = _copy(op.weight), Facts(float(sums.max(initial=0.0)), replace(op))
        _KNOWN[op] = known
    return known[1]


#: Each op's weights when its facts were made, and those.
_KNOWN: WeakKeyDictionary[Op, tuple[npt.NDArray[np.generic], Facts]] = WeakKeyDictionary()


def _copy(weight: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """An equal array of its own, in half the memory if that holds the values."""
    if np.issubdtype(weight.dtype, np.integer):
        narrow = weight.astype(np.int16)
        if np.array_equal(narrow, weight):
            return narrow
    return weight.copy()


class Weights:
    """Weights of a run in the form their products take, each made once.

    `dtype` is the precision to sum in where it is not in bytes. `facts` are those known already.
    """

    def __init__(self, dtype: torch.dtype, device: torch.device, facts: Mapping[Op, Facts] | None = None) -> None:
        self.dtype, self.device = dtype, device
        self._facts = dict(facts or {})
        self._floats: dict[Op, Tensor] = {}

    def floats(self, op: Op) -> Tensor:
        """Weights in `dtype`."""
        if op not in self._floats:
            self._floats[op] = torch.from_numpy(np.ascontiguousarray(op.weight)).to(self.device, self.dtype)
        return self._floats[op]

    def bytes(self, op: Op) -> Bytes | None:
        """Weights in bytes; None if they do not fit."""
        if op not in self._facts:
            self._facts[op] = facts_of(op)
        return self._facts[op].bytes


def in_bytes(op: Op, x: Tensor, weights: Weights) -> Tensor | None:
    """op(x) for x (n, *shape) in uint8, exact and in `weights.dtype`; None where bytes do not serve."""
    if x.device.type != "cpu" or x.dtype != torch.uint8 or _additions(op, x) < FEWEST:
        return None
    found = weights.bytes(op) if np.issubdtype(op.weight.dtype, np.integer) else None
    if found is None or not has_byte_products():
        return None
    # numpy's maximum of bytes is about 20 times faster than torch's.
    if 255 * found.largest >= EXACT and int(x.numpy().max()) * found.largest >= EXACT:
        return None
    if isinstance(op, Dense):
        return _multiply(x.flatten(1), found).to(weights.dtype)
    if _is_trusted(op, tuple(x.shape[1:]), found):
        return _convolve(x, found).to(weights.dtype)
    return _by_patches(op, x, found, weights.dtype) if prod(op.weight.shape[1::2]) >= SHORTEST_ROW else None


def _additions(op: Op, x: Tensor) -> int:
    """Of a product with all of x, pruned weights included."""
    return len(x) * positions(op, tuple(x.shape[1:])) * op.weight.size


def _is_trusted(op: Conv2d, source: Shape, w: Bytes) -> bool:
    """Whether oneDNN's convolution of bytes is used: it is twice as fast as products with patches, but has faults.

    That of torch 2.12 crashes on some dilated kernels: it is given none, nor windows that may see nothing but the edge,
    nor images or results of one row. And it errs on some others (strides as wide as the kernel), whatever is in the
    image: so one of noise is tried first.
    """
    if source not in w.trusted:
        kernel, result = op.weight.shape[2:], op.output_shape(source)[1:]
        inside = all(p < k <= n for p, k, n in zip(op.padding, kernel, source[1:], strict=True))
        w.trusted[source] = inside and op.dilation == (1, 1) and min(result) > 1 and _agree(op, source, w)
    return w.trusted[source]


def _agree(op: Conv2d, source: Shape, w: Bytes) -> bool:
    top = min(255, (EXACT - 1) // max(1, w.largest))
    noise = np.random.default_rng(0).integers(0, top + 1, (1, *source)).astype(np.uint8)
    image = torch.from_numpy(noise)
    return torch.equal(_convolve(image, w), _by_patches(op, image, w, torch.float32))


def _convolve(x: Tensor, w: Bytes) -> Tensor:
    """Kernels over images (n, C, H, W), in float32 and exact where the sums of bytes are; channels last."""
    assert w.op_layout is not None
    x = x.contiguous(memory_format=torch.channels_last)
    packed = w.kernels, w.scales, w.zeros, None
    y: Tensor = torch.ops.onednn.qconv2d_pointwise(x, 1.0, 0, *packed, *w.op_layout, *PLAIN)
    return y


def _multiply(rows: Tensor, w: Bytes) -> Tensor:
    """Matrix times vectors (n, in), in float32 and exact where the sums of bytes are."""
    packed = w.matrix, w.scales, w.zeros, None
    y: Tensor = torch.ops.onednn.qlinear_pointwise(rows.contiguous(), 1.0, 0, *packed, *PLAIN)
    return y


def _by_patches(op: Conv2d, x: Tensor, w: Bytes, dtype: torch.dtype) -> Tensor:
    """A convolution as matrix products, some images at a time."""
    outputs, height, width = op.output_shape(tuple(x.shape[1:]))
    y = torch.empty(len(x), height, width, outputs, dtype=dtype)
    at_once = max(1, CACHED // (w.values[0].numel() * height * width))
    for first in range(0, len(x), at_once):
        block = slice(first, first + at_once)
        y[block] = _multiply(_patches(op, x[block]), w).view(y[block].shape)
    return y.permute(0, 3, 1, 2)


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


def _as_bytes(op: Op) -> Bytes | None:
    suited = op.groups == 1 if op.is_spatial else op.weight.shape[1] >= SHORTEST_ROW
    whole = np.issubdtype(op.weight.dtype, np.integer)
    if not (suited and whole and op.weight.size):
        return None
    bits = int(np.bitwise_or.reduce(op.weight, axis=None))
    shift = (bits & -bits).bit_length() - 1 if bits else 0
    low, high = int(op.weight.min()) >> shift, int(op.weight.max()) >> shift
    return _shifted(op, shift) if low >= -128 and high <= 127 else None


def _shifted(op: Op, shift: int) -> Bytes:
    narrow = np.ascontiguousarray((op.weight >> shift).astype(np.int8))
    rows = narrow.reshape(len(narrow), -1)
    above = np.maximum(rows, 0).sum(1, dtype=np.int64)
    below = above - rows.sum(1, dtype=np.int64)
    scales = torch.from_numpy(np.full(len(rows), 1 << shift, np.float32))
    zeros = torch.from_numpy(np.zeros(len(rows), np.int32))
    return Bytes(op.layout or None, torch.from_numpy(narrow), scales, zeros, int(max(above.max(), below.max())))


@cache
def has_byte_products() -> bool:
    """Whether torch has products of bytes here, and exact ones.

    They are not part of its documented interface. Processors without VNNI may add pairs in 16 bits, which saturates
    for large factors: so they are tried on the largest there are before they are trusted.
    """
    matrix = np.tile(np.array([[-128], [127]], np.int32), (8, 64))
    x = torch.tensor([255, 1], dtype=torch.uint8).repeat(8)[:, None].repeat(1, 64)
    images = x[:, :, None, None].repeat(1, 1, 2, 2)
    right = F.linear(x.double(), torch.from_numpy(matrix).double())
    try:
        product = _multiply(x, _shifted(Dense(matrix), 0))
        maps = _convolve(images, _shifted(Conv2d(matrix[..., None, None]), 0))
    except (AttributeError, RuntimeError, TypeError, NotImplementedError):
        return False
    return torch.equal(product.double(), right) and torch.equal(maps.double(), right[..., None, None].expand_as(maps))
