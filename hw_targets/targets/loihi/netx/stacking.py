"""Populations side by side in one netx layer: their kernels, matrices and biases as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from hw_targets.errors import QuantizationError, UnsupportedModel
from hw_targets.ir.network import Conv2d, Op, Pair, Population, Shape

Integers = npt.NDArray[np.signedinteger[Any]]


def check_weights(weight: Integers, names: str) -> None:
    """Loihi's 8 bits hold −128 … 127, the even integers −256 … 254, or, of one sign, 0 … 255 or −255 … 0.

    Raises:
        QuantizationError: other weights.
    """
    low, high = int(weight.min(initial=0)), int(weight.max(initial=0))
    small, one_sign = low >= -128 and high <= 127, (low == 0 and high <= 255) or (high == 0 and low >= -255)
    if not (small or one_sign or (low >= -256 and high <= 254 and not (weight % 2).any())):
        raise QuantizationError(
            f"the weights of {names} span {low} … {high}, 8 bits hold -128 … 127, or even integers -256 … 254;"
            ' quantize(..., for_format="netx") keeps to that, parallel synapses together'
        )


def zeros(shape: Shape, ops: Sequence[Op]) -> Integers:
    """Room for the sum of ops, in 16 bits where that cannot overflow: relays make large, mostly empty stacks."""
    largest = sum(int(np.abs(op.weight).max(initial=0)) for op in ops)
    return np.zeros(shape, np.int16 if largest < 1 << 15 else np.int32)


def span(op: Conv2d, padding: Pair, dilation: Pair) -> Pair:
    """Kernel size that holds an op's taps when its padding is widened to `padding`."""
    if any((p - q) % d for p, q, d in zip(padding, op.padding, dilation, strict=True)):
        raise UnsupportedModel(f"a kernel padded by {op.padding} has no tap grid in common with padding {padding}")
    first = [(p - q) // d for p, q, d in zip(padding, op.padding, dilation, strict=True)]
    # Symmetric growth keeps the output size: as much room is needed after the taps as before them.
    return (op.weight.shape[2] + 2 * first[0], op.weight.shape[3] + 2 * first[1])


def embed(weight: Integers, op: Conv2d, row: int, column: int, padding: Pair, dilation: Pair) -> None:
    """Add an op's kernel to the stacked one, its taps shifted by the extra padding, its groups unrolled."""
    y, x = ((p - q) // d for p, q, d in zip(padding, op.padding, dilation, strict=True))
    outs, ins, height, width = op.weight.shape
    per_group = outs // op.groups
    for group in range(op.groups):
        r = row + group * per_group
        c = column + group * ins
        taps = op.weight[group * per_group : (group + 1) * per_group]
        weight[r : r + per_group, c : c + ins, y : y + height, x : x + width] += taps.astype(weight.dtype)


def offsets(populations: tuple[Population, ...], *, whole: bool = False) -> dict[str, int]:
    """First channel (or, flattened, first neuron) of each stacked population."""
    result, position = {}, 0
    for p in populations:
        result[p.name] = position
        position += p.size if whole else p.shape[0]
    return result


def as_grid(population: Population, shape: Shape) -> Population:
    """Flattened neurons in the shape (C, H, W) that the convolution before them gives, in the same order.

    A bias that is the same in a whole channel is one for the channel.
    """
    bias = population.bias
    if population.shape == shape:
        return population
    if bias is not None and (each := bias.reshape(shape[0], -1)).shape[1] > 1 and (each == each[:, :1]).all():
        bias = each[:, 0]
    return replace(population, shape=shape, bias=bias)


def as_vector(population: Population) -> Population:
    """Neurons of a grid in a row, (C, H, W) order, with a bias for each."""
    bias = population.bias
    if bias is not None and not population.has_neuron_biases:
        bias = np.repeat(bias, population.size // len(bias))
    return replace(population, shape=(population.size,), bias=bias)


def stacked_bias(populations: tuple[Population, ...]) -> Integers | None:
    """Biases per channel or neuron of a vector; (W, H, C), as netx wants it, where neurons of a grid have their own."""
    if all(p.bias is None for p in populations):
        return None
    by_neuron = any(p.has_neuron_biases for p in populations)
    parts = []
    for p in populations:
        values = np.zeros(p.shape[0], np.int32) if p.bias is None else p.bias.astype(np.int32)
        if by_neuron:
            each = values if p.has_neuron_biases else np.repeat(values, p.size // len(values))
            values = each.reshape(p.shape)
        parts.append(values)
    stacked = np.concatenate(parts)
    return stacked.transpose() if stacked.ndim == 3 else stacked


def elementwise_max(pairs: list[Pair]) -> Pair:
    return (max(p[0] for p in pairs), max(p[1] for p in pairs))
