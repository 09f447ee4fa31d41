"""Which of a sample's axes lie along which axis of a tensor.

An axis of a tensor holds none, one or several of the letters T (time), N (batch), and, of a sample's own, C, H, W or F:
(T, N, C, H, W) after `flatten(0, 1)` is ("TN", "C", "H", "W"). Where a letter of size 1 lies is a guess after a
reshape, so that axes are compared without those (`plain`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import TypeAlias

from hw_targets.ir.network import Shape

Axes: TypeAlias = tuple[str, ...]
Sizes: TypeAlias = Mapping[str, int]


def letters(shape: Shape) -> str:
    """Those of a sample: F of features, C, H and W of a grid."""
    return "F" if len(shape) == 1 else "CHW"


def of_sample(shape: Shape, dims: int) -> Axes:
    """The axes of a sample laid out in its own order along `dims` axes: a grid (C, 1, L) perhaps along two."""
    return tuple(letters(shape) if dims >= len(shape) else "CW")


def plain(axes: Axes, sizes: Sizes) -> Axes:
    """Without the letters whose size is 1."""
    return tuple("".join(name for name in held if sizes[name] != 1) for held in axes)


def regrouped(axes: Axes, sizes: Sizes, new: Sequence[int]) -> Axes | None:
    """The axes after a reshape to new sizes; None where an axis would hold a part of a letter."""
    left = list("".join(axes))
    result = []
    for size in new:
        held = ""
        while left and (prod(sizes[name] for name in held) < size or (size == 1 and not held and sizes[left[0]] == 1)):
            held += left.pop(0)
        if prod(sizes[name] for name in held) != size:
            return None
        result.append(held)
    return tuple(result) if all(sizes[name] == 1 for name in left) else None
