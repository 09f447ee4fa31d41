"""Slayer's CUBA blocks as networks: slayer computes in the chip's integers, so even leaky neurons agree exactly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from hw_targets import emulate, export_netx, from_torch, load_chip, quantize, read_netx, spike_difference
from hw_targets.app.stages import to_network
from hw_targets.errors import UnsupportedModel
from hw_targets.targets.loihi.neuron import CubaLIF
from neuroprune import SoftThresholdPruner, count_synops
from neuroprune.frameworks import framework_of
from neuroprune.schedules import LATS
from neuroprune.training.data.images import as_input
from neuroprune.training.loop import predictor
from tests.twins.chip import run_slowly

pytest.importorskip("lava.lib.dl.slayer", reason="lava-dl is not installed")
from lava.lib.dl import slayer

pytestmark = pytest.mark.lava
LOIHI = load_chip("loihi1")
T = 12
NEURON = {"threshold": 1.25, "current_decay": 0.25, "voltage_decay": 0.1}


def dense(*sizes: int, **neuron: Any) -> nn.Sequential:
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


cuba = slayer.block.cuba


def pooled(kernel: Any, *, stride: Any = None, features: int, **options: Any) -> nn.Module:
    """Convolution, pool and two outputs; a pool's neurons fire at two spikes of a window."""
    pool = cuba.Pool({**NEURON, "threshold": 1.9}, kernel, stride, delay_shift=False, **options)
    first = cuba.Conv(NEURON, 2, 3, 3, padding=1, delay_shift=False)
    return nn.Sequential(first, pool, cuba.Flatten(), cuba.Dense(NEURON, features, 2, delay_shift=False)).eval()


POOLS: dict[str, Callable[[], tuple[nn.Module, tuple[int, ...]]]] = {
    "tiles": lambda: (pooled(2, features=27), (2, 6, 6)),
    "rectangles": lambda: (pooled((3, 2), features=18), (2, 6, 6)),
    "rows and columns left over": lambda: (pooled(2, features=27), (2, 5, 5)),
    "columns left over": lambda: (pooled((2, 4), features=18), (2, 6, 6)),
    "columns overlap and are padded": lambda: (
        pooled((2, 3), stride=(2, 2), padding=(0, 1), features=27), (2, 6, 6)
    ),
    "rows skipped": lambda: (pooled((2, 2), stride=(3, 2), features=18), (2, 6, 6)),
}  # fmt: skip


@pytest.mark.parametrize("build", POOLS.values(), ids=POOLS.keys())
def test_pools(build: Callable[[], tuple[nn.Module, tuple[int, ...]]]) -> None:
    model, shape = build()
    assert_bit_exact(excited(model, 1), events(shape, 1))


@pytest.mark.parametrize("seed", range(3))
def test_recurrent_blocks(seed: int, tmp_path: Path) -> None:
    blocks = (cuba.Recurrent(dict(NEURON), 20, 16, delay_shift=False), cuba.Dense(NEURON, 16, 5, delay_shift=False))
    model, x = excited(nn.Sequential(*blocks), seed), events((20,), seed)
    chip, inputs = quantize(from_torch(model, x), LOIHI), x.movedim(-1, 0).long()
    assert [s.name for s in chip.synapses if s.is_recurrent] == ["0.neuron→0.neuron"]
    model(x)  # leaves states behind, which reading and comparing must not start from
    assert spike_difference(model, chip, x).total == 0
    with torch.no_grad():
        spikes = blocks[0](x).movedim(-1, 0)
    assert 0 < spikes.mean() < 1
    np.testing.assert_array_equal(emulate(chip, inputs).spikes["0.neuron"], spikes)
    alone = replace(chip, synapses=tuple(s for s in chip.synapses if not s.is_recurrent))
    assert (emulate(alone, inputs).spikes["0.neuron"] != emulate(chip, inputs).spikes["0.neuron"]).any()
    export_netx(chip, tmp_path / "recurrent.net")
    np.testing.assert_array_equal(
        emulate(read_netx(tmp_path / "recurrent.net"), inputs).output, emulate(chip, inputs).output
    )


def test_average_is_a_readout() -> None:
    model = excited(nn.Sequential(*dense(20, 12), cuba.Average(4)), 0)
    x = events((20,), 0)
    network = from_torch(model, x)
    with torch.no_grad():
        means = model(x)
    assert means.shape == (3, 4, T)
    assert means.any()
    np.testing.assert_allclose(emulate(network, x.movedim(-1, 0)).output, means.sum(-1), rtol=1e-6)
    chip = quantize(network, LOIHI)
    scores = emulate(chip, x.movedim(-1, 0).long()).output / chip.scales["1"]
    np.testing.assert_allclose(scores, means.sum(-1), atol=0.02)


def test_affine_without_dynamics_is_a_readout() -> None:
    model = excited(nn.Sequential(*dense(20, 12), cuba.Affine(NEURON, 12, 4, dynamics=False)), 0)
    x = events((20,), 0)
    with torch.no_grad():
        currents = model(x)
    np.testing.assert_allclose(emulate(from_torch(model, x), x.movedim(-1, 0)).output, currents.sum(-1), rtol=1e-5)


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
    "counts": (lambda: nn.Sequential(*dense(20, 6), cuba.Average(3, count_log=True)), "count_log=False"),
    "winner takes all": (lambda: nn.Sequential(cuba.KWTA(NEURON, 20, 6, 2, delay_shift=False)), "use Recurrent"),
    "potentials": (lambda: nn.Sequential(cuba.Affine(NEURON, 20, 6)), "dynamics=False"),
    "neurons on the input": (
        lambda: nn.Sequential(cuba.Input(NEURON, delay_shift=False), *dense(20, 6)),
        "no neuron_params",
    ),
    "fewer steps": (lambda: nn.Sequential(cuba.TimeDecimation(2), *dense(20, 6)), "number of steps"),
    "transposed": (lambda: nn.Sequential(cuba.ConvT(NEURON, 2, 2, 2, delay_shift=False)), "use Conv"),
    "upsampling": (lambda: nn.Sequential(cuba.Unpool(NEURON, 2, delay_shift=False)), "use Conv"),
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


def test_pools_that_reach_from_one_channel_into_the_next_are_refused() -> None:
    """Slayer itself runs such a pool only where the number of windows happens to fit."""
    conv = cuba.Conv(NEURON, 2, 2, 3, padding=1, delay_shift=False)
    model = nn.Sequential(conv, cuba.Pool(NEURON, (3, 1), 1, delay_shift=False)).eval()
    with pytest.raises(
        UnsupportedModel, match=r"1\.synapse pools 6 rows.*from one channel into the next.*windows that"
    ):
        from_torch(model, events((2, 6, 6), 0))


def test_stages_show_an_image_in_every_step() -> None:
    model = excited(conv(), 0)
    pixels = (events((2, 6, 6), 0)[..., 0] * 255).to(torch.uint8)
    network = to_network(model, pixels, T)
    assert network.time_steps == T
    shown = as_input(pixels).unsqueeze(-1).expand(3, 2, 6, 6, T)
    difference = spike_difference(model, quantize(network, LOIHI), shown)
    assert difference.total == 0
    assert sum(difference.model.values()) > 0


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
    framework = framework_of(model)
    assert framework is not None
    assert all(framework.sends_spikes(m) for m in model.modules() if framework.is_neuron(m))


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
        used: Any = m
        weight = used._pre_hook_fx(m.weight)  # slayer multiplies with rounded weights
        assert counted[name].synops == int((per_source * (weight != 0).sum((0, 2, 3, 4))).sum()) > 0
        assert counted[name].dense == int(per_source.sum()) * len(m.weight)


def test_states_that_persist_are_reset() -> None:
    model = excited(dense(20, 16, persistent_state=True), 0)
    predict, images = predictor(model, T), torch.rand(3, 20)
    with torch.no_grad():
        assert torch.equal(predict(model, images), predict(model, images))
