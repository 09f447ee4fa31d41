"""Costs of weak neurons: what they are, what is pruned by them, and that nothing of a run is lost with them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW

from neuroprune import (
    FixedCosts,
    HardThreshold,
    NeuronCosts,
    ProductCosts,
    SoftThresholdPruner,
    SparsityRamp,
    SynapticCosts,
    prune_to,
)
from neuroprune.pruning.costs import Costs
from neuroprune.pruning.neuron_costs import group_costs

STEPS = 30


class Net(nn.Module):
    """(N, 2, 8, 8) → (N, 5)."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.last = nn.Conv2d(2, 6, 3), nn.Conv2d(6, 8, 3, groups=2), nn.Linear(128, 5)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.last((self.second((self.first(x) > 0.3).float()) > 0).float().flatten(1))
        return result

    def weights(self) -> list[nn.Parameter]:
        return [p for p in self.parameters() if p.dim() > 1]


def train(net: nn.Module, optimizer: torch.optim.Optimizer, first: int = 0, last: int = STEPS) -> None:
    for step in range(first, last):
        generator = torch.Generator().manual_seed(step)
        x, y = torch.rand(8, 2, 8, 8, generator=generator), torch.randint(5, (8,), generator=generator)
        optimizer.zero_grad()
        smooth = sum((p * torch.randn(p.shape, generator=generator)).sum() for p in net.parameters())
        loss = nn.functional.cross_entropy(net(x), y) + 0.3 * smooth  # all weights move
        torch.autograd.backward(loss)
        optimizer.step()


def strengths(theta: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """1/c before its mean is taken, weight by weight."""
    total = sum(float(w) ** 2 for w in theta.flat) / theta.size
    found = np.empty(theta.shape)
    for index in np.ndindex(*theta.shape):
        row = float(np.square(theta[index[0]]).mean())
        column = float(np.square(theta[:, index[1]]).mean())
        found[index] = (row / total + 0.01) * (column / total + 0.01)
    return found


@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 2, 2), (6, 1, 3, 3)])
def test_costs_are_one_over_the_strength_of_row_and_column(shape: tuple[int, ...]) -> None:
    theta = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    theta[1] *= 0.01
    expected = 1 / strengths(theta.double().numpy())
    found = group_costs(theta, (0, 1), 1.0).expand(shape)
    torch.testing.assert_close(found, torch.from_numpy(expected / expected.mean()).float(), rtol=1e-4, atol=1e-5)
    assert found[1].mean() > 10 * found[0].mean()
    assert torch.equal(group_costs(torch.zeros(shape), (0, 1), 1.0).expand(shape), torch.ones(shape))


def test_what_is_left_are_the_largest_products_of_size_and_strengths() -> None:
    """In one layer and at a single look: an order by hand, of which prune_to keeps the first."""
    weight = nn.Parameter(torch.randn(12, 9, generator=torch.Generator().manual_seed(3)))
    before = weight.detach().double().numpy().copy()
    optimizer = SGD([weight], lr=0.0)
    schedule = SparsityRamp(0.75, 1)
    pruner = SoftThresholdPruner(optimizer, schedule, proximal=HardThreshold(), costs=NeuronCosts([weight]))
    weight.grad = torch.zeros_like(weight)
    optimizer.step()
    score = np.abs(before) * np.sqrt(strengths(before))
    wanted = np.argsort(-score.ravel())[:27]
    assert set(np.flatnonzero(weight.detach().numpy())) == set(wanted)
    assert set(np.argsort(-np.abs(before).ravel())[:27]) != set(wanted)
    assert pruner.sparsity() == 0.75


def test_no_other_choice_has_a_smaller_weighted_count() -> None:
    """½‖w − θ‖² + ½d²·Σ c·[w ≠ 0] with c as reweighted: the weights under a threshold are its minimiser, by trying."""
    weight = nn.Parameter(torch.randn(2, 4, generator=torch.Generator().manual_seed(5)))
    theta = weight.detach().clone()
    optimizer, costs = SGD([weight], lr=0.0), NeuronCosts([weight])
    pruner = SoftThresholdPruner(optimizer, SparsityRamp(0.5, 1), proximal=HardThreshold(), costs=costs)
    weight.grad = torch.zeros_like(weight)
    optimizer.step()
    c, d = costs.of(weight).expand(2, 4), pruner.threshold

    def cost(kept: Tensor) -> float:
        return float(0.5 * (theta * (1 - kept)).square().sum() + 0.5 * d**2 * (c * kept).sum())

    choices = [torch.tensor([k >> i & 1 for i in range(8)]).float().reshape(2, 4) for k in range(256)]
    assert cost((weight != 0).float()) == pytest.approx(min(map(cost, choices)), abs=1e-6)


def test_fewer_neurons_are_left_of_as_many_weights() -> None:
    left = {}
    for strength in (None, 1.0):
        weight = nn.Parameter(torch.randn(40, 30, generator=torch.Generator().manual_seed(2)))
        with torch.no_grad():
            weight.mul_(torch.linspace(0.5, 1.5, 40)[:, None])
        optimizer = SGD([weight], lr=0.0)
        costs = None if strength is None else NeuronCosts([weight], axes=(0,), strength=strength)
        SoftThresholdPruner(optimizer, SparsityRamp(0.9, 1), proximal=HardThreshold(), costs=costs)
        weight.grad = torch.zeros_like(weight)
        optimizer.step()
        assert int((weight != 0).sum()) == 120
        left[strength] = int((weight != 0).any(1).sum())
    assert left[1.0] < left[None]


@pytest.mark.parametrize("optimizer_type", [SGD, AdamW])
@pytest.mark.parametrize("every", [1, 7])
def test_resume_is_bit_for_bit(optimizer_type: type[torch.optim.Optimizer], every: int) -> None:
    def fresh() -> tuple[Net, torch.optim.Optimizer, SoftThresholdPruner]:
        net = Net().train()
        optimizer = optimizer_type(net.parameters(), lr=0.01)  # type: ignore[call-arg]  # both have it
        costs = ProductCosts(SynapticCosts(net, every=3), NeuronCosts(net.weights(), every=every))
        return net, optimizer, prune_to(0.7, optimizer, steps=STEPS, costs=costs)

    net, optimizer, pruner = fresh()
    train(net, optimizer, 0, 12)
    saved = copy.deepcopy((net.state_dict(), optimizer.state_dict(), pruner.state_dict()))
    twin = copy.deepcopy((net, optimizer, pruner))
    train(net, optimizer, 12)
    again, other, resumed = fresh()
    again.load_state_dict(saved[0])
    other.load_state_dict(saved[1])
    resumed.load_state_dict({**saved[2], "costs": {str(key): value for key, value in saved[2]["costs"].items()}})
    train(again, other, 12)
    train(twin[0], twin[1], 12)
    for model in (again, twin[0]):
        for a, b in zip(net.parameters(), model.parameters(), strict=True):
            assert torch.equal(a, b)
    assert 0.69 < pruner.sparsity() < 0.71


def test_a_product_is_that_of_its_costs() -> None:
    net = Net()
    weight, other = net.weights()[:2]
    ones = FixedCosts({weight: torch.full((1, 2, 1, 1), 3.0)})
    neurons = NeuronCosts([weight], every=2)
    product = ProductCosts(ones, neurons)
    assert float(product.of(weight).max()) == 3.0
    product.advance()
    torch.testing.assert_close(product.of(weight), 3.0 * group_costs(weight, (0, 1), 1.0))
    assert float(product.of(other)) == 1.0
    before = neurons.of(weight)
    with torch.no_grad():
        weight[0] *= 100
    product.advance()
    assert torch.equal(neurons.of(weight), before)
    product.advance()
    assert not torch.equal(neurons.of(weight), before)


def kinds(net: Net) -> dict[str, Costs]:
    weights = net.weights()
    return {
        "neurons": NeuronCosts(weights, every=2),
        "synapses": SynapticCosts(net, every=2),
        "fixed": FixedCosts({weights[0]: torch.full((6, 1, 1, 1), 2.0)}),
        "product": ProductCosts(SynapticCosts(net, every=2), NeuronCosts(weights, every=2)),
        "of products": ProductCosts(
            ProductCosts(NeuronCosts(weights, every=3), SynapticCosts(net, every=2)), NeuronCosts(weights, every=2)
        ),
    }


@pytest.mark.parametrize("saved", kinds(Net()))
@pytest.mark.parametrize("loaded", kinds(Net()))
def test_a_state_of_other_costs_is_refused_and_changes_nothing(saved: str, loaded: str) -> None:
    states, dense = list[dict[str, Any]](), Net().state_dict()
    for kind in (saved, loaded):
        net = Net()
        optimizer = SGD(net.parameters(), 0.01)
        pruner = prune_to(0.5, optimizer, steps=STEPS, costs=kinds(net)[kind])
        if not states:
            train(net, optimizer, last=7)
        states.append(pruner.state_dict())
    if saved == loaded:
        pruner.load_state_dict(states[0])
        assert pruner.step == 7
        return
    with pytest.raises(ValueError, match=r"saved with costs=\w+Costs.* this pruner has .*; nothing was changed"):
        pruner.load_state_dict(states[0])
    assert pruner.step == 0
    assert all(torch.equal(value, dense[name]) for name, value in net.state_dict().items())


def test_a_product_of_products_remembers_all_of_them() -> None:
    net = Net()
    optimizer = SGD(net.parameters(), 0.01)
    costs = kinds(net)["of products"]
    pruner = prune_to(0.5, optimizer, steps=STEPS, costs=costs)
    train(net, optimizer, last=7)
    before = [costs.of(weight).clone() for weight in net.weights()]
    saved = copy.deepcopy(pruner.state_dict())
    train(net, optimizer, first=7)
    pruner.load_state_dict(saved)
    assert all(torch.equal(costs.of(weight), cost) for weight, cost in zip(net.weights(), before, strict=True))


@pytest.mark.parametrize("damage", [lambda c: c.pop(-1), lambda c: c.update({7: torch.ones(1)})])
def test_a_state_that_lacks_what_costs_need_changes_nothing(damage: Callable[[dict[int, Tensor]], object]) -> None:
    net = Net()
    optimizer = SGD(net.parameters(), 0.01)
    pruner = prune_to(0.5, optimizer, steps=STEPS, costs=NeuronCosts(net.weights()))
    train(net, optimizer, last=3)
    saved = copy.deepcopy(pruner.state_dict())
    train(net, optimizer, first=3, last=5)
    before = copy.deepcopy(net.state_dict())
    damage(saved["costs"])
    with pytest.raises(ValueError, match=r"costs of the state .*; nothing was changed"):
        pruner.load_state_dict(saved)
    assert pruner.step == 5
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_values_out_of_range_are_refused() -> None:
    weights = Net().weights()
    with pytest.raises(ValueError, match="two or more dimensions, got none"):
        NeuronCosts([])
    with pytest.raises(ValueError, match=r"got \[\(3,\)\]"):
        NeuronCosts([*weights, nn.Parameter(torch.ones(3))])
    for more in ({"axes": (2,)}, {"axes": ()}, {"strength": 0.0}, {"strength": float("inf")}, {"every": 0}):
        with pytest.raises(ValueError, match="expected axes of 0 and 1"):
            NeuronCosts(weights, **more)
    with pytest.raises(ValueError, match="at least one"):
        ProductCosts()
