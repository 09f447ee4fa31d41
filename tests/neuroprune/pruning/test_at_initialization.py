"""Pruning at initialization: what is rewound, what is kept, and what happens when the search fails."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import ExponentialLR

from neuroprune import LATS, STR, Schedule, SoftThresholdPruner, prune_at_initialization
from tests.builders.run import same

MAKE: dict[str, Callable[[list[dict[str, Any]]], Optimizer]] = {
    "momentum": lambda g: SGD(g, lr=0.05, momentum=0.9, weight_decay=1e-3),
    "adamw": lambda g: AdamW(g, lr=5e-3, weight_decay=0.1),
}
SEARCH_STEPS = 40
RULES: dict[str, dict[str, Schedule]] = {
    "momentum": {
        "l1": LATS(l1=0.05),
        "target": LATS(target_sparsity=0.8, lr_sum=0.05 * SEARCH_STEPS, steps=SEARCH_STEPS),
        "learned": STR(s_init=-3.0, weight_decay=0.01),
    },
    "adamw": {
        "l1": LATS(l1=0.5),
        "target": LATS(target_sparsity=0.8, lr_sum=5e-3 * SEARCH_STEPS, steps=SEARCH_STEPS),
        "learned": STR(s_init=-3.0, weight_decay=0.1),
    },
}


def make_net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(),
        nn.Linear(96, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3),
    )  # fmt: skip


def groups(net: nn.Sequential) -> list[dict[str, Any]]:
    return [
        {"params": list(net[:6].parameters())},
        {"params": list(net[7].parameters()), "prune": False},
    ]


def train(net: nn.Module, optimizer: Optimizer, steps: int, first: int = 0, clear_before: bool = True) -> None:
    for step in range(first, first + steps):
        generator = torch.Generator().manual_seed(step)
        x, y = torch.randn(16, 2, 6, 6, generator=generator), torch.randn(16, 3, generator=generator)
        if clear_before:
            optimizer.zero_grad()
        (net(x) - y).square().mean().backward()
        optimizer.step()
        if not clear_before:
            optimizer.zero_grad()


def search_with_decay(net: nn.Module, optimizer: Optimizer) -> Callable[[SoftThresholdPruner], None]:
    """A search with an LR scheduler of its own."""

    def search(_: SoftThresholdPruner) -> None:
        scheduler = ExponentialLR(optimizer, 0.999)
        for step in range(SEARCH_STEPS):
            train(net, optimizer, 1, step)
            scheduler.step()

    return search


def state(net: nn.Module, optimizer: Optimizer) -> Any:
    return copy.deepcopy([net.state_dict(), optimizer.state_dict()])


@pytest.mark.parametrize("trained_before", [0, 3])
@pytest.mark.parametrize("rule", ["l1", "target", "learned"])
@pytest.mark.parametrize("name", MAKE)
def test_everything_is_rewound_but_the_mask(name: str, rule: str, trained_before: int) -> None:
    net = make_net()
    optimizer = MAKE[name](groups(net))
    train(net, optimizer, trained_before, first=100)
    # What the mask must be: the zeros of the same search done by hand on copies.
    twin = copy.deepcopy(net)
    twin_optimizer = MAKE[name](groups(twin))
    twin_optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    by_hand = SoftThresholdPruner(twin_optimizer, RULES[name][rule])
    search_with_decay(twin, twin_optimizer)(by_hand)
    masks = {key: p.detach() != 0 for key, p in twin.named_parameters() if any(p is q for q in by_hand.parameters)}
    assert set(masks) == {"0.weight", "4.weight"}

    weights, optimizer_state = state(net, optimizer)
    pruner = prune_at_initialization(net, optimizer, RULES[name][rule], search_with_decay(net, optimizer))
    after, optimizer_after = state(net, optimizer)
    for key, before in weights.items():
        assert torch.equal(after[key], before * masks[key] if key in masks else before), key
    assert int(after["1.num_batches_tracked"]) == trained_before
    assert same(optimizer_after, optimizer_state)  # its momentum, learning rates, and no `initial_lr` of the search's
    assert all(p.grad is None for p in net.parameters())
    assert 0.1 < pruner.sparsity() < 0.99
    assert pruner.frozen


@pytest.mark.parametrize("clear_before", [False, True])
@pytest.mark.parametrize("name", MAKE)
def test_training_afterwards_is_ordinary_training_under_the_mask(name: str, clear_before: bool) -> None:
    net = make_net()
    optimizer = MAKE[name](groups(net))
    pruner = prune_at_initialization(net, optimizer, RULES[name]["l1"], search_with_decay(net, optimizer))
    masks = {key: p.detach() != 0 for key, p in net.named_parameters() if any(p is q for q in pruner.parameters)}
    twin = copy.deepcopy(net)
    twin_optimizer = MAKE[name](groups(twin))
    for step in range(30):
        train(net, optimizer, 1, 1000 + step, clear_before)
        train(twin, twin_optimizer, 1, 1000 + step, clear_before)
        with torch.no_grad():
            for key, mask in masks.items():
                twin.get_parameter(key).mul_(mask)
    for (key, ours), theirs in zip(net.state_dict().items(), twin.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs), key
    for key, mask in masks.items():
        assert torch.equal(net.get_parameter(key) != 0, mask)
    before = copy.deepcopy(net.state_dict())
    pruner.finalize()
    assert same(dict(net.state_dict()), dict(before))


@pytest.mark.parametrize("error", [RuntimeError("out of memory"), KeyboardInterrupt(), SystemExit(3)], ids=repr)
@pytest.mark.parametrize("inside_step", [False, True])
def test_a_search_that_fails_leaves_everything_as_it_was(error: BaseException, inside_step: bool) -> None:
    net = make_net()
    optimizer = MAKE["momentum"](groups(net))
    train(net, optimizer, 2)
    before = state(net, optimizer)

    def search(_: SoftThresholdPruner) -> None:
        train(net, optimizer, 5)
        optimizer.param_groups[0]["lr"] = 7.0
        if inside_step:

            def fail(*_: Any) -> None:
                raise error

            handle = optimizer.register_step_pre_hook(fail)  # runs when θ is in the parameters already
            try:
                train(net, optimizer, 1)
            finally:
                handle.remove()
        raise error

    with pytest.raises(type(error)) as caught:
        prune_at_initialization(net, optimizer, LATS(l1=0.05), search)
    assert caught.value is error
    assert same(state(net, optimizer), before)
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks
    # And the next try works, although the exception keeps the first pruner alive.
    prune_at_initialization(net, optimizer, LATS(l1=0.05), lambda _: train(net, optimizer, 5))


def test_a_search_without_a_step_is_an_error() -> None:
    net = make_net()
    optimizer = MAKE["momentum"](groups(net))
    before = state(net, optimizer)
    with pytest.raises(RuntimeError, match=r"took no optimizer step.*optimizer\.step\(\)"):
        prune_at_initialization(net, optimizer, STR(s_init=-2.0), lambda _: None)
    assert same(state(net, optimizer), before)  # also what STR prunes before the first step
    SoftThresholdPruner(optimizer, LATS(l1=0.1))


def test_a_parameter_that_is_not_the_models_is_refused() -> None:
    net = make_net()
    other = nn.Parameter(torch.ones(3, 3))
    optimizer = MAKE["momentum"]([*groups(net), {"params": [other]}])
    with pytest.raises(ValueError, match="holds a parameter that is not the model's"):
        prune_at_initialization(net, optimizer, LATS(l1=0.1), lambda _: train(net, optimizer, 1))
    assert not optimizer._optimizer_step_pre_hooks


def test_a_search_past_its_plan_is_an_error_and_rewinds() -> None:
    net = make_net()
    optimizer = MAKE["momentum"](groups(net))
    before = state(net, optimizer)
    with pytest.raises(ValueError, match="planned for 40 steps"):
        prune_at_initialization(net, optimizer, RULES["momentum"]["target"], lambda _: train(net, optimizer, 41))
    assert same(state(net, optimizer), before)
