"""Pruning to a budget of whatever is measured: it is kept, closely, and with the weights that the model would have."""

from __future__ import annotations

import copy
import re
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from neuroprune import (
    BudgetRamp,
    HardThreshold,
    SoftThreshold,
    SoftThresholdPruner,
    SynapticCosts,
    count_synops,
    prune_to,
    prune_to_budget,
    synops_per_sample,
)

STEPS = 24


def mlp(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(12, 40), nn.ReLU(), nn.Linear(40, 5))


def spiking(seed: int, channels: int) -> nn.Sequential:
    """(T, N, 1, 10, 10) → (T, N, 4)."""
    torch.manual_seed(seed)
    options: dict[str, Any] = {"surrogate_function": surrogate.ATan()}
    net = nn.Sequential(
        layer.Conv2d(1, channels, 3, 2, 1, bias=False), layer.BatchNorm2d(channels), neuron.IFNode(**options),
        layer.Flatten(), layer.Linear(channels * 25, 30), neuron.LIFNode(**options), layer.Linear(30, 4),
    )  # fmt: skip
    functional.set_step_mode(net, "m")
    return net


def train(model: nn.Module, optimizer: Optimizer, first: int = 0, last: int = STEPS, *, spikes: bool = False) -> None:
    for step in range(first, last):
        generator = torch.Generator().manual_seed(step)
        if spikes:
            x = (torch.rand(3, 8, 1, 10, 10, generator=generator) < 0.4).float()
        else:
            x = torch.randn(16, 12, generator=generator)
        optimizer.zero_grad()
        y = model(x)
        (y.mean(0) if spikes else y).square().sub(1).square().mean().backward()
        optimizer.step()
        if spikes:
            functional.reset_net(model)


def nonzeros(model: nn.Module) -> float:
    return float(sum(int(torch.count_nonzero(p)) for p in model.parameters() if p.dim() > 1))


def used_columns(model: nn.Module) -> float:
    """Inputs that any neuron reads: a measure that falls in steps, as cores do."""
    return float(sum(int(p.detach().any(0).sum()) for p in model.parameters() if p.dim() > 1))


@pytest.mark.parametrize("budget", [7.0, 33.0, 200.0, 679.0])
@pytest.mark.parametrize("make", [lambda p: SGD(p, 0.05, momentum=0.9), lambda p: AdamW(p, 1e-2)], ids=["SGD", "AdamW"])
def test_a_measure_of_weights_ends_at_its_budget(budget: float, make: Callable[..., Optimizer]) -> None:
    model = mlp()
    optimizer = make(model.parameters())
    pruner = prune_to_budget(budget, lambda: nonzeros(model), optimizer, steps=STEPS)
    train(model, optimizer)
    pruner.finalize()
    assert 0.99 * budget - 1 <= nonzeros(model) <= budget


@given(
    seed=st.integers(0, 10**6),
    channels=st.integers(8, 12),
    share=st.floats(0.15, 0.7),
    adam=st.booleans(),
    costs=st.booleans(),
    soft=st.booleans(),
)
@settings(max_examples=10, deadline=None)
def test_synops_are_within_two_percent_of_the_budget_as_the_counter_says(
    seed: int, channels: int, share: float, adam: bool, costs: bool, soft: bool
) -> None:
    model = spiking(seed, channels)
    x = (torch.rand(3, 40, 1, 10, 10, generator=torch.Generator().manual_seed(seed)) < 0.4).float()
    measure = synops_per_sample(model, x, 40)
    train(model, SGD(model.parameters(), 0.0), 0, 1, spikes=True)  # batch-norm has seen something
    budget, seen = share * measure(), []

    def noted() -> float:
        seen.append((measure(), nonzeros(model)))
        return seen[-1][0]

    optimizer = AdamW(model.parameters(), 3e-3) if adam else SGD(model.parameters(), 0.05, momentum=0.9)
    measured = SynapticCosts(model) if costs else None
    if soft:
        SoftThresholdPruner(optimizer, BudgetRamp(budget, noted, STEPS), proximal=SoftThreshold(), costs=measured)
    else:
        prune_to_budget(budget, noted, optimizer, steps=STEPS, costs=measured)
    train(model, optimizer, spikes=True)
    model.eval()
    functional.reset_net(model)
    found = count_synops(model, x).total / 40
    functional.reset_net(model)
    one_more = [value for value, left in seen[-24:] if left == nonzeros(model) + 1]
    assert found <= budget
    assert found >= 0.98 * budget or min(one_more, default=0.0) > budget


def test_a_measure_in_steps_is_never_above_its_budget() -> None:
    for budget in (3, 10, 20, 51, 52):
        model = mlp(budget)
        optimizer = SGD(model.parameters(), 0.05)
        prune_to_budget(budget, lambda model=model: used_columns(model), optimizer, steps=STEPS)  # type: ignore[misc]
        train(model, optimizer)
        assert used_columns(model) <= budget
        assert used_columns(model) >= budget - 2


def test_a_budget_that_is_kept_already_prunes_nothing() -> None:
    model = mlp()
    optimizer = SGD(model.parameters(), 0.05)
    pruner = prune_to_budget(681.0, lambda: nonzeros(model), optimizer, steps=STEPS)
    train(model, optimizer)
    assert pruner.sparsity() == 0.0


def test_what_is_measured_are_weights_and_never_latent_values() -> None:
    model, seen = mlp(), []
    optimizer = SGD(model.parameters(), 0.05)

    def measure() -> float:
        assert not torch.is_grad_enabled()
        seen.append([p.detach().clone() for p in model.parameters() if p.dim() > 1])
        return nonzeros(model)

    pruner = prune_to_budget(100, measure, optimizer, steps=STEPS)
    train(model, optimizer)
    zeros = [sum(int((w == 0).sum()) for w in weights) for weights in seen]
    assert zeros[0] == 0  # at once
    assert zeros[1] == 680  # less than a thousandth is left when the reach is tried
    assert zeros[2] == 0
    assert 0 < zeros[STEPS // 4] < 580
    assert all(a == 0 or a.abs() > 0 for weights in seen for w in weights for a in w.flatten())
    for weights, parameter in zip(seen[-1], pruner.parameters, strict=True):
        torch.testing.assert_close(weights, parameter.detach(), rtol=0, atol=0)


def test_looking_changes_nothing_of_the_training() -> None:
    """A run whose sparsity the measure dictates equals one with thresholds given by hand."""
    model = mlp()
    twin = copy.deepcopy(model)
    optimizer, plain = SGD(model.parameters(), 0.05, momentum=0.9), SGD(twin.parameters(), 0.05, momentum=0.9)
    pruner = SoftThresholdPruner(optimizer, BudgetRamp(100, lambda: nonzeros(model), STEPS), proximal=HardThreshold())
    latents = {p: p.detach().clone() for p in twin.parameters() if p.dim() > 1}
    for step in range(STEPS):
        train(model, optimizer, step, step + 1)
        weights = {p: p.detach().clone() for p in latents}
        plain_step(twin, plain, latents, step)
        for p in latents:
            latents[p].copy_(p.detach())
            p.data = torch.where(latents[p].abs() > pruner.threshold, latents[p], torch.zeros_like(p))
        assert weights.keys() == latents.keys()
    for mine, other in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=0)


def plain_step(model: nn.Module, optimizer: Optimizer, latents: dict[nn.Parameter, Tensor], step: int) -> None:
    """Gradients at w, the step at θ."""
    x = torch.randn(16, 12, generator=torch.Generator().manual_seed(step))
    optimizer.zero_grad()
    model(x).square().sub(1).square().mean().backward()
    with torch.no_grad():
        for parameter, theta in latents.items():
            parameter.copy_(theta)
    optimizer.step()


def test_a_run_goes_on_bit_for_bit() -> None:
    model = mlp()
    optimizer = SGD(model.parameters(), 0.05, momentum=0.9)
    pruner = prune_to_budget(90, lambda: nonzeros(model), optimizer, steps=STEPS)
    train(model, optimizer, 0, 9)
    other = mlp(1)
    other.load_state_dict(model.state_dict())
    again = SGD(other.parameters(), 0.05, momentum=0.9)
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    resumed = prune_to_budget(90, lambda: nonzeros(other), again, steps=STEPS)
    resumed.load_state_dict(copy.deepcopy(pruner.state_dict()))
    train(model, optimizer, 9)
    train(other, again, 9)
    for mine, theirs in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=0)
    assert nonzeros(model) in (89.0, 90.0)


def test_caps_of_groups_bound_what_is_looked_for() -> None:
    model = mlp()
    groups: list[dict[str, Any]] = [
        {"params": list(model[0].parameters())},
        {"params": list(model[2].parameters()), "max_sparsity": 0.5},
    ]
    optimizer = SGD(groups, 0.05)
    prune_to_budget(150, lambda: nonzeros(model), optimizer, steps=STEPS)
    train(model, optimizer)
    assert 148 <= nonzeros(model) <= 150
    assert nonzeros(model[2]) >= 100


class TestRefused:
    def test_a_copy_whose_measure_would_look_at_the_original(self) -> None:
        """The advice is followed: a pruner of the copy's own goes on from the same state."""
        model = mlp()
        optimizer = SGD(model.parameters(), 0.05)
        pruner = prune_to_budget(90, lambda: nonzeros(model), optimizer, steps=STEPS)
        train(model, optimizer, 0, 9)
        with pytest.raises(TypeError, match="BudgetRamp cannot be copied: its measure looks at the model it was made"):
            copy.deepcopy((model, optimizer, pruner))
        twin, state = copy.deepcopy(model), copy.deepcopy(pruner.state_dict())
        own = SGD(twin.parameters(), 0.05)
        own.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        prune_to_budget(90, lambda: nonzeros(twin), own, steps=STEPS).load_state_dict(state)
        train(model, optimizer, 9)
        train(twin, own, 9)
        assert nonzeros(twin) == nonzeros(model) <= 90

    def test_a_budget_out_of_reach_at_the_first_look(self) -> None:
        model = mlp()
        optimizer = SGD(model.parameters(), 0.05)
        prune_to_budget(5, lambda: 10 + nonzeros(model), optimizer, steps=STEPS, every=1)
        before = copy.deepcopy(model.state_dict())
        with pytest.raises(
            ValueError, match=r"a budget of 5 is out of reach at step 0: with at most 0\.1% .* 10 is measured"
        ):
            train(model, optimizer)
        assert all(bool(value.isfinite().all()) for value in model.state_dict().values())
        assert before.keys() == model.state_dict().keys()

    def test_a_cap_that_puts_it_out_of_reach(self) -> None:
        model = mlp()
        optimizer = SGD([{"params": model.parameters(), "max_sparsity": 0.5}], 0.05)
        prune_to_budget(50, lambda: nonzeros(model), optimizer, steps=STEPS, every=1)
        with pytest.raises(ValueError, match="out of reach at step 0"):
            train(model, optimizer)

    @pytest.mark.parametrize(
        "value", [float("nan"), float("inf"), -1.0, None, "5", 1j, True, torch.tensor([1.0, 2.0])], ids=repr
    )
    def test_a_measure_that_is_no_number(self, value: Any) -> None:
        """At once, and in the first step that looks, where a schedule is made by hand; the pruner is gone then."""
        model = mlp()
        optimizer = SGD(model.parameters(), 0.05)
        said = r"BudgetRamp: what the measure gives .* must be a finite number >= 0, got "
        with pytest.raises(ValueError, match=said) as refused:
            prune_to_budget(50, lambda: value, optimizer, steps=STEPS)
        assert "\n" not in str(refused.value)
        SoftThresholdPruner(optimizer, BudgetRamp(50, lambda: value, STEPS, every=1))
        with pytest.raises(ValueError, match=said + re.escape(str(value) if value != "5" else "'5'")):
            train(model, optimizer)

    def test_a_measure_that_raises_is_refused_at_once_and_nothing_is_pruned(self) -> None:
        model = mlp()
        optimizer = SGD(model.parameters(), 0.05)
        with pytest.raises(ZeroDivisionError):
            prune_to_budget(50, lambda: 1 / 0, optimizer, steps=STEPS)
        train(model, optimizer)
        assert nonzeros(model) == 680

    @pytest.mark.parametrize("at_once", [True, False])
    def test_a_measure_that_trains(self, at_once: bool) -> None:
        model = mlp()
        optimizer = SGD(model.parameters(), 0.05)
        before = copy.deepcopy(model.state_dict())

        def measure() -> float:
            with torch.enable_grad():
                model(torch.ones(2, 12)).sum().backward()
            optimizer.step()
            return nonzeros(model)

        def run() -> None:
            if at_once:
                prune_to_budget(50, measure, optimizer, steps=STEPS)
            pruner = SoftThresholdPruner(optimizer, BudgetRamp(50, measure, STEPS, every=1))
            train(model, optimizer)
            pruner.finalize()

        with pytest.raises(RuntimeError, match="the measure calls the step\\(\\) of the optimizer"):
            run()
        if at_once:
            assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())

    @pytest.mark.parametrize(
        ("arguments", "error", "said"),
        [
            ({"budget": 0}, ValueError, "above 0"),
            ({"budget": float("nan")}, ValueError, "finite"),
            ({"measure": 3.0}, TypeError, "function without arguments, got float"),
            ({"steps": 0}, ValueError, "steps"),
            ({"ramp": 0.0}, ValueError, "ramp"),
            ({"every": 0}, ValueError, "every"),
            ({"budget": "100"}, ValueError, "budget must be a finite number >= 0, got '100'"),
            ({"steps": "20"}, ValueError, "steps must be a whole number >= 1, got '20'"),
            ({"steps": 2.5}, ValueError, r"steps must be a whole number >= 1, got 2\.5"),
            ({"steps": True}, ValueError, "steps must be a whole number >= 1, got True"),
            ({"every": 2.5}, ValueError, r"every must be a whole number >= 1, got 2\.5"),
            ({"ramp": "half"}, ValueError, "ramp must lie in 0 … 1, 0 excluded, got 'half'"),
        ],
    )
    def test_values_outside_their_range(self, arguments: dict[str, Any], error: type[Exception], said: str) -> None:
        given: dict[str, Any] = {"budget": 1.0, "measure": lambda: 1.0, "steps": 5} | arguments
        with pytest.raises(error, match=said):
            BudgetRamp(**given)

    def test_a_run_past_its_plan(self) -> None:
        model = mlp()
        optimizer = SGD(model.parameters(), 0.05)
        prune_to_budget(90, lambda: nonzeros(model), optimizer, steps=3)
        with pytest.raises(ValueError, match="planned for 3 steps"):
            train(model, optimizer)

    def test_a_measure_that_raises_leaves_weights_in_the_model(self) -> None:
        model = mlp()
        optimizer = SGD(model.parameters(), 0.05)
        calls = 0

        def measure() -> float:
            nonlocal calls
            calls += 1
            if calls == 6:
                raise KeyError("the user's own")
            return nonzeros(model)

        pruner = prune_to_budget(50, measure, optimizer, steps=STEPS, every=1)
        with pytest.raises(KeyError, match="the user's own"):
            train(model, optimizer)
        zeros = sum(int((p == 0).sum()) for p in pruner.parameters)
        assert zeros > 0
        assert pruner.sparsity() == zeros / 680


def test_the_counter_as_a_measure_leaves_the_model_as_it_was() -> None:
    model = spiking(0, 3)
    model[1].eval()
    x = (torch.rand(3, 6, 1, 10, 10) < 0.4).float()
    measure = synops_per_sample(model, x, 6)
    modes = [m.training for m in model.modules()]
    first, second = measure(), measure()
    assert first == second > 0
    assert [m.training for m in model.modules()] == modes
    assert all(isinstance(m.v, float) for m in model.modules() if isinstance(m, neuron.BaseNode))
    functional.reset_net(model.eval())
    assert first == count_synops(model, x).total / 6


@pytest.mark.parametrize("value", [0, float("nan"), None, "16", 2.5])
@pytest.mark.parametrize("name", ["samples", "time_steps"])
def test_the_counter_as_a_measure_refuses_at_once_what_is_no_number(name: str, value: Any) -> None:
    arguments = {"samples": 16, name: value}
    with pytest.raises(ValueError, match=rf"synops_per_sample: {name} must be a whole number >= 1, got {value!r}"):
        synops_per_sample(mlp(), torch.ones(16, 12), **arguments)


def test_a_network_without_synaptic_operations_has_no_budget_of_them() -> None:
    model = mlp()
    measure = synops_per_sample(model, torch.randn(16, 12), 16)
    with pytest.raises(ValueError, match=r"no synaptic operations are counted.* 10880 mult.*prune_to\(sparsity\)"):
        prune_to_budget(30, measure, SGD(model.parameters(), 0.05), steps=STEPS)


class Recurrent(nn.Module):
    """A layer whose operations the counter does not count."""

    def __init__(self) -> None:
        super().__init__()
        self.read = nn.Linear(12, 10)
        self.neuron = neuron.IFNode(step_mode="m")
        self.gru = nn.GRU(10, 5)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.gru(self.neuron(self.read(x)))[0]
        return found


def test_layers_that_are_not_counted_are_left_out_of_a_budget_only_where_somebody_says_so() -> None:
    model, x = Recurrent(), (torch.rand(3, 8, 12) < 0.5).float()
    with pytest.raises(ValueError, match=r"operations of gru are not counted.* uncounted=\('gru',\)"):
        synops_per_sample(model, x, 8)()
    assert synops_per_sample(model, x, 8, uncounted=("gru",))() == count_synops(model, x).total / 8 > 0


def test_a_run_that_ends_early_says_what_is_measured_and_what_was_asked_for() -> None:
    """At finalize() in any case; at freeze() where the budget is not kept yet."""
    for frozen, taken in ((True, 0), (True, 4), (False, 4)):
        model = mlp()
        optimizer = SGD(model.parameters(), 0.05)
        pruner = prune_to_budget(100, lambda model=model: nonzeros(model), optimizer, steps=STEPS)  # type: ignore[misc]
        train(model, optimizer, 0, taken)
        word = "frozen" if frozen else "stopped"
        left = f"{nonzeros(model):g}"
        assert nonzeros(model) > 100
        said = f"planned for 24 steps and {word} after {taken}: .* {left} is measured, a budget of 100 was asked for"
        with pytest.warns(UserWarning, match=said):
            pruner.freeze() if frozen else pruner.finalize()


@pytest.mark.parametrize("steps", [STEPS - 1, STEPS])
def test_a_run_frozen_within_its_budget_says_nothing(steps: int) -> None:
    model = mlp()
    optimizer = SGD(model.parameters(), 0.05)
    pruner = prune_to_budget(300, lambda: nonzeros(model), optimizer, steps=STEPS)
    train(model, optimizer, 0, steps)
    if nonzeros(model) > 300:  # before the last step the ramp only aims at it
        pytest.fail(f"the case is none: {nonzeros(model)}")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pruner.freeze()


def test_freezing_short_of_a_sparsity_says_so() -> None:
    model = mlp()
    optimizer = SGD(model.parameters(), 0.05)
    pruner = prune_to(0.8, optimizer, steps=STEPS)
    train(model, optimizer, 0, 6)
    with pytest.warns(UserWarning, match=r"frozen after 6: \d\d\.\d\d % of .* are zero, 80\.00 % were asked for"):
        pruner.freeze()


def test_a_measure_that_fails_in_the_end_leaves_no_pruner_behind() -> None:
    model, fails = mlp(), False
    optimizer = SGD(model.parameters(), 0.05)

    def measure() -> float:
        if fails:
            raise OSError("the images are gone")
        return nonzeros(model)

    pruner = prune_to_budget(100, measure, optimizer, steps=STEPS)
    train(model, optimizer, 0, 4)
    fails = True
    with pytest.raises(OSError, match="images"):
        pruner.finalize()
    assert not pruner.attached
    SoftThresholdPruner(optimizer, BudgetRamp(50, lambda: 1.0, STEPS))
