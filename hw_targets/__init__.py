"""From a trained network to a neuromorphic chip: integers, cores, files, exact spikes, operations and energy."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from hw_targets.activity import Activity
from hw_targets.chip import Chip, available_chips, load_chip
from hw_targets.errors import HardwareTargetError
from hw_targets.estimate import Estimate, estimate
from hw_targets.export.netx import export_netx
from hw_targets.export.netx_reader import read_netx
from hw_targets.export.sanafe import export_sanafe
from hw_targets.lava_shim import lava_importable
from hw_targets.mapping import Placement, load_placement, place, remove_dead_neurons
from hw_targets.network import ChipNetwork, Network
from hw_targets.quantize import dequantize, quantize
from hw_targets.relays import insert_relays

if TYPE_CHECKING:
    from hw_targets._emulate import emulate
    from hw_targets._from_torch import from_torch
    from hw_targets._nir_read import from_nir
    from hw_targets._qat import QATGrids, prepare_qat
    from hw_targets._spike_check import SpikeDifference, spike_difference
    from hw_targets.lava_check import compare_with_lava
    from hw_targets.nir_io import to_nir

#: Public names that need torch or nir, imported when first used.
_LAZY = {
    "QATGrids": "hw_targets._qat",
    "SpikeDifference": "hw_targets._spike_check",
    "compare_with_lava": "hw_targets.lava_check",
    "emulate": "hw_targets._emulate",
    "from_nir": "hw_targets._nir_read",
    "from_torch": "hw_targets._from_torch",
    "prepare_qat": "hw_targets._qat",
    "spike_difference": "hw_targets._spike_check",
    "to_nir": "hw_targets.nir_io",
}

__all__ = [
    "Activity",
    "Chip",
    "ChipNetwork",
    "Estimate",
    "HardwareTargetError",
    "Network",
    "Placement",
    "QATGrids",
    "SpikeDifference",
    "available_chips",
    "compare_with_lava",
    "dequantize",
    "emulate",
    "estimate",
    "export_netx",
    "export_sanafe",
    "from_nir",
    "from_torch",
    "insert_relays",
    "lava_importable",
    "load_chip",
    "load_placement",
    "place",
    "prepare_qat",
    "quantize",
    "read_netx",
    "remove_dead_neurons",
    "spike_difference",
    "to_nir",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'hw_targets' has no attribute {name!r}")
