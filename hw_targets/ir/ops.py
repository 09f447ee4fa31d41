"""Linear maps from one population to another, and what one asks of them; a new op begins here.

It needs its synapses (`connectivity`), its parts (`units`), its product (`emulation/currents.py`), its receptive
fields (`quantization/receptive.py`) and a reader (`frontends/torch/layers.py`); what is linear in those there are needs
the last alone (`transposed`).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt

Shape: TypeAlias = tuple[int, ...]
Pair: TypeAlias = tuple[int, int]
Array: TypeAlias = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Conv2d:
    """Cross-correlation with zero padding, as `torch.nn.functional.conv2d`; weight (out, in/groups, kH, kW).

    `taps_unpooled` is the kernel's size without the average pool of the source that it contains, for chips that pool
    where spikes are sent; None: there is none.
    """

    weight: Array
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1
    taps_unpooled: int | None = None

    #: Whether it takes a grid to a grid, all positions of which share the weights.
    is_spatial: ClassVar[bool] = True

    def output_shape(self, source: Shape) -> Shape:
        """Shape (C, H, W) of the target for a source (C, H, W)."""
        size = [
            (n + 2 * p - d * (k - 1) - 1) // s + 1
            for n, p, d, k, s in zip(
                source[1:], self.padding, self.dilation, self.weight.shape[2:], self.stride, strict=True
            )
        ]
        return (int(self.weight.shape[0]), *size)

    def takes(self, source: Shape) -> bool:
        """Whether the weights are those of such a map of a source (C, H, W)."""
        return (
            self.weight.ndim == 4
            and len(source) == 3
            and self.weight.shape[1] * self.groups == source[0]
            and self.weight.shape[0] % self.groups == 0
        )

    @property
    def layout(self) -> tuple[Pair, Pair, Pair, int]:
        """All of it but the weights: (stride, padding, dilation, groups)."""
        return (self.stride, self.padding, self.dilation, self.groups)


@dataclass(frozen=True, eq=False)
class Dense:
    """Matrix (out, in); the source is flattened in (C, H, W) order.

    `taps_unpooled` is how many numbers it has for each channel without the average pool of the source that it contains.
    """

    weight: Array
    taps_unpooled: int | None = None

    is_spatial: ClassVar[bool] = False
    groups: ClassVar[int] = 1
    layout: ClassVar[tuple[()]] = ()

    def output_shape(self, source: Shape) -> Shape:  # noqa: ARG002 - same signature as Conv2d
        """Shape (out,) of the target."""
        return (int(self.weight.shape[0]),)

    def takes(self, source: Shape) -> bool:
        """Whether the weights are a matrix of a source of this shape."""
        return self.weight.ndim == 2 and int(self.weight.shape[1]) == prod(source)


Op: TypeAlias = Conv2d | Dense


def positions(op: Op, source: Shape) -> int:
    """Targets that one row of weights serves: the positions of a convolution's output, 1 for a matrix."""
    return prod(op.output_shape(source)[1:])


def equal(a: Op, b: Op) -> bool:
    """Whether two ops compute the same of every source."""
    return type(a) is type(b) and a.layout == b.layout and np.array_equal(a.weight, b.weight)


def taps(op: Op, source: Shape) -> tuple[int, int]:
    """(channels, taps in each) of a source that one target listens to, zeros counted and pools before them not."""
    channels, each = (op.weight.shape[1], op.weight.shape[2:]) if op.is_spatial else (source[0], source[1:])
    return int(channels), prod(each) if op.taps_unpooled is None else op.taps_unpooled
