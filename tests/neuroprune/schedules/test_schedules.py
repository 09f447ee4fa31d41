"""Schedules: where LATS ends under real LR schedulers, what the dry run leaves alone, and LASSO as the oracle."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler as lrs

from neuroprune import LATS, SoftThresholdPruner, learning_rates
from tests.twins.pruner import counted_operations

STEPS = 60
MakeScheduler = Callable[[torch.optim.Optimizer], lrs.LRScheduler]


def warmup_cosine(optimizer: torch.optim.Optimizer) -> lrs.LRScheduler:
    parts: list[lrs.LRScheduler] = [
        lrs.LinearLR(optimizer, 0.01, 1.0, total_iters=10),
        lrs.CosineAnnealingLR(optimizer, STEPS - 10),
    ]
    return lrs.SequentialLR(optimizer, parts, milestones=[10])


SCHEDULERS: dict[str, tuple[MakeScheduler, int]] = {
    # name: (factory, optimizer steps between two scheduler steps)
    "lambda": (lambda o: lrs.LambdaLR(o, lambda t: 1 / (1 + 0.1 * t)), 1),
    "step-per-epoch": (lambda o: lrs.StepLR(o, step_size=2, gamma=0.3), 12),
    "step-ragged-epoch": (lambda o: lrs.StepLR(o, step_size=1, gamma=0.5), 7),
    "warmup-cosine": (warmup_cosine, 1),
    "one-cycle": (lambda o: lrs.OneCycleLR(o, max_lr=[0.3, 0.1], total_steps=STEPS), 1),
    "cyclic": (lambda o: lrs.CyclicLR(o, 0.01, 0.1, step_size_up=7), 1),
    "restarts": (lambda o: lrs.CosineAnnealingWarmRestarts(o, 13, T_mult=2), 1),
    "chained": (lambda o: lrs.ChainedScheduler([lrs.ExponentialLR(o, 0.95), lrs.ConstantLR(o, 0.5, 9)]), 1),
}


def make_optimizer(momentum: float = 0.9) -> tuple[nn.Sequential, torch.optim.Optimizer]:
    net = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 4))
    groups = [{"params": list(net[0].parameters()), "lr": 0.3}, {"params": list(net[1].parameters()), "lr": 0.1}]
    return net, torch.optim.SGD(groups, momentum=momentum)


def train(
    net: nn.Module, optimizer: torch.optim.Optimizer, scheduler: lrs.LRScheduler | None, steps: int, every: int = 1
) -> list[list[float]]:
    """Steps on random gradients; returns the learning rates used."""
    rates = []
    for step in range(steps):
        for parameter in net.parameters():
            parameter.grad = torch.randn_like(parameter)
        rates.append([float(group["lr"]) for group in optimizer.param_groups])
        optimizer.step()
        if scheduler is not None and (step + 1) % every == 0 and step + 1 < steps:
            scheduler.step()
    return rates


@pytest.mark.parametrize("name", SCHEDULERS)
def test_dry_run_ends_at_the_asked_threshold(name: str) -> None:
    make, every = SCHEDULERS[name]
    net, optimizer = make_optimizer()
    scheduler = make(optimizer)
    schedule = LATS.from_dry_run(0.7, scheduler, STEPS, steps_per_update=every)
    foreseen = learning_rates(scheduler, STEPS, steps_per_update=every)
    pruner = SoftThresholdPruner(optimizer, schedule)
    recorded: list[float] = []
    used: list[list[float]] = []
    for step in range(STEPS):
        before, rate = pruner.threshold, optimizer.param_groups[0]["lr"]
        used += train(net, optimizer, None, 1)
        recorded.append(pruner.l1)
        assert (pruner.threshold - before) == pytest.approx(schedule.coefficient * rate, rel=1e-6)
        if (step + 1) % every == 0 and step + 1 < STEPS:
            scheduler.step()
    assert used == foreseen
    assert pruner.threshold == pytest.approx(0.7, abs=1e-9)
    assert max(recorded) == pytest.approx(min(recorded), rel=1e-6)
    assert recorded[0] == pytest.approx(schedule.coefficient, rel=1e-9)
    # The second group ends where its own learning rates lead.
    sums = [math.fsum(rates[group] for rates in used) for group in (0, 1)]
    assert pruner.thresholds[1] == pytest.approx(0.7 * sums[1] / sums[0], abs=1e-9)


@pytest.mark.parametrize("name", [name for name, (_, every) in SCHEDULERS.items() if every == 1])
def test_dry_run_from_the_middle_counts_what_is_left(name: str) -> None:
    make, _ = SCHEDULERS[name]
    net, optimizer = make_optimizer()
    scheduler = make(optimizer)
    train(net, optimizer, scheduler, 21)
    scheduler.step()
    pruner = SoftThresholdPruner(optimizer, LATS.from_dry_run(0.2, scheduler, STEPS - 21))
    train(net, optimizer, scheduler, STEPS - 21)
    assert pruner.threshold == pytest.approx(0.2, abs=1e-9)


def plain(state: dict[str, Any]) -> dict[str, Any]:
    """Scheduler state without what compares by identity."""
    return {k: v for k, v in state.items() if not callable(v) and k not in ("_schedulers", "lr_lambdas")}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_dry_run_leaves_everything_as_it_was(name: str) -> None:
    make, every = SCHEDULERS[name]
    net, optimizer = make_optimizer()
    scheduler = make(optimizer)
    train(net, optimizer, scheduler, 5)
    before = copy.deepcopy(plain(scheduler.state_dict()))
    nested = copy.deepcopy([plain(s.state_dict()) for s in getattr(scheduler, "_schedulers", [])])
    groups = [{**g, "params": [id(p) for p in g["params"]]} for g in optimizer.param_groups]
    weights = [p.detach().clone() for p in net.parameters()]
    momenta = [optimizer.state[p]["momentum_buffer"].clone() for p in net.parameters()]
    with counted_operations() as operations:
        learning_rates(scheduler, STEPS - 5, steps_per_update=every)
    assert not operations  # no tensor was copied
    assert scheduler.optimizer is optimizer
    assert plain(scheduler.state_dict()) == before
    assert [plain(s.state_dict()) for s in getattr(scheduler, "_schedulers", [])] == nested
    assert [{**g, "params": [id(p) for p in g["params"]]} for g in optimizer.param_groups] == groups
    assert all(torch.equal(p, w) for p, w in zip(net.parameters(), weights, strict=True))
    for parameter, momentum in zip(net.parameters(), momenta, strict=True):
        assert torch.equal(optimizer.state[parameter]["momentum_buffer"], momentum)
    twin_net, twin_optimizer = make_optimizer()
    twin = make(twin_optimizer)
    train(twin_net, twin_optimizer, twin, 5)
    assert train(net, optimizer, scheduler, 20) == train(twin_net, twin_optimizer, twin, 20)


def test_two_ways_to_ask_for_the_same_thing() -> None:
    by_threshold, by_l1 = LATS(final_threshold=0.3, lr_sum=6.0), LATS(l1=0.05)
    assert by_threshold.coefficient == pytest.approx(by_l1.coefficient)
    for schedule in (by_threshold, by_l1):
        net, optimizer = make_optimizer()
        optimizer.param_groups[0]["lr"] = 0.1
        optimizer.param_groups[1]["lr"] = 0.04
        pruner = SoftThresholdPruner(optimizer, schedule)
        train(net, optimizer, None, STEPS)
        assert pruner.thresholds == pytest.approx((0.3, 0.12), abs=1e-9)
        assert pruner.l1 == pytest.approx(0.05)


def test_learning_rate_as_a_tensor() -> None:
    net = nn.Linear(4, 4)
    optimizer = torch.optim.Adam(net.parameters(), lr=torch.tensor(0.1, dtype=torch.float64))
    scheduler = lrs.ExponentialLR(optimizer, 0.9)
    pruner = SoftThresholdPruner(optimizer, LATS.from_dry_run(0.5, scheduler, 20))
    assert optimizer.param_groups[0]["lr"].item() == 0.1
    train(net, optimizer, scheduler, 20)
    assert pruner.threshold == pytest.approx(0.5, abs=1e-9)
    assert isinstance(pruner.threshold, float)


def test_plateau_is_refused() -> None:
    _, optimizer = make_optimizer()
    scheduler: Any = lrs.ReduceLROnPlateau(optimizer)
    for call in (lambda: learning_rates(scheduler, 5), lambda: LATS.from_dry_run(0.1, scheduler, 5)):
        with pytest.raises(ValueError, match=r"ReduceLROnPlateau.*LATS\(l1=\.\.\.\)"):
            call()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "l1=None, final_threshold=None"),
        ({"l1": 0.25, "final_threshold": 0.5, "lr_sum": 1.0}, r"l1=0\.25, final_threshold=0\.5"),
        ({"l1": -0.125}, r"l1 must be .* got -0\.125"),
        ({"l1": math.nan}, "l1 must be .* got nan"),
        ({"l1": math.inf}, "l1 must be .* got inf"),
        ({"final_threshold": -2.5, "lr_sum": 1.0}, r"final_threshold must be .* got -2\.5"),
        ({"final_threshold": math.nan, "lr_sum": 1.0}, "final_threshold must be .* got nan"),
        ({"final_threshold": 0.5}, "lr_sum > 0.* got None"),
        ({"final_threshold": 0.5, "lr_sum": 0.0}, r"lr_sum > 0.* got 0\.0"),
        ({"final_threshold": 0.5, "lr_sum": -3.5}, r"lr_sum > 0.* got -3\.5"),
        ({"final_threshold": 0.5, "lr_sum": math.inf}, "lr_sum > 0.* got inf"),
    ],
)
def test_bad_arguments_are_refused_with_the_value(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LATS(**arguments)


@pytest.mark.parametrize(("steps", "every"), [(0, 1), (-3, 1), (5, 0)])
def test_bad_dry_run_is_refused_with_the_value(steps: int, every: int) -> None:
    _, optimizer = make_optimizer()
    scheduler = lrs.StepLR(optimizer, 1)
    with pytest.raises(ValueError, match=f"must be a whole number >= 1, got {min(steps, every)}"):
        learning_rates(scheduler, steps, steps_per_update=every)


def test_zero_coefficient_prunes_nothing() -> None:
    net, optimizer = make_optimizer()
    twin, twin_optimizer = make_optimizer()
    twin.load_state_dict(net.state_dict())
    pruner = SoftThresholdPruner(optimizer, LATS(l1=0.0))
    for model, opt in ((net, optimizer), (twin, twin_optimizer)):
        torch.manual_seed(5)
        train(model, opt, None, 10)
    assert (pruner.threshold, pruner.l1, pruner.sparsity()) == (0.0, 0.0, 0.0)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), twin.parameters(), strict=True))


# ------------------------------------------------------------------------------------------------------------- LASSO


@pytest.mark.parametrize(
    ("seed", "decay", "start"),
    [(0, "constant", "zeros"), (1, "cosine", "zeros"), (2, "constant", "random"), (3, "cosine", "random")],
)
def test_reaches_the_lasso_solution(seed: int, decay: str, start: str) -> None:
    """Plain gradient descent with LATS ends at argmin ½‖Xw − y‖² + μ‖w‖₁, as coordinate descent finds it.

    The support is exact where the solution is strictly complementary: |gradient| < μ on its zeros. A weight that the
    transient left at w there shrinks by (μ − |gradient|)·η a step, so it takes |w| / (μ − |gradient|) of Ση to be zero;
    the problems below leave room for that. Where |gradient| = μ at a zero, no finite number of steps need suffice.
    """
    from sklearn.linear_model import Lasso  # takes a second

    rng = np.random.default_rng(seed)
    samples, features = 60, 20
    design = rng.standard_normal((samples, features))
    truth = np.where(np.arange(features) < 6, rng.choice([-1.0, 1.0], features) * rng.uniform(0.5, 2.0, features), 0.0)
    target = design @ truth + 0.5 * rng.standard_normal(samples)
    l1 = 0.1 * float(np.abs(design.T @ target).max())

    def objective(w: Any) -> float:
        return float(0.5 * ((design @ w - target) ** 2).sum() + l1 * np.abs(w).sum())

    # scikit-learn divides the squared error by the number of samples.
    oracle = Lasso(alpha=l1 / samples, fit_intercept=False, tol=1e-12, max_iter=100_000).fit(design, target).coef_
    slack = l1 - np.abs(design.T @ (design @ oracle - target))[oracle == 0]
    assert slack.min() > 5e-3 * l1, "not strictly complementary enough to promise the support"

    x, y = torch.from_numpy(design), torch.from_numpy(target)
    layer = nn.Linear(features, 1, bias=False, dtype=torch.float64)
    if start == "zeros":
        nn.init.zeros_(layer.weight)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.5 / float(np.linalg.norm(design, 2) ** 2))
    steps = 1000
    scheduler = lrs.CosineAnnealingLR(optimizer, steps) if decay == "cosine" else lrs.ConstantLR(optimizer, 1.0)
    pruner = SoftThresholdPruner(optimizer, LATS(l1=l1))
    for _ in range(steps):
        optimizer.zero_grad()
        (0.5 * (layer(x).squeeze(1) - y).square().sum()).backward()
        optimizer.step()
        scheduler.step()
    found = layer.weight.detach().squeeze(0).numpy()
    assert objective(found) == pytest.approx(objective(oracle), rel=1e-3)
    assert np.abs(found - oracle).max() < 1e-3
    assert ((found != 0) == (oracle != 0)).all()
    assert pruner.sparsity() == np.mean(oracle == 0) > 0.5
