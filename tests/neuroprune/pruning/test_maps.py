"""Proximal maps: each is the minimiser it claims to be, is inverted, and goes through all that a pruner does."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.optim import SGD, Adam
from torch.optim.lr_scheduler import CosineAnnealingLR

from neuroprune import (
    LATS,
    STR,
    Cap,
    ConstantThreshold,
    Garrote,
    HardThreshold,
    ProximalMap,
    Schedule,
    SoftThreshold,
    SoftThresholdPruner,
    SparsityRamp,
    garrote,
    hard_threshold,
    soft_threshold,
)
from tests.builders.run import Groups, same
from tests.twins.pruner import counted_operations

MAPS: dict[str, ProximalMap] = {"soft": SoftThreshold(), "hard": HardThreshold(), "garrote": Garrote()}
FUNCTIONS = {"soft": soft_threshold, "hard": hard_threshold, "garrote": garrote}
thetas = st.lists(st.floats(-3, 3, width=32, allow_subnormal=False), min_size=1, max_size=12)


def written(proximal: ProximalMap, theta: Tensor, threshold: float | Tensor) -> Tensor:
    out = torch.full_like(theta, 7.0)
    before = theta.clone()
    proximal.write(theta, threshold, out)
    assert torch.equal(theta, before)
    return out


# ---------------------------------------------------------------------------------------------------------- the maths


@settings(max_examples=60, deadline=None)
@given(theta=st.floats(-3, 3), d=st.floats(0, 2))
@pytest.mark.parametrize("name", MAPS)
def test_no_other_weight_has_a_smaller_penalised_square(name: str, theta: float, d: float) -> None:
    proximal = MAPS[name]
    weight = written(proximal, torch.tensor([theta], dtype=torch.float64), d)
    grid = torch.cat([torch.linspace(-4, 4, 8001, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)])

    def cost(w: Tensor) -> Tensor:
        return 0.5 * (w - theta).square() + proximal.penalty(w, d)

    assert float(cost(weight)) <= float(cost(grid).min()) + 1e-12


@pytest.mark.parametrize("name", MAPS)
def test_penalties_are_the_integrals_of_what_is_taken_from_a_weight(name: str) -> None:
    if name == "hard":  # nothing is taken: the penalty is ½d² for any weight
        found = HardThreshold().penalty(torch.tensor([-3.0, 0.0, 1e-9]), 0.5)
        assert found.tolist() == [0.125, 0.0, 0.125]
        return
    d, proximal = 0.7, MAPS[name]
    w = torch.linspace(0, 5, 50001, dtype=torch.float64)
    taken = proximal.preimage(w.clamp_min(1e-300), d) - w  # θ − w = p′(w)
    assert float(torch.trapezoid(taken, w)) == pytest.approx(float(proximal.penalty(w[-1:], d)), rel=1e-7)


@settings(max_examples=100, deadline=None)
@given(
    values=thetas,
    d=st.floats(0, 2, width=32, allow_subnormal=False),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
)
@pytest.mark.parametrize("tensor", [False, True])
@pytest.mark.parametrize("name", MAPS)
def test_is_zero_exactly_within_the_threshold_and_keeps_signs(
    name: str, tensor: bool, values: list[float], d: float, dtype: torch.dtype
) -> None:
    theta = torch.tensor([values], dtype=dtype)
    size = torch.tensor([[d]], dtype=dtype)
    weight = written(MAPS[name], theta, size if tensor else float(size))
    assert torch.equal(weight != 0, theta.abs() > size)
    assert bool((weight * theta >= 0).all())
    assert bool((weight.abs() <= theta.abs()).all())


@settings(max_examples=60, deadline=None)
@given(values=thetas, d=st.floats(0, 2, width=32, allow_subnormal=False))
@pytest.mark.parametrize("tensor", [False, True])
@pytest.mark.parametrize("name", MAPS)
def test_in_place_is_the_pure_function(name: str, tensor: bool, values: list[float], d: float) -> None:
    theta = torch.tensor([values], dtype=torch.float64)
    threshold = torch.tensor([[d]], dtype=torch.float64) if tensor else d
    expected = FUNCTIONS[name](theta, threshold)
    assert torch.allclose(written(MAPS[name], theta, threshold), expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_pure_functions_refuse_bad_thresholds_and_have_true_gradients(name: str) -> None:
    theta = torch.tensor([-2.0, -0.3, 0.0, 0.4, 1.5], dtype=torch.float64, requires_grad=True)
    with pytest.raises(ValueError, match=r"threshold must be >= 0, got -0\.1"):
        FUNCTIONS[name](theta, -0.1)
    assert torch.autograd.gradcheck(lambda x: FUNCTIONS[name](x, 0.35), (theta,))


@settings(max_examples=60, deadline=None)
@given(values=thetas, near=st.floats(-3, 3), d=st.floats(0, 2))
@pytest.mark.parametrize("name", MAPS)
def test_nearest_gives_the_weights_and_leaves_what_gives_them(
    name: str, values: list[float], near: float, d: float
) -> None:
    proximal, theta = MAPS[name], torch.tensor(values, dtype=torch.float64)
    weight = written(proximal, theta, d)
    assert torch.equal(proximal.nearest(weight, d, theta), theta)
    found = proximal.nearest(weight, d, torch.full_like(theta, near))
    assert torch.allclose(written(proximal, found, d), weight, rtol=1e-9, atol=1e-12)
    remembered = min(max(near, -d), d)
    assert all(float(f) == remembered for f, w in zip(found, weight, strict=True) if w == 0)
    assert bool(proximal.reaches(weight, d).all())


def test_only_the_hard_map_has_a_gap() -> None:
    weight = torch.tensor([0.0, 0.1, 0.5, -0.5, 0.6])
    assert HardThreshold().reaches(weight, 0.5).tolist() == [True, False, False, False, True]
    assert HardThreshold().nearest(weight, 0.5, torch.zeros(5)).tolist() == weight.tolist()
    assert bool(Garrote().reaches(weight, 0.5).all())
    assert bool(SoftThreshold().reaches(weight, 0.5).all())


# --------------------------------------------------------------------------------------------------------- the pruner


def make_net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 8))


class Run:
    """A net, its optimizer, LR scheduler and pruner."""

    def __init__(self, schedule: str, proximal: ProximalMap, steps: int, **arguments: Any) -> None:
        self.net = make_net()
        groups: Groups = [
            {"params": list(self.net[0].parameters()), "max_sparsity": 0.85},
            {"params": list(self.net[2].parameters())},
        ]
        self.optimizer = Adam(groups, lr=0.01)
        self.scheduler = CosineAnnealingLR(self.optimizer, steps)
        rule: Schedule = SparsityRamp(0.8, steps)
        if schedule == "LATS":
            rule = LATS.for_sparsity(0.8, self.scheduler, steps)
        self.pruner = SoftThresholdPruner(self.optimizer, rule, proximal=proximal, **arguments)

    @property
    def first(self) -> Tensor:
        """The first layer's weights."""
        return self.net.get_parameter("0.weight")

    def train(self, first: int, last: int) -> None:
        for step in range(first, last):
            generator = torch.Generator().manual_seed(step)
            x = torch.randn(32, 32, generator=generator)
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
    run, steps = Run(schedule, MAPS[name], 120), 120
    run.train(0, 50)
    saved = run.state()
    assert saved[3]["proximal"] == repr(MAPS[name])
    copied = copy.deepcopy(run.pruner)
    assert copied.proximal == MAPS[name]
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


@pytest.mark.parametrize("name", MAPS)
def test_a_state_of_another_map_is_refused_and_nothing_changes(name: str) -> None:
    run = Run("SparsityRamp", MAPS[name], 40)
    run.train(0, 10)
    other = Run("SparsityRamp", next(proximal for key, proximal in MAPS.items() if key != name), 40)
    before = other.state()
    with pytest.raises(ValueError, match=r"saved with proximal=\w+\(\), this pruner has \w+\(\)"):
        other.pruner.load_state_dict(run.pruner.state_dict())
    assert same(other.state(), before)


def test_a_state_from_before_there_were_maps_is_soft() -> None:
    run = Run("LATS", SoftThreshold(), 40)
    run.train(0, 10)
    state = run.pruner.state_dict()
    del state["proximal"]
    run.pruner.load_state_dict(state)
    hard = Run("LATS", HardThreshold(), 40)
    with pytest.raises(ValueError, match="saved with proximal=SoftThreshold"):
        hard.pruner.load_state_dict(state)


@pytest.mark.parametrize("schedule", ["LATS", "SparsityRamp"])
@pytest.mark.parametrize("name", MAPS)
def test_a_limit_on_fan_in_holds_and_a_ramp_still_ends_at_its_target(name: str, schedule: str) -> None:
    run = Run(schedule, MAPS[name], 100, fan_in=Cap(9, steps=100))
    run.train(0, 100)
    for weight in (run.first, run.net.get_parameter("2.weight")):
        assert int(torch.count_nonzero(weight, dim=1).max()) <= 9
    if schedule == "SparsityRamp":
        assert run.pruner.sparsity() == pytest.approx(0.8, abs=1 / (32 * 64 + 64 * 8))


@pytest.mark.parametrize("name", MAPS)
def test_frozen_zeros_stay_and_the_others_go_on_from_their_values(name: str) -> None:
    run = Run("SparsityRamp", MAPS[name], 60)
    run.train(0, 30)
    before = run.first.detach().clone()
    run.pruner.freeze()
    assert torch.equal(run.first, before)
    run.train(30, 60)
    assert torch.equal(run.first == 0, before == 0)
    assert not torch.equal(run.first, before)


def test_survivors_of_the_hard_map_are_trained_as_if_nothing_were_pruned() -> None:
    layer = nn.Linear(3, 1, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0.05, -1.0, 2.0]]))
    optimizer = SGD(layer.parameters(), lr=0.5)
    SoftThresholdPruner(optimizer, ConstantThreshold(0.1), proximal=HardThreshold())
    assert layer.weight.tolist() == [[0.0, -1.0, 2.0]]
    layer.weight.grad = torch.tensor([[-0.2, 0.4, 0.0]])
    optimizer.step()
    assert layer.weight.tolist() == [[pytest.approx(0.15), pytest.approx(-1.2), 2.0]]  # 0.05 + 0.1 came back


@pytest.mark.parametrize("name", ["soft", "garrote"])
def test_learned_thresholds_take_the_maps_true_gradient(name: str) -> None:
    layer = nn.Linear(6, 4, bias=False).double()
    theta = layer.weight.detach().clone().requires_grad_()
    s = torch.tensor(-2.0, dtype=torch.float64, requires_grad=True)
    optimizer = SGD(layer.parameters(), lr=0.1)
    pruner = SoftThresholdPruner(optimizer, STR(s_init=-2.0, weight_decay=0.0, momentum=0.0), proximal=MAPS[name])
    x = torch.randn(5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    d = torch.sigmoid(s)
    size = theta.abs()
    left = size - d if name == "soft" else size - d**2 / size
    weight = torch.sign(theta) * torch.where(size > d, left, torch.zeros_like(size))
    assert 0 < int((weight == 0).sum()) < weight.numel()
    torch.autograd.backward((x @ weight.T).square().sum())
    torch.autograd.backward(layer(x).square().sum())
    optimizer.step()
    assert theta.grad is not None
    assert s.grad is not None
    assert torch.allclose(pruner.state_dict()["latents"][0], theta.detach() - 0.1 * theta.grad, rtol=1e-12, atol=1e-14)
    assert pruner.state_dict()["learned"][0][0] == pytest.approx(-2.0 - 0.1 * float(s.grad), rel=1e-12)


def test_learned_thresholds_and_the_hard_map_are_refused_by_name() -> None:
    layer = nn.Linear(3, 3)
    with pytest.raises(ValueError, match=r"STR cannot be used with HardThreshold: .*use SoftThreshold\(\) or Garrote"):
        SoftThresholdPruner(SGD(layer.parameters(), lr=0.1), STR(), proximal=HardThreshold())
    SoftThresholdPruner(SGD(layer.parameters(), lr=0.1), STR(), proximal=Garrote())


def test_something_else_for_a_map_is_refused() -> None:
    optimizer = SGD(nn.Linear(3, 3).parameters(), lr=0.1)
    with pytest.raises(TypeError, match=r"expected a proximal map such as proximal=HardThreshold\(\), got 'hard'"):
        SoftThresholdPruner(optimizer, LATS(l1=0.1), proximal="hard")  # type: ignore[arg-type] # what it refuses


GARROTE = {"abs.out": 1, "maximum.out": 1, "div.out": 1, "pow_.Scalar": 1, "addcmul.out": 1}
SCALAR = {"new_full.default": 1, "clamp_min.default": 1}  # the threshold, one number


@pytest.mark.parametrize(("name", "kernels"), [("hard", {"hardshrink.out": 1}), ("garrote", {**GARROTE, **SCALAR})])
def test_writes_in_place_and_allocates_nothing(name: str, kernels: dict[str, int]) -> None:
    theta, out = torch.randn(40, 50), torch.empty(40, 50)
    with counted_operations() as seen:
        MAPS[name].write(theta, 0.3, out)
    assert dict(seen) == {f"aten.{kernel}": count for kernel, count in kernels.items()}


# ----------------------------------------------------------------------------------------------------------- the ramp


def test_ramp_follows_zhu_and_gupta_and_stays() -> None:
    rule = SparsityRamp(0.9, 100, ramp=0.4)
    for taken in range(101):
        x = min(1.0, taken / 40)
        assert rule.sparsity(taken) == pytest.approx(0.9 + (0.0 - 0.9) * (1 - x) ** 3)
    assert rule.sparsity(0) == 0.0
    assert SparsityRamp(0.6, 10, ramp=1.0, exponent=1.0).sparsity(5) == pytest.approx(0.3)


@pytest.mark.parametrize("target", [0.0, 0.3, 0.995])
@pytest.mark.parametrize("steps", [1, 3, 251])  # 251: no multiple of the two steps between looks
def test_ramp_ends_at_its_target_to_one_weight(target: float, steps: int) -> None:
    net = make_net()
    optimizer = SGD(net.parameters(), lr=0.05, momentum=0.9)
    pruner = SoftThresholdPruner(optimizer, SparsityRamp(target, steps), proximal=HardThreshold())
    for step in range(steps):
        x = torch.randn(8, 32, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        net(x).square().mean().backward()
        optimizer.step()
    size = 32 * 64 + 64 * 8
    assert round(pruner.sparsity() * size) == math.ceil(target * size)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"target_sparsity": 95.0, "steps": 10}, "target_sparsity must lie in 0 … 1.*got 95"),
        ({"target_sparsity": None, "steps": 10}, "target_sparsity must be a finite number >= 0, got None"),
        ({"target_sparsity": 0.9}, "steps must be a whole number >= 1, got 0"),
        ({"target_sparsity": 0.9, "steps": 10, "ramp": 0.0}, "ramp must lie in 0 … 1, 0 excluded, got 0.0"),
        ({"target_sparsity": 0.9, "steps": 10, "exponent": 0.5}, "exponent must be a finite number >= 1, got 0.5"),
        ({"target_sparsity": 0.9, "steps": 10, "every": 0}, "every must be a whole number >= 1, got 0"),
    ],
)
def test_ramps_that_cannot_be_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SparsityRamp(**arguments)


def test_a_ramp_past_its_plan_or_its_caps_is_refused() -> None:
    run = Run("SparsityRamp", HardThreshold(), 5)
    run.train(0, 5)
    with pytest.raises(ValueError, match=r"SparsityRamp: planned for 5 steps, but the run takes step 6"):
        run.train(5, 6)
    layer = nn.Linear(8, 8)
    optimizer = SGD([{"params": layer.parameters(), "max_sparsity": 0.5}], lr=0.1)
    with pytest.raises(ValueError, match=r"target_sparsity 0.9 is out of reach"):
        SoftThresholdPruner(optimizer, SparsityRamp(0.9, 10))
