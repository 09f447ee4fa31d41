"""From a trained network to a neuromorphic chip: integers, cores, files, exact spikes, operations and energy.

Every name is imported when it is first used, so that `import hw_targets` alone loads nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hw_targets.app.deploy import Deployment, deploy
    from hw_targets.app.on_chip import on_chip
    from hw_targets.chips.chip import Chip
    from hw_targets.emulation.emulate import emulate
    from hw_targets.errors import HardwareTargetError
    from hw_targets.estimation import Estimate, estimate
    from hw_targets.frontends.nir.reader import from_nir
    from hw_targets.frontends.nir.writer import to_nir
    from hw_targets.frontends.torch.from_torch import from_torch
    from hw_targets.frontends.torch.spike_check import SpikeDifference, spike_difference
    from hw_targets.ir.activity import Activity
    from hw_targets.ir.network import ChipNetwork, Network
    from hw_targets.passes.dead_neurons import remove_dead_neurons
    from hw_targets.placement import Placement, place
    from hw_targets.quantization.qat import QATGrids, prepare_qat
    from hw_targets.quantization.quantize import dequantize, quantize
    from hw_targets.quantization.to_chip import to_chip
    from hw_targets.targets.loihi.lava.check import compare_with_lava
    from hw_targets.targets.loihi.lava.shim import lava_importable
    from hw_targets.targets.loihi.netx.reader import read_netx
    from hw_targets.targets.loihi.netx.relays import insert_relays
    from hw_targets.targets.loihi.netx.writer import export_netx
    from hw_targets.targets.loihi.sanafe.writer import export_sanafe
    from hw_targets.targets.registry import available_chips, load_chip
    from hw_targets.targets.saved_placements import load_placement
    from hw_targets.targets.xylo.files import export_xylo, read_xylo
    from hw_targets.targets.xylo.training.layer import XyloLayer
    from hw_targets.targets.xylo.xylosim.check import compare_with_xylosim

#: Where each public name is defined.
_HOME = {
    "Activity": "ir.activity",
    "Chip": "chips.chip",
    "ChipNetwork": "ir.network",
    "Deployment": "app.deploy",
    "Estimate": "estimation",
    "HardwareTargetError": "errors",
    "Network": "ir.network",
    "Placement": "placement",
    "QATGrids": "quantization.qat",
    "XyloLayer": "targets.xylo.training.layer",
    "SpikeDifference": "frontends.torch.spike_check",
    "available_chips": "targets.registry",
    "compare_with_lava": "targets.loihi.lava.check",
    "compare_with_xylosim": "targets.xylo.xylosim.check",
    "deploy": "app.deploy",
    "dequantize": "quantization.quantize",
    "emulate": "emulation.emulate",
    "estimate": "estimation",
    "export_netx": "targets.loihi.netx.writer",
    "export_sanafe": "targets.loihi.sanafe.writer",
    "export_xylo": "targets.xylo.files",
    "from_nir": "frontends.nir.reader",
    "from_torch": "frontends.torch.from_torch",
    "insert_relays": "targets.loihi.netx.relays",
    "lava_importable": "targets.loihi.lava.shim",
    "load_chip": "targets.registry",
    "load_placement": "targets.saved_placements",
    "on_chip": "app.on_chip",
    "place": "placement",
    "prepare_qat": "quantization.qat",
    "quantize": "quantization.quantize",
    "read_netx": "targets.loihi.netx.reader",
    "read_xylo": "targets.xylo.files",
    "remove_dead_neurons": "passes.dead_neurons",
    "spike_difference": "frontends.torch.spike_check",
    "to_chip": "quantization.to_chip",
    "to_nir": "frontends.nir.writer",
}

__all__ = [
    "Activity",
    "Chip",
    "ChipNetwork",
    "Deployment",
    "Estimate",
    "HardwareTargetError",
    "Network",
    "Placement",
    "QATGrids",
    "SpikeDifference",
    "XyloLayer",
    "available_chips",
    "compare_with_lava",
    "compare_with_xylosim",
    "deploy",
    "dequantize",
    "emulate",
    "estimate",
    "export_netx",
    "export_sanafe",
    "export_xylo",
    "from_nir",
    "from_torch",
    "insert_relays",
    "lava_importable",
    "load_chip",
    "load_placement",
    "on_chip",
    "place",
    "prepare_qat",
    "quantize",
    "read_netx",
    "read_xylo",
    "remove_dead_neurons",
    "spike_difference",
    "to_chip",
    "to_nir",
]


def __dir__() -> list[str]:
    return sorted(__all__)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"hw_targets.{_HOME[name]}"), name)
    raise AttributeError(f"module 'hw_targets' has no attribute {name!r}")
