"""How many synapses leave each input position of a layer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neuroprune.synops.spikes import BLOCK, version_of


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
    def of(cls, layer: nn.Module, name: str, weight: Tensor, shape: tuple[int, ...], device: torch.device) -> FanOut:
        """Build from the layer's geometry and its inputs' trailing ``shape``: (C_in, *spatial), or (F_in,)."""
        taps = _taps(weight.detach(), getattr(layer, "groups", 1), name)
        for axis, size in enumerate(shape[1:]):  # contracts the first kernel axis left, appends its spatial axis
            taps = torch.tensordot(taps, _axis(layer, axis, size), dims=([2], [0]))
        counts = taps.reshape(2, -1).round().long()
        return cls(counts.to(device), counts.sum(1).tolist(), weight, weight.detach(), version_of(weight))


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


def _axis(layer: Any, axis: int, size: int) -> Tensor:
    """``_reach`` of one spatial axis of a convolution whose input has ``size`` positions along it."""
    kernel, stride, dilation = (int(v[axis]) for v in (layer.kernel_size, layer.stride, layer.dilation))
    span = dilation * (kernel - 1)
    if layer.padding == "same":
        pad = (span // 2, span - span // 2)
    else:
        pad = (0, 0) if layer.padding == "valid" else (int(layer.padding[axis]),) * 2
    return _reach(size, kernel, stride, dilation, pad, layer.padding_mode)


@lru_cache(maxsize=64)
def _reach(size: int, kernel: int, stride: int, dilation: int, pad: tuple[int, int], mode: str) -> Tensor:
    """How often kernel tap k reads input position i, (kernel, size) float64 on the CPU.

    Padding with zeros reads no position; the other padding modes read some of them more than once.
    """
    index = torch.arange(size, dtype=torch.float64, device="cpu")[None, None]
    padded = F.pad(index, pad, value=-1.0) if mode == "zeros" else F.pad(index, pad, mode)
    read = padded[0, 0].unfold(0, dilation * (kernel - 1) + 1, stride)[:, ::dilation].T.long()
    reach = torch.zeros(kernel, size + 1, dtype=torch.float64, device="cpu")  # column 0 collects the zero padding
    return reach.scatter_add_(1, read + 1, torch.ones_like(read, dtype=torch.float64))[:, 1:]
