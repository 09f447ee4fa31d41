"""Schedules with a constant L1 coefficient (Chen et al., ICLR 2023)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch

from neuroprune._numbers import check_whole, number_of
from neuroprune.schedules.base import Memory, check_one_of, progress
from neuroprune.schedules.rates import first_pruned, learning_rates
from neuroprune.schedules.steering import ClosedForm, Steered


@dataclass(frozen=True)
class LATS(Steered):
    """Learning-rate adapted threshold: Δd = μ·η, so that the L1 coefficient μ stays constant.

    Three ways to ask for the same thing: for μ itself, `LATS(l1=5e-4)`; for the threshold D to end at,
    `LATS(final_threshold=0.1, lr_sum=Ση)`, which is μ = D/Ση with Ση the sum of the learning rate over all planned
    steps; or for the sparsity to end at, `LATS(target_sparsity=0.95, lr_sum=Ση)`, which finds μ while training: in
    the second half of the run μ moves no more than it must to end within 0.1 points. `LATS.from_dry_run` and
    `LATS.for_sparsity` find the sum from an LR scheduler.

    Args:
        l1: the L1 coefficient μ ≥ 0.
        final_threshold: D ≥ 0, the threshold after the last planned step.
        lr_sum: Ση > 0 of the first group that is pruned, needed with `final_threshold` and `target_sparsity`.
        target_sparsity: fraction of zeros among the prunable weights after the last planned step, in [0, 1).
        steps: planned optimizer steps, so that "half-way" is meant in steps; without it, in Ση.
        planned_growth: η of every planned step, as `for_sparsity` finds it.

    Raises:
        ValueError: none or several of `l1`, `final_threshold` and `target_sparsity`, or values outside their range;
            with `target_sparsity`, a run that goes on past `lr_sum`, or whose learning rates are not the planned ones.
    """

    l1: float | None = None
    final_threshold: float | None = None
    lr_sum: float | None = None
    target_sparsity: float | None = None
    steps: int | None = None
    planned_growth: tuple[float, ...] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        check_one_of(self, "l1", "final_threshold", "target_sparsity")
        if self.l1 is None and not 0 < (number_of(self.lr_sum) or 0.0) < math.inf:
            given = "target_sparsity" if self.final_threshold is None else "final_threshold"
            maker = (
                "for_sparsity(target, scheduler, steps)"
                if given == "target_sparsity"
                else ("from_dry_run(final_threshold, scheduler, steps)")
            )
            raise ValueError(
                f"LATS: {given} needs lr_sum > 0, the sum of the learning rate over all planned steps, got"
                f" {self.lr_sum}; LATS.{maker} computes it from an LR scheduler"
            )
        if self.steps is not None:
            check_whole(self, "steps", self.steps)

    @property
    def coefficient(self) -> float:
        """The constant L1 coefficient μ.

        Raises:
            ValueError: it is steered to a sparsity, and known to the pruner alone.
        """
        if self.l1 is not None:
            return self.l1
        if self.final_threshold is None or self.lr_sum is None:
            raise ValueError("LATS: with target_sparsity the coefficient is found while training: see pruner.l1")
        return self.final_threshold / self.lr_sum

    @property
    def total_growth(self) -> float:
        """Ση."""
        return self.lr_sum or 0.0

    def check_plan(self, step: int, memory: Memory) -> None:
        """Refuse a steered run past its planned steps, if they are known, and past its Ση."""
        if self.target_sparsity is not None and self.steps is not None:
            progress(self, step, self.steps)
        super().check_plan(step, memory)

    def growth(self, step: int, lr: float) -> float:  # noqa: ARG002 - Steered's signature
        """η."""
        return lr

    def share(self, step: int, grown: float) -> float:
        """In steps, if they are known, else in Ση."""
        return grown / self.total_growth if self.steps is None else step / self.steps

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

    @classmethod
    def for_sparsity(
        cls,
        target_sparsity: float,
        scheduler: torch.optim.lr_scheduler.LRScheduler,
        steps: int,
        *,
        steps_per_update: int = 1,
    ) -> LATS:
        """LATS that ends at `target_sparsity` after `steps` optimizer steps under an LR scheduler.

        The arguments are those of `from_dry_run`, with a fraction of zeros in [0, 1) for the threshold. The sum is that
        of the first parameter group without `prune=False`. A step that a GradScaler skips grows nothing: a run ends
        short of its target unless it takes as many more (with `scheduler.step()` left out where a step was skipped).
        """
        rates = learning_rates(scheduler, steps, steps_per_update=steps_per_update)
        lead = first_pruned(scheduler.optimizer)
        planned = tuple(r[lead] for r in rates)
        return cls(target_sparsity=target_sparsity, lr_sum=math.fsum(planned), steps=steps, planned_growth=planned)


@dataclass(frozen=True)
class SLATS(ClosedForm):
    """LATS in closed form for a cosine learning rate that changes every step, without warm-up.

    d/D = x + sin(πx)/π, the integral of (1 + cos πx): μ is constant if η ∝ 1 + cos πx, as a cosine to zero is.
    """

    def fraction(self, x: float) -> float:
        """x + sin(πx)/π."""
        return x + math.sin(math.pi * x) / math.pi


@dataclass(frozen=True)
class EpochLATS(Steered):
    """LATS in closed form for a cosine learning rate that changes once per epoch, without warm-up.

    In epoch e of E, after b of B steps: d/D = ½[1 + 2e + sin(π(e − ½)/E)/sin(π/2E)]/(E + 1) + b·(1 + cos(πe/E))/(B(E +
    1)). μ is constant if η_e ∝ 1 + cos(πe/E).

    Args:
        final_threshold: D ≥ 0, the threshold after the last epoch.
        epochs: E ≥ 1.
        steps_per_epoch: B ≥ 1.
        target_sparsity: in place of `final_threshold`, the fraction of zeros to end at, in [0, 1); D is then steered.

    Raises:
        ValueError: values outside their range; a run that goes on past E·B steps.
    """

    final_threshold: float | None = None
    epochs: int = 0
    steps_per_epoch: int = 0
    target_sparsity: float | None = None

    def __post_init__(self) -> None:
        check_one_of(self, "final_threshold", "target_sparsity")
        check_whole(self, "epochs", self.epochs)
        check_whole(self, "steps_per_epoch", self.steps_per_epoch)

    def check_plan(self, step: int, memory: Memory) -> None:  # noqa: ARG002 - Schedule's signature
        """Refuse a run past E·B."""
        progress(self, step, self.planned_steps)

    @property
    def planned_steps(self) -> int:
        """E·B."""
        return self.epochs * self.steps_per_epoch

    @property
    def total_growth(self) -> float:
        """1, to rounding."""
        return self._fraction(self.planned_steps - 1)

    def growth(self, step: int, lr: float) -> float:  # noqa: ARG002 - Steered's signature
        """Difference of d/D."""
        return self._fraction(step) - (self._fraction(step - 1) if step else 0.0)

    def share(self, step: int, grown: float) -> float:  # noqa: ARG002 - Steered's signature
        """In steps."""
        return step / self.planned_steps

    def next_threshold(self, threshold: float, step: int, lr: float) -> float:  # noqa: ARG002 - Schedule's signature
        """The epoch's base plus its slope times the steps taken in it."""
        assert self.final_threshold is not None
        return self.final_threshold * self._fraction(step)

    def _fraction(self, step: int) -> float:
        """d/D after step number `step`."""
        progress(self, step, self.planned_steps)
        epoch, before = divmod(step, self.steps_per_epoch)
        total = self.epochs
        waves = math.sin(math.pi * (epoch - 0.5) / total) / math.sin(math.pi / (2 * total))
        base = 0.5 * (1 + 2 * epoch + waves) / (total + 1)
        slope = (1 + math.cos(math.pi * epoch / total)) / (self.steps_per_epoch * (total + 1))
        return base + slope * (before + 1)
