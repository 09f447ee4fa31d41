"""Fan-out caps, alone, with a fan-in cap, and from a chip: training itself ends within the limits."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hw_targets import load_chip
from neuroprune import LATS, SLATS, Cap, Caps, ConstantThreshold, SoftThresholdPruner, prune_to
from neuroprune.pruning.fan_in import column_thresholds, row_thresholds

STEPS = 40


def most(weight: torch.Tensor, axis: int) -> int:
    """Most non-zeros of one neuron, counted one by one: axis 0 what it receives, 1 what it sends through."""
    return max(sum(1 for w in part.flatten().tolist() if w != 0.0) for part in weight.detach().unbind(axis))


def run(model: nn.Module, pruner_of: Any, groups: Any = None, shape: tuple[int, ...] = (16, 20)) -> Any:
    torch.manual_seed(0)
    optimizer = torch.optim.SGD(groups or model.parameters(), lr=0.05, momentum=0.9)
    pruner = pruner_of(optimizer)
    for step in range(STEPS):
        generator = torch.Generator().manual_seed(step)
        x, y = torch.randn(shape, generator=generator), torch.randint(0, 5, (shape[0],), generator=generator)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), y).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return pruner


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 5))


def test_columns_end_within_the_limit() -> None:
    model = network()
    run(model, lambda o: SoftThresholdPruner(o, LATS(l1=1e-4), fan_out=Cap(4, STEPS)))
    assert most(model[0].get_parameter("weight"), 1) == 4
    assert most(model[2].get_parameter("weight"), 1) <= 4
    assert most(model[0].get_parameter("weight"), 0) > 4


def test_both_at_once() -> None:
    model = network()
    run(model, lambda o: SoftThresholdPruner(o, LATS(l1=1e-4), fan_in=Cap(6, STEPS), fan_out=Cap(5, STEPS)))
    weight = model[0].get_parameter("weight")
    assert (most(weight, 0), most(weight, 1)) == (6, 5)


def test_input_channels_of_a_convolution() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(4, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(96, 5))
    run(model, lambda o: SoftThresholdPruner(o, LATS(l1=1e-4), fan_out=Cap(20, STEPS)), shape=(16, 4, 6, 6))
    assert most(model[0].get_parameter("weight"), 1) == 20


def test_a_group_has_a_limit_of_its_own_or_none() -> None:
    model = network()
    groups = [{"params": model[0].parameters(), "fan_out": False}, {"params": model[2].parameters(), "fan_out": Cap(2)}]
    run(model, lambda o: SoftThresholdPruner(o, SLATS(1e-5, STEPS), fan_out=Cap(4)), groups)
    assert most(model[0].get_parameter("weight"), 1) > 4
    assert most(model[2].get_parameter("weight"), 1) == 2
    bad = torch.optim.SGD([{"params": network().parameters(), "fan_out": 3}], lr=0.1)
    with pytest.raises(ValueError, match=r"fan_out of parameter group 0 must be Cap\(limit\), or False .* got 3"):
        SoftThresholdPruner(bad, SLATS(0.1, 30), fan_out=Cap(4))


def test_limits_of_a_chip() -> None:
    """Xylo Audio 2: 64 synapses leave a neuron; Loihi 1: a core has 4096 input axons."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(10, 80), nn.ReLU(), nn.Linear(80, 90), nn.ReLU(), nn.Linear(90, 5))
    run(model, lambda o: SoftThresholdPruner(o, SLATS(1e-6, STEPS), caps=load_chip("xylo-audio2")), shape=(16, 10))
    assert most(model[2].get_parameter("weight"), 1) == 64
    optimizer = torch.optim.SGD(network().parameters(), lr=0.1)
    held = SoftThresholdPruner(optimizer, SLATS(0.1, 30), caps=load_chip("loihi1"))._parameters.given[0]
    assert held == Caps(fan_in=Cap(4096))


def test_prune_to_and_copies_keep_the_limits() -> None:
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    pruner = prune_to(0.5, optimizer, steps=STEPS, fan_out=Cap(3))
    twin, _, kept = copy.deepcopy((model, optimizer, pruner))
    assert kept._parameters.given[0] == Caps(None, Cap(3)) == pruner._parameters.given[0]
    assert twin is not model
    for _ in range(STEPS):
        optimizer.zero_grad()
        model(torch.randn(8, 20)).square().sum().backward()
        optimizer.step()
    assert most(model[0].get_parameter("weight"), 1) <= 3


def test_what_is_no_limit_is_refused() -> None:
    optimizer = torch.optim.SGD(network().parameters(), lr=0.1)
    cases: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"fan_out": 4}, TypeError, r"expected fan_out=Cap\(limit\), got int"),
        ({"caps": 4}, TypeError, r"expected caps=load_chip\(name\), got int"),
        ({"caps": Caps(Cap(3)), "fan_in": Cap(3)}, ValueError, "give the limits in one way"),
        ({"caps": load_chip("loihi2")}, ValueError, "loihi2 states no limit on the synapses of one neuron"),
        ({"caps": Caps(fan_out=Cap(5))}, ValueError, "ConstantThreshold does not say for how many steps"),
    ]
    for arguments, kind, message in cases:
        with pytest.raises(kind, match=message):
            SoftThresholdPruner(optimizer, ConstantThreshold(0.1), **arguments)


@given(rows=st.integers(1, 6), columns=st.integers(1, 6), seed=st.integers(0, 999), data=st.data())
@settings(max_examples=60, deadline=None)
def test_column_thresholds_cut_what_rows_left(rows: int, columns: int, seed: int, data: st.DataObject) -> None:
    """Both limits hold, and no column loses a weight that it may keep."""
    into, out = data.draw(st.integers(1, columns)), data.draw(st.integers(1, rows))
    theta = torch.from_numpy(np.random.default_rng(seed).normal(size=(rows, columns)))
    first = row_thresholds(theta, 0.1, into)
    found = column_thresholds(theta, first, out)
    left, kept = theta.abs() > torch.as_tensor(first), theta.abs() > torch.as_tensor(found)
    assert int(kept.sum(1).max()) <= into
    for before, after, values in zip(left.T, kept.T, theta.T, strict=True):
        assert int(after.sum()) == min(out, int(before.sum()))
        smallest = float(values[after].abs().min()) if after.any() else math.inf
        assert not (before & ~after & (values.abs() > smallest)).any()
