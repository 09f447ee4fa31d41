"""What SpikingJelly's ann2snn makes of a network without spikes: read exactly, its voltage scalers folded."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from spikingjelly.activation_based import ann2snn
from torch import Tensor, nn

from hw_targets import from_torch, spike_difference
from hw_targets.errors import UnsupportedModel

STEPS = 16


def images(count: int, seed: int) -> Tensor:
    return torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


def converted(make: Any, pool: nn.Module, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    ann = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), pool,
        nn.Conv2d(4, 6, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(96, 20), nn.ReLU(), nn.Linear(20, 5),
    )  # fmt: skip
    shown = [(images(8, seed), torch.zeros(8)) for seed in range(3)]
    made: nn.Module = ann2snn.Converter(make(shown, **options)).convert(ann.eval())
    return made.double().eval()


@pytest.mark.parametrize(
    "options", [{}, {"mode": "99.9%"}, {"mode": 0.5}, {"fuse_flag": False}, {"channel_wise": True}], ids=str
)
@pytest.mark.parametrize("pool", [nn.AvgPool2d(2), nn.MaxPool2d(2)], ids=["average", "max"])
def test_a_converted_network_is_read_exactly(pool: nn.Module, options: dict[str, Any]) -> None:
    model = converted(ann2snn.RateCodingRecipe, pool, **options)
    network = from_torch(model, images(2, 5).double(), time_steps=STEPS)
    difference = spike_difference(model, network, images(3, 6).double())
    assert (difference.total, min(difference.model.values()) > 0) == (0, True)
    assert {p.lif.reset for p in network.populations if p.lif is not None and p.name in difference.model} == {
        "subtract"
    }


def test_neurons_that_start_half_way_are_refused_and_the_other_recipe_is_named() -> None:
    model = converted(ann2snn.LocalThresholdBalancingRecipe, nn.AvgPool2d(2))
    with pytest.raises(UnsupportedModel, match=r"if_node \(HalfThresholdIFNode\) starts at half .*RateCodingRecipe"):
        from_torch(model, images(2, 5).double(), time_steps=STEPS)
