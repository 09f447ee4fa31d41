"""A chip's costs as a measure: the numbers of the chain, and budgets that are kept by them."""

from __future__ import annotations

from typing import Any, cast, get_args

import numpy as np
import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import Tensor, nn
from torch.optim import SGD

from hw_targets import HardwareTargetError, emulate, estimate, from_torch, load_chip, on_chip, place, to_chip
from hw_targets.app.on_chip import Cost
from neuroprune import prune_to_budget


def network() -> nn.Sequential:
    """(T, N, 1, 8, 8) → (T, N, 4)."""
    torch.manual_seed(0)
    options: dict[str, Any] = {"surrogate_function": surrogate.ATan()}
    net = nn.Sequential(
        layer.Conv2d(1, 6, 3, 2, 1), neuron.IFNode(**options), layer.Flatten(),
        layer.Linear(96, 12), neuron.IFNode(**options), layer.Linear(12, 4),
    )  # fmt: skip
    functional.set_step_mode(net, "m")
    return net


def batch(seed: int) -> Tensor:
    return (torch.rand(3, 10, 1, 8, 8, generator=torch.Generator().manual_seed(seed)) < 0.4).float()


def test_the_numbers_are_those_of_the_chain() -> None:
    net, x, chip = network(), batch(0), load_chip("loihi1")
    found = {cost: on_chip(net, x, "loihi1", cost) for cost in get_args(Cost)}
    assert net.training
    integers = to_chip(from_torch(net.eval(), x), chip, x)
    activity = emulate(integers, x)
    placement = place(integers, chip, activity)
    estimated = estimate(placement, activity, chip)
    assert {cost: measure() for cost, measure in found.items()} == {
        "energy": estimated.energy,
        "time": estimated.time,
        "cores": len(set(np.concatenate(list(placement.cores.values())))),
        "synaptic events": estimated.per_sample["synaptic_events"],
    }


def test_a_run_ends_within_an_energy() -> None:
    net, x = network(), batch(0)
    measure = on_chip(net, x, "loihi1", "energy")
    budget = 0.85 * measure()
    optimizer = SGD(net.parameters(), 0.05)
    prune_to_budget(budget, measure, optimizer, steps=12, every=2)
    for step in range(12):
        optimizer.zero_grad()
        net(batch(step)).mean(0).square().sub(1).square().mean().backward()
        optimizer.step()
        functional.reset_net(net)
    assert 0.95 * budget <= measure() <= budget


def test_costs_that_nobody_published_are_refused_at_once() -> None:
    with pytest.raises(HardwareTargetError, match="the energy of loihi2 is unknown"):
        on_chip(network(), batch(0), "loihi2", "energy")
    with pytest.raises(HardwareTargetError, match="cost must be one of energy, time, cores"):
        on_chip(network(), batch(0), "loihi1", cast("Any", "price"))
    with pytest.raises(HardwareTargetError, match=r"cost must be one of energy, time, cores.* got \['energy'\]"):
        on_chip(network(), batch(0), "loihi1", cast("Any", ["energy"]))
    with pytest.raises(HardwareTargetError, match="got a NoneType, expected a chip's name"):
        on_chip(network(), batch(0), cast("Any", None), "cores")
    with pytest.raises(HardwareTargetError, match="no-such-chip"):
        on_chip(network(), batch(0), "no-such-chip", "cores")
