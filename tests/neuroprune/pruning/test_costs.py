"""Costs of weights: what they are, the weighted problem they solve, and that nothing of a run is lost with them."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import Tensor, nn
from torch.optim import SGD, AdamW

from neuroprune import (
    LATS,
    STR,
    Cap,
    FixedCosts,
    HardThreshold,
    SoftThresholdPruner,
    SparsityRamp,
    SynapticCosts,
    count_synops,
    prune_to,
)
from neuroprune.pruning.costs import operations

STEPS = 40


class Net(nn.Module):
    """(T, N, 2, 8, 8) → (T, N, 5)."""

    def __init__(self) -> None:
        super().__init__()
        spiking: dict[str, Any] = {"surrogate_function": surrogate.ATan(), "step_mode": "m"}
        self.net = nn.Sequential(
            layer.Conv2d(2, 4, 3, padding=1, step_mode="m"), neuron.IFNode(**spiking),
            layer.Conv2d(4, 6, 3, stride=2, groups=2, step_mode="m"), neuron.IFNode(**spiking),
            layer.Flatten(step_mode="m"), layer.Linear(54, 5, step_mode="m"),
        )  # fmt: skip
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.mul_(4.0)  # so that every layer fires

    def forward(self, x: Tensor) -> Tensor:
        functional.reset_net(self.net)
        result: Tensor = self.net(x)
        return result


def parameter_of(module: nn.Module) -> nn.Parameter:
    """Its weight."""
    weight = module.weight
    assert isinstance(weight, nn.Parameter)
    return weight


def batch(seed: int) -> tuple[Tensor, Tensor]:
    """Events (3, 4, 2, 8, 8), more in the first channel than in the second, and labels."""
    generator = torch.Generator().manual_seed(seed)
    rate = torch.tensor([0.6, 0.05])[:, None, None]
    return (torch.rand(3, 4, 2, 8, 8, generator=generator) < rate).float(), torch.randint(5, (4,), generator=generator)


def train(net: nn.Module, optimizer: torch.optim.Optimizer, first: int, last: int) -> None:
    for step in range(first, last):
        x, y = batch(step)
        optimizer.zero_grad()
        loss: Any = nn.functional.cross_entropy(net(x).mean(0), y)
        loss.backward()
        optimizer.step()


@pytest.mark.parametrize(
    ("made", "shape"),
    [
        (nn.Linear(6, 3), (4, 6)),
        (nn.Conv1d(2, 3, 3, stride=2, padding=1), (4, 2, 9)),
        (nn.Conv2d(2, 4, 3, padding=1), (4, 2, 5, 6)),
        (nn.Conv2d(4, 6, (2, 3), stride=2, dilation=2, groups=2), (4, 4, 7, 8)),
        (nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"), (2, 2, 5, 5)),
        (layer.Conv2d(2, 3, 3, padding="same", step_mode="m"), (3, 2, 2, 5, 5)),
    ],
)
def test_operations_are_the_synops_that_a_weight_causes(made: nn.Module, shape: tuple[int, ...]) -> None:
    """With one weight of 1 and all others 0 the layer's outputs add up to the events that meet it."""
    x = (torch.rand(shape, generator=torch.Generator().manual_seed(0)) < 0.4).float()
    found, weight = operations(made, x), parameter_of(made)
    assert isinstance(made.bias, nn.Parameter)
    expected = torch.zeros_like(weight)
    with torch.no_grad():
        made.bias.zero_()
        for index in np.ndindex(*weight.shape):
            weight.zero_()
            weight[index] = 1.0
            expected[index] = made(x).sum()
    torch.testing.assert_close(found.expand_as(weight), expected)
    assert expected.std() > 0


def test_all_operations_of_a_model_are_those_that_count_synops_counts() -> None:
    torch.manual_seed(0)
    net = Net().train()
    costs = SynapticCosts(net, every=1, base=1e-9)
    x, _ = batch(0)
    net(x)
    costs.advance()
    layers = [m for m in net.modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
    counted = [found.synops for found in count_synops(net.eval(), x).layers.values()]
    weights = sum(m.weight.numel() for m in layers)
    for count, m in zip(counted, layers, strict=True):
        assert count > 0
        share = float(costs.of(parameter_of(m)).expand_as(m.weight).sum()) / weights
        assert share == pytest.approx(count / sum(counted), rel=1e-4)


def test_the_weighted_lasso_is_what_growing_thresholds_solve() -> None:
    """argmin ½‖Xw − y‖² + μ·Σ c|w|: scikit-learn's Lasso on the features over c, whose solution is c·w."""
    from sklearn.linear_model import Lasso  # takes a second

    rng = np.random.default_rng(0)
    samples, features = 60, 20
    design = rng.standard_normal((samples, features))
    truth = np.where(np.arange(features) < 8, rng.choice([-1.0, 1.0], features) * rng.uniform(0.5, 2.0, features), 0.0)
    target = design @ truth + 0.5 * rng.standard_normal(samples)
    cost = np.geomspace(0.2, 5.0, features)[rng.permutation(features)]
    l1 = 0.1 * float(np.abs(design.T @ target).max())
    oracle = Lasso(alpha=l1 / samples, fit_intercept=False, tol=1e-12, max_iter=100_000)
    expected = oracle.fit(design / cost, target).coef_ / cost
    x, y = torch.from_numpy(design), torch.from_numpy(target)

    def fitted(weighted: bool) -> Any:
        unit = nn.Linear(features, 1, bias=False, dtype=torch.float64)
        nn.init.zeros_(unit.weight)
        optimizer = SGD(unit.parameters(), lr=2e-3)
        costs = FixedCosts({parameter_of(unit): torch.from_numpy(cost)[None]}) if weighted else None
        pruner = SoftThresholdPruner(optimizer, LATS(l1=l1), costs=costs)
        for _ in range(2500):
            optimizer.zero_grad()
            (0.5 * (unit(x).squeeze(1) - y).square().sum()).backward()
            optimizer.step()
        assert pruner.l1 == pytest.approx(l1)
        return unit.weight.detach().squeeze(0).numpy()

    found = fitted(weighted=True)
    assert np.abs(found - expected).max() < 1e-2
    assert ((found != 0) == (expected != 0)).all()
    assert np.abs(fitted(weighted=False) - expected).max() > 0.1


def test_costs_of_one_are_no_costs() -> None:
    weights = []
    for weighted in (False, True):
        torch.manual_seed(0)
        net = Net().train()
        optimizer = SGD(net.parameters(), lr=0.05)
        ones = FixedCosts({p: torch.ones(()) for p in net.parameters() if p.dim() > 1})
        pruner = SoftThresholdPruner(optimizer, LATS(l1=0.02), costs=ones if weighted else None)
        train(net, optimizer, 0, STEPS)
        assert 0.05 < pruner.sparsity() < 0.95
        weights.append([p.detach().clone() for p in pruner.parameters])
    for a, b in zip(*weights, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("every", [5, 13])
def test_a_ramp_ends_at_its_sparsity_with_fewer_operations(every: int) -> None:
    """Costs measured anew in the last step (13) are those that its ranks are taken with."""
    found = {}
    for weighted in (False, True):
        torch.manual_seed(0)
        net = Net().train()
        optimizer = SGD(net.parameters(), lr=0.05)
        costs = SynapticCosts(net, every=every) if weighted else None
        pruner = prune_to(0.7, optimizer, steps=STEPS, costs=costs)
        train(net, optimizer, 0, STEPS)
        weights = sum(p.numel() for p in pruner.parameters)
        assert pruner.sparsity() == pytest.approx(0.7, abs=1.0 / weights)
        first = parameter_of(net.net[0])
        found[weighted] = first[:, 0].count_nonzero() / first[:, 1].count_nonzero().clamp_min(1)
        pruner.finalize()
    assert found[True] < 0.7 * found[False], "the channel that fires twelve times as often loses more"


@pytest.mark.parametrize("optimizer_type", [SGD, AdamW])
def test_resume_is_bit_for_bit(optimizer_type: type[torch.optim.Optimizer]) -> None:
    def fresh() -> tuple[nn.Module, torch.optim.Optimizer, SoftThresholdPruner]:
        torch.manual_seed(0)
        net = Net().train()
        optimizer = optimizer_type(net.parameters(), lr=0.01)  # type: ignore[call-arg]  # both have it
        return net, optimizer, prune_to(0.7, optimizer, steps=STEPS, costs=SynapticCosts(net, every=3))

    net, optimizer, pruner = fresh()
    train(net, optimizer, 0, 20)
    functional.reset_net(net)  # potentials of the last batch belong to its graph
    saved = copy.deepcopy((net.state_dict(), optimizer.state_dict(), pruner.state_dict()))
    twin = copy.deepcopy((net, optimizer, pruner))
    train(net, optimizer, 20, STEPS)
    again, other, resumed = fresh()
    again.load_state_dict(saved[0])
    other.load_state_dict(saved[1])
    resumed.load_state_dict(saved[2])
    train(again, other, 20, STEPS)
    train(twin[0], twin[1], 20, STEPS)
    for model in (again, twin[0]):
        for a, b in zip(net.parameters(), model.parameters(), strict=True):
            assert torch.equal(a, b)
    plain = SoftThresholdPruner(SGD(Net().parameters(), lr=0.1), SparsityRamp(0.7, STEPS), proximal=HardThreshold())
    with pytest.raises(ValueError, match="saved with costs"):
        plain.load_state_dict({**saved[2], "precondition": "None"})


def test_measured_in_training_alone_every_so_many_steps() -> None:
    torch.manual_seed(0)
    net = Net()
    costs = SynapticCosts(net, every=2, momentum=0.5)
    assert costs.uncosted == ()
    weight = parameter_of(net.net[0])
    net.eval()(batch(0)[0])
    costs.advance()
    assert not costs.measured
    net.train()(batch(1)[0])  # step 1: not due
    costs.advance()
    assert not costs.measured
    net(batch(2)[0])
    costs.advance()
    first = costs.of(weight)
    assert first.shape == (1, 2, 3, 3)
    assert first[0, 0].mean() > 4 * first[0, 1].mean()
    costs.close()
    net(batch(3)[0])
    costs.advance()
    costs.advance()
    assert torch.equal(costs.of(weight), first)


def test_what_cannot_be_weighted_is_refused() -> None:
    net = Net()
    costs, optimizer = SynapticCosts(net), SGD(net.parameters(), lr=0.1)
    with pytest.raises(ValueError, match="STR has thresholds before the first step"):
        SoftThresholdPruner(optimizer, STR(), costs=costs)
    with pytest.raises(ValueError, match="limit on synapses"):
        SoftThresholdPruner(optimizer, LATS(l1=0.1), costs=costs, fan_in=Cap(4, steps=5))
    with pytest.raises(ValueError, match="every must be a whole number >= 1, got 0"):
        SynapticCosts(net, every=0)
    with pytest.raises(ValueError, match="broadcast to it"):
        FixedCosts({next(net.parameters()): torch.ones(7)})
    with pytest.raises(ValueError, match="above 0"):
        FixedCosts({next(net.parameters()): torch.zeros(())})
