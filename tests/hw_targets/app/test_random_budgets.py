"""Budgets of energy and cores on networks, chips and optimizers drawn at random: kept, and of energy closely."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import Tensor, nn
from torch.optim import SGD, AdamW

from hw_targets import Chip, emulate, estimate, from_torch, load_chip, on_chip, place, to_chip
from neuroprune import SynapticCosts, prune_to_budget

STEPS, SAMPLES = 10, 8
#: 30 configurations for each cost; three of them belong to every run, a few seconds each.
CASES = [
    pytest.param(
        cost, seed, marks=() if (cost, seed) in {("energy", 0), ("cores", 1), ("cores", 5)} else pytest.mark.slow
    )
    for cost in ("energy", "cores")
    for seed in range(30)
]


def network(seed: int, draw: random.Random) -> nn.Sequential:
    """(T, N, 1, 8, 8) → (T, N, 4), convolution or matrix first, wide or narrow; every layer fires."""
    torch.manual_seed(seed)

    def spiking() -> nn.Module:
        made: nn.Module = draw.choice((neuron.IFNode, neuron.LIFNode))(surrogate_function=surrogate.ATan())
        return made

    channels, hidden = draw.randint(2, 5), draw.randint(12, 30)
    if draw.random() < 0.5:
        first = [
            layer.Conv2d(1, channels, 3, 2, 1, bias=False),
            layer.BatchNorm2d(channels),
            spiking(),
            layer.Flatten(),
        ]
    else:
        first = [layer.Flatten(), layer.Linear(64, channels * 16, bias=False), spiking()]
    net = nn.Sequential(*first, layer.Linear(channels * 16, hidden), spiking(), layer.Linear(hidden, 4))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(3.0)
    functional.set_step_mode(net, "m")
    return net


def small_cores(draw: random.Random) -> Chip:
    """Loihi with less memory and fewer neurons a core, so that small networks take several."""
    bits, neurons = 64 * draw.randint(90, 150), draw.choice((32, 64, 128))
    return replace(load_chip("loihi1"), synaptic_bits_per_core=bits, neurons_per_core=neurons)


def spikes(seed: int, samples: int) -> Tensor:
    return (torch.rand(3, samples, 1, 8, 8, generator=torch.Generator().manual_seed(seed)) < 0.4).float()


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    for step in range(steps):
        optimizer.zero_grad()
        scores: Tensor = model(spikes(step, 8)).mean(0)
        torch.autograd.backward((scores - torch.eye(4)[torch.arange(8) % 4]).square().mean())
        optimizer.step()
        functional.reset_net(model)


def nonzeros(model: nn.Module) -> int:
    return sum(int(torch.count_nonzero(p)) for p in model.parameters() if p.dim() > 1)


@pytest.mark.parametrize(("cost", "seed"), CASES)
def test_a_random_budget_is_kept(cost: Any, seed: int) -> None:
    draw = random.Random(seed)
    model, chip, x = network(seed, draw), small_cores(draw), spikes(1000 + seed, SAMPLES)
    train(model, SGD(model.parameters(), 0.0), 1)  # batch-norm has seen something
    measure = on_chip(model, x, chip, cost)
    dense, least = measure(), floor(model, measure)
    budget = least + draw.uniform(0.2, 0.8) * (dense - least)
    budget = float(int(budget)) if cost == "cores" else budget
    assert least <= budget < dense
    seen: list[tuple[float, int]] = []

    def noted() -> float:
        seen.append((measure(), nonzeros(model)))
        return seen[-1][0]

    optimizer = draw.choice((lambda p: SGD(p, 0.05, momentum=0.9), lambda p: AdamW(p, 3e-3)))(model.parameters())
    costs = SynapticCosts(model) if draw.random() < 0.5 else None
    pruner = prune_to_budget(budget, noted, optimizer, steps=STEPS, every=3, costs=costs)
    train(model, optimizer, STEPS)
    pruner.finalize()
    found = reported(model, chip, x, cost)
    assert found <= budget
    if cost == "energy":
        one_more = [value for value, left in seen if left == nonzeros(model) + 1]
        assert found >= 0.98 * budget or min(one_more, default=0.0) > budget


def floor(model: nn.Module, measure: Any) -> float:
    """What is measured with one weight in a hundred left."""
    weights = [p for p in model.parameters() if p.dim() > 1]
    saved = [p.detach().clone() for p in weights]
    limit = torch.cat([p.detach().abs().flatten() for p in weights]).quantile(0.99)
    with torch.no_grad():
        for p in weights:
            p.mul_(p.abs() > limit)
        found = float(measure())
        for p, before in zip(weights, saved, strict=True):
            p.copy_(before)
    return found


def reported(model: nn.Module, chip: Chip, x: Tensor, cost: str) -> float:
    """The number as a user computes it, stage by stage."""
    integers = to_chip(from_torch(model.eval(), x), chip, x)
    activity = emulate(integers, x)
    placement = place(integers, chip, activity)
    if cost == "cores":
        return float(len(set(np.concatenate(list(placement.cores.values())))))
    energy = estimate(placement, activity, chip).energy
    assert energy is not None
    return energy
