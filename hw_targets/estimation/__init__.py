"""Synaptic operations, messages, energy and time of a placed network under a measured activity."""

from hw_targets.estimation.counts import CoreCounts, Counts
from hw_targets.estimation.model import estimate
from hw_targets.estimation.result import COEFFICIENTS, Coefficient, Estimate
from hw_targets.estimation.times import StepTimes, Times
from hw_targets.estimation.walk import in_chip_time

__all__ = [
    "COEFFICIENTS",
    "Coefficient",
    "CoreCounts",
    "Counts",
    "Estimate",
    "StepTimes",
    "Times",
    "estimate",
    "in_chip_time",
]
