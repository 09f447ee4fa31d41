"""The pruner: against a reparameterised twin, across resume, skipped steps and outside writes, and what it refuses."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler, SequentialLR

from neuroprune import LATS, Schedule, SoftThresholdPruner, inverse_soft_threshold, prune_to, soft_threshold
from neuroprune.pruning.checks import check_gradients
from tests.twins.pruner import ReparameterisedTwin, counted_operations, nearest_latent, scalar_soft_threshold

STEPS = 60
MakeOptimizer = Callable[[list[dict[str, Any]]], torch.optim.Optimizer]


class Net(nn.Module):
    """Convolution, hidden layer, head, and a layer that never gets a gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3)
        self.hidden = nn.Linear(64, 12)
        self.head = nn.Linear(12, 3)
        self.unused = nn.Linear(5, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.conv(x)).flatten(1)
        output: Tensor = self.head(torch.relu(self.hidden(x)))
        return output


PRUNED = [["conv.weight"], ["hidden.weight", "unused.weight"], []]


def make_net(dtype: torch.dtype = torch.float64, seed: int = 0) -> Net:
    torch.manual_seed(seed)
    return Net().to(dtype)


def make_groups(net: Net, lr: float) -> list[dict[str, Any]]:
    """Two pruned groups with different learning rates, and one with prune=False."""
    return [
        {"params": list(net.conv.parameters()), "lr": lr},
        {"params": [*net.hidden.parameters(), *net.unused.parameters()], "lr": 0.4 * lr},
        {"params": list(net.head.parameters()), "lr": lr, "prune": False},
    ]


def warmup_cosine(optimizer: torch.optim.Optimizer) -> LRScheduler:
    warmup = LinearLR(optimizer, 0.1, 1.0, total_iters=10)
    return SequentialLR(optimizer, [warmup, CosineAnnealingLR(optimizer, STEPS - 10)], milestones=[10])


def backward(model: nn.Module, optimizer: torch.optim.Optimizer, step: int, dtype: torch.dtype = torch.float64) -> None:
    """The gradient on a batch that depends on the step number alone."""
    generator = torch.Generator().manual_seed(1000 + step)
    x = torch.randn(8, 2, 6, 6, generator=generator, dtype=torch.float64).to(dtype)
    y = torch.randn(8, 3, generator=generator, dtype=torch.float64).to(dtype)
    optimizer.zero_grad()
    (model(x) - y).square().mean().backward()


def latents(pruner: SoftThresholdPruner) -> dict[int, Tensor]:
    return {index: theta.clone() for index, theta in pruner.state_dict()["latents"].items()}


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def same_bits(a: dict[Any, Tensor], b: dict[Any, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) and a[k].dtype == b[k].dtype for k in a)


def load(run: tuple[Any, ...], states: list[dict[str, Any]]) -> None:
    for part, state in zip(run, states, strict=True):
        part.load_state_dict(state)


OPTIMIZERS: dict[str, tuple[float, float, MakeOptimizer]] = {
    # name: (learning rate, μ, factory)
    "sgd": (0.2, 0.02, lambda groups: torch.optim.SGD(groups)),
    "momentum": (0.1, 0.04, lambda groups: torch.optim.SGD(groups, momentum=0.9, weight_decay=1e-2)),
    "nesterov": (0.1, 0.04, lambda groups: torch.optim.SGD(groups, momentum=0.9, nesterov=True, weight_decay=1e-2)),
    "adam": (0.01, 0.4, lambda groups: torch.optim.Adam(groups, weight_decay=1e-2)),
    "adamw": (0.01, 0.4, lambda groups: torch.optim.AdamW(groups, weight_decay=0.1)),
}
DTYPES = [(torch.float32, 1e-6), (torch.float64, 1e-13)]


# ---------------------------------------------------------------------------------------------------------- the twin


@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES, ids=["float32", "float64"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_equals_reparameterised_forward_pass(name: str, dtype: torch.dtype, tolerance: float) -> None:
    lr, l1, make = OPTIMIZERS[name]
    net = make_net(dtype)
    twin = ReparameterisedTwin(make_net(dtype), PRUNED, l1)
    assert isinstance(twin.model, Net)
    optimizer, twin_optimizer = make(make_groups(net, lr)), make(make_groups(twin.model, lr))
    scheduler, twin_scheduler = warmup_cosine(optimizer), warmup_cosine(twin_optimizer)
    pruner = SoftThresholdPruner(optimizer, LATS(l1=l1))
    came_back, zero = 0, torch.zeros(12, 64, dtype=torch.bool)
    for step in range(STEPS):
        backward(net, optimizer, step, dtype)
        backward(twin, twin_optimizer, step, dtype)
        rates = [float(group["lr"]) for group in twin_optimizer.param_groups]
        optimizer.step()
        twin_optimizer.step()
        twin.advance(rates)
        scheduler.step()
        twin_scheduler.step()
        came_back += int((zero & (net.hidden.weight != 0)).sum())
        zero = net.hidden.weight == 0
        for key, weight in twin.weights().items():
            difference = (net.get_parameter(key) - weight).abs().max().item()
            assert difference <= tolerance, f"{key} differs by {difference} after step {step}"
    assert pruner.step == STEPS
    assert pruner.thresholds[:2] == pytest.approx(twin.thresholds[:2], rel=1e-12)
    assert pruner.thresholds[1] == pytest.approx(0.4 * pruner.thresholds[0], rel=1e-9)
    # The comparison has force: some weights are pruned, some live, some returned; the others were never shrunk.
    assert 0.1 < pruner.sparsity() < 0.95
    assert came_back > 0
    assert all(int((net.get_parameter(k) == 0).sum()) == 0 for k in ("conv.bias", "head.weight", "head.bias"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_resume_is_bit_for_bit(name: str, dtype: torch.dtype) -> None:
    lr, l1, make = OPTIMIZERS[name]

    def build(seed: int) -> tuple[Net, torch.optim.Optimizer, LRScheduler, SoftThresholdPruner]:
        net = make_net(dtype, seed)
        optimizer = make(make_groups(net, lr))
        return net, optimizer, warmup_cosine(optimizer), SoftThresholdPruner(optimizer, LATS(l1=l1))

    def train(run: tuple[Net, torch.optim.Optimizer, LRScheduler, SoftThresholdPruner], first: int, last: int) -> None:
        for step in range(first, last):
            backward(run[0], run[1], step, dtype)
            run[1].step()
            run[2].step()

    whole, half, resumed = build(0), build(0), build(7)
    train(whole, 0, STEPS)
    train(half, 0, 27)
    buffer = io.BytesIO()
    torch.save([part.state_dict() for part in half], buffer)
    buffer.seek(0)
    load(resumed, torch.load(buffer, weights_only=True))
    assert same_bits(weights(resumed[0]), weights(half[0]))
    assert resumed[3].l1 == half[3].l1 == pytest.approx(l1)
    train(resumed, 27, STEPS)
    assert same_bits(weights(resumed[0]), weights(whole[0]))
    assert same_bits(latents(resumed[3]), latents(whole[3]))
    assert resumed[3].thresholds == whole[3].thresholds
    assert (resumed[3].step, resumed[3].l1) == (STEPS, whole[3].l1)


def test_pruner_state_alone_restores_the_weights() -> None:
    net, optimizer, pruner = small_run(steps=5)
    state = copy.deepcopy(pruner.state_dict())
    before = weights(net)
    train_small(net, optimizer, 5)
    assert not same_bits(weights(net), before)
    pruner.load_state_dict(state)
    assert torch.equal(net.hidden.weight, before["hidden.weight"])
    assert torch.equal(net.conv.weight, before["conv.weight"])
    assert pruner.step == 5


def small_run(
    steps: int = 10,
    l1: float = 0.1,
    dtype: torch.dtype = torch.float64,
    make: MakeOptimizer = lambda groups: torch.optim.SGD(groups, momentum=0.9),
) -> tuple[Net, torch.optim.Optimizer, SoftThresholdPruner]:
    """A run of a few steps, with zeros among the weights."""
    net = make_net(dtype)
    optimizer = make(make_groups(net, 0.05))
    pruner = SoftThresholdPruner(optimizer, LATS(l1=l1))
    train_small(net, optimizer, steps, dtype)
    return net, optimizer, pruner


def train_small(net: Net, optimizer: torch.optim.Optimizer, steps: int, dtype: torch.dtype = torch.float64) -> None:
    for step in range(steps):
        backward(net, optimizer, step, dtype)
        optimizer.step()


def plain_sgd(groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups)


def zero_gradient_step(net: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """A step that moves no latent parameter; only the threshold advances."""
    for parameter in net.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()


# ----------------------------------------------------------------------------------------------------- skipped steps


@pytest.mark.parametrize("overflow", [float("inf"), float("nan")])
@pytest.mark.parametrize("fused", [False, True])
def test_grad_scaler_skips_the_step(fused: bool, overflow: float) -> None:
    net, optimizer, pruner = small_run(dtype=torch.float32, make=lambda g: torch.optim.AdamW(g, lr=0.01, fused=fused))
    scaler = torch.amp.grad_scaler.GradScaler("cpu", init_scale=8.0)
    before, theta, thresholds, step = weights(net), latents(pruner), pruner.thresholds, pruner.step
    for bad in (True, True, False):
        optimizer.zero_grad()
        loss = net(torch.randn(4, 2, 6, 6)).square().mean()
        scaler.scale(loss).backward()
        if bad:
            assert net.conv.weight.grad is not None
            net.conv.weight.grad[0, 0, 0, 0] = overflow
        scaler.step(optimizer)
        scaler.update()
        if bad:
            assert pruner.thresholds == thresholds
            assert pruner.step == step
            assert same_bits(weights(net), before)
            assert same_bits(latents(pruner), theta)
    assert scaler.get_scale() == 2.0
    assert pruner.step == step + 1
    assert pruner.threshold == pytest.approx(thresholds[0] + 0.1 * optimizer.param_groups[0]["lr"])
    assert not same_bits(weights(net), before)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_fused_optimizer_that_finds_inf_does_not_advance(name: str) -> None:
    def make(groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        if name == "sgd":
            return torch.optim.SGD(groups, momentum=0.9, fused=True)
        return torch.optim.AdamW(groups, fused=True)

    net, optimizer, pruner = small_run(dtype=torch.float32, make=make)
    before, theta, thresholds, l1 = weights(net), latents(pruner), pruner.thresholds, pruner.l1
    pointers = {k: p.data_ptr() for k, p in net.named_parameters()}
    marked: Any = optimizer
    for found, steps in ((1.0, 10), (0.0, 11)):
        backward(net, optimizer, 3, torch.float32)
        marked.grad_scale, marked.found_inf = torch.tensor(1.0), torch.tensor(found)
        optimizer.step()
        del marked.grad_scale, marked.found_inf
        assert pruner.step == steps
        assert same_bits(weights(net), before) is bool(found)
        assert same_bits(latents(pruner), theta) is bool(found)
        assert (pruner.thresholds == thresholds) is bool(found)
        assert pruner.l1 == pytest.approx(l1)
        assert {k: p.data_ptr() for k, p in net.named_parameters()} == pointers


def test_skipped_step_still_adopts_outside_writes() -> None:
    net, optimizer, pruner = small_run(dtype=torch.float32, make=lambda g: torch.optim.SGD(g, fused=True))
    wanted = torch.randn(12, 64)
    with torch.no_grad():
        net.hidden.weight.copy_(wanted)
    backward(net, optimizer, 0, torch.float32)
    marked: Any = optimizer
    marked.grad_scale, marked.found_inf = torch.tensor(1.0), torch.tensor(1.0)
    optimizer.step()
    assert torch.equal(net.hidden.weight, wanted)
    assert pruner.step == 10


# --------------------------------------------------------------------------------------------------- outside writes


def write_by_load_state_dict(net: Net, wanted: Tensor) -> None:
    net.load_state_dict({**net.state_dict(), "hidden.weight": wanted})


def write_by_assign(net: Net, wanted: Tensor) -> None:
    net.hidden.weight.data = wanted.clone()


def write_by_copy(net: Net, wanted: Tensor) -> None:
    with torch.no_grad():
        net.hidden.weight.copy_(wanted)


def write_by_index(net: Net, wanted: Tensor) -> None:
    with torch.no_grad():
        for row in range(wanted.shape[0]):
            net.hidden.weight[row] = wanted[row]


@pytest.mark.parametrize("write", [write_by_load_state_dict, write_by_assign, write_by_copy, write_by_index])
def test_outside_write_is_adopted(write: Callable[[Net, Tensor], None]) -> None:
    net, optimizer, pruner = small_run(make=plain_sgd)
    wanted = torch.randn(12, 64, dtype=torch.float64)
    wanted[3] = 0.0  # pruned rows stay pruned
    wanted[5] = net.hidden.weight[5]  # and this one is unchanged
    theta, d = latents(pruner), pruner.thresholds[1]
    write(net, wanted)
    zero_gradient_step(net, optimizer)
    grown = pruner.thresholds[1] - d
    assert grown == pytest.approx(0.1 * 0.4 * 0.05)
    rows = [[scalar_soft_threshold(w, grown) for w in row] for row in wanted.tolist()]
    expected = torch.tensor(rows, dtype=torch.float64)
    assert (net.hidden.weight - expected).abs().max() < 1e-14
    now = latents(pruner)
    hidden = 2  # position of hidden.weight among the optimizer's parameters
    assert torch.equal(now[hidden][5], theta[hidden][5])
    assert all(torch.equal(now[i], theta[i]) for i in now if i != hidden)
    # From here on the run goes on from the new weights with a constant μ.
    assert pruner.step == 11
    assert pruner.l1 == pytest.approx(0.1)


def test_hidden_write_is_adopted_on_request() -> None:
    net, optimizer, pruner = small_run(make=plain_sgd)
    wanted = torch.randn(12, 64, dtype=torch.float64)
    wanted[:, :32] = 0.0
    before = latents(pruner)[2]
    net.hidden.weight.data.copy_(wanted)
    pruner.adopt_weights()
    assert torch.equal(net.hidden.weight, wanted)
    d = pruner.thresholds[1]
    expected = [
        [nearest_latent(w, d, near) for w, near in zip(*rows, strict=True)]
        for rows in zip(wanted.tolist(), before.tolist(), strict=True)
    ]
    assert torch.equal(latents(pruner)[2], torch.tensor(expected, dtype=torch.float64))
    zero_gradient_step(net, optimizer)
    shrunk = soft_threshold(wanted, pruner.thresholds[1] - d)
    assert (net.hidden.weight - shrunk).abs().max() < 1e-14


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_ema_swap_and_back_leaves_no_trace(dtype: torch.dtype) -> None:
    net, optimizer, pruner = small_run(dtype=dtype)
    twin, twin_optimizer, twin_pruner = small_run(dtype=dtype)
    saved = weights(net)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(0.5 * parameter + 0.01)
        for name, parameter in net.named_parameters():
            parameter.copy_(saved[name])
    backward(net, optimizer, 20, dtype)
    backward(twin, twin_optimizer, 20, dtype)
    optimizer.step()
    twin_optimizer.step()
    assert same_bits(weights(net), weights(twin))
    assert same_bits(latents(pruner), latents(twin_pruner))


def test_adopting_unchanged_weights_changes_no_bit() -> None:
    net, _, pruner = small_run(dtype=torch.float32)
    assert 0 < pruner.sparsity() < 1
    before, theta = weights(net), latents(pruner)
    pruner.adopt_weights()
    net.load_state_dict(net.state_dict())
    pruner.adopt_weights()
    assert same_bits(weights(net), before)
    assert same_bits(latents(pruner), theta)


def test_zeros_adopted_from_outside_can_come_back() -> None:
    net, optimizer, _ = small_run(make=plain_sgd)
    with torch.no_grad():
        net.hidden.weight.zero_()
    zero_gradient_step(net, optimizer)
    assert int(torch.count_nonzero(net.hidden.weight)) == 0
    for parameter in net.parameters():
        parameter.grad = torch.full_like(parameter, -10.0)
    optimizer.step()
    assert int(torch.count_nonzero(net.hidden.weight)) > 0


def test_model_to_float64_mid_run() -> None:
    net, optimizer, pruner = small_run(dtype=torch.float32, make=plain_sgd)
    before, theta, d = weights(net), latents(pruner), pruner.thresholds[1]
    net.to(torch.float64)
    zero_gradient_step(net, optimizer)
    assert net.hidden.weight.dtype == torch.float64
    expected = soft_threshold(before["hidden.weight"].double(), pruner.thresholds[1] - d)
    assert (net.hidden.weight - expected).abs().max() < 1e-14
    now = latents(pruner)[2]
    assert now.dtype == torch.float64
    pruned = before["hidden.weight"] == 0
    assert torch.equal(now[pruned], theta[2].double()[pruned])  # the memory of zeroed weights is kept exactly
    train_small(net, optimizer, 3)
    assert pruner.step == 14


def test_changed_shape_is_refused() -> None:
    net, optimizer, _ = small_run()
    net.hidden.weight.data = torch.randn(6, 64, dtype=torch.float64)
    net.hidden.weight.grad = None
    with pytest.raises(RuntimeError, match=r"changed its shape from \(12, 64\) to \(6, 64\)"):
        optimizer.step()


# ------------------------------------------------------------------------------------------------- what it refuses


@pytest.mark.parametrize("keyword", [False, True])
def test_a_closure_is_evaluated_at_the_weights(keyword: bool) -> None:
    """As frameworks call it that always pass one; the optimizer itself would evaluate it at the latent parameters."""
    net, optimizer, pruner = small_run()
    twin, twin_optimizer, twin_pruner = small_run()
    for step in range(20, 24):
        seen: list[dict[str, Tensor]] = []

        def closure(step: int = step, seen: list[dict[str, Tensor]] = seen) -> float:
            seen.append({k: v.clone() for k, v in weights(net).items()})
            backward(net, optimizer, step)
            return 7.0

        before = {k: v.clone() for k, v in weights(net).items()}
        loss = optimizer.step(closure=closure) if keyword else optimizer.step(closure)
        assert loss == 7.0
        assert len(seen) == 1
        assert same_bits(seen[0], before)
        backward(twin, twin_optimizer, step)
        twin_optimizer.step(None) if not keyword else twin_optimizer.step(closure=None)
        assert same_bits(weights(net), weights(twin))
    assert (pruner.thresholds, pruner.step) == (twin_pruner.thresholds, twin_pruner.step)


def test_a_closure_that_fails_changes_nothing() -> None:
    net, optimizer, pruner = small_run()
    before, theta = weights(net), latents(pruner)

    def closure() -> float:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        optimizer.step(closure)
    assert same_bits(weights(net), before)
    assert same_bits(latents(pruner), theta)
    assert pruner.step == 10


def test_an_optimizer_that_evaluates_twice_is_refused() -> None:
    class Twice(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            closure()
            return super().step(closure)

    net = make_net()
    optimizer = Twice(net.parameters(), lr=0.1)
    pruner = SoftThresholdPruner(optimizer, LATS(l1=0.1))
    before = {k: v.clone() for k, v in weights(net).items()}
    with pytest.raises(RuntimeError, match="evaluates the model more than once"):
        optimizer.step(lambda: 0.0)
    assert pruner.sparsity() == 0.0
    assert same_bits(weights(net), before)


def test_a_layer_frozen_in_mid_run_is_left_alone() -> None:
    net, optimizer, pruner = small_run()
    net.hidden.weight.requires_grad_(False)
    net.hidden.weight.grad = None
    before = net.hidden.weight.detach().clone()
    for step in range(20, 30):
        backward(net, optimizer, step)
        optimizer.step()
    assert torch.equal(net.hidden.weight, before)
    assert pruner.step == 20
    net.hidden.weight.requires_grad_(True)
    zeros = int((net.hidden.weight == 0).sum())
    train_small(net, optimizer, 5)
    assert int((net.hidden.weight == 0).sum()) > zeros


def test_a_copy_of_model_optimizer_and_pruner_trains_on_like_the_original() -> None:
    net, optimizer, pruner = small_run()
    other, other_optimizer, other_pruner = copy.deepcopy((net, optimizer, pruner))
    assert same_bits(weights(other), weights(net))
    for step in range(20, 30):
        for one, its in ((net, optimizer), (other, other_optimizer)):
            backward(one, its, step)
            its.step()
    assert same_bits(weights(other), weights(net))
    assert same_bits(latents(other_pruner), latents(pruner))
    assert other_pruner.thresholds == pruner.thresholds
    assert other_pruner.sparsity() > 0
    pruner.finalize()
    assert copy.deepcopy((net, optimizer, pruner))[2].step == 20


def test_a_pruner_is_not_pickled() -> None:
    with pytest.raises(TypeError, match=r"save pruner\.state_dict\(\) beside the optimizer's"):
        pickle.dumps(small_run()[2])


def hooks(optimizer: torch.optim.Optimizer) -> int:
    return len(optimizer._optimizer_step_pre_hooks) + len(optimizer._optimizer_step_post_hooks)


def test_lbfgs_is_refused() -> None:
    net = make_net()
    before = weights(net)
    optimizer = torch.optim.LBFGS(net.parameters())
    with pytest.raises(TypeError, match=r"LBFGS.*first-order optimizer"):
        SoftThresholdPruner(optimizer, LATS(l1=1.0))
    assert hooks(optimizer) == 0
    assert same_bits(weights(net), before)


def test_second_pruner_is_refused_until_the_first_is_finalized() -> None:
    net, optimizer, pruner = small_run()
    before, count = weights(net), hooks(optimizer)
    with pytest.raises(ValueError, match=r"already has a pruner.*finalize"):
        SoftThresholdPruner(optimizer, LATS(l1=1.0))
    assert hooks(optimizer) == count
    assert same_bits(weights(net), before)
    pruner.finalize()
    second = SoftThresholdPruner(optimizer, LATS(l1=0.2))
    train_small(net, optimizer, 1)
    assert (second.step, pruner.step) == (1, 10)
    assert second.threshold == pytest.approx(0.2 * 0.05)


def test_nothing_to_prune_is_refused() -> None:
    frozen = nn.Parameter(torch.ones(2, 2), requires_grad=False)
    groups: list[dict[str, Any]] = [
        {"params": [nn.Parameter(torch.ones(3)), frozen]},
        {"params": [nn.Parameter(torch.ones(2, 2))], "prune": False},
    ]
    optimizer = torch.optim.SGD(groups, lr=0.1)
    with pytest.raises(ValueError, match="no prunable parameter"):
        SoftThresholdPruner(optimizer, LATS(l1=1.0))
    assert hooks(optimizer) == 0


def test_wrong_types_are_refused() -> None:
    net = make_net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    not_an_optimizer: Any = net
    not_a_schedule: Any = 0.5
    with pytest.raises(TypeError, match=r"expected a torch\.optim\.Optimizer, got Net"):
        SoftThresholdPruner(not_an_optimizer, LATS(l1=1.0))
    with pytest.raises(TypeError, match=r"expected a schedule.*got float"):
        SoftThresholdPruner(optimizer, not_a_schedule)
    assert hooks(optimizer) == 0


def broken_states(state: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    theta = state["latents"]
    yield {**state, "latents": {**theta, 0: torch.ones(1, 1)}}, r"parameter 0 has shape \(1, 1\)"
    yield {**state, "latents": {i: t for i, t in theta.items() if i != 2}}, "parameter 2 has shape None"
    yield {**state, "latents": {**theta, 99: torch.ones(2, 2)}}, "parameter 99"
    yield {**state, "thresholds": [0.1]}, "has 1 parameter groups, the optimizer 3"
    yield {**state, "l1": []}, "parameter groups"
    yield {k: v for k, v in state.items() if k != "latents"}, r"lacks \['latents'\]"
    yield {}, "lacks"


def test_state_of_another_model_changes_nothing() -> None:
    net, _, pruner = small_run()
    before, theta, thresholds, l1 = weights(net), latents(pruner), pruner.thresholds, pruner.l1
    for state, message in broken_states({**pruner.state_dict(), "step": 3}):
        with pytest.raises(ValueError, match=message):
            pruner.load_state_dict(state)
        assert same_bits(weights(net), before)
        assert same_bits(latents(pruner), theta)
        assert (pruner.thresholds, pruner.l1, pruner.step) == (thresholds, l1, 10)


# ---------------------------------------------------------------------------------------- life of a pruner and model


def test_copies_of_the_model_are_plain() -> None:
    net, optimizer, pruner = small_run()
    keys = list(make_net().state_dict())
    copies = [copy.deepcopy(net), pickle.loads(pickle.dumps(net))]
    buffer = io.BytesIO()
    torch.save(net, buffer)
    buffer.seek(0)
    copies.append(torch.load(buffer, weights_only=False))
    before = weights(net)
    for other in copies:
        assert type(other) is Net
        assert list(other.state_dict()) == list(net.state_dict()) == keys
        assert same_bits(weights(other), before)
        assert not other._forward_pre_hooks
        assert not other.hidden._parameters.keys() ^ {"weight", "bias"}
    # Training either leaves the other alone.
    train_small(copies[0], torch.optim.SGD(copies[0].parameters(), lr=0.1), 1)
    assert same_bits(weights(net), before)
    train_small(net, optimizer, 1)
    assert same_bits(weights(copies[1]), before)
    assert pruner.step == 11


def test_finalize_leaves_true_zeros_and_no_hook() -> None:
    net, optimizer, pruner = small_run()
    bare = torch.optim.SGD(make_net().parameters(), lr=0.1)
    assert hooks(optimizer) == hooks(bare) + 2
    before, sparsity = weights(net), pruner.sparsity()
    pruner.finalize()
    assert hooks(optimizer) == hooks(bare)
    assert same_bits(weights(net), before)
    pruned = torch.cat([net.get_parameter(n).flatten() for names in PRUNED for n in names])
    assert sparsity == pruner.sparsity() == (pruned == 0).double().mean().item() > 0
    thresholds = pruner.thresholds
    train_small(net, optimizer, 2)
    assert (pruner.step, pruner.thresholds) == (10, thresholds)
    pruner.finalize()  # once more does no harm
    for call in (pruner.state_dict, pruner.adopt_weights, lambda: pruner.load_state_dict({})):
        with pytest.raises(RuntimeError, match=r"was finalized"):
            call()


def test_group_added_mid_run_starts_from_zero_threshold() -> None:
    net, optimizer, pruner = small_run(make=plain_sgd)
    extra = nn.Parameter(torch.randn(6, 6, dtype=torch.float64))
    start = extra.detach().clone()
    optimizer.add_param_group({"params": [extra], "lr": 0.5})
    old = pruner.thresholds
    zero_gradient_step(net, optimizer)
    assert pruner.thresholds[3] == pytest.approx(0.1 * 0.5)
    assert pruner.thresholds[:3] == pytest.approx([d + 0.1 * lr for d, lr in zip(old, (0.05, 0.02, 0.05), strict=True)])
    assert torch.equal(extra, soft_threshold(start, pruner.thresholds[3]))
    # It is saved and restored with the others.
    state = copy.deepcopy(pruner.state_dict())
    zero_gradient_step(net, optimizer)
    assert not torch.equal(extra, soft_threshold(start, state["thresholds"][3]))
    pruner.load_state_dict(state)
    assert torch.equal(extra, soft_threshold(start, state["thresholds"][3]))


def test_pruning_of_a_group_can_be_switched_off_and_on() -> None:
    net, optimizer, pruner = small_run(make=plain_sgd)
    before = weights(net)
    optimizer.param_groups[1]["prune"] = False
    zero_gradient_step(net, optimizer)
    assert torch.equal(net.hidden.weight, before["hidden.weight"])
    assert not torch.equal(net.conv.weight, before["conv.weight"])
    train_small(net, optimizer, 2)
    before, rate = weights(net), 0.02
    zero_gradient_step(net, optimizer)
    assert torch.equal(net.hidden.weight, before["hidden.weight"])
    optimizer.param_groups[1]["prune"] = True
    zero_gradient_step(net, optimizer)
    assert (net.hidden.weight - soft_threshold(before["hidden.weight"], 0.1 * rate)).abs().max() < 1e-14
    assert pruner.l1 == pytest.approx(0.1)


def test_parameters_that_are_left_alone_and_those_without_gradient() -> None:
    net = make_net()
    net.hidden.weight.requires_grad_(False)
    start = weights(net)
    optimizer = torch.optim.SGD(make_groups(net, 0.05))
    pruner = SoftThresholdPruner(optimizer, LATS(l1=0.1))
    train_small(net, optimizer, 10)
    assert torch.equal(net.hidden.weight, start["hidden.weight"])
    # No gradient ever: θ stands still and the threshold still grows.
    assert net.unused.weight.grad is None
    assert torch.equal(net.unused.weight, soft_threshold(start["unused.weight"], pruner.thresholds[1]))
    assert torch.equal(net.unused.bias, start["unused.bias"])
    assert sorted(pruner.state_dict()["latents"]) == [0, 4]


def test_storage_of_the_parameters_never_changes() -> None:
    net, optimizer, _ = small_run(steps=0)
    pointers = {k: p.data_ptr() for k, p in net.named_parameters()}
    identities = {k: id(p) for k, p in net.named_parameters()}
    view = net.hidden.weight.detach()[3]
    for step in range(5):
        backward(net, optimizer, step)
        optimizer.step()
        assert {k: p.data_ptr() for k, p in net.named_parameters()} == pointers
        assert {k: id(p) for k, p in net.named_parameters()} == identities
        assert torch.equal(view, net.hidden.weight[3])


@pytest.mark.parametrize("foreach", [False, True])
def test_one_kernel_per_parameter_and_no_allocation(foreach: bool) -> None:
    def make(groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        return torch.optim.SGD(groups, momentum=0.9, foreach=foreach)

    net, optimizer, pruner = small_run(make=make)
    backward(net, optimizer, 0)
    with counted_operations() as pruned:
        optimizer.step()
    pruner.finalize()
    backward(net, optimizer, 0)
    with counted_operations() as dense:
        optimizer.step()
    with counted_operations() as checks:
        check_gradients(optimizer, step=0)  # one sum per gradient
    extra = pruned - dense - checks
    extra.pop("aten.detach.default")  # a view: no kernel, no memory
    assert extra == {"aten.softshrink.out": sum(map(len, PRUNED))}
    assert not dense - pruned


class Given(Schedule):
    """A schedule of one's own: starts above zero, then one given threshold after another."""

    initial_threshold = 0.05

    def next_threshold(self, threshold: float, step: int, lr: float) -> float:  # noqa: ARG002
        return 0.05 + 0.01 * (step + 1)


def test_schedule_that_starts_above_zero_prunes_from_the_start() -> None:
    net = make_net()
    start = weights(net)
    optimizer = torch.optim.SGD(make_groups(net, 0.5))
    pruner = SoftThresholdPruner(optimizer, Given())
    assert torch.equal(net.hidden.weight, soft_threshold(start["hidden.weight"], 0.05))
    assert torch.equal(net.head.weight, start["head.weight"])
    zero_gradient_step(net, optimizer)
    assert (pruner.threshold, pruner.l1) == pytest.approx((0.06, 0.01 / 0.5))
    assert torch.equal(net.hidden.weight, soft_threshold(start["hidden.weight"], pruner.threshold))
    optimizer.param_groups[0]["lr"] = 0.0
    zero_gradient_step(net, optimizer)
    assert pruner.l1 == 0.0


# --------------------------------------------------------------------------------------------------------- functions

finite = st.floats(-1e3, 1e3, allow_subnormal=False)
threshold_values = st.floats(0.0, 1e3, allow_subnormal=False)


@settings(max_examples=200, deadline=None)
@given(values=st.lists(finite, min_size=1, max_size=8), d=threshold_values)
@example(values=[0.5, -0.5, 0.0, 2.0], d=0.5)
def test_soft_threshold_is_the_scalar_definition(values: list[float], d: float) -> None:
    theta = torch.tensor(values, dtype=torch.float64)
    expected = torch.tensor([scalar_soft_threshold(v, d) for v in values], dtype=torch.float64)
    assert torch.equal(soft_threshold(theta, d), expected)
    assert torch.equal(soft_threshold(theta, torch.tensor(d, dtype=torch.float64)), expected)
    assert torch.equal(soft_threshold(theta, torch.full_like(theta, d)), expected)


@settings(max_examples=200, deadline=None)
@given(values=st.lists(finite, min_size=1, max_size=8), d=threshold_values, tensor=st.booleans())
def test_inverse_is_a_right_inverse(values: list[float], d: float, tensor: bool) -> None:
    weight = torch.tensor(values, dtype=torch.float64)
    threshold = torch.full_like(weight, d) if tensor else d
    theta = inverse_soft_threshold(weight, threshold)
    back = soft_threshold(theta, threshold)
    assert bool(((back - weight).abs() <= 2**-52 * (weight.abs() + d)).all())  # to the rounding of w + d
    assert bool((back[weight == 0] == 0).all())
    assert bool((theta[weight == 0] == 0).all())


@settings(max_examples=200, deadline=None)
@given(pairs=st.lists(st.tuples(st.one_of(st.just(0.0), finite), finite), min_size=1, max_size=8), d=threshold_values)
@example(pairs=[(0.0, 0.3), (0.0, 3.0), (0.0, -3.0), (1.0, 1.5), (-1.0, 9.0)], d=0.5)
def test_inverse_stays_near(pairs: list[tuple[float, float]], d: float) -> None:
    weight = torch.tensor([w for w, _ in pairs], dtype=torch.float64)
    near = torch.tensor([n for _, n in pairs], dtype=torch.float64)
    theta = inverse_soft_threshold(weight, d, near=near)
    for (w, n), got in zip(pairs, theta.tolist(), strict=True):
        assert got == (n if scalar_soft_threshold(n, d) == w else nearest_latent(w, d, n))
    assert torch.equal(inverse_soft_threshold(weight, torch.full_like(weight, d), near=near), theta)
    # Where `near` already gives the weight, it comes back bit for bit, in either precision.
    for dtype in (torch.float32, torch.float64):
        latent = near.to(dtype)
        assert torch.equal(inverse_soft_threshold(soft_threshold(latent, d), d, near=latent), latent)


@pytest.mark.parametrize("bad", [-1e-9, -1.0, float("nan")])
def test_bad_thresholds_are_refused(bad: float) -> None:
    theta = torch.ones(3)
    with pytest.raises(ValueError, match=f"threshold must be >= 0, got {bad}"):
        soft_threshold(theta, bad)
    with pytest.raises(ValueError, match="threshold must be >= 0"):
        soft_threshold(theta, torch.tensor([1.0, bad, 1.0]))


def test_tensor_threshold_broadcasts() -> None:
    theta = torch.randn(3, 4, 2, dtype=torch.float64)
    for shape in ((3, 1, 1), (4, 1), (1, 1, 2), (3, 4, 2), ()):
        threshold = torch.rand(shape, dtype=torch.float64)
        full = threshold.expand(3, 4, 2).flatten().tolist()
        expected = [scalar_soft_threshold(t, d) for t, d in zip(theta.flatten().tolist(), full, strict=True)]
        weight = soft_threshold(theta, threshold)
        assert weight.flatten().tolist() == expected
        assert torch.equal(inverse_soft_threshold(weight, threshold, near=theta), theta)
        assert (soft_threshold(inverse_soft_threshold(weight, threshold), threshold) - weight).abs().max() < 1e-15


@pytest.mark.parametrize("tensor", [False, True])
def test_soft_threshold_has_the_true_gradient(tensor: bool) -> None:
    theta = torch.tensor([-2.0, -0.3, 0.0, 0.3, 2.0], requires_grad=True)
    soft_threshold(theta, torch.tensor(0.5) if tensor else 0.5).sum().backward()  # type: ignore[no-untyped-call]
    assert theta.grad is not None
    assert theta.grad.tolist() == [1, 0, 0, 0, 1]


# ------------------------------------------------------------------------------------------------- interrupted steps


@contextmanager
def interrupted(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Within it, a step dies after the pruner put θ into the parameters (Ctrl-C, out of memory)."""

    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    handle = optimizer.register_step_pre_hook(die)
    with pytest.raises(KeyboardInterrupt):
        yield
    handle.remove()


def test_interrupted_step_can_be_repeated() -> None:
    net, optimizer, pruner = small_run()
    twin, twin_optimizer, twin_pruner = small_run()
    for model, opt in ((net, optimizer), (twin, twin_optimizer)):
        backward(model, opt, 20)
    with interrupted(optimizer):
        optimizer.step()
    assert pruner.step == 10
    optimizer.step()
    twin_optimizer.step()
    assert same_bits(weights(net), weights(twin))
    assert same_bits(latents(pruner), latents(twin_pruner))
    assert pruner.thresholds == twin_pruner.thresholds


def test_checkpoint_loads_after_an_interrupted_step() -> None:
    net, optimizer, pruner = small_run()
    states = copy.deepcopy([part.state_dict() for part in (net, optimizer, pruner)])
    whole = weights(net)
    with interrupted(optimizer):
        optimizer.step()
    load((net, optimizer, pruner), copy.deepcopy(states))
    assert same_bits(weights(net), whole)
    assert same_bits(latents(pruner), states[2]["latents"])
    twin, twin_optimizer, _ = small_run()
    train_small(net, optimizer, 3)
    train_small(twin, twin_optimizer, 3)
    assert same_bits(weights(net), weights(twin))


def test_finalize_after_an_interrupted_step_leaves_the_weights() -> None:
    net, optimizer, pruner = small_run()
    before, sparsity = weights(net), pruner.sparsity()
    with interrupted(optimizer):
        optimizer.step()
    pruner.finalize()
    assert pruner.sparsity() == sparsity
    assert same_bits(weights(net), before)


# ---------------------------------------------------------------------------------------------------- at the edges


class CallsSuper(torch.optim.SGD):
    """Torch wraps both `step`s with the hooks, once SGD itself has been used."""

    def step(self, closure: Any = None) -> Any:
        return super().step(closure)


def test_optimizer_whose_step_calls_its_parents_advances_once() -> None:
    small_run(steps=1)
    net, optimizer, pruner = small_run(steps=3, make=lambda groups: CallsSuper(groups, momentum=0.9))
    twin, _, twin_pruner = small_run(steps=3)
    assert isinstance(optimizer, CallsSuper)
    assert pruner.step == 3
    assert pruner.thresholds == twin_pruner.thresholds
    assert same_bits(weights(net), weights(twin))


def test_state_saved_after_an_outside_write_holds_what_was_written() -> None:
    net, _, pruner = small_run()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(0.5 * parameter + 0.01)
    before = weights(net)
    pruner.load_state_dict(copy.deepcopy(pruner.state_dict()))
    assert all((net.get_parameter(k) - before[k]).abs().max() < 1e-15 for k in before)


def test_state_loads_after_the_model_changed_its_dtype() -> None:
    net, optimizer, pruner = small_run(dtype=torch.float64)
    state = copy.deepcopy(pruner.state_dict())
    fresh = make_net(torch.float32)
    fresh_pruner = SoftThresholdPruner(torch.optim.SGD(make_groups(fresh, 0.05)), LATS(l1=0.1))
    fresh.to(torch.float64)
    fresh_pruner.load_state_dict(state)
    assert torch.equal(fresh.hidden.weight, net.hidden.weight)
    assert same_bits(latents(fresh_pruner), state["latents"])
    assert optimizer.param_groups


def test_group_added_just_before_saving_is_saved() -> None:
    net, optimizer, pruner = small_run()
    optimizer.add_param_group({"params": [nn.Parameter(torch.ones(2, 2, dtype=torch.float64))], "lr": 0.1})
    state = copy.deepcopy(pruner.state_dict())
    assert len(state["thresholds"]) == 4
    groups = [*make_groups(fresh := make_net(seed=3), 0.05), {"params": [nn.Parameter(torch.zeros(2, 2).double())]}]
    SoftThresholdPruner(torch.optim.SGD(groups, lr=0.1), LATS(l1=0.1)).load_state_dict(state)
    assert torch.equal(fresh.hidden.weight, net.hidden.weight)


def test_view_of_the_same_storage_is_noticed() -> None:
    layer = nn.Linear(4, 4, bias=False)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    SoftThresholdPruner(optimizer, LATS(l1=0.0))
    layer.weight.data = layer.weight.data.t()
    wanted = layer.weight.detach().clone()
    zero_gradient_step(layer, optimizer)
    assert torch.equal(layer.weight, wanted)


def test_excluded_group_stays_excluded_under_a_checkpoint_from_dense_training() -> None:
    net, dense_net = make_net(), make_net()
    dense_groups = make_groups(dense_net, 0.05)
    del dense_groups[2]["prune"]
    optimizer = torch.optim.SGD(make_groups(net, 0.05))
    pruner = SoftThresholdPruner(optimizer, LATS(l1=1.0))
    optimizer.load_state_dict(torch.optim.SGD(dense_groups).state_dict())
    train_small(net, optimizer, 3)
    assert pruner.sparsity() > 0
    assert int((net.head.weight == 0).sum()) == 0


class Bad(Schedule):
    """A schedule whose threshold goes below zero."""

    def next_threshold(self, threshold: float, step: int, lr: float) -> float:  # noqa: ARG002
        return -1.0


def test_schedule_that_returns_a_bad_threshold_is_named() -> None:
    net = make_net()
    optimizer = torch.optim.SGD(make_groups(net, 0.05))
    SoftThresholdPruner(optimizer, Bad())
    with pytest.raises(ValueError, match=r"Bad.*-1\.0"):
        zero_gradient_step(net, optimizer)


def test_threshold_can_be_read_after_pruning_is_switched_off() -> None:
    _, optimizer, pruner = small_run()
    threshold = pruner.threshold
    for group in optimizer.param_groups:
        group["prune"] = False
    assert pruner.threshold == threshold


def test_threshold_tensor_keeps_shape_and_dtype_of_the_weights() -> None:
    theta = torch.randn(3, 4)
    threshold = torch.full((3, 1), 0.1, dtype=torch.float64)
    assert soft_threshold(theta, threshold).dtype == theta.dtype
    assert inverse_soft_threshold(theta, threshold).dtype == theta.dtype
    assert inverse_soft_threshold(theta, threshold, near=theta).dtype == theta.dtype
    with pytest.raises((ValueError, RuntimeError)):
        soft_threshold(torch.ones(4), torch.ones(3, 1))


@pytest.mark.parametrize("bad", [-1.0, float("nan")])
@pytest.mark.parametrize("tensor", [False, True])
@pytest.mark.parametrize("near", [pytest.param(None), pytest.param(torch.zeros(2), id="near")])
def test_inverse_refuses_bad_thresholds(bad: float, tensor: bool, near: Tensor | None) -> None:
    with pytest.raises(ValueError, match="threshold must be >= 0"):
        inverse_soft_threshold(torch.ones(2), torch.tensor(bad) if tensor else bad, near)


@pytest.mark.parametrize("tensor", [False, pytest.param(True)])
def test_gradient_at_the_threshold_is_zero(tensor: bool) -> None:
    theta = torch.tensor([-0.5, 0.5], requires_grad=True)
    soft_threshold(theta, torch.tensor(0.5) if tensor else 0.5).sum().backward()  # type: ignore[no-untyped-call]
    assert theta.grad is not None
    assert theta.grad.tolist() == [0, 0]


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW])
@pytest.mark.parametrize("how", ["group", "gradient"])
def test_what_is_not_pruned_for_now_keeps_its_weights_in_a_resumed_run(
    kind: type[torch.optim.Optimizer], how: str
) -> None:
    def begun() -> tuple[nn.Sequential, torch.optim.Optimizer, SoftThresholdPruner]:
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 4))
        groups: list[dict[str, Any]] = [{"params": [net[2].weight]}, {"params": [*net[0].parameters(), net[2].bias]}]
        optimizer = kind(groups, lr=0.02)  # type: ignore[call-arg]  # both take it
        return net, optimizer, prune_to(0.9, optimizer, steps=60)

    def switch(net: nn.Sequential, optimizer: torch.optim.Optimizer) -> None:
        if how == "gradient":
            net.get_parameter("2.weight").requires_grad_(False).grad = None
        else:
            optimizer.param_groups[0]["prune"] = False

    def steps(net: nn.Sequential, optimizer: torch.optim.Optimizer, of: range) -> None:
        for seed in of:
            optimizer.zero_grad()
            net(torch.randn(8, 16, generator=torch.Generator().manual_seed(seed))).square().mean().backward()
            optimizer.step()

    net, optimizer, pruner = begun()
    steps(net, optimizer, range(20))
    switch(net, optimizer)
    steps(net, optimizer, range(20, 40))
    saved = copy.deepcopy((net.state_dict(), optimizer.state_dict(), pruner.state_dict()))
    resumed, again, second = begun()
    switch(resumed, again)
    resumed.load_state_dict(saved[0])
    again.load_state_dict(saved[1])
    second.load_state_dict(saved[2])
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), resumed.parameters(), strict=True))
    steps(net, optimizer, range(40, 60))
    steps(resumed, again, range(40, 60))
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), resumed.parameters(), strict=True))
    assert pruner.sparsity() == second.sparsity() < 0.95
