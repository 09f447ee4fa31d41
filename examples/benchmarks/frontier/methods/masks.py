"""Masks over all prunable weights: which to keep, how many, and keeping them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from examples.benchmarks.frontier.methods.base import Attached, Run


def global_masks(scores: Sequence[Tensor], sparsity: float) -> list[Tensor]:
    """Boolean masks that drop the round(sparsity·N) lowest of all N scores, whichever tensor they are in.

    Args:
        scores: one tensor per parameter, any shapes.
        sparsity: fraction to drop, in [0, 1].

    Raises:
        ValueError: sparsity out of range, or a score that is not a number.
    """
    flat = torch.cat([s.detach().flatten() for s in scores])
    if not 0.0 <= sparsity <= 1.0:
        raise ValueError(f"global_masks: sparsity must lie in 0 … 1, got {sparsity}")
    if bool(flat.isnan().any()):
        raise ValueError(f"global_masks: {int(flat.isnan().sum())} of {flat.numel()} scores are not a number")
    keep = torch.ones_like(flat, dtype=torch.bool)
    dropped = torch.topk(flat, round(sparsity * flat.numel()), largest=False).indices
    keep[dropped] = False
    parts = torch.split(keep, [s.numel() for s in scores])
    return [part.view_as(s) for part, s in zip(parts, scores, strict=True)]


def cubic_ramp(target: float, x: float) -> float:
    """s = s_f·(1 − (1 − x)³), x clipped to [0, 1] (Zhu & Gupta, 2017, arXiv 1710.01878, eq. 1 with s_i = 0)."""
    return target * (1.0 - (1.0 - min(max(x, 0.0), 1.0)) ** 3)


class Masked(Attached):
    """Keeps the zeros of `masks` through every step."""

    def __init__(self, run: Run, masks: Sequence[Tensor]) -> None:
        super().__init__(run)
        self.masks = list(masks)
        self.apply()

    @torch.no_grad()
    def apply(self) -> None:
        """Zero what the masks drop."""
        for parameter, mask in zip(self.parameters, self.masks, strict=True):
            parameter.mul_(mask)

    def after_step(self, step: int) -> None:  # noqa: ARG002 - the interface
        """Zero what momentum and gradients moved."""
        self.apply()
