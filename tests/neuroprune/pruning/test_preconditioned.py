"""Thresholds in the optimizer's metric: the proximal step there, LASSO and a quadratic as oracles, and a slow twin."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.optim import SGD, Adagrad, Adam, AdamW, NAdam, Optimizer, RMSprop
from torch.optim.lr_scheduler import CosineAnnealingLR

from neuroprune import (
    LATS,
    PGH,
    STR,
    Cap,
    ConstantThreshold,
    Garrote,
    HardThreshold,
    Preconditioner,
    ProximalMap,
    Schedule,
    SoftThreshold,
    SoftThresholdPruner,
    SparsityRamp,
    STDSLinear,
)
from tests.builders.run import Groups, same
from tests.twins.pruner import ReparameterisedTwin

MAPS: dict[str, ProximalMap] = {"soft": SoftThreshold(), "hard": HardThreshold(), "garrote": Garrote()}
MakeOne = Callable[[list[nn.Parameter]], Optimizer]

# ---------------------------------------------------------------------------------------------------------- the maths

OPTIMIZERS: dict[str, MakeOne] = {
    "Adam": lambda p: Adam(p, lr=0.01, betas=(0.0, 0.9)),
    "AdamW": lambda p: AdamW(p, lr=0.01, betas=(0.0, 0.99), weight_decay=0.0),
    "amsgrad": lambda p: Adam(p, lr=0.01, betas=(0.0, 0.9), amsgrad=True),
    "NAdam": lambda p: NAdam(p, lr=0.01, betas=(0.0, 0.9)),
    "RMSprop": lambda p: RMSprop(p, lr=0.01),
    "centered": lambda p: RMSprop(p, lr=0.01, centered=True),
    "Adagrad": lambda p: Adagrad(p, lr=0.01),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_metric_is_what_the_optimizer_divided_its_step_by(name: str) -> None:
    from neuroprune.pruning.metric import has_stepped, metric

    parameter = nn.Parameter(torch.randn(4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))
    optimizer = OPTIMIZERS[name]([parameter])
    assert not has_stepped(optimizer, parameter)
    for step in range(6):  # without momentum a step is −η·g/h
        before = parameter.detach().clone()
        gradient = torch.randn(4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2 + step))
        parameter.grad = gradient
        optimizer.step()
        assert has_stepped(optimizer, parameter)
        expected = -0.01 * gradient / (parameter.detach() - before)
        assert torch.allclose(metric(optimizer, parameter, optimizer.param_groups[0]), expected, rtol=1e-9)


def cost_in_the_metric(name: str, w: Tensor, theta: float, h: float, t: float) -> Tensor:
    """½h(w − θ)² + t·|w| (soft), + ½t²·[w ≠ 0] (hard), + t²·w/θ for 0 ≤ w/θ (garrote, as Breiman states it)."""
    square = 0.5 * h * (w - theta).square()
    if name == "soft":
        return square + t * w.abs()
    if name == "hard":
        return square + 0.5 * t * t * (w != 0)
    return square + torch.where(w / theta >= 0, t * t * w / theta, math.inf)


@settings(max_examples=60, deadline=None)
@given(theta=st.floats(0.01, 3) | st.floats(-3, -0.01), h=st.floats(0.01, 100), t=st.floats(0, 2))
@pytest.mark.parametrize("name", MAPS)
def test_a_threshold_scaled_by_its_power_is_the_proximal_step_of_the_metric(
    name: str, theta: float, h: float, t: float
) -> None:
    proximal = MAPS[name]
    d = t / float(proximal.scale_(torch.tensor(h, dtype=torch.float64)))
    weight = torch.empty(1, dtype=torch.float64)
    proximal.write(torch.tensor([theta], dtype=torch.float64), d, weight)
    grid = torch.cat([torch.linspace(-4, 4, 8001, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)])
    found, best = (cost_in_the_metric(name, w, theta, h, t) for w in (weight, grid))
    assert float(found) <= float(best.min()) + 1e-9


def test_reaches_the_lasso_solution_with_adam_in_units_of_the_loss() -> None:
    """argmin ½‖Xw − y‖² + μ‖w‖₁ with features of scales from 0.3 to 3; the plain threshold, whose μ is in units of what
    Adam divides by, ends elsewhere."""
    from sklearn.linear_model import Lasso  # takes a second

    rng = np.random.default_rng(0)
    samples, features = 60, 20
    design = rng.standard_normal((samples, features)) * np.geomspace(0.3, 3, features)[rng.permutation(features)]
    truth = np.where(np.arange(features) < 6, rng.choice([-1.0, 1.0], features) * rng.uniform(0.5, 2.0, features), 0.0)
    target = design @ truth + 0.5 * rng.standard_normal(samples)
    l1 = 0.1 * float(np.abs(design.T @ target).max())
    oracle = Lasso(alpha=l1 / samples, fit_intercept=False, tol=1e-12, max_iter=100_000).fit(design, target).coef_
    x, y = torch.from_numpy(design), torch.from_numpy(target)

    def fitted(precondition: Preconditioner | None) -> tuple[Any, float]:
        layer = nn.Linear(features, 1, bias=False, dtype=torch.float64)
        nn.init.zeros_(layer.weight)
        optimizer = Adam(layer.parameters(), lr=0.02)
        scheduler = CosineAnnealingLR(optimizer, 3000)
        pruner = SoftThresholdPruner(optimizer, LATS(l1=l1), precondition=precondition)
        for _ in range(3000):
            optimizer.zero_grad()
            (0.5 * (layer(x).squeeze(1) - y).square().sum()).backward()
            optimizer.step()
            scheduler.step()
        return layer.weight.detach().squeeze(0).numpy(), pruner.l1

    found, reported = fitted(Preconditioner())
    assert reported == pytest.approx(l1)
    assert np.abs(found - oracle).max() < 1e-2
    assert ((found != 0) == (oracle != 0)).all()
    plain, _ = fitted(None)
    assert np.abs(plain - oracle).max() > 0.1


def test_keeps_the_weights_that_a_quadratic_misses_most() -> None:
    """L = ½Σ a(w − w*)², seen through noise of w*: then √v ∝ a, and the best k weights have the largest a·w*²."""
    generator = torch.Generator().manual_seed(4)
    curvature = torch.exp(4 * torch.rand(16, 16, generator=generator) - 2)
    optimum = torch.randn(16, 16, generator=generator)
    worth = curvature * optimum.square()

    def lost(precondition: Preconditioner | None) -> float:
        """What pruning costs of the loss, in units of the least that it can cost."""
        weight = nn.Parameter(optimum.clone())
        optimizer = Adam([weight], lr=1e-5)
        ramp = SparsityRamp(0.75, 1000)
        SoftThresholdPruner(optimizer, ramp, proximal=HardThreshold(), precondition=precondition)
        for _ in range(1000):
            noisy = optimum + 3.0 * torch.randn(16, 16, generator=generator)
            weight.grad = curvature * (weight.detach() - noisy)
            optimizer.step()
        return float(worth[weight.detach() == 0].sum() / worth.flatten().sort().values[:192].sum())

    plain, damped, exact = (lost(p) for p in (None, Preconditioner(damping=1.0), Preconditioner()))
    assert exact < 1.1
    assert exact < damped < plain - 0.2


# ----------------------------------------------------------------------------------------------------------- the twin

STEPS, LR = 40, 0.01


class Net(nn.Module):
    """A convolution and a linear layer in float64."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.conv = nn.Conv2d(2, 4, 3).double()
        self.head = nn.Linear(64, 3).double()

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.head(torch.relu(self.conv(x)).flatten(1))
        return scores


def backward(model: nn.Module, optimizer: Optimizer, step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(8, 2, 6, 6, generator=generator, dtype=torch.float64)
    y = torch.randn(8, 3, generator=generator, dtype=torch.float64)
    optimizer.zero_grad()
    (model(x) - y).square().mean().backward()


def divisor(optimizer: Optimizer, parameter: nn.Parameter, damping: float) -> Tensor:
    """h, by hand."""
    state = optimizer.state[parameter]
    h: Tensor = torch.sqrt(state["exp_avg_sq"] / (1 - 0.999 ** int(state["step"]))) + 1e-8
    return h + damping * h.mean()


# Growth of the group's threshold in step t, from the definitions.
GROWING: dict[str, tuple[Schedule, Callable[[int], float]]] = {
    "LATS": (LATS(l1=0.05), lambda _: 0.05 * LR),
    "PGH": (PGH(0.1, 0.1, STEPS), lambda t: 0.1 * 0.1 ** (t / STEPS) * LR),
    "STDSLinear": (STDSLinear(0.02, STEPS), lambda _: 0.02 / STEPS),
}
POWER = {"soft": 1.0, "hard": 0.5, "garrote": 0.5}
NAMES = ["conv.weight", "head.weight"]


@pytest.mark.parametrize("damping", [0.0, 0.7])
@pytest.mark.parametrize("proximal", MAPS)
@pytest.mark.parametrize("name", [*GROWING, "SparsityRamp"])
def test_equals_its_reparameterised_twin(name: str, proximal: str, damping: float) -> None:
    net, twin = Net(), ReparameterisedTwin(Net(), [[n] for n in NAMES], 0.0, proximal)
    optimizer, twin_optimizer = (AdamW(m.parameters(), lr=LR, weight_decay=0.1) for m in (net, twin))
    schedule = GROWING[name][0] if name in GROWING else SparsityRamp(0.8, STEPS, every=4)
    pruner = SoftThresholdPruner(
        optimizer, schedule, proximal=MAPS[proximal], precondition=Preconditioner(damping=damping)
    )
    for step in range(STEPS):
        backward(net, optimizer, step)
        backward(twin, twin_optimizer, step)
        optimizer.step()
        twin_optimizer.step()
        scales = [divisor(twin_optimizer, twin.model.get_parameter(n), damping) ** POWER[proximal] for n in NAMES]
        if name in GROWING:
            grown = GROWING[name][1](step)
            twin.thresholds = [d + grown / s for d, s in zip(twin.thresholds, scales, strict=True)]
        elif (step + 1) % 4 == 0:
            ranks = [(twin.model.get_parameter(n).abs() * s).flatten() for n, s in zip(NAMES, scales, strict=True)]
            wanted = 0.8 * (1 - max(0.0, 1 - (step + 1) / 20) ** 3)
            t = sorted(torch.cat(ranks).tolist())[math.ceil(wanted * 264) - 1] * (1 + 1e-12)  # t/s rounds either way
            twin.thresholds = [t / s for s in scales]
            assert pruner.sparsity() == math.ceil(wanted * 264) / 264
        for key, weight in twin.weights().items():
            assert (net.get_parameter(key) - weight).abs().max().item() < 1e-9, f"{key} after step {step}"
    assert 0.05 < pruner.sparsity() < 1.0


# --------------------------------------------------------------------------------------------------------- the pruner


class Run:
    """A net with a cap on its first layer, Adam, an LR scheduler and a preconditioned pruner."""

    def __init__(self, schedule: str, proximal: ProximalMap, steps: int, **arguments: Any) -> None:
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 8))
        groups: Groups = [
            {"params": list(self.net[0].parameters()), "max_sparsity": 0.85},
            {"params": list(self.net[2].parameters())},
        ]
        self.optimizer = Adam(groups, lr=0.01)
        self.scheduler = CosineAnnealingLR(self.optimizer, steps)
        rule: Schedule = SparsityRamp(0.8, steps)
        if schedule == "LATS":
            rule = LATS.for_sparsity(0.8, self.scheduler, steps)
        given: dict[str, Any] = {"precondition": Preconditioner(damping=0.5), **arguments}
        self.pruner = SoftThresholdPruner(self.optimizer, rule, proximal=proximal, **given)

    @property
    def first(self) -> Tensor:
        """The first layer's weights."""
        return self.net.get_parameter("0.weight")

    def train(self, first: int, last: int) -> None:
        for step in range(first, last):
            x = torch.randn(32, 32, generator=torch.Generator().manual_seed(step))
            y = x[:, :8].roll(1, 1) * x[:, 8:16].sign()
            self.optimizer.zero_grad()
            (self.net(x) - y).square().mean().backward()
            self.optimizer.step()
            self.scheduler.step()

    def state(self) -> list[Any]:
        return copy.deepcopy([p.state_dict() for p in (self.net, self.optimizer, self.scheduler, self.pruner)])


@pytest.mark.parametrize("schedule", ["LATS", "SparsityRamp"])
@pytest.mark.parametrize("name", MAPS)
def test_reaches_its_target_under_caps_and_resumes_bit_for_bit(name: str, schedule: str) -> None:
    steps = 120
    run = Run(schedule, MAPS[name], steps)
    most = 0.0
    for step in range(50):
        run.train(step, step + 1)
        most = max(most, float(torch.eq(run.first, 0).double().mean()))
    assert most <= 0.85
    saved = run.state()
    assert saved[3]["precondition"] == "Preconditioner(damping=0.5)"
    run.train(50, steps)
    size = 32 * 64 + 64 * 8
    assert abs(run.pruner.sparsity() - 0.8) <= (1e-3 if schedule == "LATS" else 1 / size)
    assert float(torch.eq(run.first, 0).double().mean()) <= 0.85
    resumed = Run(schedule, MAPS[name], steps)
    parts: list[Any] = [resumed.net, resumed.optimizer, resumed.scheduler, resumed.pruner]
    for part, state in zip(parts, saved, strict=True):
        part.load_state_dict(state)
    resumed.train(50, steps)
    assert same(resumed.state(), run.state())


def test_holds_two_copies_of_the_weights_and_no_more() -> None:
    run = Run("SparsityRamp", HardThreshold(), 40)
    run.train(0, 10)
    state, size = run.pruner.state_dict(), 32 * 64 + 64 * 8
    held = [tensor for key in ("latents", "applied", "masks") for tensor in state[key].values()]
    assert sum(tensor.numel() for tensor in held) == 2 * size
    assert {tensor.dtype for tensor in held} == {torch.float32}


def test_stopped_early_it_leaves_its_present_weights_and_says_where_it_is() -> None:
    run = Run("SparsityRamp", HardThreshold(), 40)
    run.train(0, 12)
    before, reached = run.first.detach().clone(), run.pruner.sparsity()
    with pytest.warns(UserWarning, match=rf"planned for 40 steps and stopped after 12: {100 * reached:.2f} %.*80.00 %"):
        run.pruner.finalize()
    assert 0 < reached < 0.8
    assert torch.equal(run.first, before)


def test_a_copy_is_preconditioned_too() -> None:
    run = Run("SparsityRamp", HardThreshold(), 40)
    run.train(0, 10)
    _, _, pruner = copy.deepcopy((run.net, run.optimizer, run.pruner))
    assert same(pruner.state_dict(), run.pruner.state_dict())


def test_a_ramp_ends_within_a_limit_on_fan_in_and_at_its_target() -> None:
    run = Run("SparsityRamp", HardThreshold(), 100, fan_in=Cap(9, steps=100))
    run.train(0, 100)
    for weight in (run.first, run.net.get_parameter("2.weight")):
        assert int(torch.count_nonzero(weight, dim=1).max()) <= 9
    assert run.pruner.sparsity() == pytest.approx(0.8, abs=1 / (32 * 64 + 64 * 8))


def test_what_never_had_a_gradient_ranks_below_all_others_and_is_not_charged_by_a_growing_threshold() -> None:
    def trained(schedule: Schedule) -> list[float]:
        torch.manual_seed(2)
        used, unused = nn.Linear(8, 8), nn.Linear(4, 4)
        optimizer = Adam([*used.parameters(), *unused.parameters()], lr=0.01)
        SoftThresholdPruner(optimizer, schedule, proximal=HardThreshold(), precondition=Preconditioner())
        for step in range(20):
            optimizer.zero_grad()
            used(torch.randn(8, 8, generator=torch.Generator().manual_seed(step))).square().mean().backward()
            optimizer.step()
        return [float(torch.eq(layer.weight, 0).double().mean()) for layer in (used, unused)]

    assert trained(SparsityRamp(0.25, 20)) == [pytest.approx(4 / 64), 1.0]
    pruned, untouched = trained(LATS(l1=0.3))
    assert pruned > 0.1
    assert untouched == 0.0


def test_a_state_of_another_scaling_is_refused_and_nothing_changes() -> None:
    run, plain = (Run("SparsityRamp", HardThreshold(), 40, precondition=p) for p in (Preconditioner(), None))
    run.train(0, 10)
    before = plain.state()
    with pytest.raises(ValueError, match=r"precondition=Preconditioner\(damping=0\.0\), this pruner has None"):
        plain.pruner.load_state_dict(run.pruner.state_dict())
    assert same(plain.state(), before)
    state = plain.pruner.state_dict()
    del state["precondition"]  # states from before there was any
    plain.pruner.load_state_dict(state)
    with pytest.raises(ValueError, match="precondition=None"):
        run.pruner.load_state_dict(state)


def test_what_has_no_metric_is_refused_by_name() -> None:
    def refused(message: str, optimizer: type[Any] = Adam, schedule: Schedule | None = None, **given: Any) -> None:
        made = optimizer(nn.Linear(3, 3).parameters(), lr=0.1)
        arguments = {"precondition": Preconditioner(), **given}
        with pytest.raises((TypeError, ValueError), match=message):
            SoftThresholdPruner(made, schedule or LATS(l1=0.1), **arguments)
        assert not made._optimizer_step_pre_hooks

    refused(r"Adam, AdamW, NAdam, RMSprop or Adagrad divide their steps by, and SGD is none", SGD)
    refused("STR has thresholds before the first step", schedule=STR())
    refused("ConstantThreshold has thresholds before the first step", schedule=ConstantThreshold(0.1))
    refused("those of LATS, cannot be raised for a limit on synapses; use SparsityRamp", fan_in=Cap(2, steps=5))
    refused(r"expected precondition=Preconditioner\(\), got True", precondition=True)
    with pytest.raises(ValueError, match=r"damping must be a finite number >= 0, got -1"):
        Preconditioner(damping=-1)
    with pytest.raises(ValueError, match=r"damping must be at most 1e\+06, got 1e\+300; .* leave precondition out"):
        Preconditioner(damping=1e300)
    with pytest.raises(ValueError, match=r"damping must be at most 1e\+06, got 2e\+06"):
        Preconditioner(damping=torch.tensor([2e6]))  # type: ignore[arg-type]  # refused for its size alone
