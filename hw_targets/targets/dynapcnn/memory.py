"""Words of memory that layers take on DYNAP-CNN, and what whole channels save: zeros save nothing.

Kernel c·2^(⌈log2 k²⌉ + ⌈log2 f⌉) words and neurons f·2^(⌈log2 h⌉ + ⌈log2 w⌉), for c input and f output channels,
kernels of k×k and an output of h×w. Source: sinabs 3.1.3 `DynapcnnLayer.memory_summary`.
"""

from __future__ import annotations

from typing import NamedTuple

from hw_targets.ir.network import Shape
from hw_targets.targets.dynapcnn.core import Core


class Words(NamedTuple):
    """Memory words of a layer."""

    kernel: int
    neuron: int
    bias: int


def words(core: Core, shape: Shape) -> Words:
    """Of a layer whose neurons have a shape (f, h, w) or (f,)."""
    features, channels, side, _ = core.kernel.weight.shape
    height, width = shape[1:] if len(shape) == 3 else (1, 1)
    return Words(
        kernel_words(channels, side, features),
        features << (_log2(height) + _log2(width)),
        0 if core.bias is None else len(core.bias),
    )


def kernel_words(channels: int, side: int, features: int) -> int:
    """c·2^(⌈log2 k²⌉ + ⌈log2 f⌉)."""
    return channels << (_log2(side * side) + _log2(features))


def _log2(value: int) -> int:
    """⌈log2 value⌉."""
    return (value - 1).bit_length()
