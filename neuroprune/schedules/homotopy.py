"""Homotopy continuation: a large L1 coefficient first, then ever smaller ones."""

from __future__ import annotations

from dataclasses import dataclass

from neuroprune.schedules.base import Schedule, check_number, progress


@dataclass(frozen=True)
class PGH(Schedule):
    """Proximal-gradient homotopy: Δd = μ₀·βˣ·η with x = t/T, so that μ decays from μ₀ to μ₀·β (Chen et al., ICLR 2023).

    Most pruning happens early; with `SoftThresholdPruner.freeze()` the mask then stays as it is (early pruning).

    Args:
        l1: μ₀ ≥ 0, the L1 coefficient of the first step.
        beta: 0 < β < 1, the factor over the whole run.
        steps: planned optimizer steps T.

    Raises:
        ValueError: values outside their range; a run that goes on past `steps`.
    """

    l1: float
    beta: float
    steps: int

    def __post_init__(self) -> None:
        check_number(self, "l1", self.l1)
        check_number(self, "steps", self.steps, 1)
        if not 0.0 < self.beta < 1.0:
            raise ValueError(f"PGH: beta must lie between 0 and 1, both excluded, got {self.beta}")

    def next_threshold(self, threshold: float, step: int, lr: float) -> float:
        """d + μ₀·β^(t/T)·η."""
        progress(self, step, self.steps)
        return threshold + self.l1 * float(self.beta ** (step / self.steps)) * lr
