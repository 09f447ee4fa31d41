"""Homotopy continuation: a large L1 coefficient first, then ever smaller ones."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch

from neuroprune._numbers import check_whole, number_of
from neuroprune.schedules.base import Memory, check_one_of, progress
from neuroprune.schedules.rates import first_pruned, learning_rates
from neuroprune.schedules.steering import Steered


@dataclass(frozen=True)
class PGH(Steered):
    """Proximal-gradient homotopy: Δd = μ₀·βˣ·η with x = t/T, so that μ decays from μ₀ to μ₀·β (Chen et al., ICLR 2023).

    Most pruning happens early; with `SoftThresholdPruner.freeze()` the mask then stays as it is (early pruning).

    Args:
        l1: μ₀ ≥ 0, the L1 coefficient of the first step.
        beta: 0 < β < 1, the factor over the whole run.
        steps: planned optimizer steps T.
        target_sparsity: in place of `l1`, the fraction of zeros to end at, in [0, 1); μ₀ is then steered.
        growth_sum: Σ βˣ·η > 0 over the planned steps, needed with `target_sparsity`; see `PGH.for_sparsity`.
        planned_growth: βˣ·η of every planned step, as `PGH.for_sparsity` finds it.

    Raises:
        ValueError: values outside their range; a run that goes on past `steps`, or, steered, one whose learning rates
            are not the planned ones.
    """

    l1: float | None = None
    beta: float = 0.1
    steps: int = 0
    target_sparsity: float | None = None
    growth_sum: float | None = None
    planned_growth: tuple[float, ...] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        check_one_of(self, "l1", "target_sparsity")
        check_whole(self, "steps", self.steps)
        if not 0.0 < (number_of(self.beta) or 0.0) < 1.0:
            raise ValueError(f"PGH: beta must lie between 0 and 1, both excluded, got {self.beta}")
        if self.l1 is None and not 0 < (number_of(self.growth_sum) or 0.0) < math.inf:
            raise ValueError(
                f"PGH: target_sparsity needs growth_sum > 0, the sum of β^(t/T)·η over all planned steps, got"
                f" {self.growth_sum}; PGH.for_sparsity(target, scheduler, steps) computes it from an LR scheduler"
            )

    def check_plan(self, step: int, memory: Memory) -> None:
        """Refuse a run past T, or one that leaves its plan."""
        progress(self, step, self.steps)
        super().check_plan(step, memory)

    @property
    def total_growth(self) -> float:
        """Σ βˣ·η."""
        return self.growth_sum or 0.0

    def growth(self, step: int, lr: float) -> float:
        """βˣ·η."""
        progress(self, step, self.steps)
        return float(self.beta ** (step / self.steps)) * lr

    def share(self, step: int, grown: float) -> float:  # noqa: ARG002 - Steered's signature
        """In steps."""
        return step / self.steps

    def next_threshold(self, threshold: float, step: int, lr: float) -> float:
        """d + μ₀·β^(t/T)·η."""
        assert self.l1 is not None
        return threshold + self.l1 * self.growth(step, lr)

    @classmethod
    def for_sparsity(
        cls,
        target_sparsity: float,
        scheduler: torch.optim.lr_scheduler.LRScheduler,
        steps: int,
        *,
        beta: float = 0.1,
        steps_per_update: int = 1,
    ) -> PGH:
        """PGH that ends at `target_sparsity` after `steps` optimizer steps under an LR scheduler.

        The arguments are those of `LATS.for_sparsity`, and β.
        """
        rates = learning_rates(scheduler, steps, steps_per_update=steps_per_update)
        lead = first_pruned(scheduler.optimizer)
        planned = tuple(beta ** (step / steps) * rate[lead] for step, rate in enumerate(rates))
        return cls(
            beta=beta,
            steps=steps,
            target_sparsity=target_sparsity,
            growth_sum=math.fsum(planned),
            planned_growth=planned,
        )
