"""Densities by the layers' shapes, and the least that a pruner leaves every layer."""

from __future__ import annotations

import copy
import math
from fractions import Fraction
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from neuroprune import LATS, HardThreshold, Preconditioner, SoftThresholdPruner, SparsityRamp, prune_to
from neuroprune.pruning.densities import FLOOR, erk_densities, least_densities

SHAPES = st.lists(st.lists(st.integers(1, 40), min_size=2, max_size=4).map(tuple), min_size=1, max_size=6)


def _slow_erk(shapes: list[tuple[int, ...]], sparsity: float) -> list[float]:
    """ε by bisection: the density min(1, ε·Σdims/Πdims) of every layer, and the weights they keep together."""
    budget = (1 - sparsity) * sum(math.prod(s) for s in shapes)
    low, high = 0.0, float(max(math.prod(s) for s in shapes))
    for _ in range(200):
        middle = (low + high) / 2
        kept = sum(min(math.prod(s), middle * sum(s)) for s in shapes)
        low, high = (middle, high) if kept < budget else (low, middle)
    return [min(1.0, low * sum(s) / math.prod(s)) for s in shapes]


@settings(max_examples=60, deadline=None)
@given(
    shapes=SHAPES,
    sparsity=st.floats(0.01, 0.995),
)
def test_erk_densities_are_those_of_a_slow_search(shapes: list[tuple[int, ...]], sparsity: float) -> None:
    assert erk_densities(shapes, sparsity) == pytest.approx(_slow_erk(shapes, sparsity), rel=1e-6)


def test_erk_of_a_known_network() -> None:
    # 784-256-10 at 90 %: raw densities 1040/200704 and 266/2560, so ε = 20326.4/1306; the readout then would be dense.
    first, last = erk_densities([(256, 784), (10, 256)], 0.9)
    assert last == 1.0
    assert first == pytest.approx(float(Fraction(203264, 10) - 2560) / 200704)


def test_an_empty_layer_takes_nothing() -> None:
    assert erk_densities([(4, 0), (20, 30)], 0.9) == [1.0, pytest.approx(0.1)]


@settings(max_examples=60, deadline=None)
@given(shapes=SHAPES, sparsity=st.floats(0, 1), floor=st.floats(0, 1))
def test_the_least_densities_leave_room_for_the_sparsity(
    shapes: list[tuple[int, ...]], sparsity: float, floor: float
) -> None:
    least = least_densities(shapes, sparsity, floor)
    kept = sum(math.ceil(d * math.prod(shape)) for d, shape in zip(least, shapes, strict=True))
    assert kept <= (1 - sparsity) * sum(map(math.prod, shapes))
    if any(least):
        assert least == pytest.approx([floor * d for d in erk_densities(shapes, sparsity)])


def network() -> nn.Sequential:
    """A wide layer of large weights before one of small ones, which a common threshold would empty."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(40, 60), nn.ReLU(), nn.Linear(60, 20), nn.ReLU(), nn.Linear(20, 4))
    with torch.no_grad():
        model.get_parameter("2.weight").mul_(0.01)
    return model


def optimizer_of(kind: str, groups: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, 0.05) if kind == "SGD" else torch.optim.AdamW(groups, 1e-3)


def trained(model: nn.Module, optimizer: torch.optim.Optimizer, pruner: SoftThresholdPruner, steps: int) -> None:
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        x = torch.randn(16, 40, generator=generator)
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
    pruner.finalize()


def density(parameter: Any) -> float:
    return float((parameter != 0).double().mean())


@pytest.mark.parametrize("kind", ["SGD", "AdamW"])
def test_no_layer_is_emptied_for_the_others(kind: str) -> None:
    densities = []
    for floor in (0.0, 0.9):
        model = network()
        optimizer = optimizer_of(kind, model.parameters())
        metric = Preconditioner(damping=1.0) if kind == "AdamW" else None
        schedule = SparsityRamp(0.9, 40)
        pruner = SoftThresholdPruner(
            optimizer, schedule, proximal=HardThreshold(), precondition=metric, density_floor=floor
        )
        trained(model, optimizer, pruner, 40)
        weights = [p for p in model.parameters() if p.dim() == 2]
        size = sum(w.numel() for w in weights)
        assert sum(int((w == 0).sum()) for w in weights) == math.ceil(0.9 * size)
        densities.append([density(w) for w in weights])
    least = least_densities([tuple(w.shape) for w in weights], 0.9, 0.9)
    assert any(d < low for d, low in zip(densities[0], least, strict=True))
    assert all(d >= low for d, low in zip(densities[1], least, strict=True))


@pytest.mark.parametrize("kind", ["SGD", "AdamW"])
def test_it_is_a_cap_of_each_layers_own_where_the_schedule_looks_in_every_step(kind: str) -> None:
    """The same run with the caps written into parameter groups, which hold at all times."""
    results = []
    for by_groups in (False, True):
        model = network()
        weights = [p for p in model.parameters() if p.dim() == 2]
        least = least_densities([tuple(w.shape) for w in weights], 0.8, 0.6)
        caps = [1.0 - low if by_groups else 1.0 for low in least]
        groups: list[dict[str, Any]] = [
            {"params": [w], "max_sparsity": cap} for w, cap in zip(weights, caps, strict=True)
        ]
        groups.append({"params": [p for p in model.parameters() if p.dim() < 2]})
        optimizer = optimizer_of(kind, groups)
        pruner = SoftThresholdPruner(
            optimizer,
            SparsityRamp(0.8, 30, every=1),
            proximal=HardThreshold(),
            precondition=Preconditioner() if kind == "AdamW" else None,
            density_floor=0.0 if by_groups else 0.6,
        )
        trained(model, optimizer, pruner, 30)
        results.append([p.detach().clone() for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("kind", ["SGD", "AdamW"])
def test_a_resumed_run_goes_on_bit_for_bit(kind: str) -> None:
    def begun(model: nn.Module) -> tuple[torch.optim.Optimizer, SoftThresholdPruner]:
        optimizer = optimizer_of(kind, model.parameters())
        return optimizer, prune_to(0.95, optimizer, steps=30)

    def steps(model: nn.Module, optimizer: torch.optim.Optimizer, of: range) -> None:
        for seed in of:
            optimizer.zero_grad()
            model(torch.randn(16, 40, generator=torch.Generator().manual_seed(seed))).square().mean().backward()
            optimizer.step()

    whole = network()
    optimizer, pruner = begun(whole)
    steps(whole, optimizer, range(13))
    states = [{k: v.clone() for k, v in whole.state_dict().items()}, copy.deepcopy(optimizer.state_dict())]
    states.append(copy.deepcopy(pruner.state_dict()))
    resumed = network()
    again, second = begun(resumed)
    resumed.load_state_dict(states[0])
    again.load_state_dict(states[1])
    second.load_state_dict(states[2])
    steps(whole, optimizer, range(13, 30))
    steps(resumed, again, range(13, 30))
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))


def test_caps_of_groups_go_first() -> None:
    """Where they leave no room for the floor there is none, and the target is reached."""
    model = network()
    first, *others = [p for p in model.parameters() if p.dim() == 2]
    groups: list[dict[str, Any]] = [{"params": [first], "max_sparsity": 0.86}, {"params": others}]
    optimizer = torch.optim.SGD(groups, 0.05)
    pruner = SoftThresholdPruner(optimizer, SparsityRamp(0.9, 20), proximal=HardThreshold(), density_floor=0.9)
    trained(model, optimizer, pruner, 20)
    assert density(first) >= 0.14
    assert pruner.sparsity() == pytest.approx(0.9, abs=1 / 1000)


def test_prune_to_leaves_every_layer_a_fifth() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    trained(model, optimizer, prune_to(0.95, optimizer, steps=30), 30)
    weights = [p for p in model.parameters() if p.dim() == 2]
    least = least_densities([tuple(w.shape) for w in weights], 0.95, FLOOR)
    assert all(density(w) >= low > 0 for w, low in zip(weights, least, strict=True))


@pytest.mark.parametrize("floor", [-0.1, 1.1, math.nan, "0.2", None, True])
def test_what_is_no_share_is_refused(floor: Any) -> None:
    optimizer = torch.optim.SGD(network().parameters(), 0.05)
    with pytest.raises(ValueError, match=r"density_floor must lie in 0 … 1, got"):
        SoftThresholdPruner(optimizer, SparsityRamp(0.9, 20), density_floor=floor)


def test_without_a_target_there_is_nothing_to_share_out() -> None:
    optimizer = torch.optim.SGD(network().parameters(), 0.05)
    with pytest.raises(ValueError, match="the schedule has no target_sparsity"):
        SoftThresholdPruner(optimizer, LATS(l1=0.1), density_floor=0.2)
    SoftThresholdPruner(optimizer, LATS(l1=0.1)).finalize()
