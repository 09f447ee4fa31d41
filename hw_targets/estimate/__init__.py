"""Synaptic operations, messages, energy and time of a placed network under a measured activity."""

from hw_targets.estimate.counts import CoreCounts, Counts
from hw_targets.estimate.model import estimate
from hw_targets.estimate.result import COEFFICIENTS, Coefficient, Estimate
from hw_targets.estimate.times import StepTimes, Times
from hw_targets.estimate.walk import in_chip_time

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
