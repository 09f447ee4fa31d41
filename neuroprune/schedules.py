"""Threshold schedules. Each is a rule for the L1 coefficient μ that a growing threshold implies.

One step θ ← θ − η·g, d ← d + Δd moves a non-zero weight by −η·g − Δd·sign(w): the proximal gradient (ISTA) step of
L(w) + μ‖w‖₁ with μ = Δd/η (Chen et al., ICLR 2023). A schedule therefore maps the threshold before a step, the step
number and the learning rate the optimizer really used to the threshold after it.
"""

from __future__ import annotations

import copy
import math
import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch


class Schedule(ABC):
    """A rule for the threshold; stateless, so that one schedule may serve many parameter groups."""

    #: Threshold before the first step.
    initial_threshold: float = 0.0

    @abstractmethod
    def next_threshold(self, threshold: float, step: int, lr: float) -> float:
        """Threshold after optimizer step number `step` (from 0), taken with learning rate `lr`."""


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
            _check_non_negative("l1", self.l1)
            return
        _check_non_negative("final_threshold", self.final_threshold)
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


def learning_rates(
    scheduler: torch.optim.lr_scheduler.LRScheduler, steps: int, *, steps_per_update: int = 1
) -> list[list[float]]:
    """Learning rates of the next `steps` optimizer steps, one list per step with one value per parameter group.

    Raises:
        ValueError: `steps` or `steps_per_update` below 1, or a scheduler that needs a measured value
            (ReduceLROnPlateau), whose rates cannot be known ahead.
    """
    if steps < 1 or steps_per_update < 1:
        raise ValueError(f"learning_rates: need steps >= 1 and steps_per_update >= 1, got {steps}, {steps_per_update}")
    if isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
        raise ValueError(
            "learning_rates: ReduceLROnPlateau depends on a measured value, so its rates cannot be known ahead;"
            " give LATS(l1=...) instead"
        )
    # Tensors are left out of the copy: a dry run needs the rates alone.
    memo: dict[int, object] = {id(p): p for g in scheduler.optimizer.param_groups for p in g["params"]}
    memo[id(scheduler.optimizer.state)] = {}
    ahead = copy.deepcopy(scheduler, memo)
    rates: list[list[float]] = []
    with warnings.catch_warnings():
        # The copy's optimizer never steps, which LR schedulers warn about.
        warnings.simplefilter("ignore", UserWarning)
        for step in range(steps):
            rates.append([float(g["lr"]) for g in ahead.optimizer.param_groups])
            if (step + 1) % steps_per_update == 0 and step + 1 < steps:
                ahead.step()
    return rates


def _check_non_negative(name: str, value: float | None) -> None:
    if value is None or not (math.isfinite(value) and value >= 0):
        raise ValueError(f"LATS: {name} must be a finite number >= 0, got {value}")
