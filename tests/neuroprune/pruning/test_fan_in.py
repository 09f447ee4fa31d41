"""Fan-in caps: training itself ends within the limit, row by row."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from neuroprune import LATS, SLATS, Cap, SoftThresholdPruner
from neuroprune.pruning.fan_in import row_thresholds

STEPS = 40


def fan_ins(layer: nn.Module) -> list[int]:
    """Non-zero weights per neuron, counted one by one."""
    return [sum(1 for w in row.flatten().tolist() if w != 0.0) for row in layer.get_parameter("weight").detach()]


def run(
    cap: Cap | None, *, l1: float = 1e-3, stop: int = STEPS
) -> tuple[nn.Sequential, SoftThresholdPruner, list[int]]:
    """Train a small network; the largest fan-in of its convolution after every step."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(96, 5))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    pruner = SoftThresholdPruner(optimizer, LATS(l1=l1), fan_in=cap)
    largest = []
    for step in range(stop):
        generator = torch.Generator().manual_seed(step)
        x, y = torch.randn(16, 4, 6, 6, generator=generator), torch.randint(0, 5, (16,), generator=generator)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(x), y).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        largest.append(max(fan_ins(net[0])))
    return net, pruner, largest


def test_rows_end_within_the_limit_and_others_keep_the_common_threshold() -> None:
    net, pruner, largest = run(Cap(12, steps=STEPS))
    assert largest[-1] <= 12
    assert max(fan_ins(net[4])) <= 12
    assert largest[0] > 30, "the limit is approached, not jumped to"
    assert largest[5] > largest[15] > largest[-1]
    uncapped, plain, _ = run(None)
    assert max(fan_ins(uncapped[0])) > 12
    assert pruner.threshold == plain.threshold


def test_a_limit_nobody_exceeds_changes_nothing() -> None:
    capped, _, _ = run(Cap(96, steps=STEPS))
    plain, _, _ = run(None)
    assert all(torch.equal(a, b) for a, b in zip(capped.parameters(), plain.parameters(), strict=True))


def test_limit_holds_from_the_end_of_the_ramp_on() -> None:
    _, _, largest = run(Cap(8, steps=STEPS, ramp=0.5))
    assert all(n <= 8 for n in largest[STEPS // 2 - 1 :])


def test_resumes_bit_for_bit_with_thresholds_per_row() -> None:
    whole, _, _ = run(Cap(12, steps=STEPS))
    half, pruner, _ = run(Cap(12, steps=STEPS), stop=20)
    state = pruner.state_dict()
    assert any(isinstance(threshold, torch.Tensor) for threshold in state["applied"].values())
    torch.manual_seed(1)
    net = nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(96, 5))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    resumed = SoftThresholdPruner(optimizer, LATS(l1=1e-3), fan_in=Cap(12, steps=STEPS))
    net.load_state_dict(half.state_dict())
    optimizer.load_state_dict(pruner._optimizer.state_dict())
    resumed.load_state_dict(state)
    for step in range(20, STEPS):
        generator = torch.Generator().manual_seed(step)
        x, y = torch.randn(16, 4, 6, 6, generator=generator), torch.randint(0, 5, (16,), generator=generator)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(x), y).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), whole.parameters(), strict=True))


def test_steps_come_from_the_schedule_or_are_asked_for() -> None:
    optimizer = torch.optim.SGD(nn.Linear(20, 4).parameters(), lr=0.1)
    with pytest.raises(ValueError, match=r"LATS does not say for how many steps.*Cap\(5, steps=\.\.\.\)"):
        SoftThresholdPruner(optimizer, LATS(l1=1e-3), fan_in=Cap(5))
    pruner = SoftThresholdPruner(optimizer, SLATS(0.1, 30), fan_in=Cap(5))
    assert len(pruner.parameters) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0,), "limit"),
        ((-3,), "limit"),
        ((2.5,), "limit"),
        ((4, 0), "steps"),
        ((4, 9, 0.0), "ramp"),
        ((4, 9, 1.5), "ramp"),
    ],
)
def test_values_out_of_range_are_named(arguments: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=f"Cap: {message}"):
        Cap(*arguments)


def test_a_number_in_place_of_a_cap_is_refused() -> None:
    optimizer = torch.optim.SGD(nn.Linear(20, 4).parameters(), lr=0.1)
    with pytest.raises(TypeError, match=r"expected fan_in=Cap\(limit\), got int"):
        SoftThresholdPruner(optimizer, SLATS(0.1, 30), fan_in=4096)  # type: ignore[arg-type]  # that is the mistake


@given(rows=st.integers(1, 5), columns=st.integers(1, 12), seed=st.integers(0, 999), d=st.floats(0, 2), data=st.data())
@settings(max_examples=60, deadline=None)
def test_row_thresholds_are_the_smallest_that_do(
    rows: int, columns: int, seed: int, d: float, data: st.DataObject
) -> None:
    allowed = data.draw(st.integers(1, columns))
    theta = torch.from_numpy(np.random.default_rng(seed).normal(size=(rows, columns)))
    found = row_thresholds(theta, d, allowed)
    each = [float(t) for t in found.flatten()] if isinstance(found, torch.Tensor) else [d] * rows
    for row, threshold in zip(theta.tolist(), each, strict=True):
        alive = sum(abs(value) > d for value in row)
        if alive <= allowed:
            assert threshold == d
        else:
            assert sum(abs(value) > threshold for value in row) == allowed
            assert sum(abs(value) > math.nextafter(threshold, 0) for value in row) > allowed
