"""Soft threshold pruning for spiking and ordinary PyTorch networks, and exact synaptic-operation counts."""

from neuroprune.pruning.at_initialization import prune_at_initialization
from neuroprune.pruning.fan_in import Cap
from neuroprune.pruning.proximal import inverse_soft_threshold, soft_threshold
from neuroprune.pruning.pruner import SoftThresholdPruner
from neuroprune.pruning.rounding import Grid, frozen_batch_norm
from neuroprune.schedules import (
    LATS,
    PGH,
    SLATS,
    STR,
    ConstantThreshold,
    EpochLATS,
    Schedule,
    STDSLinear,
    STDSSine,
    learning_rates,
)
from neuroprune.synops.counter import LayerSynOps, SynOps, SynOpsCounter, count_synops

__all__ = [
    "LATS",
    "PGH",
    "SLATS",
    "STR",
    "Cap",
    "ConstantThreshold",
    "EpochLATS",
    "Grid",
    "LayerSynOps",
    "STDSLinear",
    "STDSSine",
    "Schedule",
    "SoftThresholdPruner",
    "SynOps",
    "SynOpsCounter",
    "count_synops",
    "frozen_batch_norm",
    "inverse_soft_threshold",
    "learning_rates",
    "prune_at_initialization",
    "soft_threshold",
]
