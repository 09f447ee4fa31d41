"""What a model and its placement measure, as plain values for a summary."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from hw_targets.chips.chip import Chip
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
    rows = []
    modules = dict(model.named_modules())
    for name, layer in pruned.layers.items():
        weight = modules[name].weight
        assert isinstance(weight, Tensor)
        rows.append(
            {
                "name": name,
                "weights": weight.numel(),
                "zeros": weight.numel() - int(torch.count_nonzero(weight)),
                "synops_dense": dense.layers[name].synops / samples,
                "synops_pruned": layer.synops / samples,
                "macs_dense": dense.layers[name].macs / samples,
                "macs_pruned": layer.macs / samples,
            }
        )
    return rows


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
