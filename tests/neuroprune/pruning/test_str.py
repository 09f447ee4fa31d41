"""STR against a twin that reparameterises the forward pass and leaves the gradients to autograd."""

from __future__ import annotations

import copy
import io
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from neuroprune import STR, SoftThresholdPruner
from neuroprune.schedules import LearnedThreshold, threshold_slope
from tests.twins.str_ import LearnedThresholdTwin

STEPS = 60
RULE = STR(s_init=-4.0, weight_decay=2e-2, momentum=0.9)
RATES = (0.1, 0.04)
"""Of the first two pruned layers, and of the third; the head is not pruned."""
PRUNED = ["0.weight", "3.weight", "5.weight"]
MakeOptimizer = Callable[[list[dict[str, Any]]], Optimizer]
OPTIMIZERS: dict[str, tuple[float, MakeOptimizer]] = {
    # name: (factor on the learning rates of θ, factory)
    "SGD": (1.0, lambda g: SGD(g)),
    "momentum": (0.5, lambda g: SGD(g, momentum=0.9, weight_decay=1e-2)),
    "Nesterov": (0.5, lambda g: SGD(g, momentum=0.9, nesterov=True, weight_decay=1e-2)),
    "Adam": (0.2, lambda g: Adam(g, weight_decay=1e-2)),
    "AdamW": (0.2, lambda g: AdamW(g, weight_decay=0.1)),
}


def make_net(dtype: torch.dtype = torch.float64, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 9), nn.Linear(9, 3)
    ).to(dtype)


def groups(net: nn.Module, factor: float) -> list[dict[str, Any]]:
    assert isinstance(net, nn.Sequential)
    return [
        {"params": [*net[0].parameters(), *net[3].parameters()], "lr": factor * RATES[0]},
        {"params": list(net[5].parameters()), "lr": factor * RATES[1]},
        {"params": list(net[6].parameters()), "lr": factor * RATES[0], "prune": False},
    ]


def backward(model: nn.Module, step: int, dtype: torch.dtype = torch.float64) -> None:
    generator = torch.Generator().manual_seed(500 + step)
    x = torch.randn(8, 2, 6, 6, generator=generator, dtype=torch.float64).to(dtype)
    y = torch.randn(8, 3, generator=generator, dtype=torch.float64).to(dtype)
    model.zero_grad()
    (model(x) - y).square().mean().backward()


def applied(pruner: SoftThresholdPruner) -> list[float]:
    return [float(pruner.state_dict()["applied"][index]) for index in (0, 2, 4)]


def set_rates(optimizer: Optimizer, factors: list[float], step: int) -> None:
    """A learning rate that falls from step to step."""
    for group, factor in zip(optimizer.param_groups, factors, strict=True):
        group["lr"] = factor * (1 - 0.5 * step / STEPS)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-5)], ids=str)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_equals_autograd_through_the_reparameterised_forward_pass(
    name: str, dtype: torch.dtype, tolerance: float
) -> None:
    factor, make = OPTIMIZERS[name]
    net, twin = make_net(dtype), LearnedThresholdTwin(make_net(dtype), PRUNED, RULE.s_init)
    optimizer, twin_optimizer = make(groups(net, factor)), make(groups(twin.model, factor))
    rates = [float(group["lr"]) for group in optimizer.param_groups]
    s_rates = [rates[0], rates[0], rates[1]]
    s_optimizer = SGD([{"params": [s], "lr": lr} for s, lr in zip(twin.s, s_rates, strict=True)],
                      momentum=RULE.momentum, weight_decay=RULE.weight_decay)  # fmt: skip
    pruner = SoftThresholdPruner(optimizer, RULE)
    came_back, zero = 0, torch.zeros(12, 64, dtype=torch.bool)
    for step in range(STEPS):
        set_rates(optimizer, rates, step)
        set_rates(twin_optimizer, rates, step)
        set_rates(s_optimizer, s_rates, step)
        backward(net, step, dtype)
        backward(twin, step, dtype)
        for each in (optimizer, twin_optimizer, s_optimizer):
            each.step()
        for key, weight in twin.weights().items():
            difference = (net.get_parameter(key) - weight).abs().max().item()
            assert difference <= tolerance, f"{key} differs by {difference} after step {step}"
        assert applied(pruner) == pytest.approx(twin.thresholds, rel=10 * tolerance)
        came_back += int((zero & (net.get_parameter("3.weight").detach() != 0)).sum())
        zero = net.get_parameter("3.weight").detach() == 0
    # The comparison has force: zeros, thresholds of their own, and under Adam weights that return.
    assert 0.05 < pruner.sparsity() < 0.95
    assert len({round(d, 6) for d in applied(pruner)}) == 3
    assert came_back > 0 or not name.startswith("Adam")
    assert int((net.get_parameter("6.weight").detach() == 0).sum()) == 0


def test_thresholds_of_a_group_are_reported_by_their_mean() -> None:
    net = make_net()
    pruner = SoftThresholdPruner(optimizer := SGD(groups(net, 1.0)), RULE)
    for step in range(10):
        backward(net, step)
        optimizer.step()
    conv, hidden, third = applied(pruner)
    sizes = [net.get_parameter(f"{i}.weight").numel() for i in (0, 3)]
    assert pruner.thresholds[0] == pytest.approx((sizes[0] * conv + sizes[1] * hidden) / sum(sizes))
    assert pruner.thresholds[1] == pytest.approx(third)
    assert pruner.threshold == pruner.thresholds[0]


def test_zero_weights_get_no_gradient() -> None:
    net = make_net()
    pruner = SoftThresholdPruner(optimizer := SGD(groups(net, 1.0)), STR(s_init=-2.0, weight_decay=0.0, momentum=0.0))
    backward(net, 0)
    theta = copy.deepcopy(pruner.state_dict()["latents"])
    parameters = dict(zip((0, 2, 4), pruner.parameters, strict=True))
    zeros = {index: p.detach() == 0 for index, p in parameters.items()}
    assert all(0 < int(mask.sum()) < mask.numel() for mask in zeros.values())
    expected = {i: theta[i] - optimizer.param_groups[i // 4]["lr"] * p.grad for i, p in parameters.items()}
    optimizer.step()
    after = pruner.state_dict()["latents"]
    for index, mask in zeros.items():
        assert torch.equal(after[index][mask], theta[index][mask])
        assert torch.equal(after[index][~mask], expected[index][~mask])
        assert not torch.equal(after[index][~mask], theta[index][~mask])


def test_a_layer_without_gradient_moves_by_weight_decay_alone() -> None:
    net, unused = make_net(), nn.Parameter(torch.randn(4, 4, dtype=torch.float64))
    optimizer = SGD([*groups(net, 1.0), {"params": [unused], "lr": 0.3}])
    pruner = SoftThresholdPruner(optimizer, RULE)
    s = nn.Parameter(torch.tensor(RULE.s_init, dtype=torch.float64))
    alone = SGD([s], lr=0.3, momentum=RULE.momentum, weight_decay=RULE.weight_decay)
    for step in range(5):
        backward(net, step)
        optimizer.step()
        s.grad = torch.zeros_like(s)
        alone.step()
    assert pruner.thresholds[3] == pytest.approx(torch.sigmoid(s).item(), rel=1e-12)


def test_a_gradient_that_went_away_leaves_nothing_behind() -> None:
    """A layer that had a gradient in one step and none in the next: only momentum and decay move s."""
    net = make_net()
    pruner = SoftThresholdPruner(optimizer := SGD(groups(net, 1.0)), RULE)
    backward(net, 0)
    optimizer.step()
    (s, velocity), lr = pruner.state_dict()["learned"][2], optimizer.param_groups[0]["lr"]
    optimizer.zero_grad(set_to_none=True)
    optimizer.step()
    velocity = RULE.momentum * velocity + RULE.weight_decay * s
    assert pruner.state_dict()["learned"][2] == pytest.approx((s - lr * velocity, velocity), rel=1e-12)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_resume_is_bit_for_bit(name: str) -> None:
    factor, make = OPTIMIZERS[name]

    def start(seed: int) -> tuple[nn.Sequential, Optimizer, SoftThresholdPruner]:
        net = make_net(torch.float32, seed)
        optimizer = make(groups(net, factor))
        return net, optimizer, SoftThresholdPruner(optimizer, RULE)

    def train(run: tuple[nn.Sequential, Optimizer, SoftThresholdPruner], first: int, last: int) -> None:
        for step in range(first, last):
            backward(run[0], step, torch.float32)
            run[1].step()

    whole, resumed = start(0), start(9)
    train(whole, 0, 23)
    buffer = io.BytesIO()
    torch.save([part.state_dict() for part in whole], buffer)
    train(whole, 23, STEPS)
    buffer.seek(0)
    parts: tuple[Any, ...] = resumed
    for part, state in zip(parts, torch.load(buffer, weights_only=True), strict=True):
        part.load_state_dict(state)
    train(resumed, 23, STEPS)
    assert all(torch.equal(a, b) for a, b in zip(resumed[0].parameters(), whole[0].parameters(), strict=True))
    assert resumed[2].state_dict()["learned"] == whole[2].state_dict()["learned"]
    assert resumed[2].thresholds == whole[2].thresholds


def test_a_layer_keeps_to_its_cap_whatever_its_threshold_learns() -> None:
    net = make_net()
    capped = [{**group, "max_sparsity": 0.3} for group in groups(net, 1.0)]
    pruner = SoftThresholdPruner(optimizer := SGD(capped), STR(s_init=-1.0, weight_decay=1e-2))
    for step in range(STEPS):
        backward(net, step)
        optimizer.step()
        assert all(float((p == 0).double().mean()) <= 0.3 for p in pruner.parameters)
    assert 0.25 < pruner.sparsity() <= 0.3


@settings(max_examples=50, deadline=None)
@given(
    s=st.floats(-20, 20), velocity=st.floats(-1, 1), slope=st.floats(-10, 10), lr=st.floats(0, 1),
    momentum=st.floats(0, 0.99), decay=st.floats(0, 0.1),
)  # fmt: skip
def test_a_step_on_s_is_torchs(
    s: float, velocity: float, slope: float, lr: float, momentum: float, decay: float
) -> None:
    parameter = nn.Parameter(torch.tensor(s, dtype=torch.float64))
    optimizer = SGD([parameter], lr=lr, momentum=momentum, weight_decay=decay)
    optimizer.state[parameter]["momentum_buffer"] = torch.tensor(velocity, dtype=torch.float64)
    torch.autograd.backward(slope * torch.sigmoid(parameter))
    optimizer.step()
    found = STR(momentum=momentum, weight_decay=decay).learn(LearnedThreshold(s, velocity), slope, lr)
    assert found.s == pytest.approx(parameter.item(), rel=1e-9, abs=1e-12)
    assert found.threshold == pytest.approx(torch.sigmoid(parameter).item(), rel=1e-9)


def test_slope_is_autograds() -> None:
    theta = torch.randn(5, 7, dtype=torch.float64)
    threshold = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(5, 7, dtype=torch.float64)
    weight: Tensor = torch.sign(theta) * torch.relu(theta.abs() - threshold)
    torch.autograd.backward((weight * upstream).sum())
    assert threshold.grad is not None
    assert float(threshold_slope(upstream, weight.detach())) == pytest.approx(threshold.grad.item(), rel=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"s_init": math.nan}, "s_init must be a finite number, got nan"),
        ({"s_init": math.inf}, "s_init"),
        ({"weight_decay": -1e-3}, "weight_decay must be"),
        ({"momentum": 1.0}, r"momentum must lie in 0 … 1.*got 1\.0"),
        ({"momentum": -0.1}, "momentum"),
    ],
)
def test_values_out_of_range_are_named(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        STR(**arguments)


@pytest.mark.parametrize("s", [-1e4, 1e4])
def test_extreme_s_does_not_overflow(s: float) -> None:
    assert LearnedThreshold(s).threshold == (0.0 if s < 0 else 1.0)
