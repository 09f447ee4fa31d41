"""Gradients of rows of weights that a normalization behind them has blown up."""

from __future__ import annotations

import math

import torch
from torch import Tensor

#: What `prune_to` limits rows to: normal ones differ by less, blown-up ones by up to 1/√ε of the normalization (316).
MULTIPLE = 10.0


def clip_rows_(gradient: Tensor, weight: Tensor, multiple: float = MULTIPLE) -> None:
    """Shrink, in place, each row g_r of a gradient to at most `multiple` times the median norm of the live rows:

        g_r ← g_r·min(1, multiple·m/‖g_r‖),    m = median of ‖g_s‖ > 0 over the rows s with any w_s ≠ 0

    A row (of the first axis) is what ends in a neuron or channel. One that is pruned whole, or that reads only what is
    silent, has an output that does not vary, and a batch-norm behind it divides by √ε in place of a deviation: the
    gradient at its pruned weights, which straight-through training hands to their latent values, is hundreds of times
    too large. One such step and they outrank every other weight of the network. It is the unit-wise clipping of Brock
    et al., "High-Performance Large-Scale Image Recognition Without Normalization" (2021), with the other rows as the
    measure in place of the row's own weights, which are all zero here.

    Args:
        gradient: (rows, …).
        weight: of the same shape, the weights the gradient was taken at.
        multiple: above 1.
    """
    norms = torch.linalg.vector_norm(gradient.flatten(1), dim=1)
    # The sum of magnitudes: on CPUs ten times as fast as any(), and never rounded to 0.
    live = (weight.flatten(1).abs().sum(1) > 0) & (norms > 0)
    counted = norms[live] if bool(live.any()) else norms[norms > 0]
    if counted.numel() == 0:
        return
    limit = multiple * counted.median()
    if bool((norms > limit).any()):
        factor = (limit / norms.clamp_min(torch.finfo(norms.dtype).tiny)).clamp_max(1.0)
        gradient.mul_(factor.reshape(-1, *[1] * (gradient.dim() - 1)))


def check_multiple(multiple: float | None) -> None:
    """Refuse what is no limit.

    Raises:
        ValueError: it is not above 1, or not finite.
    """
    if multiple is not None and not (math.isfinite(multiple) and multiple > 1):
        raise ValueError(
            f"SoftThresholdPruner: clip_rows must be a finite number above 1, or None for no clipping, got {multiple}"
        )
