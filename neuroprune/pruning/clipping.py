"""Gradients of pruned weights that a normalization behind them has blown up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from neuroprune._numbers import number_of
from neuroprune.pruning.shards import WHOLE, Shards, local

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
    rows = _Rows.of(gradient, weight)
    if rows.exceed(multiple):
        rows.limit_(gradient, rows.own, multiple)


def clip_all_(weights: Sequence[Tensor], multiple: float, shards: Shards = WHOLE) -> None:
    """`clip_pruned_` of each weight's gradient; rows in shards are limited by the median over all of them.

    Over shards one number is sent for each weight, and, where any of its rows is over its own survivors' limit, one for
    each row.
    """
    found = [(local(w.grad), local(w), w) for w in weights if w.grad is not None]
    if not shards.sharded:
        for gradient, weight, _ in found:
            clip_pruned_(gradient, weight, multiple)
        return
    exceed = shards.sums([int(_Rows.of(gradient, weight).exceed(multiple)) for gradient, weight, _ in found])
    for (gradient, weight, parameter), count in zip(found, exceed, strict=True):
        if count:
            rows = _Rows.of(gradient, weight)
            rows.limit_(gradient, shards.whole(rows.own, parameter), multiple)


@dataclass(frozen=True)
class _Rows:
    """Squared norms of each row's gradient, at survivors and at all weights, with the numbers of both kinds."""

    flat: Tensor
    kept: Tensor
    mask: Tensor
    count: Tensor
    pruned: Tensor
    of_kept: Tensor
    of_all: Tensor

    @classmethod
    def of(cls, gradient: Tensor, weight: Tensor) -> _Rows:
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
        return cls(flat, kept, mask, count, pruned, of_kept, of_all)

    @property
    def own(self) -> Tensor:
        """m_r², 0 without survivors."""
        return self.of_kept / self.count

    def exceed(self, multiple: float) -> bool:
        """Whether any row is over its own survivors' limit, as a rule none is, and no median is needed. NaN is over."""
        return not bool(((self.of_all - self.of_kept) * self.count <= multiple**2 * self.of_kept * self.pruned).all())

    def limit_(self, gradient: Tensor, own_of_all: Tensor, multiple: float) -> None:
        """Shrink in place; `own_of_all` is m² of all rows, of which these may be a part."""
        if not bool((own_of_all > 0).any()):
            return
        limit = multiple**2 * self.own.clamp_min(own_of_all[own_of_all > 0].median())
        of_pruned = torch.linalg.vector_norm(self.flat * (1 - self.mask), dim=1).square_() / self.pruned
        if bool((of_pruned > limit).any()):
            factor = (limit / of_pruned.clamp_min(torch.finfo(of_pruned.dtype).tiny)).clamp_max(1.0).sqrt()
            rows = torch.where(self.kept, 1.0, factor[:, None]).reshape(gradient.shape)
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
