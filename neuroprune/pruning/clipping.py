"""Gradients of pruned weights that a normalization behind them has blown up."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from neuroprune._numbers import number_of

#: What `prune_to` limits them to: ordinary ones differ by less, blown-up ones by up to 1/√ε of the normalization (316).
MULTIPLE = 3.0
#: β: what survivors' gradients have been is forgotten within some ten steps.
FORGETTING = 0.9


def clip_pruned_(
    gradient: Tensor,
    weight: Tensor,
    multiple: float = MULTIPLE,
    usual: Tensor | None = None,
    *,
    scale: Tensor | None = None,
    whole: Callable[[Tensor], Tensor] = lambda rows: rows,
) -> Tensor:
    """Shrink, in place, the gradient at each row's pruned weights to what survivors have, here or in the whole tensor:

        g_ri ← g_ri·min(1, multiple·max(m_r, m)/rms{g_rj : w_rj = 0})  where w_ri = 0,
        m_r = rms{g_rj : w_rj ≠ 0},    m ← max(rms{g_sj : w_sj ≠ 0}, β·m) over all rows s; without survivors' gradients
        m stays

    A row (of the first axis) is what ends in a neuron or channel. One that is pruned whole, or whose survivors read
    only what is silent, has an output that does not vary, and a batch-norm behind it divides by √ε in place of a
    deviation: the gradient at its pruned weights, which straight-through training hands to their latent values, is
    hundreds of times too large. One such step and they outrank every other weight of the network; with Adam it is the
    metric √v that outranks. Survivors keep their gradient bit for bit, and rows that learn much, as those of a
    classifier's true classes, their measure. The memory m is for the step in which a layer has no survivors left: then
    all of its gradients are blown up at once. It is a unit-wise clipping as that of Brock et al., "High-Performance
    Large-Scale Image Recognition Without Normalization" (2021), with surviving weights' gradients as the measure.

    Nothing is done before any survivor has had a gradient, and to a sparse gradient.

    Args:
        gradient: (rows, …).
        weight: of the same shape, the weights the gradient was taken at.
        multiple: at least 1.
        usual: m² after the step before, 0-dim; None before the first.
        scale: what the gradient is a multiple by, as of a loss that is scaled (GradScaler); m is without.
        whole: makes a tensor of all rows of one of these rows, where the tensor is in shards.

    Returns:
        m² after this step, in single precision at least.
    """
    if gradient.layout != torch.strided:
        return torch.zeros((), dtype=torch.float32, device=gradient.device) if usual is None else usual
    flat = gradient.detach().flatten(1)
    if flat.dtype in (torch.float16, torch.bfloat16):
        flat = flat.float()
    # 1 for survivors; to make booleans and read them takes five times as long.
    mask = weight.detach().abs().sign_().flatten(1).to(flat.real.dtype if flat.is_complex() else flat.dtype)
    count = mask.sum(1)
    of_kept = _squares(flat * mask, scale)
    usual = _remembered(whole(of_kept).sum() / whole(count).sum().clamp_min_(1), usual)
    limit = multiple**2 * torch.maximum(of_kept / count.clamp_min(1), usual)
    pruned = (mask.shape[1] - count).clamp_min_(1)
    # What is left of all is inexact where survivors have nearly all of it, and then far from the limit.
    of_pruned = _squares(flat, scale).sub_(of_kept).div_(pruned)
    if bool(((of_pruned > limit) & (usual > 0)).any()):
        of_pruned = _squares(flat * (1 - mask), scale) / pruned
        factor = (limit / of_pruned.clamp_min(torch.finfo(of_pruned.dtype).tiny)).clamp_max(1.0).sqrt()
        rows = torch.where(mask > 0, 1.0, factor[:, None]).reshape(gradient.shape)
        gradient.mul_(rows.to(gradient.real.dtype if gradient.is_complex() else gradient.dtype))
    return usual


def _squares(rows: Tensor, scale: Tensor | None) -> Tensor:
    """Σ|g_j|² of every row, of what the gradient is without its scale."""
    norms: Tensor = torch.linalg.vector_norm(rows, dim=1)
    norms = norms if scale is None else norms / scale.to(norms)
    return norms.square_()


def _remembered(now: Tensor, before: Tensor | None) -> Tensor:
    """m² of this step from the mean square of now, which does not count where it is 0 or overflowed."""
    now = now.nan_to_num(0.0, 0.0)
    if before is None:
        return now
    before = before.to(now)
    return torch.where(now > 0, torch.maximum(now, FORGETTING**2 * before), before)


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
