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
from hw_targets.lava.shim import lava_importable
from hw_targets.mapping import Placement, load_placement, place, remove_dead_neurons
from hw_targets.network import ChipNetwork, Network
from hw_targets.quantization.quantize import dequantize, quantize
from hw_targets.relays import insert_relays

if TYPE_CHECKING:
    from hw_targets.emulation.emulate import emulate
    from hw_targets.lava.check import compare_with_lava
    from hw_targets.nir_format.reader import from_nir
    from hw_targets.nir_format.writer import to_nir
    from hw_targets.quantization.qat import QATGrids, prepare_qat
    from hw_targets.torch_reader.from_torch import from_torch
    from hw_targets.torch_reader.spike_check import SpikeDifference, spike_difference

#: Public names that need torch or nir, imported when first used.
_LAZY = {
    "QATGrids": "hw_targets.quantization.qat",
    "SpikeDifference": "hw_targets.torch_reader.spike_check",
    "compare_with_lava": "hw_targets.lava.check",
    "emulate": "hw_targets.emulation.emulate",
    "from_nir": "hw_targets.nir_format.reader",
    "from_torch": "hw_targets.torch_reader.from_torch",
    "prepare_qat": "hw_targets.quantization.qat",
    "spike_difference": "hw_targets.torch_reader.spike_check",
    "to_nir": "hw_targets.nir_format.writer",
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


def __dir__() -> list[str]:
    return sorted(__all__)


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'hw_targets' has no attribute {name!r}")
