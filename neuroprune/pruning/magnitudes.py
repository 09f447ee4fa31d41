"""How large latent weights are: what a threshold would prune, and which threshold prunes a wanted share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Layer:
    """Latent weights θ of one parameter, their threshold d, its growth per unit of the lead group's, and their cap.

    `pruned` marks weights that stay zero whatever the common threshold does.
    """

    theta: Tensor
    threshold: float
    pace: float
    max_sparsity: float = 1.0
    pruned: Tensor | None = None


def distance(layers: Sequence[Layer], sparsity: float) -> float:
    """Smallest x for which the thresholds d + x·pace zero the fraction `sparsity` of all weights.

    x is the k-th smallest of (|θ| − d)/pace with k = ⌈sparsity·N⌉; weights that a cap protects never count. It is
    negative where more than that is zero already, −∞ for a sparsity of 0, and ∞ where caps put it out of reach.
    """
    count = math.ceil(sparsity * sum(layer.theta.numel() for layer in layers))
    if count == 0:
        return -math.inf
    reach = torch.cat([_reach(layer).cpu() for layer in layers])
    return float(torch.kthvalue(reach, count).values)


def _reach(layer: Layer) -> Tensor:
    """(|θ| − d)/pace, flat: the x that prunes each weight."""
    magnitude = _magnitude(layer.theta)
    if layer.pace > 0:
        reach = (magnitude - layer.threshold) / layer.pace
    else:
        reach = torch.where(magnitude <= layer.threshold, -math.inf, math.inf)
    if layer.max_sparsity < 1:
        limit = capped_threshold(layer.theta, math.inf, layer.max_sparsity)
        reach = torch.where(magnitude <= limit, reach, math.inf)
    if layer.pruned is not None:
        reach = torch.where(layer.pruned.flatten(), -math.inf, reach)
    return reach


def capped_threshold(theta: Tensor, threshold: float, max_sparsity: float) -> float:
    """The threshold, or if it would zero more than `max_sparsity` of θ, the largest magnitude |θ| that does not.

    Where even the smallest one would (many weights of equal magnitude), 0.
    """
    magnitude = _magnitude(theta)
    room = math.floor(max_sparsity * magnitude.numel())
    if int(torch.count_nonzero(magnitude <= threshold)) <= room:
        return threshold
    first_kept = torch.kthvalue(magnitude, room + 1).values
    return float(torch.where(magnitude < first_kept, magnitude, 0.0).max())


def _magnitude(theta: Tensor) -> Tensor:
    """|θ|, flat, in single precision or better: half precision has no kthvalue on every device."""
    magnitude = theta.detach().abs().flatten()
    return magnitude.float() if magnitude.element_size() < 4 else magnitude
