"""Average pools of spikes: the sums of their windows, in whole numbers."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

ADAPTIVE = {f"adaptive_avg_pool{n}d": n for n in (1, 2, 3)}
FIXED = {f"avg_pool{n}d": n for n in (1, 2, 3)}


def window_sums(name: str, counts: Tensor, options: dict[str, Any], shape: torch.Size) -> Tensor:
    """Spikes in each window, float64, whatever the pool divides them by.

    Args:
        name: of torch's function.
        counts: spikes (…, *spatial) at each position.
        options: its arguments but the first, by name.
        shape: of what it returns.
    """
    if name in ADAPTIVE:
        axes = ADAPTIVE[name]
        means: Tensor = getattr(F, name)(counts.double(), shape[-axes:])
        return (means * _window_sizes(counts.shape[-axes:], shape[-axes:]).to(means.device)).round()
    options = {**options, "divisor_override": 1, "count_include_pad": True}
    if FIXED[name] > 1:
        sums: Tensor = getattr(F, name)(counts.double(), **options)
        return sums.round()
    across: dict[str, int] = {"kernel_size": 1, "stride": 1, "padding": 0}
    pairs = {k: (v, _one(options[k])) for k, v in across.items() if options.get(k) is not None}
    return F.avg_pool2d(counts.double().unsqueeze(-2), **{**options, **pairs}).squeeze(-2).round()


def _one(value: Any) -> int:
    return int(value[0] if isinstance(value, (tuple, list)) else value)


def _window_sizes(before: torch.Size, after: torch.Size) -> Tensor:
    """Positions of each adaptive window, float64 (*after): ⌈(i + 1)·n/m⌉ − ⌊i·n/m⌋ along each axis."""
    sizes = torch.ones((), dtype=torch.float64)
    for n, m in zip(before, after, strict=True):
        i = torch.arange(m)
        along = -(-(i + 1) * n // m) - i * n // m
        sizes = sizes.unsqueeze(-1) * along.double()
    return sizes
