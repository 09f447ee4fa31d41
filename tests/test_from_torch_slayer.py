"""Slayer's CUBA blocks as networks: slayer computes in the chip's integers, so even leaky neurons agree exactly."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_chip import run_slowly
from torch import Tensor, nn

from hw_targets import emulate, from_torch, load_chip, quantize, spike_difference
from hw_targets.errors import UnsupportedModel
from hw_targets.network import CubaLIF
from neuroprune import SoftThresholdPruner, count_synops
from neuroprune.backends import backend_of
from neuroprune.schedules import LATS
from neuroprune.training import predictor

pytest.importorskip("lava.lib.dl.slayer", reason="lava-dl is not installed")
from lava.lib.dl import slayer

pytestmark = pytest.mark.lava
LOIHI = load_chip("loihi1")
T = 12
NEURON = {"threshold": 1.25, "current_decay": 0.25, "voltage_decay": 0.1}


def dense(*sizes: int, **neuron: Any) -> nn.Module:
    params = {**NEURON, **neuron}
    blocks = [slayer.block.cuba.Dense(params, a, b, delay_shift=False) for a, b in pairwise(sizes)]
    return nn.Sequential(*blocks)


def conv(**neuron: Any) -> nn.Module:
    params = {**NEURON, **neuron}
    cuba = slayer.block.cuba
    return nn.Sequential(
        cuba.Conv(params, 2, 4, 3, padding=1, stride=2, delay_shift=False),
        cuba.Conv(params, 4, 4, 3, padding=1, groups=2, delay_shift=False),
        cuba.Flatten(),
        cuba.Dense(params, 36, 5, delay_shift=False),
    )


def excited(model: nn.Module, seed: int, *, largest: float = 1.9) -> nn.Module:
    """Random weights that make neurons fire; |w| · 64 ≤ 127, the chip's 8 bits."""
    generator = torch.Generator().manual_seed(seed)
    for m in model.modules():
        if isinstance(m, nn.Conv3d):
            size = (3.0 / m.weight[0].numel()) ** 0.5
            values = (torch.rand(m.weight.shape, generator=generator) - 0.35) * 2 * size
            m.weight.data = values.clamp(-largest, largest)
    return model.eval()


def events(shape: tuple[int, ...], seed: int) -> Tensor:
    """(N, …, T) spikes, time last."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(3, *shape, T, generator=generator) < 0.3).float()


def assert_bit_exact(model: nn.Module, x: Tensor) -> None:
    """Through `quantize`: the chip's integers against slayer's own forward pass, all layers, every step."""
    chip = quantize(from_torch(model, x), LOIHI)
    assert chip.time_steps == T
    assert chip.notes == ()
    assert {scale for name, scale in chip.scales.items() if not chip[name].is_input} == {64.0}
    seen: dict[str, Tensor] = {}
    handles = [
        m.register_forward_hook(lambda _m, _i, out, name=name: seen.__setitem__(name, out))
        for name, m in model.named_modules()
        if isinstance(m, slayer.neuron.cuba.Neuron)
    ]
    with torch.no_grad():
        model(x)
    for handle in handles:
        handle.remove()
    inputs = x.movedim(-1, 0).long()
    ours, twin = emulate(chip, inputs), run_slowly(chip, inputs.numpy())
    assert seen
    for name, spikes in seen.items():
        expected = spikes.movedim(-1, 0).long().numpy()
        assert 0 < expected.mean() < 1, f"{name} never or always fires: the test shows nothing"
        np.testing.assert_array_equal(ours.spikes[name], expected.reshape(ours.spikes[name].shape), err_msg=name)
        np.testing.assert_array_equal(twin.spikes[name], ours.spikes[name], err_msg=name)
    assert spike_difference(model, chip, x).total == 0


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    current_decay=st.sampled_from([0.05, 0.25, 0.77, 1.0]),
    voltage_decay=st.sampled_from([0.0, 0.03, 0.5]),
    threshold=st.sampled_from([0.5, 1.0, 1.37]),
)
def test_dense_blocks_spike_exactly_as_the_chip(
    seed: int, current_decay: float, voltage_decay: float, threshold: float
) -> None:
    neuron = {"threshold": threshold, "current_decay": current_decay, "voltage_decay": voltage_decay}
    model = excited(dense(20, 16, 6, **neuron), seed)
    x = events((20,), seed)
    chip = quantize(from_torch(model, x), LOIHI)
    difference = spike_difference(model, chip, x)
    assert difference.total == 0
    assert sum(difference.model.values()) > 0
    first = chip["0.neuron"].neuron
    assert isinstance(first, CubaLIF)
    assert first == CubaLIF(int(threshold * 64), round(voltage_decay * 4096), round(current_decay * 4096))


@pytest.mark.parametrize("seed", range(2))
def test_convolutions_strides_groups_and_flatten(seed: int) -> None:
    assert_bit_exact(excited(conv(), seed), events((2, 6, 6), seed))


def test_dense_layers_in_every_step() -> None:
    assert_bit_exact(excited(dense(20, 16, 6), 1), events((20,), 1))


def test_weights_beyond_8_bits_are_rounded_on_another_scale() -> None:
    model = excited(dense(20, 16), 0)
    dict(model.named_parameters())["0.synapse.weight"].data[0, 0] = 3.5
    chip = quantize(from_torch(model, events((20,), 0)), LOIHI)
    assert 0 < chip.scales["0.neuron"] < 127 / 3.5
    assert max(int(np.abs(s.op.weight).max()) for s in chip.synapses) <= 127


def shifted() -> nn.Module:
    return nn.Sequential(slayer.block.cuba.Dense(NEURON, 20, 6))


def delayed() -> nn.Module:
    return nn.Sequential(slayer.block.cuba.Dense(NEURON, 20, 6, delay_shift=False, delay=True))


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "delay_shift": (shifted, "block.delay_shift = False"),
    "axonal delays": (delayed, "delay=False"),
    "graded spikes": (lambda: dense(20, 6, graded_spike=True), "graded_spike=False"),
    "normalised current": (lambda: dense(20, 6, norm=slayer.neuron.norm.MeanOnlyBatchNorm), "weight_norm=True"),
    "decays per channel": (lambda: dense(20, 6, shared_param=False), "shared_param=True"),
    "other neurons": (
        lambda: nn.Sequential(
            slayer.block.rf_iz.Dense({"threshold": 1, "period": 8, "decay": 0.1}, 20, 6, delay_shift=False)
        ),
        "cuba",
    ),
}


@pytest.mark.parametrize(("build", "says"), REFUSED.values(), ids=REFUSED.keys())
def test_refused_with_what_to_do(build: Callable[[], nn.Module], says: str) -> None:
    with pytest.raises(UnsupportedModel) as caught:
        from_torch(build(), events((20,), 0))
    assert str(caught.value).startswith("from_torch: ")
    assert says in str(caught.value)


def test_prediction_and_pruning() -> None:
    torch.manual_seed(0)
    model = excited(conv(), 0).train()
    images = torch.rand(6, 2, 6, 6)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    pruner = SoftThresholdPruner(optimizer, LATS(l1=0.05))
    predict = predictor(model, T)
    for _ in range(5):
        scores = predict(model, images)
        assert scores.shape == (6, 5)
        nn.functional.cross_entropy(scores, torch.arange(6) % 5).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
    pruner.finalize()
    zeros = [int((m.weight == 0).sum()) for m in model.modules() if isinstance(m, nn.Conv3d)]
    assert min(zeros) > 0
    backend = backend_of(model)
    assert backend is not None
    assert all(backend.sends_spikes(m) for m in model.modules() if backend.is_neuron(m))


@pytest.mark.parametrize(("build", "shape"), [(lambda: dense(20, 16, 6), (20,)), (conv, (2, 6, 6))])
def test_synops_of_dense_blocks(build: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    model, x = excited(build(), 0), events(shape, 0)
    synapses = {n: m for n, m in model.named_modules() if isinstance(m, nn.Conv3d) and m.weight.shape[2] == 1}
    sent: dict[str, Tensor] = {}
    for name, m in synapses.items():
        m.weight.data[:, ::3] = 0.0
        m.register_forward_pre_hook(lambda _, inputs, name=name: sent.__setitem__(name, inputs[0]))
    counted = count_synops(model, x).layers
    assert synapses
    for name, m in synapses.items():
        per_source = sent[name].sum((0, 2))
        assert counted[name].kind == "spikes"
        assert counted[name].synops == int((per_source * (m.weight != 0).sum((0, 2, 3, 4))).sum()) > 0
        assert counted[name].dense == int(per_source.sum()) * len(m.weight)


def test_states_that_persist_are_reset() -> None:
    model = excited(dense(20, 16, persistent_state=True), 0)
    predict, images = predictor(model, T), torch.rand(3, 20)
    with torch.no_grad():
        assert torch.equal(predict(model, images), predict(model, images))
