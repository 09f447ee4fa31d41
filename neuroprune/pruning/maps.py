"""Proximal maps as values: how a pruner's latent parameters θ and thresholds d become weights.

Every map is w = argmin_w ½(w − θ)² + p_d(w) for a penalty p_d of its own, odd in θ, and zero exactly where |θ| ≤ d; all
that counts or places zeros (steering, caps, limits on fan-in) relies on the last alone and so serves every map. A new
map is a class here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from neuroprune.pruning.proximal import garrote_penalty, inverse_soft_threshold
from neuroprune.schedules.learned import threshold_slope


class ProximalMap(ABC):
    """The proximal map of a penalty, w = argmin_w ½(w − θ)² + p_d(w). It holds no state."""

    #: Why a learned threshold (STR) cannot be used, for maps whose weights do not vary smoothly with d.
    no_true_gradient: ClassVar[str | None] = None

    #: q: in a metric h the threshold of a weight is t/hᑫ, if a penalty in units of the loss is to be the same for all.
    power: ClassVar[float] = 0.5

    def scale_(self, h: Tensor) -> Tensor:
        """hᑫ, in place: ½h(w − θ)² weighs a penalty ∝ d·|w| by h, and q is 1; of one ∝ d² it is ½."""
        return h.pow_(self.power)

    @abstractmethod
    def write(self, theta: Tensor, threshold: float | Tensor, out: Tensor) -> None:
        """out ← w, in place, without allocating; out is not θ."""

    @abstractmethod
    def penalty(self, weight: Tensor, threshold: float | Tensor) -> Tensor:
        """p_d(w), elementwise."""

    @abstractmethod
    def preimage(self, weight: Tensor, threshold: float | Tensor) -> Tensor:
        """The θ that gives each weight w ≠ 0; what it is elsewhere does not matter."""

    def reaches(self, weight: Tensor, threshold: float | Tensor) -> Tensor:  # noqa: ARG002 - for maps with a gap
        """Where some θ gives exactly this weight: everywhere, for a map without a gap."""
        return torch.ones_like(weight, dtype=torch.bool)

    def nearest(self, weight: Tensor, threshold: float | Tensor, near: Tensor) -> Tensor:
        """The point of {θ : map(θ) = w} closest to `near`: the preimage where w ≠ 0, clamp(near, −d, d) where w = 0.

        Where `near` already gives w, it is returned bit for bit.
        """
        limit = torch.as_tensor(threshold, dtype=near.dtype, device=near.device)
        remembered = torch.minimum(torch.maximum(near, -limit), limit)
        theta = torch.where(weight == 0, remembered, self.preimage(weight, threshold))
        given = torch.empty_like(near)
        self.write(near, threshold, given)
        return torch.where(given == weight, near, theta)

    def take_true_gradient(
        self,
        gradient: Tensor,  # noqa: ARG002 - for maps that have one
        weight: Tensor,  # noqa: ARG002
        theta: Tensor,  # noqa: ARG002
        threshold: float | Tensor,  # noqa: ARG002
    ) -> Tensor:
        """∂L/∂d, a scalar; `gradient` becomes ∂L/∂θ = ∂L/∂w·∂w/∂θ in place.

        Raises:
            ValueError: the map has no true gradient.
        """
        raise ValueError(f"{type(self).__name__}: {self.no_true_gradient}")


@dataclass(frozen=True)
class SoftThreshold(ProximalMap):
    """w = sign(θ)·max(|θ| − d, 0), of the penalty d·|w| (Chen et al., ICLR 2023; see `soft_threshold`)."""

    power: ClassVar[float] = 1.0

    def write(self, theta: Tensor, threshold: float | Tensor, out: Tensor) -> None:
        """One kernel; two for a tensor d."""
        if isinstance(threshold, Tensor):
            torch.clamp(theta, -threshold, threshold, out=out)
            torch.sub(theta, out, out=out)
        else:
            torch.ops.aten.softshrink.out(theta, threshold, out=out)

    def penalty(self, weight: Tensor, threshold: float | Tensor) -> Tensor:
        """d·|w|."""
        return weight.abs() * threshold

    def preimage(self, weight: Tensor, threshold: float | Tensor) -> Tensor:
        """w + d·sign(w)."""
        return inverse_soft_threshold(weight, threshold)

    def take_true_gradient(self, gradient: Tensor, weight: Tensor, theta: Tensor, threshold: float | Tensor) -> Tensor:  # noqa: ARG002 - the map's signature
        """∂w/∂θ = [w ≠ 0], ∂w/∂d = −sign(w)."""
        slope = threshold_slope(gradient, weight)
        gradient.mul_(weight != 0)
        return slope


@dataclass(frozen=True)
class HardThreshold(ProximalMap):
    """w = θ·[|θ| > d], of the penalty ½d²·[w ≠ 0] (L0; see `hard_threshold`): survivors are not shrunk.

    No θ gives a weight 0 < |w| ≤ d. One that is written from outside becomes θ as it is, and the next step decides
    about it as about every θ: it is zeroed unless its gradient lifts it above d.
    """

    no_true_gradient: ClassVar[str | None] = (
        "the weights θ·[|θ| > d] jump where |θ| passes d and stand still elsewhere, so that ∂w/∂d, which a learned"
        " threshold follows, is 0 almost everywhere; use SoftThreshold() or Garrote() with STR"
    )

    def write(self, theta: Tensor, threshold: float | Tensor, out: Tensor) -> None:
        """One kernel; three for a tensor d."""
        if isinstance(threshold, Tensor):
            torch.abs(theta, out=out)
            torch.gt(out, threshold, out=out)
            out.mul_(theta)
        else:
            torch.ops.aten.hardshrink.out(theta, threshold, out=out)

    def penalty(self, weight: Tensor, threshold: float | Tensor) -> Tensor:
        """½d²·[w ≠ 0]."""
        return (weight != 0).to(weight.dtype) * (0.5 * threshold * threshold)

    def preimage(self, weight: Tensor, threshold: float | Tensor) -> Tensor:  # noqa: ARG002 - the map's signature
        """w."""
        return weight.clone()

    def reaches(self, weight: Tensor, threshold: float | Tensor) -> Tensor:
        """Where w = 0 or |w| > d."""
        return (weight == 0) | (weight.abs() > threshold)


@dataclass(frozen=True)
class Garrote(ProximalMap):
    """w = θ·max(1 − d²/θ², 0), the non-negative garrote (see `garrote`): survivors are shrunk by d²/|θ| alone."""

    def write(self, theta: Tensor, threshold: float | Tensor, out: Tensor) -> None:
        """θ − θ·(d/max(|θ|, d))², five kernels; exactly 0 where |θ| ≤ d, because d/d is 1."""
        d = threshold if isinstance(threshold, Tensor) else theta.new_full((), threshold)
        torch.abs(theta, out=out)
        torch.maximum(out, d.clamp_min(torch.finfo(theta.dtype).tiny), out=out)  # d = 0: 0/tiny, not 0/0
        torch.div(d, out, out=out)
        out.square_()
        torch.addcmul(theta, theta, out, value=-1, out=out)

    def penalty(self, weight: Tensor, threshold: float | Tensor) -> Tensor:
        """See `garrote_penalty`."""
        return garrote_penalty(weight, threshold)

    def preimage(self, weight: Tensor, threshold: float | Tensor) -> Tensor:
        """½(w + sign(w)·√(w² + 4d²)), the larger root of θ² − wθ − d² = 0."""
        return 0.5 * (weight + torch.sign(weight) * torch.sqrt(weight.square() + 4 * threshold * threshold))

    def take_true_gradient(self, gradient: Tensor, weight: Tensor, theta: Tensor, threshold: float | Tensor) -> Tensor:
        """∂w/∂θ = 1 + d²/θ² and ∂w/∂d = −2d/θ where w ≠ 0, else 0."""
        gradient.mul_(weight != 0)
        ratio = threshold / torch.where(weight != 0, theta, torch.ones_like(theta))
        slope = -2.0 * torch.sum(gradient * ratio)
        gradient.addcmul_(gradient, ratio.square())
        return slope


#: Maps by name, for recipes and saved states.
PROXIMAL_MAPS: dict[str, type[ProximalMap]] = {cls.__name__: cls for cls in (SoftThreshold, HardThreshold, Garrote)}
