"""Currents and spikes between neurons, as sums of linear maps of spiking populations.

Everything a network does between two spiking layers is linear: convolutions, dense layers, batch-norm, average pools,
concatenation and addition. A `Signal` keeps it as Σ op(source) + bias, so that each neuron population ends up with one
group of synapses per source. Terms that see their sources alike (those of a SEW ADD) share one op.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from hw_targets.errors import UnsupportedModel
from hw_targets.frontends import maps
from hw_targets.frontends.maps import AvgPool, Floats, Grid, Ints, Via
from hw_targets.ir.network import Conv2d, Dense, Op, Shape

__all__ = ["AvgPool", "Floats", "Grid", "Signal", "Term", "Via"]


@dataclass(frozen=True)
class Term:
    """One source population seen through a linear map: the spikes themselves (`via=None`), their average pool, a
    choice of its channels, rows or columns, or an op.
    """

    source: str
    source_shape: Shape
    via: Via = None


@dataclass(frozen=True)
class Signal:
    """Σ terms + bias, of shape (C, H, W) or (F,); `bias` is per channel (C,) or (F,), per neuron (C·H·W,), or None."""

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

    @property
    def is_choice(self) -> bool:
        """Whether every neuron of it is one neuron's spikes, or none: spikes, concatenated or chosen."""
        if self.bias is not None:
            return False
        taken = np.zeros(self.shape[0], np.int64)
        for term in self.terms:
            if term.via is None:
                taken += 1
            elif isinstance(term.via, Grid) and _picks(term.via.rows) and _picks(term.via.columns):
                taken += 1 if term.via.channels is None else term.via.channels >= 0
            else:
                return False
        return bool((taken <= 1).all())


def _picks(matrix: Floats | None) -> bool:
    """Whether each row of a matrix takes one value, or none."""
    return matrix is None or bool(((matrix == 0) | (matrix == 1)).all() and (matrix.sum(1) <= 1).all())


def unscaled(signal: Signal) -> tuple[Signal, Floats, Floats | None] | None:
    """(spikes, gain, shift) of one population's spikes times a positive number for each channel, plus another.

    The largest of such values is that of the spikes, scaled: max(g·s + b) = g·max(s) + b. None for anything else.
    """
    if len(signal.terms) != 1 or not isinstance(op := signal.terms[0].via, Conv2d):
        return None
    term, channels = signal.terms[0], len(op.weight)
    plain = op.weight.shape == (channels, 1, 1, 1) and op.groups == channels == term.source_shape[0]
    shared = signal.bias is None or len(signal.bias) == channels
    if not (plain and shared and op.stride == (1, 1) and op.padding == (0, 0) and (op.weight > 0).all()):
        return None
    return Signal(signal.shape, (replace(term, via=None),)), op.weight.reshape(-1), signal.bias


def is_never_negative(signal: Signal) -> bool:
    """Whether no value of it can lie below zero, whatever spikes there are."""

    def has_no_negative(via: Via) -> bool:
        if via is None or isinstance(via, AvgPool):
            return True
        parts = (via.rows, via.columns) if isinstance(via, Grid) else (via.weight,)
        return all(part is None or bool((part >= 0).all()) for part in parts)

    biased_up = signal.bias is None or bool((signal.bias >= 0).all())
    return biased_up and all(has_no_negative(term.via) for term in signal.terms)


def add(left: Signal, right: Signal) -> Signal:
    """left + right; a SEW ADD is this, and so is the sum of two convolutions.

    Raises:
        UnsupportedModel: shapes that differ.
    """
    if left.shape != right.shape:
        raise UnsupportedModel(f"adds signals of shapes {left.shape} and {right.shape}; broadcasting is not supported")
    return Signal(left.shape, left.terms + right.terms, _biases(left.shape, left.bias, right.bias))


def chosen(signal: Signal, channels: Ints) -> Signal:
    """Some channels or features of a signal, in the order given."""
    return regridded(signal, Grid(channels))


def scale(signal: Signal, gain: Floats, shift: Floats | None = None) -> Signal:
    """gain·signal + shift, both per channel or per neuron: what a batch-norm in evaluation mode does.

    Raises:
        UnsupportedModel: a gain for every neuron of a convolution, whose matrix would be too large.
    """
    terms = _each(signal, lambda t: maps.scaled(t.via, t.source_shape, gain))
    bias = signal.bias
    if bias is not None:
        size = max(len(bias), len(gain))
        bias = bias.repeat(size // len(bias)) * gain.repeat(size // len(gain))
    return Signal(signal.shape, terms, _biases(signal.shape, bias, shift))


def shifted(signal: Signal, shift: Floats) -> Signal:
    """signal + shift, per channel or per neuron."""
    return replace(signal, bias=_biases(signal.shape, signal.bias, shift))


def spread(signal: Signal, shape: Shape) -> Signal:
    """A signal repeated along its axes of size 1, as broadcasting does.

    Raises:
        UnsupportedModel: shapes that differ in more than that.
    """
    if signal.shape == shape:
        return signal
    if len(signal.shape) != len(shape) or any(n not in (1, m) for n, m in zip(signal.shape, shape, strict=True)):
        raise UnsupportedModel(f"adds signals of shapes {signal.shape} and {shape}, which do not broadcast")
    channels = None if signal.shape[0] == shape[0] else np.zeros(shape[0], np.int64)
    sides = [None if n == m else np.ones((m, 1)) for n, m in zip(signal.shape[1:], shape[1:], strict=True)]
    return regridded(signal, Grid(channels, *sides))


def average_pool(signal: Signal, pool: AvgPool, shape: Shape) -> Signal:
    """Average pool of spikes, or of what a convolution made of them.

    Raises:
        UnsupportedModel: one that is no convolution, and whose matrix would be too large.
    """
    return _through(signal, pool, shape)


def regridded(signal: Signal, grid: Grid) -> Signal:
    """A signal with its channels chosen, its rows and columns mixed.

    Raises:
        UnsupportedModel: what `average_pool` says.
    """
    return _through(signal, grid, maps.target_shape(grid, signal.shape))


def flatten(signal: Signal) -> Signal:
    """(C, H, W) → (C·H·W,)."""
    if signal.bias is not None and prod(signal.shape) != signal.bias.size:
        per_channel = prod(signal.shape) // signal.bias.size
        return replace(signal, shape=(prod(signal.shape),), bias=np.repeat(signal.bias, per_channel))
    return replace(signal, shape=(prod(signal.shape),))


def laid_out(signal: Signal, shape: Shape) -> Signal:
    """Features (F,) as a grid of as many neurons, in the same order."""
    terms = _each(signal, lambda t: maps.matrix(t.via, t.source_shape))
    bias = signal.bias
    return replace(signal, shape=shape, terms=terms, bias=None if bias is None else _biases(shape, bias, None))


def dense(signal: Signal, weight: Floats, bias: Floats | None) -> Signal:
    """A linear layer on a flattened signal."""
    return _through(signal, Dense(weight), (len(weight),), bias)


def conv(signal: Signal, op: Conv2d, bias: Floats | None, shape: Shape) -> Signal:
    """A convolution of a signal.

    Raises:
        UnsupportedModel: one that is no single convolution of spikes, and whose matrix would be too large.
    """
    return _through(signal, op, shape, bias)


def linear_map(signal: Signal, make: Callable[[Shape], Op], bias: Floats | None, shape: Shape) -> Signal:
    """Any op onto neurons of any shape; `make` gives it for a signal's shape.

    Raises:
        UnsupportedModel: what `conv` says.
    """
    return _through(signal, make(signal.shape), shape, bias)


def as_op(term: Term) -> Op:
    """A term's linear map as an op; plain spikes pass a 1×1 convolution of weight 1 for each channel."""
    return maps.as_op(term.via, term.source_shape)


def _through(signal: Signal, outer: AvgPool | Grid | Op, shape: Shape, bias: Floats | None = None) -> Signal:
    """A map of a signal: of each of its terms, and of its bias."""
    terms = _each(signal, lambda t: maps.composed(outer, t.via, t.source_shape, signal.shape))
    passed = None
    if signal.bias is not None:
        whole = signal.bias.repeat(prod(signal.shape) // len(signal.bias))
        passed = maps.forward(outer, whole.reshape(1, *signal.shape)).reshape(-1)
    return Signal(shape, terms, _biases(shape, passed, bias))


def _biases(shape: Shape, left: Floats | None, right: Floats | None) -> Floats | None:
    """Their sum, per channel where all of a channel's neurons have the same."""
    if left is None or right is None:
        total = right if left is None else left
    else:
        size = max(len(left), len(right))
        total = left.repeat(size // len(left)) + right.repeat(size // len(right))
    if total is None or len(total) == shape[0]:
        return total
    channels = total.reshape(shape[0], -1)
    return channels[:, 0].copy() if (channels == channels[:, :1]).all() else total


def _each(signal: Signal, op: Callable[[Term], Via]) -> tuple[Term, ...]:
    """The terms through new ops; those with one map before have one after."""
    made: dict[Hashable, Via] = {}
    for t in signal.terms:
        key = _key(t)
        if key not in made:
            made[key] = op(t)
    return tuple(replace(t, via=made[_key(t)]) for t in signal.terms)


def _key(term: Term) -> Hashable:
    via = term.via
    return term.source_shape, via if via is None or isinstance(via, AvgPool) else id(via)
