"""Gradients of pruned weights that a normalization behind them has blown up."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from neuroprune._numbers import number_of

#: What `prune_to` limits them to: ordinary ones differ by less, blown-up ones by up to 1/√ε of the normalization (316).
MULTIPLE = 3.0


def clip_pruned_(gradient: Tensor, weight: Tensor, multiple: float = MULTIPLE) -> None:
    """Shrink, in place, the gradient at each row's pruned weights to what survivors have, here or in the median row:

        g_ri ← g_ri·min(1, multiple·max(m_r, m)/rms{g_rj : w_rj = 0})  where w_ri = 0,
        m_r = rms{g_rj : w_rj ≠ 0},    m = the median of m_s > 0 over the rows s

    A row (of the first axis) is what ends in a neuron or channel. One that is pruned whole, or whose survivors read
    only what is silent, has an output that does not vary, and a batch-norm behind it divides by √ε in place of a
    deviation: the gradient at its pruned weights, which straight-through training hands to their latent values, is
    hundreds of times too large. One such step and they outrank every other weight of the network. Survivors keep
    their gradient bit for bit, and rows that learn much, as those of a classifier's true classes, their measure. It
    is a unit-wise clipping as that of Brock et al., "High-Performance Large-Scale Image Recognition Without
    Normalization" (2021), with surviving weights' gradients as the measure.

    Nothing is done where no survivor has a gradient, and to a sparse gradient.

    Args:
        gradient: (rows, …).
        weight: of the same shape, the weights the gradient was taken at.
        multiple: at least 1.
    """
    if gradient.layout != torch.strided:
        return
    flat = gradient.detach().flatten(1)
    if flat.dtype in (torch.float16, torch.bfloat16):
        flat = flat.float()
    kept = (weight != 0).flatten(1)
    mask = kept.to(flat.real.dtype if flat.is_complex() else flat.dtype)
    count = mask.sum(1)
    pruned = (mask.shape[1] - count).clamp_min_(1)
    count.clamp_min_(1)
    of_kept = torch.linalg.vector_norm(flat * mask, dim=1).square_()
    of_all = torch.linalg.vector_norm(flat, dim=1).square_()
    # As a rule every row is within its own survivors' limit, and the median is not needed. NaN goes on.
    if bool(((of_all - of_kept) * count <= multiple**2 * of_kept * pruned).all()):
        return
    own = of_kept / count
    if not bool((own > 0).any()):
        return
    limit = multiple**2 * own.clamp_min(own[own > 0].median())
    of_pruned = torch.linalg.vector_norm(flat * (1 - mask), dim=1).square_() / pruned
    if bool((of_pruned > limit).any()):
        factor = (limit / of_pruned.clamp_min(torch.finfo(of_pruned.dtype).tiny)).clamp_max(1.0).sqrt()
        rows = torch.where(kept, 1.0, factor[:, None]).reshape(gradient.shape)
        gradient.mul_(rows.to(gradient.real.dtype if gradient.is_complex() else gradient.dtype))


def check_multiple(multiple: float | None) -> None:
    """Refuse what is no limit.

    Raises:
        ValueError: it is below 1, or not finite.
    """
    if multiple is not None and not 1 <= (number_of(multiple) or 0.0) < math.inf:
        raise ValueError(
            "SoftThresholdPruner: clip_pruned must be a finite number of at least 1, or None for no clipping, got"
            f" {multiple!r}"
        )
