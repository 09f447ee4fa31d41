"""Telling spikes from other values, exactly, and adding them up in integers."""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 2**16  # elements of a CPU pass: 256 KiB of float32 stay in cache, and need no fresh pages
_EXACT = 2**24  # float32 holds every integer up to here


def integer_sum(x: Tensor, *, known: bool = False) -> Tensor | None:
    """Spikes summed over the rows of x (rows, positions), int64 (positions,); None if they are not spikes.

    They have to be integers ≥ 0 exactly; `known` spares the check.
    """
    if x.numel() == 0:
        return x.new_zeros(x.shape[1], dtype=torch.int64)
    spikes = x if x.is_floating_point() else x.double()
    counts = _sum_if_whole(spikes, check=not known)
    if counts is None:
        return None
    exact = min(2 / torch.finfo(spikes.dtype).eps, _EXACT)  # from here on, integers may be roundings of something else
    if float(counts.amax()) < exact:  # then so was every term and partial sum: none is negative
        return counts.long()
    return spikes.long().sum(0) if float(spikes.amax()) <= exact else None


def known_sum(x: Tensor, most: int) -> Tensor | None:
    """Spikes summed over the rows of x (rows, positions), exact float32 (positions,), where none is above `most`.

    None where float32 may not hold the sums, or `most` is 0 (unknown).
    """
    if not most or x.dtype != torch.float32 or most * len(x) > _EXACT:
        return None
    # A matrix-vector product adds faster than sum(0), and with precision "highest" it rounds nothing off.
    multiply = torch.get_float32_matmul_precision() == "highest"
    return torch.mv(x.t(), x.new_ones(len(x))) if multiply else x.sum(0)


def _sum_if_whole(x: Tensor, *, check: bool) -> Tensor | None:
    """Sums over the rows, or None if `check` finds anything but integers ≥ 0.

    On the CPU, rows are taken in blocks that stay in cache while they are checked and added up.
    """
    dtype = torch.promote_types(x.dtype, torch.float32)
    # A matrix-vector product adds faster than sum(0), and with precision "highest" it rounds nothing off.
    multiply = x.dtype == torch.float32 and torch.get_float32_matmul_precision() == "highest"
    if not check:
        return torch.mv(x.t(), x.new_ones(len(x))) if multiply else x.sum(0, dtype=dtype)
    rows = max(1, BLOCK // x.shape[1]) if x.device.type == "cpu" else len(x)
    fraction, ones = torch.empty_like(x[:rows]), x.new_ones(rows)
    counts = torch.zeros(x.shape[1], dtype=dtype, device=x.device)
    for block in torch.split(x, rows):
        # Of values ≥ 0 no fraction is negative, so that their sum is 0 only if each is. NaN fails both.
        if not (float(block.amin()) >= 0 and not float(torch.frac(block, out=fraction[: len(block)]).sum())):
            return None
        if multiply:
            counts.addmv_(block.t(), ones[: len(block)])
        else:
            counts += block.sum(0, dtype=dtype)
    return counts


def is_analog(values: Tensor) -> bool:
    """Whether a layer's input is real: no gradient flows into it, and it holds other than whole numbers ≥ 0.

    What neurons sent, averaged over windows perhaps, has a gradient while a model trains.
    """
    seen = values.detach()
    return not values.requires_grad and not bool(((seen == seen.round()) & (seen >= 0)).all())
