"""Telling spikes from other values, exactly, and adding them up in integers."""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from torch import Tensor, nn

POOLS = {  # by number of spatial axes
    1: (nn.AvgPool1d, nn.AdaptiveAvgPool1d),
    2: (nn.AvgPool2d, nn.AdaptiveAvgPool2d),
    3: (nn.AvgPool3d, nn.AdaptiveAvgPool3d),
}
POOL_LIKE = (*POOLS[1], *POOLS[2], *POOLS[3], nn.Flatten)
BLOCK = 2**16  # elements of a CPU pass: 256 KiB of float32 stay in cache, and need no fresh pages
_EXACT = 2**24  # float32 holds every integer up to here


def _spikes(x: Tensor, area: int) -> Tensor | None:
    """area · x, rounded, or None if that is not spike counts: integers ≥ 0.

    With area = 1 they have to be integers exactly, otherwise up to the rounding of the division that the pool did.
    """
    if area == 1:
        blocks = torch.split(x.reshape(-1), BLOCK) if x.device.type == "cpu" else (x,)
        # Of values ≥ 0 no fraction is negative, so that their sum is 0 only if each is. NaN fails both.
        whole = all(float(b.amin()) >= 0 and float(b.frac().sum()) == 0 for b in blocks)
        return x if whole else None
    scaled = x * area
    spikes = scaled.round()
    off = float(scaled.sub_(spikes).abs_().amax())
    tolerance = 8 * torch.finfo(x.dtype).eps * max(1.0, float(spikes.amax()))
    return spikes if off <= tolerance <= 0.25 and float(spikes.amin()) >= 0 else None


def integer_sum(x: Tensor, area: int) -> Tensor | None:
    """Spikes area · x summed over the rows of x (rows, positions), int64 (positions,); None if they are not spikes."""
    if x.numel() == 0:
        return x.new_zeros(x.shape[1], dtype=torch.int64)
    x = x if x.is_floating_point() else x.double()
    spikes = _spikes(x, area)
    if spikes is None:
        return None
    exact = min(2 / torch.finfo(x.dtype).eps, _EXACT)  # from here on, integers may be roundings of something else
    counts = spikes.sum(0, dtype=torch.promote_types(x.dtype, torch.float32))
    if float(counts.amax()) < exact:  # then so was every term and partial sum: none is negative
        return counts.long()
    return spikes.long().sum(0) if float(spikes.amax()) <= exact else None


def pool_area(pool: Any, inputs: Tensor, output: Tensor) -> int:
    """What the pool divides its sums by; 0 where that differs from window to window; 1 for ``nn.Flatten``."""
    if isinstance(pool, nn.Flatten):
        return 1
    axes = next(n for n, kinds in POOLS.items() if isinstance(pool, kinds))
    before, after = inputs.shape[-axes:], output.shape[-axes:]
    if not hasattr(pool, "kernel_size"):  # adaptive: the windows are equal where the sizes divide
        even = all(b % a == 0 for b, a in zip(before, after, strict=True))
        return prod(before) // prod(after) if even else 0
    if getattr(pool, "divisor_override", None):
        return int(pool.divisor_override)
    kernel, stride, padding = (
        v if isinstance(v, tuple) else (v,) * axes for v in (pool.kernel_size, pool.stride, pool.padding)
    )
    reach = ((a - 1) * s + k - 2 * p for a, s, k, p in zip(after, stride, kernel, padding, strict=True))
    overhang = any(r > b for r, b in zip(reach, before, strict=True))  # ceil_mode's last, smaller window
    return 0 if overhang or (any(padding) and not pool.count_include_pad) else prod(kernel)


def version(x: Tensor) -> int:
    """PyTorch's count of in-place changes, shared by views; tensors made in inference mode have none."""
    return 0 if x.is_inference() else x._version
