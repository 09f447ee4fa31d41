"""The frontier's baselines, each against something independent of it."""

from __future__ import annotations

import copy
import itertools
import math
from fractions import Fraction
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import prune

from examples.benchmarks.frontier.methods import METHODS, Run
from examples.benchmarks.frontier.methods.at_init import (
    linear_twin,
    prunable_names,
    snip_masks,
    snip_saliency,
    synaptic_flow,
    synflow_masks,
)
from examples.benchmarks.frontier.methods.base import prunable, sparsity_of
from examples.benchmarks.frontier.methods.gmp import GMP
from examples.benchmarks.frontier.methods.masks import cubic_ramp, global_masks
from examples.benchmarks.frontier.methods.rigl import RigL, erk_densities, random_masks, rewire
from examples.benchmarks.frontier.methods.st3 import ST3, magnitude_quantile, row_scale
from examples.benchmarks.frontier.models import SpikingMLP
from neuroprune import LATS, SoftThresholdPruner
from neuroprune.models.cnn import SmallCNN
from neuroprune.training.data.images import ImageSet
from neuroprune.training.loop import Hyperparameters, predictor, train

STEPS = 24
HYPER = Hyperparameters(epochs=2, batch_size=8, lr=0.1, weight_decay=1e-4, seed=3)
DATA = ImageSet(
    torch.randint(0, 256, (96, 1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)),
    torch.randint(0, 10, (96,), generator=torch.Generator().manual_seed(2)),
)


def _run(model: nn.Module, target: float, *, knob: float | None = None, time_steps: int = 1) -> Run:
    optimizer = HYPER.optimizer(model)
    return Run(
        model=model,
        optimizer=optimizer,
        scheduler=HYPER.scheduler(optimizer, STEPS),
        steps=STEPS,
        target=target,
        data=DATA,
        predict=predictor(model, time_steps),
        hyper=HYPER,
        time_steps=time_steps,
        knob=knob,
    )


def _train(run: Run, handle: Any, record: Any = None) -> None:
    train(run.model, DATA, handle.optimizer, run.scheduler, HYPER, run.predict, record=record)


def _small() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 12), nn.Tanh(), nn.Linear(12, 10))


@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.9, 0.999, 1.0])
def test_global_magnitude_masks_are_torchs(sparsity: float) -> None:
    model = SmallCNN((4, 6))
    ours = global_masks([p.abs() for p in model.parameters() if p.dim() >= 2], sparsity)
    layers = [m for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    pairs = [(m, "weight") for m in layers]
    prune.global_unstructured(pairs, prune.L1Unstructured, amount=sparsity)
    for layer, mask in zip(layers, ours, strict=True):
        assert torch.equal(layer.get_buffer("weight_mask").bool(), mask)


def test_masks_refuse_what_has_no_order() -> None:
    with pytest.raises(ValueError, match="1 of 3 scores are not a number"):
        global_masks([torch.tensor([1.0, math.nan, 2.0])], 0.5)
    with pytest.raises(ValueError, match=r"sparsity must lie in 0 … 1, got 1\.5"):
        global_masks([torch.ones(3)], 1.5)


def test_gmp_prunes_as_torch_does_at_every_update() -> None:
    """A twin that multiplies masks of torch.nn.utils.prune into its weights after every step."""
    run = _run(_small(), 0.9)
    twin = copy.deepcopy(run.model)
    handle = GMP(start=0.25, end=0.75, updates=3).attach(run)
    _train(run, handle)
    handle.finish()

    layers: list[Any] = [m for m in twin.modules() if isinstance(m, nn.Linear)]
    masks = [torch.ones_like(layer.weight) for layer in layers]
    total, done = sum(mask.numel() for mask in masks), 0

    @torch.no_grad()
    def apply(*_: Any) -> None:
        nonlocal masks, done
        done += 1
        for layer, mask in zip(layers, masks, strict=True):
            layer.weight.mul_(mask)
        if done in (6, 10, 14, 18):
            pairs = [(copy.deepcopy(layer), "weight") for layer in layers]
            count = round(0.9 * (1 - (1 - (done - 6) / 12) ** 3) * total)
            prune.global_unstructured(pairs, prune.L1Unstructured, amount=count)
            masks = [layer.weight_mask for layer, _ in pairs]
            for layer, mask in zip(layers, masks, strict=True):
                layer.weight.mul_(mask)

    optimizer = HYPER.optimizer(twin)
    optimizer.register_step_post_hook(apply)
    train(twin, DATA, optimizer, HYPER.scheduler(optimizer, STEPS), HYPER, predictor(twin, 1))
    assert done == STEPS
    for ours, layer in zip(prunable(run.optimizer), layers, strict=True):
        torch.testing.assert_close(ours, layer.weight)
    assert sparsity_of(prunable(run.optimizer)) == pytest.approx(0.9, abs=1 / total)


def test_the_ramp_starts_at_zero_ends_at_the_target_and_slows_down() -> None:
    values = [cubic_ramp(0.8, x / 10) for x in range(-2, 13)]
    assert values[:3] == [0, 0, 0]
    assert values[12:] == pytest.approx([0.8] * 3)
    rises = [b - a for a, b in itertools.pairwise(values[2:13])]
    assert rises == sorted(rises, reverse=True)


def _slow_erk(shapes: list[tuple[int, ...]], sparsity: float) -> list[float]:
    """ε by bisection: the density min(1, ε·Σdims/Πdims) of every layer, and the weights they keep together."""
    budget = (1 - sparsity) * sum(math.prod(s) for s in shapes)
    low, high = 0.0, float(max(math.prod(s) for s in shapes))
    for _ in range(200):
        middle = (low + high) / 2
        kept = sum(min(math.prod(s), middle * sum(s)) for s in shapes)
        low, high = (middle, high) if kept < budget else (low, middle)
    return [min(1.0, low * sum(s) / math.prod(s)) for s in shapes]


@settings(max_examples=60, deadline=None)
@given(
    shapes=st.lists(st.lists(st.integers(1, 40), min_size=2, max_size=4).map(tuple), min_size=1, max_size=6),
    sparsity=st.floats(0.01, 0.995),
)
def test_erk_densities_are_those_of_a_slow_search(shapes: list[tuple[int, ...]], sparsity: float) -> None:
    assert erk_densities(shapes, sparsity) == pytest.approx(_slow_erk(shapes, sparsity), rel=1e-6)


def test_erk_of_a_known_network() -> None:
    # 784-256-10 at 90 %: raw densities 1040/200704 and 266/2560, so ε = 20326.4/1306; the readout then would be dense.
    first, last = erk_densities([(256, 784), (10, 256)], 0.9)
    assert last == 1.0
    assert first == pytest.approx(float(Fraction(203264, 10) - 2560) / 200704)


def test_random_masks_have_their_density_and_their_seed() -> None:
    first, again, other = (random_masks([(20, 10), (5, 4)], [0.25, 1.0], seed) for seed in (0, 0, 1))
    assert [int(mask.sum()) for mask in first] == [50, 20]
    assert torch.equal(first[0], again[0])
    assert not torch.equal(first[0], other[0])


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), size=st.integers(1, 60), density=st.floats(0, 1), fraction=st.floats(0, 1))
def test_rewire_drops_the_smallest_and_grows_the_steepest(
    seed: int, size: int, density: float, fraction: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight, gradient = (torch.randn(size, generator=generator) for _ in range(2))
    mask = random_masks([(1, size)], [density], seed)[0].view(size)
    active = [i for i in range(size) if mask[i]]
    count = min(round(fraction * len(active)), size - len(active))
    kept = set(sorted(active, key=lambda i: -abs(float(weight[i])))[: len(active) - count])
    grown = sorted(set(range(size)) - kept, key=lambda i: -abs(float(gradient[i])))[:count]
    found = rewire(weight, gradient, mask, fraction)
    assert {i for i in range(size) if found[i]} == kept | set(grown)


def test_rigl_keeps_its_density_and_gives_momentum_to_active_weights_alone() -> None:
    run = _run(_small(), 0.8)
    handle: Any = RigL(updates=8).attach(run)
    first = [mask.clone() for mask in handle.masks]
    counts: list[list[int]] = []
    _train(run, handle, lambda _: counts.append([int(mask.sum()) for mask in handle.masks]))
    assert all(row == counts[0] for row in counts)
    assert sum(counts[0]) == pytest.approx(0.2 * sum(m.numel() for m in first), abs=2)
    assert not torch.equal(first[0], handle.masks[0])
    for parameter, mask in zip(handle.parameters, handle.masks, strict=True):
        assert not parameter[~mask].any()
        assert not run.optimizer.state[parameter]["momentum_buffer"][~mask].any()


def test_rigl_rests_in_the_last_quarter() -> None:
    run = _run(_small(), 0.8)
    handle: Any = RigL(updates=8).attach(run)
    seen: list[Tensor] = []
    _train(run, handle, lambda _: seen.append(handle.masks[0].clone()))
    changed = [i + 1 for i in range(1, STEPS) if not torch.equal(seen[i], seen[i - 1])]
    assert changed == [3, 6, 9, 12, 15]
    assert max(changed) < 0.75 * STEPS


class _ThroughST3(nn.Module):
    """The published formulation: the forward pass computes scale·S_d(θ), its gradient passes to θ unchanged."""

    threshold = 0.0

    def forward(self, theta: Tensor) -> Tensor:
        d = self.threshold
        magnitude = theta.detach().abs()
        share = ((magnitude * (magnitude > d)).mean(1) + 1e-6) / (magnitude.mean(1) + 1e-6)
        shrunk = theta.detach().sign() * (magnitude - d).clamp(min=0) * (1.01 / (share + 0.01))[:, None]
        return theta + ((shrunk if d > 0 else theta) - theta).detach()


def test_st3_is_the_reparameterised_network() -> None:
    run = _run(_small(), 0.9)
    twin = copy.deepcopy(run.model)
    handle = ST3(start=0.1, end=0.6).attach(run)
    _train(run, handle)
    final = handle.finish()["final_threshold"]

    layers: list[Any] = [m for m in twin.modules() if isinstance(m, nn.Linear)]
    reparametrizations = [_ThroughST3() for _ in layers]
    for layer, module in zip(layers, reparametrizations, strict=True):
        nn.utils.parametrize.register_parametrization(layer, "weight", module)
    optimizer, done = HYPER.optimizer(twin), 0

    def adapt(*_: Any) -> None:
        nonlocal done
        done += 1
        x = min(max((done / STEPS - 0.1) / 0.5, 0.0), 1.0)
        ramp = 0.9 * (1 - (1 - x) ** 3)
        thetas = torch.cat([layer.parametrizations.weight.original.detach().flatten() for layer in layers])
        for module in reparametrizations:
            module.threshold = float(torch.quantile(thetas.abs(), ramp)) if ramp > 0 else 0.0

    optimizer.register_step_post_hook(adapt)
    train(twin, DATA, optimizer, HYPER.scheduler(optimizer, STEPS), HYPER, predictor(twin, 1))
    assert reparametrizations[0].threshold == pytest.approx(final, rel=1e-4)
    for ours, layer in zip(prunable(run.optimizer), layers, strict=True):
        torch.testing.assert_close(ours, layer.weight, rtol=1e-4, atol=1e-6)
    assert sparsity_of(prunable(run.optimizer)) == pytest.approx(0.9, abs=2e-4)


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.5, 0.95, 1.0])
def test_magnitude_quantile_is_torchs(fraction: float) -> None:
    tensors = [torch.randn(7, 5), torch.randn(3)]
    expected = float(torch.quantile(torch.cat([t.flatten() for t in tensors]).abs(), fraction)) if fraction else 0.0
    assert magnitude_quantile(tensors, fraction) == pytest.approx(expected)


def test_row_scale_by_hand() -> None:
    theta = torch.tensor([[1.0, -3.0], [0.5, 0.5], [4.0, 4.0]])
    assert row_scale(theta, 2.0).flatten().tolist() == pytest.approx([1.01 / 0.76, 101.0, 1.0], rel=1e-3)


def test_pat_is_lats_with_the_same_coefficient() -> None:
    pytest.importorskip("torchao.prototype.pat.optim")
    run = _run(_small(), 0.9, knob=5e-3)
    twin = copy.deepcopy(run.model)
    handle = METHODS["pat"].attach(run)
    _train(run, handle)
    assert 0.05 < handle.sparsity() < 0.95
    optimizer = HYPER.optimizer(twin)
    pruner = SoftThresholdPruner(optimizer, LATS(l1=5e-3))
    train(twin, DATA, optimizer, HYPER.scheduler(optimizer, STEPS), HYPER, predictor(twin, 1))
    for ours, theirs in zip(twin.parameters(), run.model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
    assert handle.finish()["final_threshold"] == pytest.approx(pruner.threshold)


def test_snip_saliency_is_the_slope_of_the_loss_over_a_multiplier() -> None:
    model = _small().double()
    images, labels = torch.rand(16, 1, 28, 28, dtype=torch.float64), DATA.labels[:16]
    saliency = snip_saliency(model, images, labels)
    for parameter, scores in zip((p for p in model.parameters() if p.dim() >= 2), saliency, strict=True):
        flat = parameter.detach().view(-1)
        for index in (0, 7, flat.numel() // 2, flat.numel() - 1):
            before, losses = float(flat[index]), []
            for factor in (1 + 1e-5, 1 - 1e-5):
                flat[index] = before * factor
                losses.append(F.cross_entropy(model(images), labels).item())
            flat[index] = before
            slope = (losses[0] - losses[1]) / 2e-5
            assert abs(slope) == pytest.approx(float(scores.view(-1)[index]), rel=1e-4, abs=1e-9)


@pytest.mark.parametrize("model", [SpikingMLP((20, 15)), SmallCNN((4, 6))], ids=["spiking", "cnn"])
def test_synaptic_flow_is_conserved_from_layer_to_layer(model: nn.Module) -> None:
    """Tanaka et al., theorem 2: the scores into a layer of neurons add up to the scores out of it."""
    twin = linear_twin(model)
    parameters = [twin.get_parameter(name) for name in prunable_names(twin)]
    scores = synaptic_flow(twin, parameters, (1, 28, 28))
    sums = [float(s.sum()) for s in scores]
    assert sums[0] > 0
    assert sums == pytest.approx([sums[0]] * len(sums), rel=1e-9)
    if isinstance(model, SpikingMLP):  # one by one, where layers are matrices
        for into, out in itertools.pairwise(scores):
            torch.testing.assert_close(into.sum(1), out.sum(0))


@pytest.mark.parametrize("model", [SpikingMLP((20, 15)), SmallCNN((4, 6))], ids=["spiking", "cnn"])
def test_synflow_keeps_the_wanted_count_and_no_layer_collapses(model: nn.Module) -> None:
    before = copy.deepcopy(model.state_dict())
    masks = synflow_masks(model, (1, 28, 28), 0.99)
    total = sum(mask.numel() for mask in masks)
    assert sum(int(mask.sum()) for mask in masks) == total - round(0.99 * total)
    assert all(mask.any() for mask in masks)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    with pytest.raises(ValueError, match=r"0 <= sparsity < 1 and rounds >= 1, got 1\.0 and 100"):
        synflow_masks(model, (1, 28, 28), 1.0)


def test_snip_on_a_spiking_network_leaves_it_as_it_was() -> None:
    model = SpikingMLP((12,))
    before = copy.deepcopy(model.state_dict())
    masks = snip_masks(model, torch.rand(8, 1, 28, 28), DATA.labels[:8], 0.9, time_steps=2)
    total = sum(mask.numel() for mask in masks)
    assert sum(int(mask.sum()) for mask in masks) == total - round(0.9 * total)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize("name", [n for n in METHODS if n != "pat"])
def test_every_method_leaves_a_plain_model_with_true_zeros(name: str) -> None:
    model = SpikingMLP((12,))
    keys = list(model.state_dict())
    method = METHODS[name]
    run = _run(model, 0.0 if name == "dense" else 0.8, knob=0.2 if method.knob else None, time_steps=2)
    handle = method.attach(run)
    _train(run, handle)
    measured = handle.sparsity()
    handle.finish()
    assert list(model.state_dict()) == keys
    assert measured == sparsity_of(prunable(run.optimizer))
    assert not run.optimizer._optimizer_step_pre_hooks
    assert not run.optimizer._optimizer_step_post_hooks
    if name in ("gmp", "rigl", "st3", "snip", "synflow"):
        assert measured == pytest.approx(0.8, abs=1e-3)
    assert (measured == 0) == (name == "dense")


def test_a_method_with_a_knob_says_what_it_lacks() -> None:
    for name in ("pat", "str"):
        with pytest.raises(ValueError, match=f"{name}: needs .* which calibration finds"):
            METHODS[name].attach(_run(_small(), 0.9))


def test_frozen_methods_keep_their_mask_from_then_on() -> None:
    run = _run(_small(), 0.8)
    handle = METHODS["lats+freeze"].attach(run)
    seen: list[Tensor] = []
    parameter = prunable(run.optimizer)[0]
    _train(run, handle, lambda _: seen.append(parameter.detach() != 0))
    assert handle.finish()["frozen_after_step"] == STEPS // 2
    assert all(torch.equal(mask, seen[STEPS // 2 - 1]) for mask in seen[STEPS // 2 :])
    assert not torch.equal(seen[1], seen[STEPS // 2 - 1])
