"""Runs steered to a sparsity: that they end there, resume bit for bit, and refuse what cannot be."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    ExponentialLR,
    LinearLR,
    LRScheduler,
    OneCycleLR,
    SequentialLR,
    StepLR,
)

from examples.benchmarks import target_sparsity
from neuroprune import LATS, PGH, SLATS, EpochLATS, Schedule, SoftThresholdPruner, STDSLinear, STDSSine
from neuroprune.schedules import SCHEDULES
from tests.builders.run import Groups, same

STEPS = 200
POINT = 1e-3
"""0.1 points."""


def make_net(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 8))


def backward(net: nn.Module, optimizer: Optimizer, step: int) -> None:
    """The gradient on a batch that depends on the step number alone."""
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(32, 32, generator=generator)
    y = x[:, :8].roll(1, 1) * x[:, 8:16].sign()
    optimizer.zero_grad()
    (net(x) - y).square().mean().backward()


@dataclass
class Run:
    """Everything a resume has to restore."""

    net: nn.Sequential
    optimizer: Optimizer
    scheduler: LRScheduler
    pruner: SoftThresholdPruner

    def train(self, first: int, last: int) -> None:
        for step in range(first, last):
            backward(self.net, self.optimizer, step)
            self.optimizer.step()
            self.scheduler.step()

    def saved(self) -> list[Any]:
        """A deep copy of all state."""
        parts: list[Any] = [self.net, self.optimizer, self.scheduler, self.pruner]
        return copy.deepcopy([part.state_dict() for part in parts])

    def load(self, states: list[Any]) -> None:
        parts: list[Any] = [self.net, self.optimizer, self.scheduler, self.pruner]
        for part, state in zip(parts, states, strict=True):
            part.load_state_dict(state)


def zero_share(layer: nn.Module) -> float:
    weight = layer.get_parameter("weight").detach()
    return 1 - int(torch.count_nonzero(weight)) / weight.numel()


def one_group(net: nn.Sequential) -> Groups:
    return [{"params": list(net.parameters())}]


def build(
    make: Callable[[Groups], Optimizer],
    decay: Callable[[Optimizer], LRScheduler],
    schedule: Callable[[LRScheduler], Schedule],
    groups: Callable[[nn.Sequential], Groups] = one_group,
    seed: int = 0,
) -> Run:
    net = make_net(seed)
    optimizer = make(groups(net))
    scheduler = decay(optimizer)
    return Run(net, optimizer, scheduler, SoftThresholdPruner(optimizer, schedule(scheduler)))


def momentum(groups: Groups) -> Optimizer:
    return torch.optim.SGD(groups, lr=0.05, momentum=0.9)


def cosine(optimizer: Optimizer) -> LRScheduler:
    return CosineAnnealingLR(optimizer, STEPS)


def warmup_cosine(optimizer: Optimizer) -> LRScheduler:
    parts: list[LRScheduler] = [LinearLR(optimizer, 0.1, total_iters=30), CosineAnnealingLR(optimizer, STEPS - 30)]
    return SequentialLR(optimizer, parts, [30])


def lats(target: float) -> Callable[[LRScheduler], Schedule]:
    return lambda scheduler: LATS.for_sparsity(target, scheduler, STEPS)


# --------------------------------------------------------------------------------------------------- it ends there

RUNS: dict[str, tuple[float, Callable[[Groups], Optimizer], Callable[[Optimizer], LRScheduler]]] = {
    "SGD, constant": (0.7, lambda g: torch.optim.SGD(g, lr=0.2), lambda o: ConstantLR(o, 1.0, 1)),
    "Nesterov, warm-up and cosine": (
        0.9,
        lambda g: torch.optim.SGD(g, lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4),
        warmup_cosine,
    ),
    "Adam, step decay": (0.8, lambda g: torch.optim.Adam(g, lr=2e-3), lambda o: StepLR(o, 70, 0.1)),
    "AdamW, linear": (0.95, lambda g: torch.optim.AdamW(g, lr=2e-3), lambda o: LinearLR(o, 1.0, 0.01, STEPS)),
    "RMSprop, exponential": (0.5, lambda g: torch.optim.RMSprop(g, lr=1e-3), lambda o: ExponentialLR(o, 0.98)),
    "SGD, one-cycle": (0.99, lambda g: torch.optim.SGD(g, lr=0.1), lambda o: OneCycleLR(o, 0.1, total_steps=STEPS + 1)),
}


@pytest.mark.parametrize("name", RUNS)
def test_ends_within_a_tenth_of_a_point(name: str) -> None:
    target, make, decay = RUNS[name]
    run = build(make, decay, lats(target))
    run.train(0, STEPS)
    assert run.pruner.sparsity() == pytest.approx(target, abs=POINT)
    zeros = sum(int((p == 0).sum()) for p in run.pruner.parameters)
    assert zeros / sum(p.numel() for p in run.pruner.parameters) == run.pruner.sparsity()


@pytest.mark.parametrize("optimizer", [lambda g: torch.optim.AdamW(g, lr=3e-3), momentum], ids=["AdamW", "SGD"])
def test_a_run_that_is_on_its_target_is_left_alone_in_its_last_step(optimizer: Callable[[Groups], Optimizer]) -> None:
    """μ is what LATS keeps constant: with next to no learning rate left it is not thrown to −600 for one weight."""
    from sklearn.datasets import load_digits  # takes a second

    pixels, labels = (torch.from_numpy(part) for part in load_digits(return_X_y=True))
    x, y = (pixels / 16).float(), labels.long()
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))
    trained = optimizer(one_group(net))
    scheduler = CosineAnnealingLR(trained, 300)
    pruner = SoftThresholdPruner(trained, LATS.for_sparsity(0.9, scheduler, 300))
    generator, seen = torch.Generator().manual_seed(0), [0.0]
    for _ in range(300):
        seen.append(pruner.l1)
        batch = torch.randint(len(x), (64,), generator=generator)
        trained.zero_grad()
        loss: Any = nn.functional.cross_entropy(net(x[batch]), y[batch])
        loss.backward()
        trained.step()
        scheduler.step()
    assert pruner.sparsity() == pytest.approx(0.9, abs=POINT)
    assert 0.0 <= pruner.l1 <= max(seen)


FAMILY: dict[str, Callable[[LRScheduler, int], Schedule]] = {
    "LATS": lambda s, steps: LATS.for_sparsity(0.85, s, steps),
    "LATS without planned steps": lambda s, steps: LATS(
        target_sparsity=0.85, lr_sum=LATS.for_sparsity(0.85, s, steps).lr_sum
    ),
    "PGH": lambda s, steps: PGH.for_sparsity(0.85, s, steps),
    "SLATS": lambda _, steps: SLATS(steps=steps, target_sparsity=0.85),
    "EpochLATS": lambda _, steps: EpochLATS(epochs=5, steps_per_epoch=steps // 5, target_sparsity=0.85),
    "STDSLinear": lambda _, steps: STDSLinear(steps=steps, target_sparsity=0.85),
    "STDSSine": lambda _, steps: STDSSine(steps=steps, target_sparsity=0.85),
}


@pytest.mark.parametrize("name", FAMILY)
def test_every_growing_schedule_can_be_steered(name: str) -> None:
    run = build(momentum, cosine, lambda s: FAMILY[name](s, STEPS))
    run.train(0, STEPS)
    assert run.pruner.sparsity() == pytest.approx(0.85, abs=POINT)


def test_asking_for_no_zeros_leaves_an_ordinary_run() -> None:
    run, plain = build(momentum, cosine, lats(0.0)), make_net()
    optimizer = momentum(one_group(plain))
    scheduler = cosine(optimizer)
    for step in range(STEPS):
        backward(plain, optimizer, step)
        optimizer.step()
        scheduler.step()
    run.train(0, STEPS)
    assert run.pruner.threshold == run.pruner.sparsity() == 0.0
    assert same(run.net.state_dict(), plain.state_dict())


def mixed_groups(net: nn.Sequential) -> Groups:
    """An unpruned first group, two pruned ones with other learning rates, the last one capped."""
    return [
        {"params": list(net[0].parameters()), "lr": 0.01, "prune": False},
        {"params": list(net[2].parameters()), "lr": 0.05},
        {"params": list(net[4].parameters()), "lr": 0.1, "max_sparsity": 0.6},
    ]


def test_groups_with_their_own_rates_caps_and_without_pruning() -> None:
    run = build(momentum, warmup_cosine, lats(0.9), mixed_groups)
    run.train(0, STEPS)
    assert run.pruner.sparsity() == pytest.approx(0.9, abs=POINT)
    first, middle, last = (zero_share(run.net[i]) for i in (0, 2, 4))
    assert first == 0
    assert 0.6 - 2 / 512 <= last <= 0.6
    assert middle > 0.9  # it makes up for the cap
    assert run.pruner.thresholds[2] == pytest.approx(2 * run.pruner.thresholds[1], rel=1e-6)
    assert [p.shape for p in run.pruner.parameters] == [(64, 64), (8, 64)]


def test_a_target_counts_the_weights_that_are_pruned_when_it_is_reached() -> None:
    run = build(momentum, cosine, lats(0.8), mixed_groups)
    run.train(0, 100)
    run.optimizer.param_groups[2]["prune"] = False  # from here on only the middle layer counts
    run.train(100, STEPS)
    assert zero_share(run.net[2]) == pytest.approx(0.8, abs=POINT)


def test_pruning_switched_off_for_a_while() -> None:
    run = build(momentum, cosine, lats(0.8))
    run.train(0, 60)
    run.optimizer.param_groups[0]["prune"] = False
    run.train(60, 90)
    run.optimizer.param_groups[0]["prune"] = True
    run.train(90, STEPS)
    assert run.pruner.sparsity() == pytest.approx(0.8, abs=POINT)


# -------------------------------------------------------------------------------------------------------- resume


def test_resume_is_bit_for_bit() -> None:
    def start(seed: int) -> Run:
        return build(lambda g: torch.optim.AdamW(g, lr=2e-3), warmup_cosine, lats(0.9), mixed_groups, seed)

    whole, saved, last = start(0), {}, 0
    for stop in (1, 67, 140, STEPS - 1, STEPS):
        whole.train(last, stop)
        saved[stop] = buffer = io.BytesIO()
        torch.save(whole.saved(), buffer)
        last = stop
    for stop, buffer in saved.items():
        resumed = start(7)
        buffer.seek(0)
        resumed.load(torch.load(buffer, weights_only=True))
        resumed.train(stop, STEPS)
        assert same(resumed.saved(), whole.saved()), stop
        assert resumed.pruner.l1 == whole.pruner.l1


# -------------------------------------------------------------------------------------------------- what it refuses

COMPLETE: dict[str, dict[str, Any]] = {
    "LATS": {"lr_sum": 1.0},
    "PGH": {"steps": 10, "growth_sum": 1.0},
    "SLATS": {"steps": 10},
    "EpochLATS": {"epochs": 2, "steps_per_epoch": 5},
    "STDSLinear": {"steps": 10},
    "STDSSine": {"steps": 10},
}


@pytest.mark.parametrize("target", [1, 1.0, -0.1, float("nan"), float("inf"), 95])
@pytest.mark.parametrize("name", COMPLETE)
def test_impossible_targets_are_refused_with_their_value(name: str, target: float) -> None:
    with pytest.raises(ValueError, match=rf"^{name}: target_sparsity must .*got {target}"):
        SCHEDULES[name](**{**COMPLETE[name], "target_sparsity": target})


def test_per_cent_by_mistake_are_refused_by_the_makers_too() -> None:
    scheduler = cosine(momentum(one_group(make_net())))
    for make in (LATS.for_sparsity, PGH.for_sparsity):
        with pytest.raises(ValueError, match=r"\(a fraction, not per cent\), got 95"):
            make(95, scheduler, STEPS)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("LATS", {}, "give exactly one of l1 or final_threshold or target_sparsity"),
        ("LATS", {"l1": 0.1, "target_sparsity": 0.9}, r"exactly one of.*l1=0\.1.*target_sparsity=0\.9"),
        ("LATS", {"target_sparsity": 0.9}, r"needs lr_sum > 0.*LATS\.for_sparsity"),
        ("LATS", {"target_sparsity": 0.9, "lr_sum": 0.0}, "needs lr_sum > 0"),
        ("LATS", {"target_sparsity": 0.9, "lr_sum": 1.0, "steps": 0}, "steps must be"),
        ("PGH", {"target_sparsity": 0.9, "steps": 10}, r"needs growth_sum > 0.*PGH\.for_sparsity"),
        ("SLATS", {"target_sparsity": 0.9, "final_threshold": 0.1, "steps": 5}, "exactly one of"),
        ("STDSLinear", {"target_sparsity": 0.9}, "steps must be"),
    ],
)
def test_incomplete_and_contradicting_arguments_are_named(name: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SCHEDULES[name](**arguments)


def test_a_target_that_caps_put_out_of_reach_is_refused_and_the_next_try_works() -> None:
    net = make_net()
    before = copy.deepcopy(net.state_dict())
    optimizer = torch.optim.SGD([{"params": list(net.parameters()), "max_sparsity": 0.8}], lr=0.1)
    scheduler = cosine(optimizer)
    with pytest.raises(ValueError, match=r"target_sparsity 0\.9 is out of reach.*at most 0\.[78]"):
        SoftThresholdPruner(optimizer, LATS.for_sparsity(0.9, scheduler, STEPS))
    assert same(net.state_dict(), before)
    SoftThresholdPruner(optimizer, LATS.for_sparsity(0.79, scheduler, STEPS))


def test_a_target_just_below_the_caps_is_reached() -> None:
    def capped(net: nn.Sequential) -> Groups:
        return [{"params": list(net.parameters()), "max_sparsity": 0.9}]

    run = build(momentum, cosine, lats(0.898), capped)
    run.train(0, STEPS)
    assert run.pruner.sparsity() == pytest.approx(0.898, abs=POINT)
    assert all(float((p == 0).double().mean()) <= 0.9 for p in run.pruner.parameters)


@pytest.mark.parametrize("maker", [LATS, PGH])
@pytest.mark.parametrize("decay", ["cosine", "exponential"])
def test_a_scheduler_that_steps_once_per_epoch_is_noticed(maker: type[LATS] | type[PGH], decay: str) -> None:
    """Planned as if it stepped after every batch, such a run would prune everything within its first epochs."""
    epochs, batches = 6, 10

    def train(**planned: int) -> float:
        net = make_net()
        optimizer = momentum(one_group(net))
        scheduler: torch.optim.lr_scheduler.LRScheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
        if decay == "cosine":
            scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
        pruner = SoftThresholdPruner(optimizer, maker.for_sparsity(0.7, scheduler, epochs * batches, **planned))
        for _ in range(epochs):
            for _ in range(batches):
                optimizer.zero_grad()
                torch.autograd.backward(net(torch.randn(8, next(net.parameters()).shape[1])).square().mean())
                optimizer.step()
            scheduler.step()
        return pruner.sparsity()

    with pytest.raises(ValueError, match=r"scheduler steps at other times; pass steps_per_update"):
        train()
    assert train(steps_per_update=batches) == pytest.approx(0.7, abs=0.02)


def test_a_target_that_later_gets_out_of_reach_is_named() -> None:
    run = build(momentum, lambda o: ConstantLR(o, 1.0, 1), lats(0.9), mixed_groups)
    run.train(0, 20)
    run.optimizer.param_groups[1]["max_sparsity"] = 0.5
    with pytest.raises(ValueError, match=r"LATS: target_sparsity 0\.9 is out of reach at step"):
        run.train(20, STEPS)
    assert all(bool(p.isfinite().all()) for p in run.net.parameters())
    assert run.pruner.sparsity() < 0.9


def test_layers_that_never_move_can_put_a_target_out_of_reach() -> None:
    def still(net: nn.Sequential) -> Groups:
        return [{"params": list(net[4].parameters())}, {"params": list(net[2].parameters()), "lr": 0.0}]

    run = build(momentum, lambda o: ConstantLR(o, 1.0, 1), lats(0.9), still)
    with pytest.raises(ValueError, match="learning rates of 0 leave too few weights to prune"):
        run.train(0, 1)


@pytest.mark.parametrize("name", FAMILY)
def test_a_run_past_the_plan_is_stopped_and_nothing_changes(name: str) -> None:
    steps = 20
    run = build(momentum, lambda o: ConstantLR(o, 1.0, 1), lambda s: FAMILY[name](s, steps))
    # Without planned steps only Ση is known, to rounding: the step that finds it used up is the last.
    last = steps + (name == "LATS without planned steps")
    run.train(0, last)
    backward(run.net, run.optimizer, last)
    before = run.saved()
    with pytest.raises(ValueError, match=r"planned for .*finalize\(\) the pruner"):
        run.optimizer.step()
    assert same(run.saved(), before)
    assert run.pruner.step == last
    run.pruner.finalize()
    run.optimizer.step()


def test_a_learning_rate_that_ends_at_zero_is_within_the_plan() -> None:
    def to_zero(optimizer: Optimizer) -> LRScheduler:
        return LinearLR(optimizer, 1.0, 0.0, STEPS - 20)

    run = build(momentum, to_zero, lats(0.9))
    run.train(0, STEPS)
    assert run.pruner.step == STEPS
    assert run.pruner.sparsity() == pytest.approx(0.9, abs=POINT)


@pytest.mark.slow
def test_thirty_drawn_configurations_end_within_a_tenth_of_a_point() -> None:
    data = target_sparsity.subset()
    drawn = target_sparsity.draw(30, seed=77)
    outcomes = [(configuration, target_sparsity.measure(configuration, data)) for configuration in drawn]
    missed = [f"{c}: {o.error_points:+.3f} points" for c, o in outcomes if abs(o.error_points) > 0.1]
    assert not missed, "\n".join(missed)
