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


def integer_sum(x: Tensor, area: int, *, known: bool = False) -> Tensor | None:
    """Spikes area · x summed over the rows of x (rows, positions), int64 (positions,); None if they are not spikes.

    With area = 1 they have to be integers ≥ 0 exactly, otherwise up to the rounding of the division that a pool did;
    `known` spares the check.
    """
    if x.numel() == 0:
        return x.new_zeros(x.shape[1], dtype=torch.int64)
    spikes = x if x.is_floating_point() else x.double()
    if area != 1:
        rounded = _undo_division(spikes, area)
        if rounded is None:
            return None
        spikes = rounded
    counts = _sum_if_whole(spikes, check=not known)
    if counts is None:
        return None
    exact = min(2 / torch.finfo(spikes.dtype).eps, _EXACT)  # from here on, integers may be roundings of something else
    if float(counts.amax()) < exact:  # then so was every term and partial sum: none is negative
        return counts.long()
    return spikes.long().sum(0) if float(spikes.amax()) <= exact else None


def _undo_division(x: Tensor, area: int) -> Tensor | None:
    """area · x, rounded, or None if it was further from integers than the rounding of a division puts it."""
    scaled = x * area
    spikes = scaled.round()
    off = float(scaled.sub_(spikes).abs_().amax())
    tolerance = 8 * torch.finfo(x.dtype).eps * max(1.0, float(spikes.amax()))
    return spikes if off <= tolerance <= 0.25 else None


def _sum_if_whole(x: Tensor, *, check: bool) -> Tensor | None:
    """Sums over the rows, or None if `check` finds anything but integers ≥ 0.

    On the CPU, rows are taken in blocks that stay in cache while they are checked and added up.
    """
    rows = max(1, BLOCK // x.shape[1]) if check and x.device.type == "cpu" else len(x)
    fraction = torch.empty_like(x[:rows]) if check else x
    # A matrix-vector product adds faster than sum(0), and with precision "highest" it rounds nothing off.
    multiply = x.dtype == torch.float32 and torch.get_float32_matmul_precision() == "highest"
    ones = torch.ones(rows, dtype=x.dtype, device=x.device)
    counts = torch.zeros(x.shape[1], dtype=torch.promote_types(x.dtype, torch.float32), device=x.device)
    for block in torch.split(x, rows):
        # Of values ≥ 0 no fraction is negative, so that their sum is 0 only if each is. NaN fails both.
        if check and not (float(block.amin()) >= 0 and not float(torch.frac(block, out=fraction[: len(block)]).sum())):
            return None
        if multiply:
            counts.addmv_(block.t(), ones[: len(block)])
        else:
            counts += block.sum(0, dtype=counts.dtype)
    return counts


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


def version_of(x: Tensor) -> int:
    """PyTorch's count of in-place changes, shared by views; tensors made in inference mode have none."""
    return 0 if x.is_inference() else x._version
