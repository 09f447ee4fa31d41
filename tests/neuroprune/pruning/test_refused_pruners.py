"""Pruners and states that do not belong together: refused, with everything left as it was."""

from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import SGD, Optimizer

from neuroprune import (
    LATS,
    STR,
    Cap,
    ConstantThreshold,
    Schedule,
    SoftThresholdPruner,
    SynapticCosts,
    SynOpsLoss,
    synops_per_sample,
)
from neuroprune.synops import SynOpsCounter
from tests.builders.run import Groups, Net, SmallRun, same, weights

RULES: dict[str, Schedule] = {
    "LATS": LATS(l1=0.2),
    "steered": LATS(target_sparsity=0.8, lr_sum=2.0),
    "STR": STR(s_init=-3.0, weight_decay=0.01),
}


def momentum(groups: Groups) -> Optimizer:
    return SGD(groups, lr=0.05, momentum=0.9)


# -------------------------------------------------------------------------------------- one parameter, two optimizers


def test_one_parameter_in_two_pruned_optimizers_is_refused() -> None:
    net = Net()
    first = SGD(net.first.parameters(), lr=0.1)
    second = SGD([*net.second.parameters(), *net.first.parameters()], lr=0.1)
    pruner = SoftThresholdPruner(first, LATS(l1=0.1))
    message = r"shape \(12, 8\) is already pruned by another pruner.*finalize\(\)"
    with pytest.raises(ValueError, match=message) as caught:
        SoftThresholdPruner(second, LATS(l1=0.1))
    assert not second._optimizer_step_pre_hooks
    # What the refused pruner had claimed before is free again, although the exception keeps that pruner alive.
    assert caught.value.__traceback__ is not None
    SoftThresholdPruner(SGD(net.second.parameters(), lr=0.1), LATS(l1=0.1))
    pruner.finalize()
    SoftThresholdPruner(SGD(net.first.parameters(), lr=0.1), LATS(l1=0.1))


@pytest.mark.parametrize("rule", [LATS(l1=0.1), ConstantThreshold(0.1), STR(s_init=-2.0)], ids=["LATS", "D", "STR"])
@pytest.mark.parametrize("why", ["two optimizers", "max_sparsity"])
def test_a_refused_pruner_has_not_pruned_anything(rule: Schedule, why: str) -> None:
    net = Net()
    before = weights(net)
    optimizer = SGD([{"params": list(net.second.parameters())}, {"params": list(net.first.parameters())}], lr=0.1)
    first = SGD(net.first.parameters(), lr=0.1)
    pruner = SoftThresholdPruner(first, LATS(l1=0.1)) if why == "two optimizers" else None
    if pruner is None:
        optimizer.param_groups[1]["max_sparsity"] = 95
    with pytest.raises(ValueError, match=r"already pruned by another|max_sparsity of parameter group 1 .*got 95"):
        SoftThresholdPruner(optimizer, rule)
    assert same(weights(net), before)
    assert not optimizer._optimizer_step_pre_hooks


def test_two_optimizers_are_fine_where_one_leaves_the_parameter_alone() -> None:
    net = Net()
    one = SoftThresholdPruner(SGD(net.first.parameters(), lr=0.1), LATS(l1=0.1))
    groups: Groups = [
        {"params": list(net.first.parameters()), "prune": False},
        {"params": list(net.second.parameters())},
    ]
    other = SoftThresholdPruner(SGD(groups, lr=0.1), LATS(l1=0.1))
    assert [p.shape for p in one.parameters] == [net.first.weight.shape]
    assert [p.shape for p in other.parameters] == [net.second.weight.shape]


def test_a_parameter_added_later_to_a_second_pruned_optimizer_is_refused_before_the_step() -> None:
    net = Net()
    one = SoftThresholdPruner(SGD(net.first.parameters(), lr=0.1), LATS(l1=0.1))
    optimizer = SGD(net.second.parameters(), lr=0.1, momentum=0.9)
    other = SoftThresholdPruner(optimizer, LATS(l1=0.1))
    optimizer.add_param_group({"params": list(net.first.parameters())})
    net(torch.ones(2, 8)).sum().backward()
    before = weights(net)
    with pytest.raises(ValueError, match="already pruned by another pruner"):
        optimizer.step()
    assert same(weights(net), before)
    assert (one.step, other.step) == (0, 0)
    assert not optimizer.state


def test_a_pruner_that_was_forgotten_is_in_nobodys_way() -> None:
    net = Net()

    def forget() -> weakref.ref[SoftThresholdPruner]:
        optimizer = SGD(net.parameters(), lr=0.1)
        pruner = SoftThresholdPruner(optimizer, LATS(l1=0.1))
        net(torch.ones(2, 8)).sum().backward()
        optimizer.step()
        return weakref.ref(pruner)

    gc.collect()
    gc.disable()  # so that it is the new pruner, not chance, that finds out
    try:
        forgotten = forget()
        assert forgotten() is not None  # hooks and optimizer refer to each other
        before = weights(net)
        optimizer = SGD(net.parameters(), lr=0.1)
        pruner = SoftThresholdPruner(optimizer, LATS(l1=0.1))
    finally:
        gc.enable()
    assert forgotten() is None
    assert same(weights(net), before)
    net.zero_grad()
    net(torch.ones(2, 8)).sum().backward()
    optimizer.step()
    assert pruner.step == 1


# ------------------------------------------------------------------------------------------------------ foreign states


def foreign(state: dict[str, Any], kind: str) -> dict[str, Any]:
    """A state that does not belong here."""
    if kind == "another model":
        return {**state, "latents": {**state["latents"], 0: torch.ones(2, 2)}}
    if kind == "another schedule":
        return {**state, "learned": {0: (-1.0, 0.0)} if not state["learned"] else {}}
    if kind == "more groups":
        return {**state, "thresholds": [*state["thresholds"], 0.1], "l1": [*state["l1"], 0.1]}
    return {key: value for key, value in state.items() if key != kind}


KINDS = ["another model", "another schedule", "more groups"]
KEYS = ["step", "thresholds", "l1", "latents", "masks", "applied", "learned", "memory"]


@pytest.mark.parametrize("kind", [*KINDS, *KEYS])
@pytest.mark.parametrize("rule", RULES)
def test_a_foreign_state_is_refused_and_nothing_changes(rule: str, kind: str) -> None:
    run = SmallRun(momentum, RULES[rule])
    run.train(0, 2)
    state = {**copy.deepcopy(run.pruner.state_dict()), "step": 99}
    run.train(2, 5)
    before = run.saved()
    with pytest.raises(ValueError, match=r"load_state_dict: the state (lacks|belongs|has)"):
        run.pruner.load_state_dict(foreign(state, kind))
    assert same(run.saved(), before)


@pytest.mark.parametrize("state", [{}, {"param_groups": [], "state": {}}])
def test_something_else_for_a_state_is_refused(state: dict[str, Any]) -> None:
    run = SmallRun(momentum, RULES["LATS"])
    with pytest.raises(ValueError, match=r"was it saved by SoftThresholdPruner\.state_dict"):
        run.pruner.load_state_dict(state)


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("step", "x", "the state's step must be a whole number >= 0, got 'x'"),
        ("step", -1, "the state's step must be a whole number >= 0, got -1"),
        ("thresholds", [float("nan")], "a threshold of the state must be a finite number >= 0, got nan"),
        ("thresholds", None, "the state's thresholds is a NoneType, not a list by group"),
        ("memory", None, "the state's memory is a NoneType, not a dict"),
        ("masks", [1], "the state's masks is a list, not a dict"),
        ("latents", {0: None, 1: None}, "latent value 0 of the state is a NoneType, not a tensor"),
        ("masks", {0: True}, "masks 0 of the state is True, not a tensor of its parameter's shape"),
        ("masks", {0: torch.ones(3)}, r"masks 0 of the state is a tensor of shape \(3,\), not a tensor of its param"),
        ("masks", {99: torch.ones(3)}, "masks 99 of the state is a tensor"),
        ("l1", ["x", 0.0], "l1 0 of the state is 'x', not a number"),
        ("memory", {"grown": "x"}, "memory grown of the state is 'x', not a number"),
        ("usual", None, "the state's usual is a NoneType, not a dict"),
        ("usual", {0: "x"}, "usual 0 of the state must be a finite number >= 0, got 'x'"),
        ("usual", {0: float("nan")}, "usual 0 of the state must be a finite number >= 0, got nan"),
        ("usual", {0: -1.0}, "usual 0 of the state must be a finite number >= 0, got -1"),
        ("grids", 3, "the state's grids is a int, not a dict"),
    ],
)
def test_a_damaged_state_is_refused_and_nothing_changes(key: str, value: Any, says: str) -> None:
    net = Net()
    pruner = SoftThresholdPruner(SGD(net.parameters(), lr=0.1), LATS(l1=0.1))
    before, state = weights(net), copy.deepcopy(pruner.state_dict())
    with pytest.raises(ValueError, match=says):
        pruner.load_state_dict({**state, key: value})
    assert same(weights(net), before)
    assert pruner.step == 0
    pruner.load_state_dict(state)


# ------------------------------------------------------------------------------------------ arguments that are none


@pytest.mark.parametrize("cap", [torch.tensor(0.25), np.float32(0.25), Fraction(1, 4)])
def test_a_number_is_one_whoever_holds_it(cap: Any) -> None:
    net = Net()
    optimizer = SGD([{"params": net.first.parameters(), "max_sparsity": cap}], lr=0.0)
    pruner = SoftThresholdPruner(optimizer, ConstantThreshold(100.0))
    assert pruner.sparsity() == 0.25


@pytest.mark.parametrize("take", [lambda groups: groups.pop(), lambda groups: groups[1]["params"].pop(0)])
def test_what_is_taken_from_the_optimizer_is_missed_by_name(take: Callable[[list[dict[str, Any]]], object]) -> None:
    net = Net()
    optimizer = SGD([{"params": list(layer.parameters())} for layer in (net.first, net.second)], lr=0.1)
    pruner = SoftThresholdPruner(optimizer, LATS(l1=0.1))
    optimizer.step()
    take(optimizer.param_groups)
    for call in (optimizer.step, pruner.state_dict):
        with pytest.raises(ValueError, match=r"no longer the optimizer's.*finalize\(\)"):
            call()
    assert pruner.step == 1
    pruner.finalize()


@pytest.mark.parametrize("given", [3, "x", True, Cap(3)])
def test_what_is_no_cost_is_refused_before_the_first_step(given: Any) -> None:
    optimizer = SGD(Net().parameters(), lr=0.1)
    with pytest.raises(TypeError, match=f"expected costs=SynapticCosts.* got {type(given).__name__}"):
        SoftThresholdPruner(optimizer, LATS(l1=0.1), costs=given)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"prune": "no"}, "prune of a parameter group must be True or False, got 'no'"),
        ({"prune": None}, "prune of a parameter group must be True or False, got None"),
        ({"prune": torch.tensor([True, False])}, "prune of a parameter group must be True or False, got tensor"),
        ({"max_sparsity": "0.5"}, "max_sparsity of parameter group 0 must be a number in 0 … 1 .*, got '0.5'"),
        ({"max_sparsity": True}, "max_sparsity of parameter group 0 must be a number in 0 … 1 .*, got True"),
        ({"fan_out": 3}, r"fan_out of parameter group 0 must be Cap\(limit\), or False for no limit, got 3"),
        ({"fan_out": Cap(3)}, r"group 0 says fan_out=Cap\(limit=3.* but the pruner has no fan_out"),
    ],
)
def test_a_groups_options_are_never_ignored(options: dict[str, Any], says: str) -> None:
    optimizer = SGD([{"params": list(Net().parameters()), **options}], lr=0.1)
    with pytest.raises(ValueError, match=says):
        SoftThresholdPruner(optimizer, LATS(l1=0.1))
    if options == {"fan_out": Cap(3)}:  # as it is advised
        SoftThresholdPruner(optimizer, LATS(l1=0.1), fan_out=Cap(2, steps=9))


@pytest.mark.parametrize("call", [SynOpsCounter, SynOpsLoss, SynapticCosts, lambda m: synops_per_sample(m, None, 1)])
@pytest.mark.parametrize("given", [None, "model", nn.Linear])
def test_what_is_no_module_is_refused(call: Any, given: Any) -> None:
    with pytest.raises(TypeError, match=f"expected a torch module, got {type(given).__name__}"):
        call(given)
