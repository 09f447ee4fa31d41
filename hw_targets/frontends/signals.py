"""Currents and spikes between neurons, as sums of linear maps of spiking populations.

Everything a network does between two spiking layers is linear: convolutions, dense layers, batch-norm, average pools
and additions. A `Signal` keeps it as Σ op(source) + bias, so that each neuron population ends up with one group of
synapses per source. Weights are float64; terms that see their sources alike (those of a SEW ADD) share one op.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from math import prod

import numpy as np
import numpy.typing as npt

from hw_targets.errors import UnsupportedModel
from hw_targets.ir.network import Conv2d, Dense, Op, Pair, Shape

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class AvgPool:
    """Mean over windows, zero padding counted."""

    kernel: Pair
    stride: Pair
    padding: Pair = (0, 0)


@dataclass(frozen=True)
class Term:
    """One source population seen through a linear map: the spikes themselves (`via=None`), their average pool, or an
    op.
    """

    source: str
    source_shape: Shape
    via: AvgPool | Op | None = None


@dataclass(frozen=True)
class Signal:
    """Σ terms + bias, of shape (C, H, W) or (F,); `bias` is per channel (C,) or (F,), or None."""

    shape: Shape
    terms: tuple[Term, ...]
    bias: Floats | None = None

    @property
    def is_spikes(self) -> bool:
        """Whether this is a plain sum of spikes, nothing applied yet."""
        return all(t.via is None for t in self.terms) and self.bias is None

    def is_only(self, source: str) -> bool:
        """Whether this is the spikes of one population, and nothing else."""
        return self.is_spikes and [t.source for t in self.terms] == [source]

    @property
    def is_matrix(self) -> bool:
        """Whether a matrix is the only thing applied."""
        return all(isinstance(t.via, Dense) for t in self.terms) and self.bias is None

    @property
    def is_pooled(self) -> bool:
        """Whether the average pool is the only thing applied."""
        return all(isinstance(t.via, AvgPool) for t in self.terms) and self.bias is None


def add(left: Signal, right: Signal) -> Signal:
    """left + right; a SEW ADD is this, and so is the sum of two convolutions.

    Raises:
        UnsupportedModel: shapes that differ.
    """
    if left.shape != right.shape:
        raise UnsupportedModel(f"adds signals of shapes {left.shape} and {right.shape}; broadcasting is not supported")
    biases = [s.bias for s in (left, right) if s.bias is not None]
    return Signal(left.shape, left.terms + right.terms, sum(biases[1:], biases[0]) if biases else None)


def scale(signal: Signal, gain: Floats, shift: Floats | None = None) -> Signal:
    """gain·signal + shift, both per channel: what a batch-norm in evaluation mode does.

    Raises:
        UnsupportedModel: gains that differ within a channel of a flattened convolution.
    """
    terms = _each(signal, lambda t: scaled(as_op(t), _by_row(gain, _outputs(t))))
    bias = None if signal.bias is None else signal.bias * gain
    if shift is not None:
        bias = shift if bias is None else bias + shift
    return Signal(signal.shape, terms, bias)


def shifted(signal: Signal, shift: Floats) -> Signal:
    """signal + shift, per channel."""
    return replace(signal, bias=shift if signal.bias is None else signal.bias + shift)


def _by_row(gain: Floats, rows: int) -> Floats:
    """One gain for each row of an op, which is one of a matrix's neurons, or a convolution's channel.

    A matrix onto a grid has a row for every position of a channel; a channel of a flattened convolution has one gain
    where all its positions do, as where neurons charge by a fraction of their input.
    """
    if rows % len(gain) == 0:
        return gain.repeat(rows // len(gain))
    each = gain.reshape(rows, -1)
    if (each != each[:, :1]).any():
        raise UnsupportedModel(
            f"normalises {len(gain)} flattened features of a convolution; put a BatchNorm2d before the flatten instead"
        )
    per_channel: Floats = each[:, 0]
    return per_channel


def _each(signal: Signal, op: Callable[[Term], Op]) -> tuple[Term, ...]:
    """The terms through new ops; those with one map before have one after."""
    made: dict[Hashable, Op] = {}
    for t in signal.terms:
        key = _key(t)
        if key not in made:
            made[key] = op(t)
    return tuple(replace(t, via=made[_key(t)]) for t in signal.terms)


def _key(term: Term) -> Hashable:
    via = term.via
    return term.source_shape, via if via is None or isinstance(via, AvgPool) else id(via)


def _outputs(term: Term) -> int:
    """Rows of the term's op."""
    return len(term.via.weight) if isinstance(term.via, (Conv2d, Dense)) else term.source_shape[0]


def scaled(op: Op, gain: Floats) -> Op:
    """The op whose outputs, per row of weights, are multiplied by `gain`."""
    return replace(op, weight=op.weight * gain.reshape(-1, *[1] * (op.weight.ndim - 1)))


def average_pool(signal: Signal, pool: AvgPool, shape: Shape) -> Signal:
    """Average pool of spikes, or of what a convolution made of them.

    Raises:
        UnsupportedModel: a pool of currents that pads them, of features, or of another pool.
    """
    if signal.is_spikes:
        return Signal(shape, tuple(replace(t, via=pool) for t in signal.terms))
    ops = [as_op(t) for t in signal.terms]
    if any(pool.padding) or signal.is_pooled or not all(isinstance(op, Conv2d) for op in ops):
        raise UnsupportedModel("pools currents; average-pool spikes, or a convolution's output without padding")
    return Signal(shape, _each(signal, lambda t: _pooled(as_op(t), pool)), signal.bias)


def flatten(signal: Signal) -> Signal:
    """(C, H, W) → (C·H·W,)."""
    if signal.bias is not None and prod(signal.shape) != signal.bias.size:
        per_channel = prod(signal.shape) // signal.bias.size
        return replace(signal, shape=(prod(signal.shape),), bias=np.repeat(signal.bias, per_channel))
    return replace(signal, shape=(prod(signal.shape),))


def dense(signal: Signal, weight: Floats, bias: Floats | None) -> Signal:
    """A linear layer on flattened spikes, pooled or not.

    Raises:
        UnsupportedModel: two linear layers in a row.
    """
    _check_single_linear(signal)

    def through(term: Term) -> Dense:
        pooled = None if term.via is None else prod(signal.shape) // term.source_shape[0]
        return Dense(_through_pool(weight, term, signal.shape), pooled)

    terms = _each(signal, through)
    return Signal((len(weight),), terms, bias)


def conv(signal: Signal, op: Conv2d, bias: Floats | None, shape: Shape) -> Signal:
    """A convolution on spikes, pooled or not.

    Raises:
        UnsupportedModel: two linear layers in a row, or a padded convolution of a pool that cannot be one convolution.
    """
    _check_single_linear(signal)
    terms = _each(signal, lambda t: op if t.via is None else _compose(op, t, signal.shape))
    return Signal(shape, terms, bias)


def linear_map(signal: Signal, make: Callable[[Shape], Op], bias: Floats | None, shape: Shape) -> Signal:
    """Any op on spikes, pooled or not, onto neurons of any shape; `make` gives it for a source's shape.

    Raises:
        UnsupportedModel: two linear layers in a row, or a convolution of a pool that cannot be one convolution.
    """
    op = make(signal.shape)
    if isinstance(op, Conv2d):
        return conv(signal, op, bias, shape)
    return replace(dense(signal, op.weight, bias), shape=shape)


def as_op(term: Term) -> Op:
    """A term's linear map as an op; plain spikes pass a 1×1 convolution of weight 1 for each channel."""
    if isinstance(term.via, (Conv2d, Dense)):
        return term.via
    if len(term.source_shape) == 1:
        return Dense(np.eye(term.source_shape[0]))
    channels = term.source_shape[0]
    unit = Conv2d(np.ones((channels, 1, 1, 1)), groups=channels)
    if term.via is None:
        return unit
    pool = term.via
    kernel = np.full((channels, 1, *pool.kernel), 1.0 / prod(pool.kernel))
    return Conv2d(kernel, pool.stride, pool.padding, groups=channels)


def _pooled(op: Op, pool: AvgPool) -> Conv2d:
    """The convolution pool∘op: the kernel averaged over the shifts of a window, at the product of the strides."""
    assert isinstance(op, Conv2d)
    taps, (sy, sx) = op.weight.shape[2:], op.stride
    spans = [(k - 1) * d + 1 for k, d in zip(taps, op.dilation, strict=True)]
    kernel = np.zeros(
        (*op.weight.shape[:2], spans[0] + (pool.kernel[0] - 1) * sy, spans[1] + (pool.kernel[1] - 1) * sx)
    )
    for y in range(0, pool.kernel[0] * sy, sy):
        for x in range(0, pool.kernel[1] * sx, sx):
            kernel[:, :, y : y + spans[0] : op.dilation[0], x : x + spans[1] : op.dilation[1]] += op.weight
    stride = (sy * pool.stride[0], sx * pool.stride[1])
    return replace(op, weight=kernel / prod(pool.kernel), stride=stride, dilation=(1, 1))


def _check_single_linear(signal: Signal) -> None:
    if not (signal.is_spikes or signal.is_pooled):
        raise UnsupportedModel("follows another linear layer without neurons in between; merge the two into one layer")


def _through_pool(weight: Floats, term: Term, pooled: Shape) -> Floats:
    """(out, flattened pool) → (out, flattened source): spread each weight over its window."""
    if term.via is None:
        return weight
    assert isinstance(term.via, AvgPool)
    (kh, kw), (sh, sw), (ph, pw) = term.via.kernel, term.via.stride, term.via.padding
    channels, height, width = term.source_shape
    rows = prod(pooled) // channels
    out_h = (height + 2 * ph - kh) // sh + 1
    small = weight.reshape(len(weight), channels, out_h, rows // out_h) / (kh * kw)
    if (height, width) == (out_h * kh, small.shape[3] * kw) and (sh, sw, ph, pw) == (kh, kw, 0, 0):
        return small.repeat(kh, 2).repeat(kw, 3).reshape(len(weight), -1)
    padded = np.zeros((len(weight), channels, height + 2 * ph, width + 2 * pw))
    for y in range(kh):
        for x in range(kw):
            padded[:, :, y : y + sh * out_h : sh, x : x + sw * small.shape[3] : sw] += small
    return padded[:, :, ph : ph + height, pw : pw + width].reshape(len(weight), -1)


def _compose(op: Conv2d, term: Term, pooled: Shape) -> Conv2d:
    """The convolution op∘pool: kernel taps spread by the pool's stride, each filled with the window's mean."""
    assert isinstance(term.via, AvgPool)
    pool = term.via
    for k, s, p, n, m in zip(pool.kernel, pool.stride, op.padding, term.source_shape[1:], pooled[1:], strict=True):
        if p and (k > s or n != m * s or any(pool.padding)):
            raise UnsupportedModel(
                f"is a padded convolution of an average pool ({pool.kernel}, stride {pool.stride}) whose windows do not"
                f" tile the source {term.source_shape[1:]}; the two are no single convolution: use windows that tile it"
            )
    step = (pool.stride[0] * op.dilation[0], pool.stride[1] * op.dilation[1])
    taps = op.weight.shape[2:]
    size = tuple((t - 1) * d + k for t, d, k in zip(taps, step, pool.kernel, strict=True))
    kernel = np.zeros((*op.weight.shape[:2], *size))
    for y in range(taps[0]):
        for x in range(taps[1]):
            window = (slice(None), slice(None), slice(y * step[0], y * step[0] + pool.kernel[0]))
            kernel[(*window, slice(x * step[1], x * step[1] + pool.kernel[1]))] += op.weight[:, :, y : y + 1, x : x + 1]
    return Conv2d(
        kernel / prod(pool.kernel),
        (op.stride[0] * pool.stride[0], op.stride[1] * pool.stride[1]),
        (op.padding[0] * pool.stride[0] + pool.padding[0], op.padding[1] * pool.stride[1] + pool.padding[1]),
        groups=op.groups,
        taps_unpooled=prod(taps),
    )
