"""How large latent weights are: what a threshold would prune, and which threshold prunes a wanted share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from neuroprune.pruning.shards import WHOLE, Shards


@dataclass(frozen=True)
class Layer:
    """Latent weights θ of one parameter, their threshold d, its growth per unit of the lead group's, and their cap.

    `pruned` marks weights that stay zero whatever the common threshold does. Thresholds of the single weights are a
    tensor of the shape of θ.
    """

    theta: Tensor
    threshold: float | Tensor
    pace: float
    max_sparsity: float = 1.0
    pruned: Tensor | None = None


def distance(layers: Sequence[Layer], sparsity: float, shards: Shards = WHOLE) -> float:
    """Smallest x for which the thresholds d + x·pace zero the fraction `sparsity` of all weights.

    x is the k-th smallest of (|θ| − d)/pace with k = ⌈sparsity·N⌉; weights that a cap protects never count. It is
    negative where more than that is zero already, −∞ for a sparsity of 0, and ∞ where caps put it out of reach.
    """
    count = math.ceil(sparsity * shards.sum(sum(layer.theta.numel() for layer in layers)))
    if count == 0:
        return -math.inf
    reach = torch.cat([_reach(layer, shards).cpu() for layer in layers])
    return float(shards.smallest(reach, count))


def _reach(layer: Layer, shards: Shards) -> Tensor:
    """(|θ| − d)/pace, flat: the x that prunes each weight."""
    magnitude, threshold = _magnitude(layer.theta), layer.threshold
    if isinstance(threshold, Tensor):
        threshold = threshold.flatten().to(magnitude)
    if layer.pace > 0:
        reach = (magnitude - threshold) / layer.pace
    else:
        reach = torch.where(magnitude <= threshold, -math.inf, math.inf)
    if layer.max_sparsity < 1 and isinstance(threshold, Tensor):
        limit = most_growth(layer.theta, threshold, layer.max_sparsity, shards)
        reach = torch.where(magnitude - threshold <= limit, reach, math.inf)
    elif layer.max_sparsity < 1:
        limit = capped_threshold(layer.theta, math.inf, layer.max_sparsity, shards)
        reach = torch.where(magnitude <= limit, reach, math.inf)
    if layer.pruned is not None:
        reach = torch.where(layer.pruned.flatten(), -math.inf, reach)
    return reach


def capped_threshold(theta: Tensor, threshold: float, max_sparsity: float, shards: Shards = WHOLE) -> float:
    """The threshold, or if it would zero more than `max_sparsity` of θ, the largest magnitude |θ| that does not.

    Where even the smallest one would (many weights of equal magnitude), 0.
    """
    magnitude = _magnitude(theta)
    size, zeros = shards.sums([magnitude.numel(), int(torch.count_nonzero(magnitude <= threshold))])
    room = math.floor(max_sparsity * size)
    if zeros <= room:
        return threshold
    first_kept = shards.smallest(magnitude, room + 1)
    return max(0.0, float(shards.largest(torch.where(magnitude < first_kept, magnitude, 0.0))))


def most_growth(theta: Tensor, threshold: Tensor, max_sparsity: float, shards: Shards = WHOLE) -> float:
    """An x up to which the thresholds d + x zero no more than `max_sparsity` of θ, d being one for each weight.

    It lies midway between the last weight that they may zero and the first that they may not. ∞ for a
    `max_sparsity` of 1. Where even x → −∞ would zero more (many equal values of |θ| − d), −∞.
    """
    magnitude = _magnitude(theta)
    reach = magnitude - threshold.flatten().to(magnitude)
    size = shards.sum(reach.numel())
    room = math.floor(max_sparsity * size)
    if room >= size:
        return math.inf
    first_kept = shards.smallest(reach, room + 1)
    return float(shards.largest(torch.where(reach < first_kept, reach, -math.inf)) + first_kept) / 2


def _magnitude(theta: Tensor) -> Tensor:
    """|θ|, flat, in single precision or better: half precision has no kthvalue on every device."""
    magnitude = theta.detach().abs().flatten()
    return magnitude.float() if magnitude.element_size() < 4 else magnitude
