"""Schedules that give the threshold itself, whatever the learning rate; their L1 coefficient Δd/η follows from both."""

from __future__ import annotations

import math
from dataclasses import dataclass

from neuroprune._numbers import check_number
from neuroprune.schedules.base import Schedule
from neuroprune.schedules.steering import ClosedForm


@dataclass(frozen=True)
class STDSLinear(ClosedForm):
    """d = D·x (STDS, Chen et al. 2022). Under a cosine learning rate μ ∝ 1/η explodes towards the end."""

    def fraction(self, x: float) -> float:
        """x."""
        return x


@dataclass(frozen=True)
class STDSSine(ClosedForm):
    """d = D·½(1 + sin π(x − ½)) (STDS, Chen et al. 2022)."""

    def fraction(self, x: float) -> float:
        """½(1 + sin π(x − ½))."""
        return 0.5 * (1 + math.sin(math.pi * (x - 0.5)))


@dataclass(frozen=True)
class ConstantThreshold(Schedule):
    """d = D from before the first step on; μ is 0 ever after.

    Args:
        threshold: D ≥ 0.

    Raises:
        ValueError: D is negative or not finite.
    """

    threshold: float

    def __post_init__(self) -> None:
        check_number(self, "threshold", self.threshold)

    @property
    def initial_threshold(self) -> float:
        """D."""
        return self.threshold

    def next_threshold(self, threshold: float, step: int, lr: float) -> float:  # noqa: ARG002 - Schedule's signature
        """D."""
        return self.threshold
