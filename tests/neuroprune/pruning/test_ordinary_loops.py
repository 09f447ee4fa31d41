"""What people do around a pruner that used to fail without a word: exact now, refused with the reason, or said once."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize
from torch.nn.utils import spectral_norm as old_spectral_norm
from torch.nn.utils import weight_norm as old_weight_norm
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler

from neuroprune import (
    LATS,
    STR,
    Cap,
    ConstantThreshold,
    EpochLATS,
    Garrote,
    HardThreshold,
    Preconditioner,
    ProximalMap,
    SoftThreshold,
    SoftThresholdPruner,
    SparsityRamp,
    learning_rates,
    prune_to,
)
from tests.builders.run import Groups, MakeOptimizer, SmallRun, same, weights
from tests.twins.pruner import ReparameterisedTwin

MAKE: dict[str, MakeOptimizer] = {
    "momentum": lambda g: SGD(g, lr=0.05, momentum=0.9),
    "plain": lambda g: SGD(g, lr=0.05),
    "AdamW": lambda g: AdamW(g, lr=5e-3),
}


# ------------------------------------------------------------------------------------------------------------ resuming


@pytest.mark.parametrize("order", ["attached first", "loaded first"])
@pytest.mark.parametrize("name", MAKE)
def test_a_pruned_run_resumed_without_the_pruners_state_is_refused(name: str, order: str) -> None:
    run = SmallRun(MAKE[name], LATS(l1=0.5))
    run.train(0, 20)
    assert run.pruner.sparsity() > 0.02
    model, optimizer, state = copy.deepcopy([p.state_dict() for p in (run.net, run.optimizer, run.pruner)])
    again = SmallRun(MAKE[name], LATS(l1=0.5))
    if order == "loaded first":
        again.pruner.finalize()
        optimizer_again = MAKE[name](list(again.optimizer.param_groups))
        again.net.load_state_dict(model)
        optimizer_again.load_state_dict(optimizer)
        again.optimizer, again.pruner = optimizer_again, SoftThresholdPruner(optimizer_again, LATS(l1=0.5))
        if name == "plain":
            return  # an optimizer without state, loaded before: nothing tells this from a new start
    else:
        again.net.load_state_dict(model)
        again.optimizer.load_state_dict(optimizer)
    again.backward(20)
    before = weights(again.net)
    with pytest.raises(RuntimeError, match=r"resumed without the pruner's state.*save pruner\.state_dict\(\)"):
        again.optimizer.step()
    assert same(weights(again.net), before)
    again.pruner.load_state_dict(state)
    again.train(20, 25)
    run.train(20, 25)
    assert same(again.saved(), run.saved())


def test_dense_runs_start_being_pruned_at_any_step() -> None:
    net = nn.Linear(8, 8)
    optimizer = AdamW(net.parameters(), lr=0.01)
    net(torch.ones(2, 8)).sum().backward()
    optimizer.step()
    pruner = SoftThresholdPruner(optimizer, ConstantThreshold(0.1))  # prunes at once: zeros of its own
    optimizer.step()
    assert pruner.sparsity() > 0
    pruner.finalize()
    SoftThresholdPruner(optimizer, LATS(l1=0.1))  # the zeros of the first one are known
    optimizer.step()


def test_the_advice_for_a_dense_checkpoint_works() -> None:
    dense = SmallRun(MAKE["AdamW"], LATS(l1=0.0))
    dense.train(0, 3)
    run = SmallRun(MAKE["AdamW"], LATS(l1=0.1))
    run.optimizer.load_state_dict(dense.optimizer.state_dict())
    run.backward(3)
    with pytest.raises(RuntimeError, match=r"attach the pruner after optimizer\.load_state_dict"):
        run.optimizer.step()
    run.pruner.finalize()
    run.pruner = SoftThresholdPruner(run.optimizer, LATS(l1=0.1))
    run.train(3, 5)
    assert run.pruner.step == 2


# ---------------------------------------------------------------------------------------------------------- unfreezing


def train(net: nn.Module, optimizer: Optimizer, steps: int) -> None:
    for step in range(steps):
        x = torch.randn(16, 20, generator=torch.Generator().manual_seed(step), dtype=torch.float64)
        optimizer.zero_grad()
        net(x).square().mean().backward()
        optimizer.step()


def two_layers() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 5)).double()


@pytest.mark.parametrize("earlier", [False, True], ids=["never trained before", "switched off for a while"])
@pytest.mark.parametrize("proximal", [SoftThreshold(), Garrote()], ids=["soft", "garrote"])
@pytest.mark.parametrize("cap", [1.0, 0.05])
def test_a_layer_that_is_unfrozen_goes_on_from_its_weights(proximal: ProximalMap, earlier: bool, cap: float) -> None:
    net = two_layers()
    weight = net.get_parameter("0.weight")
    weight.requires_grad_(earlier)
    optimizer = SGD([{"params": list(net.parameters()), "max_sparsity": cap}], lr=0.1)
    pruner = SoftThresholdPruner(optimizer, LATS(l1=0.01), proximal=proximal)
    train(net, optimizer, 5 if earlier else 0)
    weight.requires_grad_(False)
    train(net, optimizer, 50)
    before, threshold = weight.detach().clone(), pruner.threshold
    weight.requires_grad_(True)
    weight.grad = None
    optimizer.param_groups[0]["lr"] = 1e-9
    train(net, optimizer, 1)
    # What it loses is the growth of d in this one step, not d.
    assert threshold > 0.04
    assert float((weight.detach() - before).abs().max()) < 1e-7
    assert torch.equal(weight == 0, before == 0)


def test_an_unfrozen_layer_follows_the_twin_that_starts_from_the_nearest_latent_value() -> None:
    net, l1 = two_layers(), 0.01
    net.get_parameter("0.weight").requires_grad_(False)
    optimizer = SGD(net.parameters(), lr=0.1)
    pruner = SoftThresholdPruner(optimizer, LATS(l1=l1))
    train(net, optimizer, 40)
    twin = ReparameterisedTwin(copy.deepcopy(net), [["0.weight", "2.weight"]], l1)
    twin.thresholds = [d := pruner.threshold]
    with torch.no_grad():
        first, second = twin.model.get_parameter("0.weight"), twin.model.get_parameter("2.weight")
        first.add_(d * first.sign())
        second.copy_(pruner.state_dict()["latents"][2])
        first.requires_grad_(True)
    net.get_parameter("0.weight").requires_grad_(True)
    twin_optimizer = SGD(twin.model.parameters(), lr=0.1)
    for _ in range(10):
        train(net, optimizer, 1)
        train(twin, twin_optimizer, 1)
        twin.advance([0.1])
        for name, value in twin.weights().items():
            assert float((net.get_parameter(name) - value).abs().max()) < 1e-12


def test_a_layer_that_could_only_join_with_a_loss_is_refused_and_nothing_changes() -> None:
    cases: list[tuple[Callable[[Optimizer], SoftThresholdPruner], str]] = [
        (
            lambda o: SoftThresholdPruner(o, LATS(l1=0.01), proximal=HardThreshold()),
            r"would zero \d+ of its 600 weights",
        ),
        (lambda o: prune_to(0.5, o, steps=100), "quantile of all weights"),
        (
            lambda o: SoftThresholdPruner(o, LATS(l1=0.01), fan_in=Cap(3, steps=40)),
            "a limit on fan-in or fan-out would cut it",
        ),
    ]
    for attach, message in cases:
        net = two_layers()
        net.get_parameter("0.weight").requires_grad_(False)
        optimizer = SGD(net.parameters(), lr=0.1)
        pruner = attach(optimizer)
        train(net, optimizer, 40)
        net.get_parameter("0.weight").requires_grad_(True)
        before = weights(net)
        for _ in range(2):
            with pytest.raises(ValueError, match=message):
                train(net, optimizer, 1)
            assert same(weights(net), before)
        optimizer.zero_grad()
        net.get_parameter("0.weight").requires_grad_(False)
        train(net, optimizer, 1)
        assert pruner.step == 41


# ---------------------------------------------------------------------------------------------- weights that are none


def parametrized(kind: str) -> nn.Module:
    layer = nn.Linear(8, 8)
    makers: dict[str, Callable[[nn.Module], Any]] = {
        "WeightNorm": parametrizations.weight_norm,
        "Orthogonal": parametrizations.orthogonal,
        "SpectralNorm": parametrizations.spectral_norm,
        "old WeightNorm": old_weight_norm,
        "old SpectralNorm": old_spectral_norm,
    }
    makers[kind](layer)
    return layer


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
@pytest.mark.parametrize("kind", ["WeightNorm", "Orthogonal", "SpectralNorm", "old WeightNorm", "old SpectralNorm"])
def test_parameters_that_a_weight_is_made_from_are_refused_by_name(kind: str) -> None:
    net = nn.Sequential(parametrized(kind), nn.ReLU(), nn.Linear(8, 3))
    before = weights(net)
    with pytest.raises(ValueError, match=rf"what\s+{kind.split()[-1]} makes one from.*prune=False"):
        SoftThresholdPruner(SGD(net.parameters(), lr=0.1), LATS(l1=0.1))
    assert same(weights(net), before)
    groups: Groups = [
        {"params": list(net[0].parameters()), "prune": False},
        {"params": list(net[2].parameters())},
    ]
    pruner = SoftThresholdPruner(SGD(groups, lr=0.1), LATS(l1=0.1))  # the advice works
    assert [tuple(p.shape) for p in pruner.parameters] == [(3, 8)]


def test_parametrizations_that_were_removed_are_plain_weights() -> None:
    layer = parametrized("WeightNorm")
    parametrize.remove_parametrizations(layer, "weight")
    column = nn.Linear(1, 32)  # a weight in the shape of gains
    pruner = SoftThresholdPruner(SGD([*layer.parameters(), *column.parameters()], lr=0.1), LATS(l1=0.1))
    assert [tuple(p.shape) for p in pruner.parameters] == [(8, 8), (32, 1)]


class Swapping(SGD):
    """An optimizer that exchanges the weights for evaluation, as schedule-free ones do."""

    def train(self) -> None:
        """To the weights that train."""

    def eval(self) -> None:
        """To their average."""


def test_optimizers_that_swap_weights_and_bucket_views_are_refused() -> None:
    layer = nn.Linear(4, 4)
    with pytest.raises(TypeError, match=r"Swapping exchanges the weights for others in eval\(\)"):
        SoftThresholdPruner(Swapping(layer.parameters(), lr=0.1), LATS(l1=0.1))
    views = SGD(layer.parameters(), lr=0.1)
    views.parameters_as_bucket_view = True  # type: ignore[attr-defined] # ZeroRedundancyOptimizer's
    with pytest.raises(TypeError, match="views of its buckets"):
        SoftThresholdPruner(views, LATS(l1=0.1))


def test_a_wrapped_scheduler_is_refused_with_what_to_give() -> None:
    class Wrapper:
        """As Accelerate's."""

        def __init__(self, scheduler: LRScheduler) -> None:
            self.scheduler = scheduler

    wrapped: Any = Wrapper(CosineAnnealingLR(SGD(nn.Linear(2, 2).parameters(), lr=0.1), 10))
    with pytest.raises(TypeError, match=r"got Wrapper; give the one inside it"):
        LATS.for_sparsity(0.9, wrapped, 10)
    assert len(learning_rates(wrapped.scheduler, 10)) == 10


def test_a_compiled_step_prunes_as_an_eager_one() -> None:
    eager, compiled = SmallRun(MAKE["momentum"], LATS(l1=0.2)), SmallRun(MAKE["momentum"], LATS(l1=0.2))
    step = torch.compile(lambda: compiled.optimizer.step(), backend="eager")
    for number in range(4):
        eager.train(number, number + 1)
        compiled.backward(number)
        step()
    assert compiled.pruner.step == 4
    assert same(weights(compiled.net), weights(eager.net))
    assert same(compiled.pruner.state_dict(), eager.pruner.state_dict())


# ------------------------------------------------------------------------------------------------- devices and dtypes


def test_a_state_of_another_precision_keeps_thresholds_of_rows_in_the_parameters_own() -> None:
    def make(dtype: torch.dtype) -> tuple[nn.Module, Optimizer, SoftThresholdPruner]:
        torch.manual_seed(0)
        net = nn.Linear(20, 4, bias=False).to(dtype)
        optimizer = SGD(net.parameters(), lr=0.05)
        return net, optimizer, SoftThresholdPruner(optimizer, LATS(l1=0.1), fan_in=Cap(5, steps=4))

    net, optimizer, pruner = make(torch.float64)
    train(net, optimizer, 4)
    assert isinstance(pruner.state_dict()["applied"][0], Tensor)
    other, _, loaded = make(torch.float32)
    loaded.load_state_dict(pruner.state_dict())
    assert loaded.state_dict()["applied"][0].dtype == torch.float32
    assert int(torch.count_nonzero(other.get_parameter("weight"), dim=1).max()) <= 5


# ------------------------------------------------------------------------------------------------ what is said, once


def said(run: Callable[[], Any]) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run()
    return [str(w.message) for w in caught if "SoftThresholdPruner" in str(w.message)]


def test_a_layer_that_becomes_all_zero_is_said_once() -> None:
    net = two_layers()
    with torch.no_grad():
        net.get_parameter("2.weight").mul_(1e-3)
    optimizer = SGD(net.parameters(), lr=1e-6)
    pruner = SoftThresholdPruner(optimizer, LATS(l1=100.0))
    messages = said(lambda: train(net, optimizer, 250))
    assert [m.split("weights")[0] for m in messages] == ["SoftThresholdPruner: all 150 "]
    assert "at step 100" in messages[0]
    assert not said(pruner.finalize)


def test_a_plan_that_was_stopped_early_is_said_with_what_was_reached() -> None:
    for schedule in (SparsityRamp(0.9, 40), EpochLATS(0.1, 4, 10), STR()):
        net = two_layers()
        optimizer = SGD(net.parameters(), lr=0.1)
        pruner = SoftThresholdPruner(optimizer, schedule)
        train(net, optimizer, 12)
        reached = f"{100 * pruner.sparsity():.2f} %"
        messages = said(pruner.finalize)
        if schedule.planned_steps is None:
            assert not messages
            continue
        assert len(messages) == 1
        assert "was planned for 40 steps and stopped after 12" in messages[0]
        assert reached in messages[0]
        assert ("90.00 % were asked for" in messages[0]) == (schedule.target_sparsity is not None)
        assert not said(pruner.finalize)


@pytest.mark.parametrize("end", ["done", "frozen"])
def test_a_plan_at_its_end_or_cut_by_freezing_says_nothing(end: str) -> None:
    net = two_layers()
    optimizer = SGD(net.parameters(), lr=0.1)
    pruner = prune_to(0.5, optimizer, steps=12)
    train(net, optimizer, 12 if end == "done" else 6)
    if end == "frozen":
        pruner.freeze()
    assert not said(pruner.finalize)


@pytest.mark.parametrize("make", [SGD, AdamW])
def test_prune_to_is_what_it_says(make: type[Any]) -> None:
    net = two_layers()
    optimizer = make(net.parameters(), lr=0.1)
    pruner = prune_to(0.9, optimizer, steps=30, fan_in=Cap(10))
    assert (pruner.schedule, pruner.proximal) == (SparsityRamp(0.9, 30), HardThreshold())
    assert pruner.precondition == (None if make is SGD else Preconditioner(damping=1.0))
    train(net, optimizer, 30)
    assert pruner.sparsity() == pytest.approx(0.9, abs=1 / 750)
    assert int(torch.count_nonzero(net.get_parameter("0.weight"), dim=1).max()) <= 10
