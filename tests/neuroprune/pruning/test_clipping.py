"""Gradients at pruned weights that a batch-norm blows up: limited to what survivors have, nothing else touched."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.optim import SGD, Adam

from neuroprune import ConstantThreshold, HardThreshold, Preconditioner, SoftThresholdPruner, SparsityRamp, prune_to
from neuroprune.pruning.clipping import clip_pruned_


def clipped(gradient: Tensor, weight: Tensor, multiple: float, before: float = 0.0) -> tuple[Tensor, float]:
    """Weight by weight; and what is remembered."""
    rows = [
        list(zip(g.flatten().tolist(), w.flatten().tolist(), strict=True))
        for g, w in zip(gradient, weight, strict=True)
    ]
    own = [rms([g for g, w in row if w != 0]) for row in rows]
    now = rms([g for row in rows for g, w in row if w != 0])
    usual = max(now, 0.9 * before) if now > 0 else before
    if usual == 0:
        return gradient.clone(), 0.0
    limits = [multiple * max(m, usual) for m in own]
    factors = [
        min(1.0, limit / (rms([g for g, w in row if w == 0]) or limit)) for row, limit in zip(rows, limits, strict=True)
    ]
    shrunk = [[g if w != 0 else g * f for g, w in row] for row, f in zip(rows, factors, strict=True)]
    return torch.tensor(shrunk, dtype=gradient.dtype).reshape(gradient.shape), usual


def rms(values: list[float]) -> float:
    return math.sqrt(sum(v * v for v in values) / len(values)) if values else 0.0


@given(
    seed=st.integers(0, 10**6),
    shape=st.sampled_from([(1, 3), (6, 4), (7, 2, 3, 3), (5, 2, 2)]),
    multiple=st.sampled_from([1.0, 3.0, 10.0]),
    empty=st.floats(0, 1),
    zero=st.floats(0, 1),
    silent=st.floats(0, 1),
    before=st.none() | st.floats(1e-3, 1e4),
)
@settings(max_examples=60, deadline=None)
def test_pruned_weights_have_at_most_a_multiple_of_what_survivors_have(
    seed: int, shape: tuple[int, ...], multiple: float, empty: float, zero: float, silent: float, before: float | None
) -> None:
    generator = torch.Generator().manual_seed(seed)
    rows = (shape[0], *[1] * (len(shape) - 1))
    gradient = torch.randn(shape, generator=generator) * 10 ** (4 * torch.rand(rows, generator=generator))
    gradient = gradient * (torch.rand(rows, generator=generator) >= silent)
    weight = torch.randn(shape, generator=generator) * (torch.rand(rows, generator=generator) >= empty)
    weight = weight * (torch.rand(shape, generator=generator) >= zero)
    original, (wanted, remembered) = gradient.clone(), clipped(gradient, weight, multiple, before or 0.0)
    usual = clip_pruned_(gradient, weight, multiple, None if before is None else torch.tensor(before**2))
    torch.testing.assert_close(gradient, wanted, rtol=1e-4, atol=0)
    assert float(usual) ** 0.5 == pytest.approx(remembered, rel=1e-5)
    assert torch.equal(gradient[weight != 0], original[weight != 0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.complex64])
def test_small_gradients_of_every_kind_of_number(dtype: torch.dtype) -> None:
    """Squares of half-precision gradients this small are no half-precision numbers."""
    torch.manual_seed(0)
    gradient = (1e-5 * torch.randn(6, 8)).to(dtype)
    weight = torch.randn(6, 8).to(dtype) * (torch.rand(6, 8) < 0.5)
    before = gradient.clone()
    clip_pruned_(gradient, weight)
    assert torch.equal(gradient, before)
    gradient[2] *= 100
    weight[2] = 0
    clip_pruned_(gradient, weight)
    shrunk = float(gradient[2].abs().sum().float() / before[2].abs().sum().float())
    assert 1.0 < shrunk < 10.0


def test_a_layer_without_survivors_is_limited_by_what_they_had() -> None:
    weight, gradient = torch.ones(4, 5), torch.ones(4, 5)
    usual = clip_pruned_(gradient, weight)
    for gone in (torch.zeros(4, 5), torch.zeros(4, 5)):
        blown = 300 * gradient
        usual = clip_pruned_(blown, gone, 3.0, usual)
        torch.testing.assert_close(blown, 3 * gradient)


def test_an_overflow_is_not_remembered() -> None:
    weight = torch.tensor([[1.0, 0.0]])
    usual = clip_pruned_(torch.tensor([[2.0, 0.0]]), weight)
    for value in (math.inf, math.nan):
        assert float(clip_pruned_(torch.tensor([[value, 0.0]]), weight, 3.0, usual)) == 4.0


def test_adam_does_not_rank_by_a_blown_up_metric() -> None:
    """The layer before a batch-norm is emptied in mid-run: its √v would outrank everything from then on."""
    reach = {}
    for clip in (None, 3.0):
        net, x = emptied()
        optimizer = Adam(net.parameters(), 1e-3)
        pruner = SoftThresholdPruner(
            optimizer, SparsityRamp(0.3, 100), proximal=HardThreshold(), precondition=Preconditioner(), clip_pruned=clip
        )
        layer = next(iter(net[0].parameters()))
        for step in range(6):
            optimizer.zero_grad()
            net(x).square().sum(1).mean().backward()
            optimizer.step()
            if step == 3:
                with torch.no_grad():
                    layer.zero_()
        reach[clip] = float(optimizer.state[layer]["exp_avg_sq"].max().sqrt())
        pruner.finalize()
    assert reach[3.0] * 3 < reach[None]


def test_sparse_gradients_are_left_alone() -> None:
    layer = nn.Embedding(10, 4, sparse=True)
    optimizer = SGD(layer.parameters(), 0.1)
    pruner = prune_to(0.5, optimizer, steps=3)
    for _ in range(3):
        optimizer.zero_grad()
        layer(torch.tensor([1, 2, 2])).square().sum().backward()
        optimizer.step()
    assert pruner.sparsity() == 0.5


def test_a_head_of_many_classes_learns_as_without() -> None:
    """A true class's row has a far larger gradient than the median one: it is no row to be limited."""
    losses = {}
    for clip in (None, 3.0):
        torch.manual_seed(0)
        points, net = torch.randn(300, 16), nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 300))
        optimizer = SGD(net.parameters(), 0.5, momentum=0.9)
        SoftThresholdPruner(optimizer, SparsityRamp(0.5, 300), proximal=HardThreshold(), clip_pruned=clip)
        for _ in range(300):
            labels = torch.randint(300, (8,))
            loss = nn.functional.cross_entropy(net(points[labels]), labels)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
        with torch.no_grad():
            losses[clip] = float(nn.functional.cross_entropy(net(points), torch.arange(300)))
    assert losses[3.0] < losses[None] + 0.5


def emptied() -> tuple[nn.Sequential, Tensor]:
    """A layer before a batch-norm, with a row that is zero; and an input."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(12, 8, bias=False), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    with torch.no_grad():
        next(iter(net[0].parameters()))[2] = 0.0
        list(net[1].parameters())[1].fill_(0.5)
    return net, torch.randn(64, 12)


def test_a_batch_norm_blows_up_the_row_of_an_emptied_neuron_and_the_pruner_does_not_follow() -> None:
    reach = {}
    for clip in (None, 3.0):
        net, x = emptied()
        optimizer = SGD(net.parameters(), 0.1)
        ramp = SparsityRamp(0.3, 4, every=1)
        pruner = SoftThresholdPruner(optimizer, ramp, proximal=HardThreshold(), clip_pruned=clip)
        net(x).square().sum(1).mean().backward()
        optimizer.step()
        latent = pruner.state_dict()["latents"][0]
        others = torch.cat([latent[:2], latent[3:]])
        reach[clip] = float(latent[2].norm() / others.norm(dim=1).max())
    assert reach[None] > 10.0
    assert reach[3.0] < 2.0


def test_a_pruner_equals_the_loop_by_hand() -> None:
    net, x = emptied()
    twin = copy.deepcopy(net)
    optimizer, plain = SGD(net.parameters(), 0.05, momentum=0.9), SGD(twin.parameters(), 0.05, momentum=0.9)
    pruner = prune_to(0.6, optimizer, steps=12)
    latents = {p: p.detach().clone() for p in twin.parameters() if p.dim() > 1}
    usual: dict[nn.Parameter, Tensor] = {}
    for _ in range(12):
        for model, stepped in ((net, optimizer), (twin, plain)):
            stepped.zero_grad()
            model(x).square().sub(1).square().sum(1).mean().backward()
            if model is twin:
                with torch.no_grad():
                    for p, theta in latents.items():
                        assert p.grad is not None
                        # Held to its twin above; here every bit counts.
                        usual[p] = clip_pruned_(p.grad, p.detach(), 3.0, usual.get(p))
                        p.copy_(theta)
            stepped.step()
        with torch.no_grad():
            for p in latents:
                latents[p] = p.detach().clone()
                p.copy_(torch.where(p.abs() > pruner.threshold, p, torch.zeros_like(p)))
    for mine, other in zip(net.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-6)
    assert pruner.sparsity() == pytest.approx(0.6, abs=0.01)


@pytest.mark.parametrize("multiple", [0.9, 0.0, -3.0, float("nan"), float("inf")])
def test_no_limit_is_refused(multiple: float) -> None:
    net, _ = emptied()
    with pytest.raises(ValueError, match="clip_pruned must be a finite number of at least 1"):
        SoftThresholdPruner(SGD(net.parameters(), 0.1), SparsityRamp(0.5, 4), clip_pruned=multiple)


def test_gradients_that_are_sparse_in_some_steps_only() -> None:
    layer = nn.Embedding(10, 4, sparse=True)
    optimizer = SGD(layer.parameters(), 0.1)
    pruner = prune_to(0.5, optimizer, steps=6)
    for step in range(6):
        optimizer.zero_grad()
        layer.sparse = step % 2 == 0
        layer(torch.tensor([1, 2, 2])).square().sum().backward()
        optimizer.step()
    assert pruner.sparsity() == 0.5


def test_a_loss_scale_that_changes_is_no_part_of_what_survivors_had() -> None:
    """A fused optimizer under GradScaler unscales for itself: hooks see scaled gradients, and steps to be skipped."""
    end = []
    for fused in (False, True):
        weight = nn.Parameter(torch.linspace(0.1, 1.0, 16).reshape(4, 4))
        optimizer = SGD([weight], 2**-6, fused=fused)
        pruner = SoftThresholdPruner(optimizer, ConstantThreshold(0.5), proximal=HardThreshold(), clip_pruned=3.0)
        scaler = GradScaler("cpu", init_scale=2.0**60)
        for step in range(40):
            optimizer.zero_grad()
            # First the scale comes down; in the end only rows that are pruned have a gradient, a large one.
            gradient = torch.tensor([[0.0], [1000.0]]) if step >= 30 else torch.ones(2, 1)
            loss = (weight * gradient.repeat_interleave(2, 0).flip(0)).sum()
            overflows = step < 25
            torch.autograd.backward(scaler.scale(loss * 2.0**80 if overflows else loss))
            if overflows:
                assert weight.grad is not None
                weight.grad[0, 0] = math.inf
            scaler.step(optimizer)
            scaler.update()
        end.append((weight.detach().clone(), pruner.step, pruner.state_dict()["usual"]))
    assert end[0][1:] == end[1][1:]
    assert torch.equal(end[0][0], end[1][0])
