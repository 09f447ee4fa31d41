"""Rows of gradients that a batch-norm blows up: limited to what the other rows have, and nothing else is touched."""

from __future__ import annotations

import copy
import statistics

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.optim import SGD

from neuroprune import HardThreshold, SoftThresholdPruner, SparsityRamp, prune_to
from neuroprune.pruning.clipping import clip_rows_


def clipped(gradient: Tensor, weight: Tensor, multiple: float) -> Tensor:
    """Row by row."""
    norms = [float(row.norm()) for row in gradient]
    live = [n for n, w in zip(norms, weight, strict=True) if n > 0 and bool(w.any())] or [n for n in norms if n > 0]
    if not live:
        return gradient.clone()
    limit = multiple * statistics.median_low(live)
    return torch.stack([row * min(1.0, limit / n) if n > 0 else row for row, n in zip(gradient, norms, strict=True)])


@given(
    seed=st.integers(0, 10**6),
    shape=st.sampled_from([(1, 3), (6, 4), (7, 2, 3, 3), (5, 2, 2)]),
    multiple=st.sampled_from([1.5, 3.0, 10.0]),
    empty=st.floats(0, 1),
    silent=st.floats(0, 1),
)
@settings(max_examples=60, deadline=None)
def test_each_row_has_at_most_a_multiple_of_the_median(
    seed: int, shape: tuple[int, ...], multiple: float, empty: float, silent: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    rows = (shape[0], *[1] * (len(shape) - 1))
    gradient = torch.randn(shape, generator=generator) * 10 ** (4 * torch.rand(rows, generator=generator))
    gradient = gradient * (torch.rand(rows, generator=generator) >= silent)
    weight = torch.randn(shape, generator=generator) * (torch.rand(rows, generator=generator) >= empty)
    wanted = clipped(gradient, weight, multiple)
    clip_rows_(gradient, weight, multiple)
    torch.testing.assert_close(gradient, wanted, rtol=1e-5, atol=0)


def test_an_ordinary_gradient_stays_bit_for_bit() -> None:
    torch.manual_seed(0)
    gradient = torch.randn(20, 5)
    before = gradient.clone()
    clip_rows_(gradient, torch.randn(20, 5))
    assert torch.equal(gradient, before)


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
    for clip in (None, 10.0):
        net, x = emptied()
        optimizer = SGD(net.parameters(), 0.1)
        ramp = SparsityRamp(0.3, 4, every=1)
        pruner = SoftThresholdPruner(optimizer, ramp, proximal=HardThreshold(), clip_rows=clip)
        net(x).square().sum(1).mean().backward()
        optimizer.step()
        latent = pruner.state_dict()["latents"][0]
        others = torch.cat([latent[:2], latent[3:]])
        reach[clip] = float(latent[2].norm() / others.norm(dim=1).max())
    assert reach[None] > 10.0
    assert reach[10.0] < 2.0


def test_a_pruner_equals_the_loop_by_hand() -> None:
    net, x = emptied()
    twin = copy.deepcopy(net)
    optimizer, plain = SGD(net.parameters(), 0.05, momentum=0.9), SGD(twin.parameters(), 0.05, momentum=0.9)
    pruner = prune_to(0.6, optimizer, steps=12)
    latents = {p: p.detach().clone() for p in twin.parameters() if p.dim() > 1}
    for _ in range(12):
        for model, stepped in ((net, optimizer), (twin, plain)):
            stepped.zero_grad()
            model(x).square().sub(1).square().sum(1).mean().backward()
            if model is twin:
                with torch.no_grad():
                    for p, theta in latents.items():
                        assert p.grad is not None
                        p.grad.copy_(clipped(p.grad, p.detach(), 10.0))
                        p.copy_(theta)
            stepped.step()
        with torch.no_grad():
            for p in latents:
                latents[p] = p.detach().clone()
                p.copy_(torch.where(p.abs() > pruner.threshold, p, torch.zeros_like(p)))
    for mine, other in zip(net.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-6)
    assert pruner.sparsity() == pytest.approx(0.6, abs=0.01)


@pytest.mark.parametrize("multiple", [1.0, 0.0, -3.0, float("nan"), float("inf")])
def test_no_limit_is_refused(multiple: float) -> None:
    net, _ = emptied()
    with pytest.raises(ValueError, match="clip_rows must be a finite number above 1"):
        SoftThresholdPruner(SGD(net.parameters(), 0.1), SparsityRamp(0.5, 4), clip_rows=multiple)
