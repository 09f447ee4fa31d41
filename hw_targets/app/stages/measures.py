"""What a model and its placement measure, as plain values for a summary."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from hw_targets.chips.chip import Chip
from hw_targets.estimation import Estimate
from hw_targets.placement import Placement
from neuroprune.synops.counter import SynOps, SynOpsCounter
from neuroprune.training.data.base import DataSet
from neuroprune.training.loop import evaluation_batch, predictor


@torch.no_grad()
def measure_synops(model: nn.Module, data: DataSet, time_steps: int) -> SynOps:
    """Synaptic operations of a model on all images of a set, all steps."""
    predict = predictor(model, time_steps, data)
    with SynOpsCounter(model) as counter:
        for images, _ in data.batches(evaluation_batch(data)):
            predict(model, data.as_input(images))
    return counter.result()


def layer_table(model: nn.Module, dense: SynOps, pruned: SynOps, samples: int) -> list[dict[str, Any]]:
    """Per layer: weights, zeros, and per-sample synaptic operations of the dense and of the pruned model."""
    return layer_rows(model, {"dense": dense, "pruned": pruned}, samples)


def layer_rows(model: nn.Module, counted: Mapping[str, SynOps], samples: int) -> list[dict[str, Any]]:
    """Per layer of `model`: weights, zeros, and per-sample operations of each version that was counted."""
    rows = weight_rows(model, next(iter(counted.values())).layers)
    for row in rows:
        for version, found in counted.items():
            row[f"synops_{version}"] = found.layers[row["name"]].synops / samples
            row[f"macs_{version}"] = found.layers[row["name"]].macs / samples
    return rows


def weight_rows(model: nn.Module, names: Iterable[str] | None = None) -> list[dict[str, Any]]:
    """Weights and zeros of the named layers; None: of all layers with a weight of two or more dimensions.

    A name as `SynOps.layers` has it: of a product without a layer of its own, "module (function)", they are those of
    the module's own matrices, and none where it multiplies spikes with spikes.
    """
    modules, rows = dict(model.named_modules()), []
    if names is None:
        names = [name for name, module in modules.items() if _has_weight(module)]
    for name in names:
        module = modules.get(name.partition(" (")[0], model)
        known: Any = getattr(module, "weight", None)
        held = [known] if isinstance(known, Tensor) else [p for p in module.parameters(recurse=False) if p.dim() >= 2]
        weights = sum(weight.numel() for weight in held)
        zeros = weights - sum(int(torch.count_nonzero(weight)) for weight in held)
        rows.append({"name": name or type(model).__name__, "weights": weights, "zeros": zeros})
    return rows


def _has_weight(module: nn.Module) -> bool:
    weight = getattr(module, "weight", None)
    return isinstance(weight, Tensor) and weight.dim() >= 2


def core_usage(placement: Placement) -> list[dict[str, Any]]:
    """What each core holds, as plain values."""
    keys = ("population", "neurons", "input_axons", "output_axons", "synaptic_bits")
    return [{key: getattr(core, key) for key in keys} for core in placement.usage]


def core_limits(chip: Chip) -> dict[str, Any]:
    """What one core of a chip holds of that, None where nobody published it."""
    return {
        "neurons": chip.neurons_per_core,
        "input_axons": chip.input_axons_per_core,
        "output_axons": chip.output_axons_per_core,
        "synaptic_bits": chip.synaptic_bits_per_core,
    }


def mapping_summary(placement: Placement, cost: Estimate, images: int) -> dict[str, Any]:
    """What `neuroprune map` found on a chip: cores, costs per image, and what they rest on."""
    return {
        "cores": placement.core_count,
        "lower_bound": placement.lower_bound,
        "chips": placement.chips,
        "images": images,
        "energy_j": cost.energy,
        "time_s": cost.time,
        "assumptions": list(placement.assumptions),
        "not_enforced": list(placement.not_enforced),
    }
