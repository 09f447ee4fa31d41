"""Thresholding rules and the soft threshold's inverse: pure functions, one per equation.

Each rule is the proximal map of a penalty p_d: w = argmin_w ½(w − θ)² + p_d(w). `maps` has them as values for a pruner.
"""

from __future__ import annotations

import torch
from torch import Tensor


def soft_threshold(theta: Tensor, threshold: float | Tensor) -> Tensor:
    """Shrink towards zero: S_d(θ) = sign(θ)·max(|θ| − d, 0) = θ − clamp(θ, −d, d).

    It is the proximal map of d·‖·‖₁, and the reparameterisation of soft threshold pruning (Chen et al., "A Unified
    Framework for Soft Threshold Pruning", ICLR 2023). Differentiable: the true gradient, 1 where |θ| > d, else 0.

    Args:
        theta: latent parameters θ, any shape.
        threshold: d ≥ 0, a number or a tensor that broadcasts to θ.

    Returns:
        Weights of the shape and dtype of θ, exactly zero where |θ| ≤ d.

    Raises:
        ValueError: d is negative, not a number, or does not broadcast to θ.
    """
    d = _checked(threshold, theta)
    if isinstance(d, Tensor):
        return torch.where(theta.abs() > d, theta - torch.sign(theta) * d, torch.zeros_like(theta))
    return torch.nn.functional.softshrink(theta, d)


def hard_threshold(theta: Tensor, threshold: float | Tensor) -> Tensor:
    """Keep or kill: H_d(θ) = θ·[|θ| > d], the proximal map of ½d²·‖·‖₀ (Donoho & Johnstone, "Ideal spatial adaptation
    by wavelet shrinkage", Biometrika 1994). What it keeps it does not shrink.

    Args:
        theta: latent parameters θ, any shape.
        threshold: d ≥ 0, a number or a tensor that broadcasts to θ.

    Returns:
        Weights of the shape and dtype of θ, exactly zero where |θ| ≤ d.

    Raises:
        ValueError: d is negative, not a number, or does not broadcast to θ.
    """
    return torch.where(theta.abs() > _checked(threshold, theta), theta, torch.zeros_like(theta))


def garrote(theta: Tensor, threshold: float | Tensor) -> Tensor:
    """Non-negative garrote: G_d(θ) = θ·max(1 − d²/θ², 0) (Breiman, "Better subset regression using the nonnegative
    garrote", Technometrics 1995). It shrinks a weight by d²/|θ|: like the soft threshold near d, hardly far above it.

    It is the proximal map of p_d(w) = ¼|w|·(√(w² + 4d²) − |w|) + d²·asinh(|w|/2d), whose slope ½(√(w² + 4d²) − |w|)
    falls from d at w = 0 towards 0.

    Args:
        theta: latent parameters θ, any shape.
        threshold: d ≥ 0, a number or a tensor that broadcasts to θ.

    Returns:
        Weights of the shape and dtype of θ, exactly zero where |θ| ≤ d.

    Raises:
        ValueError: d is negative, not a number, or does not broadcast to θ.
    """
    d = torch.as_tensor(_checked(threshold, theta), dtype=theta.dtype, device=theta.device)
    kept = theta.abs() > d
    safe = torch.where(kept, theta, torch.ones_like(theta))  # so that no gradient is NaN where θ is 0
    return torch.where(kept, theta - theta * (d / safe).square(), torch.zeros_like(theta))


def garrote_penalty(weight: Tensor, threshold: float | Tensor) -> Tensor:
    """p_d(w) = ¼|w|·(√(w² + 4d²) − |w|) + d²·asinh(|w|/2d), elementwise: what `garrote` is the proximal map of.

    Args:
        weight: weights w, any shape.
        threshold: d ≥ 0, a number or a tensor that broadcasts to w; for d = 0 the penalty is 0.
    """
    d = torch.as_tensor(_checked(threshold, weight), dtype=weight.dtype, device=weight.device)
    size = weight.abs()
    penalty = 0.25 * size * (torch.sqrt(size.square() + 4 * d.square()) - size) + d.square() * torch.asinh(
        size / (2 * d.clamp_min(torch.finfo(weight.dtype).tiny))
    )
    return torch.where(d > 0, penalty, torch.zeros_like(penalty))


def inverse_soft_threshold(weight: Tensor, threshold: float | Tensor, near: Tensor | None = None) -> Tensor:
    """Latent parameters that give `weight`: the point of {θ : S_d(θ) = w} closest to `near` (by default to zero).

    θ = w + d·sign(w) where w ≠ 0, which is the only solution; clamp(near, −d, d) where w = 0, because any |θ| ≤ d is
    a solution there. Where `near` already gives `weight`, it is returned bit for bit.

    Args:
        weight: weights w, any shape.
        threshold: d ≥ 0, a number or a tensor that broadcasts to w.
        near: latent parameters to stay close to, of the shape of w.
    """
    d = _checked(threshold, weight)
    theta = weight + torch.sign(weight) * d
    if near is None:
        return theta
    limit = torch.as_tensor(d, dtype=near.dtype, device=near.device)
    remembered = torch.minimum(torch.maximum(near, -limit), limit)
    theta = torch.where(weight == 0, remembered, theta)
    return torch.where(soft_threshold(near, threshold) == weight, near, theta)


def _checked(threshold: float | Tensor, theta: Tensor) -> float | Tensor:
    """The threshold, in the dtype of θ if it is a tensor. Raises ValueError unless it is >= 0 and broadcasts to θ."""
    if not isinstance(threshold, Tensor):
        if not threshold >= 0:
            raise ValueError(f"soft_threshold: threshold must be >= 0, got {threshold}")
        return threshold
    if not bool((threshold >= 0).all()):
        raise ValueError(f"soft_threshold: threshold must be >= 0, got a minimum of {threshold.min().item()}")
    pairs = zip(reversed(threshold.shape), reversed(theta.shape), strict=False)
    if threshold.dim() > theta.dim() or any(d not in (1, n) for d, n in pairs):
        raise ValueError(
            f"soft_threshold: a threshold of shape {tuple(threshold.shape)} does not broadcast to {tuple(theta.shape)}"
        )
    return threshold.to(theta.dtype)
