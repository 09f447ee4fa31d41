"""Wide layers' currents are compared by a few random sums of their channels: whatever is off is still seen."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from spikingjelly.activation_based import layer, neuron
from torch import Tensor, nn
from torch.nn import functional as F

from hw_targets import from_torch
from hw_targets.errors import UnsupportedModel
from hw_targets.frontends.torch import read_check
from hw_targets.frontends.torch.projections import Sums
from hw_targets.ir.network import LIF, Conv2d, Op, Population

STEPS, CHANNELS, SIDE, TOLERANCE = 3, 64, 14, 1e-2


def case(seed: int) -> tuple[Population, list[tuple[Op, Tensor]], Tensor]:
    """A population, its synapses with spikes, and its currents as torch computes them in float32."""
    generator = torch.Generator().manual_seed(seed)
    groups: list[tuple[Op, Tensor]] = []
    bias = torch.randn(CHANNELS, generator=generator)
    total = bias.reshape(-1, 1, 1).expand(STEPS, CHANNELS, SIDE, SIDE).clone()
    for _ in range(2):
        weight = torch.randn(CHANNELS, CHANNELS, 3, 3, generator=generator)
        spikes = (torch.rand(STEPS, CHANNELS, SIDE, SIDE, generator=generator) < 0.2).float()
        groups.append((Conv2d(weight.double().numpy(), padding=(1, 1)), spikes))
        total += F.conv2d(spikes, weight, padding=1)
    return Population("sn", (CHANNELS, SIDE, SIDE), LIF(1.0), bias.double().numpy()), groups, total


def test_what_the_weights_make_of_the_spikes_is_recognised() -> None:
    sums = Sums()
    for seed in range(4):
        population, groups, currents = case(seed)
        assert sums.agree(population, currents, groups, TOLERANCE)


@pytest.mark.parametrize("several", [1, 2, CHANNELS])
def test_currents_off_by_the_tolerance_at_one_position_are_never_passed(several: int) -> None:
    population, groups, currents = case(0)
    sums, off = Sums(), TOLERANCE * float(currents.abs().max())
    rng = np.random.default_rng(several)
    for _ in range(200):
        changed, step, y, x = currents.clone(), rng.integers(STEPS), *rng.integers(SIDE, size=2)
        # Deviations that add up to nothing among the channels, too.
        signs = torch.from_numpy(rng.permutation(np.resize([1.0, -1.0], several))).float()
        changed[step, rng.permutation(CHANNELS)[:several], y, x] += off * signs
        assert not sums.agree(population, changed, groups, TOLERANCE)


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_currents_that_are_no_numbers_are_not_passed(value: float) -> None:
    population, groups, currents = case(0)
    currents[1, 2, 3, 4] = value
    assert not Sums().agree(population, currents, groups, TOLERANCE)


class Wide(nn.Module):
    """Two wide convolutions, the second of which somebody may change."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv1: Any = layer.Conv2d(1, CHANNELS, 3, padding=1, step_mode="m")
        self.sn1 = neuron.IFNode(v_threshold=0.3, step_mode="m")
        self.conv2: Any = layer.Conv2d(CHANNELS, CHANNELS, 3, padding=1, step_mode="m")
        self.sn2 = neuron.IFNode(v_threshold=0.3, step_mode="m")

    def forward(self, x: Tensor) -> Tensor:
        spikes: Tensor = self.sn2(self.conv2(self.sn1(self.conv1(x))))
        return spikes


IMAGES = torch.rand(4, 1, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def test_a_wide_model_is_read_without_computing_its_layers_again(monkeypatch: pytest.MonkeyPatch) -> None:
    computed, real = [], read_check._drive

    def noted(network: Any, population: Population, sent: Any) -> Tensor:
        computed.append(population.name)
        return real(network, population, sent)

    monkeypatch.setattr(read_check, "_drive", noted)
    assert [p.name for p in from_torch(Wide(), IMAGES).populations] == ["input", "sn1", "sn2"]
    assert "sn2" not in computed


def test_one_channel_changed_in_one_step_of_a_wide_model_is_refused() -> None:
    model = Wide()

    def raised(_module: nn.Module, _args: Any, output: Tensor) -> None:
        output.data[2, :, 5, 3, 3] += 0.05

    model.conv2.register_forward_hook(raised)
    with pytest.raises(UnsupportedModel, match="current of sn2"):
        from_torch(model, IMAGES)


def test_a_threshold_written_unseen_is_refused_in_a_wide_model() -> None:
    model = Wide()
    model.sn2.register_forward_hook(lambda _module, _args, output: output * (output.cumsum(0) < 2))
    with pytest.raises(UnsupportedModel, match="sn2 answer step"):
        from_torch(model, IMAGES)
