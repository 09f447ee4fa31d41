"""How many synapses leave each input position of a linear layer or a convolution."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neuroprune.synops.known import version_of
from neuroprune.synops.spikes import BLOCK


@dataclass(frozen=True, eq=False)
class FanOut:
    """Fan-out of each input position of a layer: ``counts`` (2, positions) int64, non-zero weights then all weights.

    Holds the weight and its storage, so that neither identity nor address can be taken over by another tensor.
    """

    counts: Tensor
    totals: list[int]
    weight: Tensor
    storage: Tensor
    version: int

    def holds_for(self, weight: Tensor) -> bool:
        same = weight is self.weight and weight.data_ptr() == self.storage.data_ptr()
        return same and version_of(weight) == self.version

    @classmethod
    def of(cls, geometry: Geometry, name: str, weight: Tensor, shape: tuple[int, ...], device: torch.device) -> FanOut:
        """Build from a product's geometry and its inputs' trailing ``shape``: (C_in, *spatial), or (F_in,)."""
        taps = _taps(weight.detach(), geometry.groups, name)
        for axis, size in enumerate(shape[1:]):  # contracts the first kernel axis left, appends its spatial axis
            taps = torch.tensordot(taps, geometry.reach(axis, size, weight.shape[2 + axis]), dims=([2], [0]))
        counts = taps.reshape(2, -1).round().long()
        return cls(counts.to(device), counts.sum(1).tolist(), weight, weight.detach(), version_of(weight))


@dataclass(frozen=True)
class Geometry:
    """How a convolution's kernel lies on its input: an entry for each spatial axis, none for a linear layer."""

    stride: tuple[int, ...] = ()
    padding: tuple[tuple[int, int], ...] = ()
    dilation: tuple[int, ...] = ()
    groups: int = 1

    @classmethod
    def of_call(cls, name: str, weight: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Geometry:
        """That of a call of ``F.linear``, ``F.conv1d``, ``F.conv2d`` or ``F.conv3d``."""
        if name == "linear":
            return cls()
        given = {**dict(zip(("stride", "padding", "dilation", "groups"), args[3:], strict=False)), **kwargs}
        stride, dilation, padding = (given.get(key, d) for key, d in (("stride", 1), ("dilation", 1), ("padding", 0)))
        each = [tuple(v) if isinstance(v, list) else v for v in (stride, padding, dilation)]
        return _of_convolution(tuple(weight.shape[2:]), *each, int(given.get("groups", 1)))

    @classmethod
    def of_layer(cls, layer: Any) -> Geometry:
        """That of a linear layer, or of a convolution, as its attributes say."""
        if isinstance(layer, nn.Linear):
            return cls()
        return _of_convolution(layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.groups)

    def reach(self, axis: int, size: int, kernel: int) -> Tensor:
        """How often tap k of one spatial axis reads input position i, (kernel, size) float64 on the CPU."""
        return _reach(size, kernel, self.stride[axis], self.dilation[axis], self.padding[axis])


@lru_cache(maxsize=256)
def _of_convolution(kernel: tuple[int, ...], stride: Any, padding: Any, dilation: Any, groups: int) -> Geometry:
    axes = len(kernel)
    spread = _each(dilation, axes)
    if padding == "same":
        spans = [d * (k - 1) for d, k in zip(spread, kernel, strict=True)]
        around = tuple((span // 2, span - span // 2) for span in spans)
    else:
        around = tuple((p, p) for p in _each(0 if padding == "valid" else padding, axes))
    return Geometry(_each(stride, axes), around, spread, groups)


def _each(value: Any, axes: int) -> tuple[int, ...]:
    values = tuple(int(v) for v in value) if isinstance(value, (tuple, list)) else (int(value),)
    return values * axes if len(values) == 1 else values


def _taps(weight: Tensor, groups: int, name: str) -> Tensor:
    """Synapses per input channel and kernel tap, (2, C_in, *kernel) float64 on the CPU: non-zero, then all."""
    grouped = weight.reshape(groups, -1, *weight.shape[1:])  # (groups, C_out/groups, C_in/groups, *kernel)
    alive = torch.zeros_like(grouped[:, 0], dtype=torch.float32)
    checksum = torch.zeros((), device=weight.device)
    for block in torch.split(grouped, max(1, BLOCK // alive.numel()), dim=1):
        alive += block.sign().abs_().sum(1, dtype=torch.float32)
        checksum += block.sum(dtype=torch.float32)  # one NaN makes it NaN; so does inf - inf, hence the second look
    if checksum.isnan() and weight.isnan().any():
        raise ValueError(
            f"layer {name!r}: {int(weight.isnan().sum())} of {weight.numel()} weights are NaN, 0 allowed, so its "
            "synapses cannot be counted; load a checkpoint from before the training diverged"
        )
    dense = torch.full_like(alive, grouped.shape[1])
    return torch.stack([alive, dense]).flatten(1, 2).cpu().double()


@lru_cache(maxsize=64)
def _reach(size: int, kernel: int, stride: int, dilation: int, pad: tuple[int, int]) -> Tensor:
    """How often kernel tap k reads input position i, (kernel, size) float64 on the CPU; padding reads none."""
    index = torch.arange(size, dtype=torch.float64, device="cpu")
    read = F.pad(index, pad, value=-1.0).unfold(0, dilation * (kernel - 1) + 1, stride)[:, ::dilation].T.long()
    reach = torch.zeros(kernel, size + 1, dtype=torch.float64, device="cpu")  # column 0 collects the zero padding
    return reach.scatter_add_(1, read + 1, torch.ones_like(read, dtype=torch.float64))[:, 1:]
