"""Soft threshold pruning for spiking and ordinary PyTorch networks, and exact synaptic-operation counts."""

from neuroprune.functional import inverse_soft_threshold, soft_threshold
from neuroprune.pruner import SoftThresholdPruner
from neuroprune.schedules import LATS, Schedule, learning_rates

__all__ = [
    "LATS",
    "Schedule",
    "SoftThresholdPruner",
    "inverse_soft_threshold",
    "learning_rates",
    "soft_threshold",
]
