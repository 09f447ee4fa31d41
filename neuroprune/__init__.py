"""Soft threshold pruning for spiking and ordinary PyTorch networks, and exact synaptic-operation counts.

Every name is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neuroprune.frameworks.hard_reset import readout_loss, to_hard_reset
    from neuroprune.pruning.at_initialization import prune_at_initialization
    from neuroprune.pruning.channels import keep_channels
    from neuroprune.pruning.costs import FixedCosts, SynapticCosts
    from neuroprune.pruning.fan_in import Cap, Caps
    from neuroprune.pruning.maps import Garrote, HardThreshold, ProximalMap, SoftThreshold
    from neuroprune.pruning.metric import Preconditioner
    from neuroprune.pruning.neuron_costs import NeuronCosts, ProductCosts
    from neuroprune.pruning.proximal import garrote, hard_threshold, inverse_soft_threshold, soft_threshold
    from neuroprune.pruning.pruner import SoftThresholdPruner
    from neuroprune.pruning.recommended import prune_to, prune_to_budget
    from neuroprune.pruning.rounding import Grid, frozen_batch_norm
    from neuroprune.schedules import (
        LATS,
        PGH,
        SLATS,
        STR,
        BudgetRamp,
        ConstantThreshold,
        EpochLATS,
        Schedule,
        SparsityRamp,
        STDSLinear,
        STDSSine,
        learning_rates,
    )
    from neuroprune.synops.counter import LayerSynOps, SynOps, SynOpsCounter, count_synops
    from neuroprune.synops.loss import SynOpsLoss
    from neuroprune.synops.measure import synops_per_sample
    from neuroprune.training.pretrained import from_pretrained, save_pretrained

#: Where each public name is defined.
_HOME = {
    "LATS": "schedules",
    "PGH": "schedules",
    "SLATS": "schedules",
    "STR": "schedules",
    "BudgetRamp": "schedules",
    "Cap": "pruning.fan_in",
    "Caps": "pruning.fan_in",
    "ConstantThreshold": "schedules",
    "FixedCosts": "pruning.costs",
    "EpochLATS": "schedules",
    "Garrote": "pruning.maps",
    "Grid": "pruning.rounding",
    "HardThreshold": "pruning.maps",
    "LayerSynOps": "synops.counter",
    "NeuronCosts": "pruning.neuron_costs",
    "Preconditioner": "pruning.metric",
    "ProductCosts": "pruning.neuron_costs",
    "ProximalMap": "pruning.maps",
    "STDSLinear": "schedules",
    "STDSSine": "schedules",
    "Schedule": "schedules",
    "SoftThreshold": "pruning.maps",
    "SoftThresholdPruner": "pruning.pruner",
    "SparsityRamp": "schedules",
    "SynapticCosts": "pruning.costs",
    "SynOps": "synops.counter",
    "SynOpsCounter": "synops.counter",
    "SynOpsLoss": "synops.loss",
    "count_synops": "synops.counter",
    "from_pretrained": "training.pretrained",
    "frozen_batch_norm": "pruning.rounding",
    "garrote": "pruning.proximal",
    "hard_threshold": "pruning.proximal",
    "inverse_soft_threshold": "pruning.proximal",
    "keep_channels": "pruning.channels",
    "learning_rates": "schedules",
    "prune_at_initialization": "pruning.at_initialization",
    "prune_to": "pruning.recommended",
    "prune_to_budget": "pruning.recommended",
    "readout_loss": "frameworks.hard_reset",
    "save_pretrained": "training.pretrained",
    "soft_threshold": "pruning.proximal",
    "synops_per_sample": "synops.measure",
    "to_hard_reset": "frameworks.hard_reset",
}
_ROOMS = ("frameworks", "integrations", "models", "pruning", "schedules", "synops", "training")

__all__ = [
    "LATS",
    "PGH",
    "SLATS",
    "STR",
    "BudgetRamp",
    "Cap",
    "Caps",
    "ConstantThreshold",
    "EpochLATS",
    "FixedCosts",
    "Garrote",
    "Grid",
    "HardThreshold",
    "LayerSynOps",
    "NeuronCosts",
    "Preconditioner",
    "ProductCosts",
    "ProximalMap",
    "STDSLinear",
    "STDSSine",
    "Schedule",
    "SoftThreshold",
    "SoftThresholdPruner",
    "SparsityRamp",
    "SynOps",
    "SynOpsCounter",
    "SynOpsLoss",
    "SynapticCosts",
    "count_synops",
    "from_pretrained",
    "frozen_batch_norm",
    "garrote",
    "hard_threshold",
    "inverse_soft_threshold",
    "keep_channels",
    "learning_rates",
    "prune_at_initialization",
    "prune_to",
    "prune_to_budget",
    "readout_loss",
    "save_pretrained",
    "soft_threshold",
    "synops_per_sample",
    "to_hard_reset",
]


def __dir__() -> list[str]:
    return sorted(__all__)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"neuroprune.{_HOME[name]}"), name)
    if name in _ROOMS:
        return importlib.import_module(f"neuroprune.{name}")
    raise AttributeError(f"module 'neuroprune' has no attribute {name!r}")
