"""Every map under every schedule that takes a target ends where it was asked to, preconditioned or not."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR

from neuroprune import (
    LATS,
    PGH,
    SLATS,
    EpochLATS,
    Garrote,
    HardThreshold,
    Preconditioner,
    ProximalMap,
    Schedule,
    SoftThreshold,
    SoftThresholdPruner,
    SparsityRamp,
    STDSLinear,
    STDSSine,
)
from neuroprune.schedules import SCHEDULES

STEPS, SIZE = 100, 32 * 64 + 64 * 8
MAPS: dict[str, ProximalMap] = {"soft": SoftThreshold(), "hard": HardThreshold(), "garrote": Garrote()}
RULES: dict[str, Callable[[float, CosineAnnealingLR], Schedule]] = {
    "LATS": lambda target, scheduler: LATS.for_sparsity(target, scheduler, STEPS),
    "PGH": lambda target, scheduler: PGH.for_sparsity(target, scheduler, STEPS),
    "SLATS": lambda target, _: SLATS(target_sparsity=target, steps=STEPS),
    "EpochLATS": lambda target, _: EpochLATS(target_sparsity=target, epochs=STEPS // 10, steps_per_epoch=10),
    "STDSLinear": lambda target, _: STDSLinear(target_sparsity=target, steps=STEPS),
    "STDSSine": lambda target, _: STDSSine(target_sparsity=target, steps=STEPS),
    "SparsityRamp": lambda target, _: SparsityRamp(target, STEPS),
}


def test_every_schedule_that_takes_a_target_is_here() -> None:
    assert {name for name, kind in SCHEDULES.items() if "target_sparsity" in kind.__annotations__} <= set(RULES)
    assert set(RULES) == set(SCHEDULES) - {"ConstantThreshold", "STR"}


def trained(rule: str, proximal: ProximalMap, target: float, seed: int, precondition: Preconditioner | None) -> float:
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 8))
    optimizer: Any = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    if precondition is not None or seed % 2:
        optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    scheduler = CosineAnnealingLR(optimizer, STEPS)
    schedule = RULES[rule](target, scheduler)
    pruner = SoftThresholdPruner(optimizer, schedule, proximal=proximal, precondition=precondition)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(STEPS):
        x = torch.randn(32, 32, generator=generator)
        y = x[:, :8].roll(1, 1) * x[:, 8:16].sign()
        optimizer.zero_grad()
        (net(x) - y).square().mean().backward()
        optimizer.step()
        scheduler.step()
    return pruner.sparsity()


@settings(max_examples=2, deadline=None, suppress_health_check=list(HealthCheck))
@given(target=st.floats(0.3, 0.98), seed=st.integers(0, 5))
@pytest.mark.parametrize("precondition", [None, Preconditioner(damping=1.0)], ids=["plain", "preconditioned"])
@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.filterwarnings("ignore:SoftThresholdPruner. all")
def test_ends_at_its_target(
    rule: str, name: str, precondition: Preconditioner | None, target: float, seed: int
) -> None:
    found = trained(rule, MAPS[name], target, seed, precondition)
    if rule == "SparsityRamp":
        assert round(found * SIZE) == math.ceil(target * SIZE)
    else:
        assert abs(found - target) <= max(1e-3, 1 / SIZE)
