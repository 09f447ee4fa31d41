"""What every threshold schedule is."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass


class Schedule(ABC):
    """A rule for the threshold; stateless, so that one schedule may serve many parameter groups."""

    @property
    def initial_threshold(self) -> float:
        """Threshold before the first step."""
        return 0.0

    @abstractmethod
    def next_threshold(self, threshold: float, step: int, lr: float) -> float:
        """Threshold after optimizer step number `step` (from 0), taken with learning rate `lr`."""


def check_number(schedule: object, name: str, value: float | None, low: float = 0.0) -> None:
    """Refuse anything but a finite number of at least `low`.

    Raises:
        ValueError: it names the schedule, the argument and the value.
    """
    if value is None or not (math.isfinite(value) and value >= low):
        raise ValueError(f"{type(schedule).__name__}: {name} must be a finite number >= {low:g}, got {value}")


def progress(schedule: object, step: int, steps: int) -> float:
    """x = (step + 1)/steps ∈ (0, 1] after optimizer step number `step` (from 0).

    Raises:
        ValueError: the run goes on past the planned steps.
    """
    if step >= steps:
        raise ValueError(
            f"{type(schedule).__name__}: planned for {steps} steps, but the run takes step {step + 1}; plan for more,"
            " or finalize() the pruner when its schedule ends"
        )
    return (step + 1) / steps


@dataclass(frozen=True)
class ClosedForm(Schedule):
    """A threshold given as a function of the progress x = t/T alone, whatever the learning rate: d = D·fraction(x).

    Args:
        final_threshold: D ≥ 0, the threshold after the last step.
        steps: planned optimizer steps T.

    Raises:
        ValueError: values outside their range; a run that goes on past `steps`.
    """

    final_threshold: float
    steps: int

    def __post_init__(self) -> None:
        check_number(self, "final_threshold", self.final_threshold)
        check_number(self, "steps", self.steps, 1)

    @abstractmethod
    def fraction(self, x: float) -> float:
        """d/D at x ∈ (0, 1]."""

    def next_threshold(self, threshold: float, step: int, lr: float) -> float:  # noqa: ARG002 - Schedule's signature
        """D·fraction(x)."""
        return self.final_threshold * self.fraction(progress(self, step, self.steps))
