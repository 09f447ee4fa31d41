"""Rounding inside the optimizer step: the equation against torch's own, training against a slow twin, resume."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.ao.quantization import FakeQuantize, MovingAveragePerChannelMinMaxObserver

from neuroprune import LATS, STR, Cap, ConstantThreshold, Grid, SoftThresholdPruner, frozen_batch_norm, soft_threshold
from tests.twins.pruner import counted_operations
from tests.twins.rounding import Lattice, RoundedTwin, scalar_fake_quantize

MakeOptimizer = Callable[[list[dict[str, Any]]], torch.optim.Optimizer]
LOW, HIGH = -7, 7


class Net(nn.Module):
    """Two pruned layers of which one is rounded, and a rounded bias in a group that is not pruned."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.hidden, self.head = nn.Conv2d(2, 4, 3), nn.Linear(64, 12), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.conv(x)).flatten(1)
        output: Tensor = self.head(torch.relu(self.hidden(x)))
        return output


ROUNDED = ("conv.weight", "hidden.weight", "hidden.bias")
PRUNED = [["conv.weight", "hidden.weight"], []]


def make_net(dtype: torch.dtype = torch.float64) -> Net:
    torch.manual_seed(0)
    return Net().to(dtype)


def make_groups(net: Net, lr: float) -> list[dict[str, Any]]:
    pruned = [net.conv.weight, net.hidden.weight]
    rest = [net.hidden.bias, net.conv.bias, *net.head.parameters()]
    return [{"params": pruned, "lr": lr}, {"params": rest, "lr": 0.5 * lr, "prune": False}]


def grids(net: Net, size: float = 1.0) -> dict[nn.Parameter, Grid]:
    generator = torch.Generator().manual_seed(5)

    def steps(*shape: int) -> Tensor:
        return size * (0.02 + 0.05 * torch.rand(shape, generator=generator, dtype=torch.float64))

    return {
        net.get_parameter("conv.weight"): Grid(steps(4, 1, 1, 1), LOW, HIGH),
        net.get_parameter("hidden.weight"): Grid(steps(12, 1), LOW, HIGH),
        net.hidden.bias: Grid(steps(12), LOW, HIGH, zero_point=torch.linspace(-2.3, 2.9, 12, dtype=torch.float64)),
    }


def lattices(net: Net) -> dict[str, Lattice]:
    names = {p: name for name, p in net.named_parameters()}
    found = {}
    for p, grid in grids(net).items():
        zero = torch.zeros(()) if grid.zero_point is None else grid.zero_point
        found[names[p]] = Lattice(grid.step.to(p).expand_as(p), zero.to(p).expand_as(p), grid.quant_min, grid.quant_max)
    return found


def backward(model: nn.Module, optimizer: torch.optim.Optimizer, step: int, dtype: torch.dtype = torch.float64) -> None:
    generator = torch.Generator().manual_seed(1000 + step)
    x = torch.randn(8, 2, 6, 6, generator=generator, dtype=torch.float64).to(dtype)
    y = torch.randn(8, 3, generator=generator, dtype=torch.float64).to(dtype)
    optimizer.zero_grad()
    (model(x) - y).square().mean().backward()


def train(net: Net, optimizer: torch.optim.Optimizer, first: int, last: int) -> None:
    for step in range(first, last):
        backward(net, optimizer, step)
        optimizer.step()


def off_grid(values: Tensor, grid: Grid) -> float:
    zero = 0.0 if grid.zero_point is None else grid.zero_point
    whole = values.detach() / grid.step + zero
    return float((whole - whole.round()).abs().max())


# ------------------------------------------------------------------------------------------------------- the equation


@pytest.mark.parametrize("zero_points", [None, torch.int32, torch.float32], ids=["none", "whole", "real"])
def test_rounds_as_torch_does_per_channel(zero_points: torch.dtype | None) -> None:
    torch.manual_seed(1)
    x, step = torch.randn(50, 6, 40), 0.01 + torch.rand(50)
    zero = torch.zeros(50, dtype=torch.int32)
    if zero_points is not None:
        zero = (3 * torch.randn(50)).clamp(-7, 8).to(zero_points)
    grid = Grid(step.view(-1, 1, 1), -7, 8, None if zero_points is None else zero.to(torch.float32).view(-1, 1, 1))
    theirs = torch.fake_quantize_per_channel_affine(x, step, zero, 0, -7, 8)
    # Torch multiplies by 1/step, which may take a half to the other side.
    tie = ((x / step.view(-1, 1, 1) + zero.view(-1, 1, 1)) % 1 - 0.5).abs() < 1e-4
    assert tie.float().mean() < 1e-3
    assert torch.allclose(grid.round_(x.clone())[~tie], theirs[~tie], rtol=1e-6, atol=1e-7)
    assert len(set(theirs.flatten().tolist())) > 50 * 8


def test_rounds_as_the_fake_quantize_module_does() -> None:
    torch.manual_seed(2)
    weight = torch.randn(8, 5, 3, 3)
    module: nn.Module = FakeQuantize(  # type: ignore[no-untyped-call]
        MovingAveragePerChannelMinMaxObserver,
        quant_min=-127, quant_max=127, dtype=torch.qint8, qscheme=torch.per_channel_symmetric,
    )  # fmt: skip
    theirs = module(weight)
    grid = Grid(module.get_buffer("scale").view(-1, 1, 1, 1), -127, 127)
    assert torch.allclose(grid.round_(weight.clone()), theirs, rtol=1e-6, atol=0)


@settings(max_examples=200, deadline=None)
@given(
    x=st.floats(-100, 100, width=32),
    step=st.floats(0.0078125, 4, width=32),
    zero=st.integers(-20, 20),
    low=st.integers(-30, 0),
    size=st.integers(1, 60),
)
def test_rounds_as_the_definition_says(x: float, step: float, zero: int, low: int, size: int) -> None:
    grid = Grid(torch.tensor(step).double(), low, low + size, torch.tensor(float(zero)).double())
    value = grid.round_(torch.tensor([x]).double())
    wanted = scalar_fake_quantize(x, step, float(zero), low, low + size)
    assert float(value) == pytest.approx(wanted, rel=1e-12, abs=1e-12)
    assert torch.equal(grid.round_(value.clone()), value), "rounding twice is rounding once"


def test_zero_stays_zero_and_signs_do_not_flip() -> None:
    x = torch.tensor([[0.0, 0.04, -0.04, 0.06, -0.06, 9.0, -9.0]])
    rounded = Grid(torch.tensor([[0.1]]), -3, 3).round_(x.clone())
    assert torch.allclose(rounded, torch.tensor([[0.0, 0.0, 0.0, 0.1, -0.1, 0.3, -0.3]]))


# ------------------------------------------------------------------------------------------------------------ the twin


OPTIMIZERS: dict[str, tuple[float, float, MakeOptimizer]] = {
    "nesterov": (0.1, 0.02, lambda groups: torch.optim.SGD(groups, momentum=0.9, nesterov=True, weight_decay=1e-2)),
    "adamw": (0.02, 0.1, lambda groups: torch.optim.AdamW(groups, weight_decay=0.1)),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_equals_rounding_in_the_forward_pass(name: str) -> None:
    """Weights of every step, pruning first, then frozen."""
    lr, l1, make = OPTIMIZERS[name]
    net = make_net()
    twin = RoundedTwin(make_net(), PRUNED, l1, lattices(net))
    optimizer, twin_optimizer = make(make_groups(net, lr)), make(make_groups(twin.model, lr))  # type: ignore[arg-type]
    pruner = SoftThresholdPruner(optimizer, LATS(l1=l1), rounding=grids(net))
    for step in range(60):
        if step == 30:
            pruner.freeze()
            twin.mask()
        weights = twin.weights()
        for key, value in net.named_parameters():
            assert torch.equal(value, weights[key]), (step, key)
        backward(net, optimizer, step)
        backward(twin, twin_optimizer, step)
        optimizer.step()
        twin_optimizer.step()
        if step < 30:
            twin.advance([lr, 0.5 * lr])
    zeros = (net.hidden.weight == 0).double().mean()
    assert float((twin.masks["hidden.weight"] == 0).double().mean()) < float(zeros) < 1.0
    assert len(set(net.conv.weight.flatten().tolist())) > 10


def test_all_weights_lie_on_their_grids_and_the_rest_does_not() -> None:
    net = make_net(torch.float32)
    optimizer = torch.optim.SGD(make_groups(net, 0.1), momentum=0.9)
    given_grids = grids(net)
    pruner = SoftThresholdPruner(optimizer, LATS(l1=0.02), rounding=given_grids)
    for step in range(10):
        assert all(off_grid(p, grid) < 1e-5 for p, grid in given_grids.items())
        backward(net, optimizer, step, torch.float32)
        optimizer.step()
    assert 0 < pruner.sparsity() < 1
    assert pruner.parameters == (net.conv.weight, net.hidden.weight)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    pruner.finalize()
    assert all(torch.equal(p, before[name]) for name, p in net.named_parameters())
    assert off_grid(net.hidden.bias, given_grids[net.hidden.bias]) < 1e-5
    assert off_grid(net.head.weight, Grid(torch.tensor(0.05), LOW, HIGH)) > 0.1


def test_what_rounding_zeroed_may_come_back_and_what_was_pruned_may_not() -> None:
    layer = nn.Linear(3, 1, bias=False).double()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0.0, 0.04, 0.3]]))
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
    rounding = {layer.get_parameter("weight"): Grid(torch.tensor([[0.1]]), LOW, HIGH)}
    pruner = SoftThresholdPruner(optimizer, ConstantThreshold(0.0), rounding=rounding)
    pruner.freeze()
    assert torch.equal(layer.weight != 0, torch.tensor([[False, False, True]]))
    for _ in range(2):
        layer.weight.grad = torch.full_like(layer.weight, -0.02)
        optimizer.step()
    assert torch.allclose(layer.weight, torch.tensor([[0.0, 0.1, 0.3]]).double())  # 0.04 + 2·0.02 = 0.08
    assert pruner.sparsity() == pytest.approx(1 / 3)


def test_a_fan_in_cap_holds() -> None:
    net = make_net()
    optimizer = torch.optim.SGD(make_groups(net, 0.1))
    rounding = grids(net, size=0.1)
    SoftThresholdPruner(optimizer, LATS(l1=1e-3), fan_in=Cap(20, steps=10), rounding=rounding)
    train(net, optimizer, 0, 12)
    assert 10 < int((net.hidden.weight != 0).sum(1).max()) <= 20
    assert off_grid(net.hidden.weight, rounding[net.get_parameter("hidden.weight")]) < 1e-9


def test_costs_four_kernels_in_place_and_nothing_without_rounding() -> None:
    net = make_net()
    optimizer = torch.optim.SGD(make_groups(net, 0.1))
    counts = []
    one: dict[nn.Parameter, Grid] = {net.get_parameter("conv.weight"): Grid(torch.tensor(0.1), LOW, HIGH)}
    for rounding in ({}, one):
        pruner = SoftThresholdPruner(optimizer, LATS(l1=1e-3), rounding=rounding)
        backward(net, optimizer, 0)
        with counted_operations() as seen:
            optimizer.step()
        counts.append(seen)
        pruner.finalize()
    extra = counts[1] - counts[0]
    assert extra == {"aten.div_.Tensor": 1, "aten.round_.default": 1, "aten.clamp_.default": 1, "aten.mul_.Tensor": 1}


# ---------------------------------------------------------------------------------------------- resume, outside writes


@pytest.mark.parametrize("frozen", [False, True])
def test_resumes_bit_for_bit_on_the_grids_it_was_saved_with(frozen: bool) -> None:
    def build(size: float) -> tuple[Any, Any, Any]:
        net = make_net()
        optimizer = torch.optim.SGD(make_groups(net, 0.1), momentum=0.9)
        return net, optimizer, SoftThresholdPruner(optimizer, LATS(l1=0.02), rounding=grids(net, size))

    net, optimizer, pruner = build(1.0)
    train(net, optimizer, 0, 10)
    if frozen:
        pruner.freeze()
    train(net, optimizer, 10, 15)
    file = io.BytesIO()
    torch.save([part.state_dict() for part in (net, optimizer, pruner)], file)
    train(net, optimizer, 15, 25)
    file.seek(0)
    again = build(1.7)
    for part, state in zip(again, torch.load(file, weights_only=True), strict=True):
        part.load_state_dict(state)
    assert again[2].frozen is frozen
    train(again[0], again[1], 15, 25)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), again[0].parameters(), strict=True))
    theirs = again[2].state_dict()["latents"]
    assert all(torch.equal(theta, theirs[index]) for index, theta in pruner.state_dict()["latents"].items())
    assert not torch.equal(theirs[0], net.conv.weight), "latents are what is not rounded yet"


@pytest.mark.parametrize("frozen", [False, True])
def test_weights_written_from_outside_are_adopted_and_equal_ones_change_nothing(frozen: bool) -> None:
    net = make_net()
    optimizer = torch.optim.SGD(make_groups(net, 0.0))
    pruner = SoftThresholdPruner(optimizer, ConstantThreshold(0.01), rounding=grids(net))
    if frozen:
        pruner.freeze()
    before, state = copy.deepcopy(pruner.state_dict()["latents"]), copy.deepcopy(net.state_dict())
    net.load_state_dict(state)  # a write of the same values
    assert all(torch.equal(theta, before[index]) for index, theta in pruner.state_dict()["latents"].items())
    with torch.no_grad():
        net.hidden.weight[0, 0] += 0.031
        net.hidden.bias[3] += 0.017
    written = {name: p.detach().clone() for name, p in net.named_parameters()}
    after = pruner.state_dict()["latents"]
    changed = {index: int((after[index] != before[index]).sum()) for index in before}
    assert changed == {0: 0, 1: 1, 2: 1}
    assert torch.equal(after[2], torch.where(before[2] == after[2], before[2], written["hidden.bias"]))
    assert all(torch.equal(p, written[name]) for name, p in net.named_parameters())
    train(net, optimizer, 0, 1)
    for key in ("hidden.weight", "hidden.bias"):
        assert off_grid(net.get_parameter(key), grids(net)[net.get_parameter(key)]) < 1e-9
        assert float((net.get_parameter(key).detach() - written[key]).abs().max()) < 0.04


def test_a_model_that_is_cast_between_steps_stays_on_its_grids() -> None:
    net = make_net()
    optimizer = torch.optim.SGD(make_groups(net, 0.1))
    SoftThresholdPruner(optimizer, LATS(l1=0.02), rounding=grids(net))
    train(net, optimizer, 0, 2)
    net.float()
    backward(net, optimizer, 2, torch.float32)
    optimizer.step()
    assert net.conv.weight.dtype == torch.float32
    assert all(off_grid(p, grid) < 1e-5 for p, grid in grids(net).items())


def test_a_step_that_fails_leaves_rounded_weights() -> None:
    net = make_net()
    optimizer = torch.optim.SGD(make_groups(net, 0.1))
    SoftThresholdPruner(optimizer, LATS(l1=0.02), rounding=grids(net))
    train(net, optimizer, 0, 3)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    backward(net, optimizer, 3)
    assert net.hidden.bias.grad is not None
    net.hidden.bias.grad[0] = float("nan")
    with pytest.raises(FloatingPointError, match="the step was not taken"):
        optimizer.step()
    assert all(torch.equal(p, before[name]) for name, p in net.named_parameters())


# ------------------------------------------------------------------------------------------------------------ refusals


def refused(
    message: str, rounding: Callable[[Net], Any], schedule: Any = None, kind: type[Exception] = ValueError
) -> None:
    net = make_net()
    before = copy.deepcopy(net.state_dict())
    optimizer = torch.optim.SGD(make_groups(net, 0.1))
    with pytest.raises(kind, match=message):
        SoftThresholdPruner(optimizer, schedule or LATS(l1=0.1), rounding=rounding(net))
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    SoftThresholdPruner(optimizer, LATS(l1=0.1)).finalize()  # nothing was left behind


def test_refuses_grids_that_cannot_be() -> None:
    step = torch.tensor([[0.1]])
    refused("not the optimizer's", lambda _: {nn.Linear(2, 2).weight: Grid(step, LOW, HIGH)})
    refused(r"shape \(3, 1\) does not\s+broadcast", lambda n: {n.hidden.weight: Grid(step.expand(3, 1), LOW, HIGH)})
    refused(r"shape \(1, 1\) does not\s+broadcast", lambda n: {n.hidden.bias: Grid(step, LOW, HIGH)})
    refused("does not hold 0.0", lambda n: {n.hidden.weight: Grid(step, 1, HIGH)})
    refused("does not hold 0.0", lambda n: {n.hidden.weight: Grid(step, LOW, HIGH, torch.tensor(0.5))})
    refused("expected rounding=", lambda n: {n.hidden.weight: 0.1}, kind=TypeError)
    refused("expected rounding=", lambda n: [n.hidden.weight], kind=TypeError)
    refused("STR learns from the true gradient", grids, STR())


def test_refuses_steps_that_are_none() -> None:
    for bad in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="step must be finite and above 0"):
            Grid(torch.tensor([0.1, bad]), LOW, HIGH)
    with pytest.raises(ValueError, match="zero_point must be finite"):
        Grid(torch.tensor(0.1), LOW, HIGH, torch.tensor(float("nan")))
    with pytest.raises(ValueError, match="quant_min 3 must be below quant_max 3"):
        Grid(torch.tensor(0.1), 3, 3)


def test_refuses_the_state_of_a_pruner_that_rounds_other_parameters() -> None:
    net = make_net()
    optimizer = torch.optim.SGD(make_groups(net, 0.1))
    weights = {p: grid for p, grid in grids(net).items() if p.dim() > 1}
    pruner = SoftThresholdPruner(optimizer, LATS(l1=0.1), rounding=weights)
    state = copy.deepcopy(pruner.state_dict())
    pruner.finalize()
    plain = SoftThresholdPruner(optimizer, LATS(l1=0.1))
    with pytest.raises(ValueError, match="the state has 2 rounded parameters, here are 0"):
        plain.load_state_dict(state)
    plain.load_state_dict({key: value for key, value in plain.state_dict().items() if key != "grids"})  # an older state
    plain.finalize()


# ---------------------------------------------------------------------------------------------------------- batch-norm


def test_batch_norm_holds_still_and_the_rest_trains() -> None:
    norm = nn.BatchNorm1d(6)
    model = nn.Sequential(nn.Linear(4, 6), nn.Sequential(nn.BatchNorm1d(6)), norm, nn.Dropout(0.5))
    model(torch.randn(16, 4))
    before = copy.deepcopy(model.state_dict())
    with frozen_batch_norm(model):
        model.train()
        assert (model(torch.randn(16, 4)) == 0).any(), "dropout is on"
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    with pytest.raises(KeyError), frozen_batch_norm(model):
        raise KeyError
    assert all(m.training for m in model.modules())
    model(torch.randn(16, 4))
    assert not torch.equal(norm.get_buffer("running_mean"), before["2.running_mean"])


def test_soft_threshold_comes_before_rounding() -> None:
    layer = nn.Linear(5, 4, bias=False).double()
    theta = layer.weight.detach().clone()
    step = torch.full((4, 1), 0.07).double()
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    rounding = {layer.get_parameter("weight"): Grid(step, LOW, HIGH)}
    SoftThresholdPruner(optimizer, ConstantThreshold(0.1), rounding=rounding)
    assert torch.equal(layer.weight, rounding[layer.get_parameter("weight")].round_(soft_threshold(theta, 0.1)))
