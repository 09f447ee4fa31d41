"""A whole SEW ResNet-18 in Lava, relays and all: every spike of all 19 layers as emulated.

At full width Lava takes some 46 seconds of CPU for one step even of 16×16 images, so the network is pruned: seven of
eight channels are silenced, and `remove_dead_neurons` takes them out.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from hw_targets import emulate, export_netx, from_torch, quantize, remove_dead_neurons
from hw_targets.targets.loihi.lava.check import compare_with_lava
from tests.builders.lava import LavaProcess
from tests.builders.sew_resnet import LOIHI, images, sew

T = 4


@pytest.mark.slow
@pytest.mark.lava
def test_a_pruned_sew_resnet_18_spikes_as_in_lava(tmp_path: Path, lava: LavaProcess) -> None:
    model, shown = sew(18), images(32, 1)
    with torch.no_grad():
        for norm in model.modules():
            if isinstance(norm, nn.BatchNorm2d):
                kept = norm.num_features // 8
                norm.weight.mul_(2.5)  # makes up for the channels that are gone
                norm.bias.add_(0.1)
                norm.weight[kept:], norm.bias[kept:] = 0.0, -1.0
    chip = remove_dead_neurons(quantize(from_torch(model, (shown.double() / 255).expand(T, *shown.shape)), LOIHI))
    assert {p.shape[0] for p in chip.populations} == {3, 8, 16, 32, 64, 10}
    spikes = emulate(chip, shown).spikes
    assert all(0 < s.mean() < 1 for name, s in spikes.items() if name != "input")
    export_netx(chip, tmp_path / "sew.net")
    with lava.running():
        found = compare_with_lava(chip, tmp_path / "sew.net", shown)
    assert found.compared > 5_000
    assert (found.differences, found.readout_differences) == (0, 0)
