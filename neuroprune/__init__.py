"""Soft threshold pruning for spiking and ordinary PyTorch networks, and exact synaptic-operation counts."""

from neuroprune.at_initialization import prune_at_initialization
from neuroprune.fan_in import Cap
from neuroprune.functional import inverse_soft_threshold, soft_threshold
from neuroprune.pruner import SoftThresholdPruner
from neuroprune.quantization import Grid, frozen_batch_norm
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
from neuroprune.synops import LayerSynOps, SynOps, SynOpsCounter, count_synops

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
