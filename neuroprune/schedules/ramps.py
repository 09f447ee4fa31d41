"""Schedules that give the threshold itself, whatever the learning rate; their L1 coefficient Δd/η follows from both."""

from __future__ import annotations

import math
from dataclasses import dataclass

from neuroprune.schedules.base import Schedule, check_number, progress


@dataclass(frozen=True)
class STDSLinear(Schedule):
    """d = D·x, x = t/T (STDS, Chen et al. 2022). Under a cosine learning rate μ ∝ 1/η explodes towards the end.

    Args:
        final_threshold: D ≥ 0.
        steps: planned optimizer steps T.

    Raises:
        ValueError: values outside their range; a run that goes on past `steps`.
    """

    final_threshold: float
    steps: int

    def __post_init__(self) -> None:
        check_number(self, "final_threshold", self.final_threshold)
        check_number(self, "steps", self.steps, 1)

    def next_threshold(self, threshold: float, step: int, lr: float) -> float:  # noqa: ARG002 - Schedule's signature
        """D·x."""
        return self.final_threshold * progress(self, step, self.steps)


@dataclass(frozen=True)
class STDSSine(Schedule):
    """d = D·½(1 + sin π(x − ½)), x = t/T (STDS, Chen et al. 2022).

    Args:
        final_threshold: D ≥ 0.
        steps: planned optimizer steps T.

    Raises:
        ValueError: values outside their range; a run that goes on past `steps`.
    """

    final_threshold: float
    steps: int

    def __post_init__(self) -> None:
        check_number(self, "final_threshold", self.final_threshold)
        check_number(self, "steps", self.steps, 1)

    def next_threshold(self, threshold: float, step: int, lr: float) -> float:  # noqa: ARG002 - Schedule's signature
        """D·½(1 + sin π(x − ½))."""
        x = progress(self, step, self.steps)
        return self.final_threshold * 0.5 * (1 + math.sin(math.pi * (x - 0.5)))


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
