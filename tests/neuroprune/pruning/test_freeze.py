"""A frozen mask: the zeros stay, the rest trains like an ordinary masked network."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
from torch import nn

from neuroprune import LATS, PGH, SoftThresholdPruner


def build() -> tuple[nn.Linear, torch.optim.Optimizer, SoftThresholdPruner]:
    torch.manual_seed(3)
    layer = nn.Linear(6, 5).double()
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.02, weight_decay=0.1)
    return layer, optimizer, SoftThresholdPruner(optimizer, LATS(l1=0.5))


def train(layer: nn.Linear, optimizer: torch.optim.Optimizer, first: int, last: int) -> None:
    for step in range(first, last):
        x = torch.randn(16, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        (layer(x) - x[:, :5]).square().mean().backward()
        optimizer.step()


def test_after_freezing_it_is_ordinary_training_under_the_mask() -> None:
    layer, optimizer, pruner = build()
    train(layer, optimizer, 0, 20)
    pruner.freeze()
    twin = copy.deepcopy(layer)
    mask = (twin.weight != 0).double()
    twin_optimizer = torch.optim.AdamW(twin.parameters(), lr=0.02, weight_decay=0.1)
    twin_optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    threshold = pruner.threshold
    for step in range(20, 60):
        train(layer, optimizer, step, step + 1)
        train(twin, twin_optimizer, step, step + 1)
        with torch.no_grad():
            twin.weight.mul_(mask)
    assert torch.equal(layer.weight, twin.weight)
    assert 0.0 < pruner.sparsity() < 1.0
    assert torch.equal(layer.weight != 0, mask.bool())
    assert (pruner.threshold, pruner.l1, pruner.step, pruner.frozen) == (threshold, 0.0, 60, True)


def test_a_frozen_run_resumes_bit_for_bit() -> None:
    layer, optimizer, pruner = build()
    train(layer, optimizer, 0, 20)
    pruner.freeze()
    train(layer, optimizer, 20, 30)
    saved = io.BytesIO()
    torch.save((layer.state_dict(), optimizer.state_dict(), pruner.state_dict()), saved)
    train(layer, optimizer, 30, 50)
    saved.seek(0)
    states: tuple[Any, Any, Any] = torch.load(saved)
    again, again_optimizer, again_pruner = build()
    again.load_state_dict(states[0])
    again_optimizer.load_state_dict(states[1])
    again_pruner.load_state_dict(states[2])
    train(again, again_optimizer, 30, 50)
    assert torch.equal(again.weight, layer.weight)
    assert again_pruner.frozen


def test_loading_an_unfrozen_state_thaws() -> None:
    layer, optimizer, pruner = build()
    train(layer, optimizer, 0, 10)
    state = copy.deepcopy(pruner.state_dict())
    before = layer.weight.detach().clone()
    pruner.freeze()
    train(layer, optimizer, 10, 20)
    pruner.load_state_dict(state)
    assert torch.equal(layer.weight, before)
    assert not pruner.frozen
    threshold = pruner.threshold
    train(layer, optimizer, 20, 21)
    assert pruner.threshold > threshold


def test_early_pruning_stops_growing_sparsity_when_frozen() -> None:
    torch.manual_seed(3)
    layer = nn.Linear(6, 5).double()
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.05)
    pruner = SoftThresholdPruner(optimizer, PGH(0.3, 0.01, steps=20))
    train(layer, optimizer, 0, 20)
    sparsity = pruner.sparsity()
    pruner.freeze()
    train(layer, optimizer, 20, 60)  # past the schedule's plan: a frozen mask needs none
    assert pruner.sparsity() == sparsity > 0


def test_a_finalized_pruner_cannot_be_frozen() -> None:
    _, _, pruner = build()
    pruner.finalize()
    with pytest.raises(RuntimeError, match="freeze: the pruner was finalized"):
        pruner.freeze()
