"""Every schedule and map: pruning inside the optimizer step equals the reparameterised forward pass, d by d."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn

from neuroprune import (
    LATS,
    PGH,
    SLATS,
    ConstantThreshold,
    EpochLATS,
    Garrote,
    HardThreshold,
    ProximalMap,
    Schedule,
    SoftThreshold,
    SoftThresholdPruner,
    SparsityRamp,
    STDSLinear,
    STDSSine,
)
from neuroprune.pruning.maps import PROXIMAL_MAPS
from neuroprune.schedules import SCHEDULES
from tests.twins.pruner import ReparameterisedTwin

STEPS, EPOCHS, PER_EPOCH, LR, D = 40, 8, 5, 0.1, 0.15


def rate(step: int) -> float:
    """A cosine per step, with two steps of warm-up."""
    return LR * min(1.0, (step + 1) / 2) * 0.5 * (1 + math.cos(math.pi * step / STEPS))


def epoch_lats(step: int) -> float:
    """d after step number `step`, as an integral: the rate of an epoch is ½(1 + cos πe/E), all add up to D."""
    rates = [1 + math.cos(math.pi * (k // PER_EPOCH) / EPOCHS) for k in range(STEPS)]
    return D * math.fsum(rates[: step + 1]) / math.fsum(rates)


# Thresholds after step t = 0 … T − 1, written down from the definitions: x = (t + 1)/T, Δd = μ·η summed up by hand.
EXPECTED: dict[str, tuple[Schedule, Callable[[int], float]]] = {
    "LATS": (LATS(l1=0.08), lambda t: 0.08 * math.fsum(rate(k) for k in range(t + 1))),
    "SLATS": (
        SLATS(D, STEPS),
        lambda t: D * ((t + 1) / STEPS + math.sin(math.pi * (t + 1) / STEPS) / math.pi),
    ),
    "EpochLATS": (EpochLATS(D, EPOCHS, PER_EPOCH), epoch_lats),
    "PGH": (PGH(0.2, 0.1, STEPS), lambda t: 0.2 * math.fsum(0.1 ** (k / STEPS) * rate(k) for k in range(t + 1))),
    "STDSLinear": (STDSLinear(D, STEPS), lambda t: D * (t + 1) / STEPS),
    "STDSSine": (STDSSine(D, STEPS), lambda t: D * 0.5 * (1 - math.cos(math.pi * (t + 1) / STEPS))),
    "ConstantThreshold": (ConstantThreshold(D), lambda _: D),
}


MAPS: dict[str, ProximalMap] = {"soft": SoftThreshold(), "hard": HardThreshold(), "garrote": Garrote()}


class Net(nn.Module):
    """A convolution and a linear layer in float64."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3).double()
        self.head = nn.Linear(64, 3).double()

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.head(torch.relu(self.conv(x)).flatten(1))
        return scores


def make_net() -> Net:
    torch.manual_seed(5)
    return Net()


def make_optimizer(name: str, net: nn.Module) -> torch.optim.Optimizer:
    if name == "adamw":
        return torch.optim.AdamW(net.parameters(), lr=LR / 10, weight_decay=0.1)
    return torch.optim.SGD(net.parameters(), lr=LR, momentum=0.9, nesterov=True, weight_decay=1e-3)


def backward(model: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(8, 2, 6, 6, generator=generator, dtype=torch.float64)
    y = torch.randn(8, 3, generator=generator, dtype=torch.float64)
    optimizer.zero_grad()
    (model(x) - y).square().mean().backward()


def set_rate(optimizers: Sequence[torch.optim.Optimizer], step: int, scale: float) -> None:
    for optimizer in optimizers:
        optimizer.param_groups[0]["lr"] = rate(step) * scale


def test_every_schedule_has_its_row() -> None:
    # STR takes another gradient: its twin is in test_str.py. The ramp's thresholds depend on the weights: see below.
    assert set(EXPECTED) | {"STR", "SparsityRamp"} == set(SCHEDULES)


def test_every_map_has_its_twin() -> None:
    assert {type(proximal).__name__ for proximal in MAPS.values()} == set(PROXIMAL_MAPS)


@pytest.mark.parametrize("optimizer_name", ["sgd", "adamw"])
@pytest.mark.parametrize("proximal", MAPS)
@pytest.mark.parametrize("name", EXPECTED)
def test_schedule_equals_its_reparameterised_twin(name: str, proximal: str, optimizer_name: str) -> None:
    schedule, expected = EXPECTED[name]
    names = ["conv.weight", "head.weight"]
    net, twin = make_net(), ReparameterisedTwin(make_net(), [names], 0.0, proximal)
    twin.thresholds = [expected(0) if name == "ConstantThreshold" else 0.0]
    optimizer, twin_optimizer = make_optimizer(optimizer_name, net), make_optimizer(optimizer_name, twin.model)
    pruner = SoftThresholdPruner(optimizer, schedule, proximal=MAPS[proximal])
    for step in range(STEPS):
        set_rate([optimizer, twin_optimizer], step, 1.0)
        backward(net, optimizer, step)
        backward(twin, twin_optimizer, step)
        optimizer.step()
        twin_optimizer.step()
        twin.thresholds = [expected(step)]
        assert pruner.threshold == pytest.approx(expected(step), rel=1e-9), f"step {step}"
        for key, weight in twin.weights().items():
            assert (net.get_parameter(key) - weight).abs().max().item() < 1e-9, f"{key} after step {step}"
    assert 0.05 < pruner.sparsity() < 1.0


@pytest.mark.parametrize("optimizer_name", ["sgd", "adamw"])
@pytest.mark.parametrize("proximal", MAPS)
def test_ramp_equals_gradual_pruning_by_hand(proximal: str, optimizer_name: str) -> None:
    names, target, every = ["conv.weight", "head.weight"], 0.8, 4
    net, twin = make_net(), ReparameterisedTwin(make_net(), [names], 0.0, proximal)
    optimizer, twin_optimizer = make_optimizer(optimizer_name, net), make_optimizer(optimizer_name, twin.model)
    pruner = SoftThresholdPruner(optimizer, SparsityRamp(target, STEPS, every=every), proximal=MAPS[proximal])
    for step in range(STEPS):
        backward(net, optimizer, step)
        backward(twin, twin_optimizer, step)
        optimizer.step()
        twin_optimizer.step()
        taken = step + 1
        wanted = target * (1 - max(0.0, 1 - taken / 20) ** 3)  # half of the 40 steps
        if taken % every == 0:
            thetas = sorted(abs(v) for name in names for v in twin.model.get_parameter(name).flatten().tolist())
            twin.thresholds = [thetas[math.ceil(wanted * len(thetas)) - 1]]
            assert pruner.sparsity() == math.ceil(wanted * len(thetas)) / len(thetas)
        assert pruner.threshold == pytest.approx(twin.thresholds[0], rel=1e-9, abs=1e-15), f"step {step}"
        for key, weight in twin.weights().items():
            assert (net.get_parameter(key) - weight).abs().max().item() < 1e-9, f"{key} after step {step}"
    assert pruner.sparsity() == pytest.approx(target, abs=1 / 264)
