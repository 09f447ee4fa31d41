"""Whole channels pruned: those of the smallest norm, for good."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from neuroprune import keep_channels
from neuroprune.pruning.channels import power_of_two


@pytest.mark.parametrize(
    "layer", [nn.Linear(3, 6), nn.Conv1d(2, 6, 3), nn.Conv2d(2, 6, 3), nn.Conv2d(2, 6, 3, bias=False)]
)
def test_the_largest_channels_stay_and_are_what_trains(layer: nn.Module) -> None:
    weight, bias = layer.weight, layer.bias
    assert isinstance(weight, nn.Parameter)
    sizes = torch.tensor([3.0, 1.0, 6.0, 2.0, 5.0, 4.0])
    with torch.no_grad():
        weight.copy_(torch.ones_like(weight) * sizes.reshape(-1, *[1] * (weight.dim() - 1)))
    before = weight.detach().clone()
    kept = keep_channels(layer)
    assert kept.tolist() == [True, False, True, False, True, True]
    assert torch.equal(weight[kept], before[kept])
    optimizer = torch.optim.AdamW(layer.parameters(), 0.1, weight_decay=0.1)
    x = torch.randn(4, *{2: (3,), 3: (2, 5), 4: (2, 5, 5)}[weight.dim()])
    for _ in range(3):
        optimizer.zero_grad()
        layer(x).square().sum().backward()
        optimizer.step()
    assert not weight[~kept].any()
    assert bool((weight[kept] != before[kept]).any())
    if isinstance(bias, nn.Parameter):
        assert not bias[~kept].any()
        assert bool(bias[kept].all())


def test_powers_of_two() -> None:
    assert [power_of_two(n) for n in (1, 2, 3, 31, 32, 33, 63, 64)] == [1, 2, 2, 16, 32, 32, 32, 64]
    with pytest.raises(ValueError, match="at least 1 channel, got 0"):
        power_of_two(0)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="asked to keep 7 channels of 6; give 1 … 6"):
        keep_channels(nn.Linear(2, 6), 7)
    with pytest.raises(TypeError, match="expected Linear or Conv1d … Conv3d, got BatchNorm2d"):
        keep_channels(nn.BatchNorm2d(4))
