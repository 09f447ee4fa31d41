"""Schedules with a constant L1 coefficient (Chen et al., ICLR 2023)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from neuroprune.schedules.base import ClosedForm, Schedule, check_number, progress
from neuroprune.schedules.rates import learning_rates


@dataclass(frozen=True)
class LATS(Schedule):
    """Learning-rate adapted threshold: Δd = μ·η, so that the L1 coefficient μ stays constant.

    Ask for μ directly, `LATS(l1=5e-4)`; or for the threshold D to end at, `LATS(final_threshold=0.1, lr_sum=Ση)`, which
    is the same as μ = D / Ση with Ση the sum of the learning rate over all planned steps. `LATS.from_dry_run` finds
    that sum from an LR scheduler.

    Args:
        l1: the L1 coefficient μ ≥ 0.
        final_threshold: D ≥ 0, the threshold after the last planned step.
        lr_sum: Ση > 0, needed with `final_threshold`.

    Raises:
        ValueError: neither or both of `l1` and `final_threshold`, or values outside their range.
    """

    l1: float | None = None
    final_threshold: float | None = None
    lr_sum: float | None = None

    def __post_init__(self) -> None:
        if (self.l1 is None) == (self.final_threshold is None):
            raise ValueError(
                f"LATS: give either l1 or final_threshold, got l1={self.l1}, final_threshold={self.final_threshold}"
            )
        if self.l1 is not None:
            check_number(self, "l1", self.l1)
            return
        check_number(self, "final_threshold", self.final_threshold)
        if self.lr_sum is None or not (math.isfinite(self.lr_sum) and self.lr_sum > 0):
            raise ValueError(
                f"LATS: final_threshold needs lr_sum > 0, the sum of the learning rate over all planned steps, got"
                f" {self.lr_sum}; LATS.from_dry_run(final_threshold, scheduler, steps) computes it from an LR scheduler"
            )

    @property
    def coefficient(self) -> float:
        """The constant L1 coefficient μ."""
        if self.l1 is not None:
            return self.l1
        assert self.final_threshold is not None
        assert self.lr_sum is not None
        return self.final_threshold / self.lr_sum

    def next_threshold(self, threshold: float, step: int, lr: float) -> float:  # noqa: ARG002 - Schedule's signature
        """d + μ·η."""
        return threshold + self.coefficient * lr

    @classmethod
    def from_dry_run(
        cls,
        final_threshold: float,
        scheduler: torch.optim.lr_scheduler.LRScheduler,
        steps: int,
        *,
        steps_per_update: int = 1,
    ) -> LATS:
        """LATS that ends at `final_threshold` after `steps` optimizer steps under an LR scheduler.

        The scheduler is run ahead on a copy; it and its optimizer stay as they are. The sum is that of the first
        parameter group; a group with another learning rate ends at a proportionally different threshold.

        Args:
            final_threshold: D ≥ 0.
            scheduler: the LR scheduler of the run, in its present state.
            steps: optimizer steps still to come.
            steps_per_update: optimizer steps between two `scheduler.step()` (1, or the batches of an epoch).
        """
        rates = learning_rates(scheduler, steps, steps_per_update=steps_per_update)
        return cls(final_threshold=final_threshold, lr_sum=math.fsum(r[0] for r in rates))


@dataclass(frozen=True)
class SLATS(ClosedForm):
    """LATS in closed form for a cosine learning rate that changes every step, without warm-up.

    d/D = x + sin(πx)/π, the integral of (1 + cos πx): μ is constant if η ∝ 1 + cos πx, as a cosine to zero is.
    """

    def fraction(self, x: float) -> float:
        """x + sin(πx)/π."""
        return x + math.sin(math.pi * x) / math.pi


@dataclass(frozen=True)
class EpochLATS(Schedule):
    """LATS in closed form for a cosine learning rate that changes once per epoch, without warm-up.

    In epoch e of E, after b of B steps: d/D = ½[1 + 2e + sin(π(e − ½)/E)/sin(π/2E)]/(E + 1) + b·(1 + cos(πe/E))/(B(E +
    1)). μ is constant if η_e ∝ 1 + cos(πe/E).

    Args:
        final_threshold: D ≥ 0, the threshold after the last epoch.
        epochs: E ≥ 1.
        steps_per_epoch: B ≥ 1.

    Raises:
        ValueError: values outside their range; a run that goes on past E·B steps.
    """

    final_threshold: float
    epochs: int
    steps_per_epoch: int

    def __post_init__(self) -> None:
        check_number(self, "final_threshold", self.final_threshold)
        check_number(self, "epochs", self.epochs, 1)
        check_number(self, "steps_per_epoch", self.steps_per_epoch, 1)

    def next_threshold(self, threshold: float, step: int, lr: float) -> float:  # noqa: ARG002 - Schedule's signature
        """The epoch's base plus its slope times the steps taken in it."""
        progress(self, step, self.epochs * self.steps_per_epoch)
        epoch, before = divmod(step, self.steps_per_epoch)
        total = self.epochs
        waves = math.sin(math.pi * (epoch - 0.5) / total) / math.sin(math.pi / (2 * total))
        base = 0.5 * (1 + 2 * epoch + waves) / (total + 1)
        slope = (1 + math.cos(math.pi * epoch / total)) / (self.steps_per_epoch * (total + 1))
        return self.final_threshold * (base + slope * (before + 1))
