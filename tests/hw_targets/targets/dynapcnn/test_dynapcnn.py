"""DYNAP-CNN's integers, spikes and memory against sinabs' own discretized layers, and the step against a loop."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from hw_targets import emulate, load_chip, place, quantize, remove_dead_neurons
from hw_targets.errors import InvalidNetwork, QuantizationError, UnsupportedModel
from hw_targets.ir.network import LIF, ChipNetwork, Conv2d, Network, Population, SpikeInput, Synapses
from hw_targets.placement.fit import check_fit
from hw_targets.targets.dynapcnn import memory
from hw_targets.targets.dynapcnn.core import cores_of
from hw_targets.targets.dynapcnn.dynamics.step import step
from hw_targets.targets.dynapcnn.neuron import IAF
from hw_targets.targets.dynapcnn.sinabs.check import SinabsUnavailable, backend, compare_with_sinabs, sinabs_layer
from hw_targets.targets.dynapcnn.target import DYNAPCNN
from neuroprune import keep_channels
from tests.builders.dynapcnn import MANY, Layer, network

SPECK = load_chip("speck")
CI = os.environ.get("CI") == "true"
NETWORKS, SLOW_NETWORKS, STEPS = 40, 2000, 8


@contextmanager
def required_in_ci() -> Iterator[None]:
    """Skip where sinabs is not installed, but never where CI=true."""
    try:
        yield
    except SinabsUnavailable as error:
        if CI:
            raise
        pytest.skip(str(error))


def discretized(one: Layer, shape: tuple[int, ...]) -> Any:
    """The float layer as sinabs itself makes integers of it."""
    layers, activation, dynapcnn_layer = backend()
    reset = activation.MembraneSubtract() if one.subtracts else activation.MembraneReset()
    spiking = layers.IAFSqueeze(
        spike_threshold=torch.tensor(one.threshold), reset_fn=reset, min_v_mem=one.v_min, batch_size=1
    )
    return dynapcnn_layer.DynapcnnLayer(one.conv, spiking, shape, [(1, 1)], discretize=True)


def events(seed: int, real: Network, samples: int = 1) -> Tensor:
    """Zeros and ones (T, N, C, H, W)."""
    rng = np.random.default_rng(seed)
    return torch.from_numpy((rng.random((STEPS, samples, *real.inputs[0].shape)) < 0.4).astype(np.float32))


def differing(seed: int) -> tuple[int, int]:
    """(neuron-steps that differ from sinabs, spikes) of a random network; its integers are compared, too."""
    real, layers = network(seed, STEPS)
    chip, shown = quantize(real, SPECK), events(seed, real)
    ours, theirs = emulate(chip, shown), shown[:, 0]
    different = spikes = 0
    for core, one in zip(cores_of(chip), layers, strict=True):
        pooled = torch.nn.functional.lp_pool2d(theirs, 1, one.pool)
        judge = discretized(one, tuple(pooled.shape[1:]))
        assert (core.kernel.pool, core.kernel.stride, core.kernel.padding) == (one.pool, one.stride, one.padding)
        np.testing.assert_array_equal(core.kernel.weight, judge.conv.weight.detach().numpy())
        if core.bias is not None:
            np.testing.assert_array_equal(core.bias, judge.conv.bias.detach().numpy())
        assert (core.neuron.v_threshold, core.neuron.v_min) == (judge.spk.spike_threshold, judge.spk.min_v_mem)
        with torch.no_grad():
            theirs = judge(pooled)
        words = memory.words(core, chip[core.name].shape)
        assert words._asdict() == {key: int(count) for key, count in judge.memory_summary().items()}
        mine = torch.from_numpy(ours.spikes[core.name][:, 0].astype(np.float32)).reshape(theirs.shape)
        different += int((mine != theirs).sum())
        spikes += int(theirs.sum())
    return different, spikes


def test_every_integer_and_spike_is_sinabs_own() -> None:
    with required_in_ci():
        found = [differing(seed) for seed in range(NETWORKS)]
    assert sum(count for count, _ in found) == 0
    assert sum(spikes for _, spikes in found) > 20_000
    assert sum(spikes > 0 for _, spikes in found) > NETWORKS // 2


@pytest.mark.slow
def test_every_integer_and_spike_of_many_networks() -> None:
    found, refused = [], 0
    with required_in_ci():
        for seed in range(1000, 1000 + SLOW_NETWORKS):
            try:
                found.append(differing(seed))
            except InvalidNetwork:
                refused += 1
    assert sum(count for count, _ in found) == 0
    assert sum(spikes for _, spikes in found) > 1_000_000
    assert refused < SLOW_NETWORKS // 50, "neurons that send more than 255 spikes a step"


def test_the_judge_compares_a_chip_network_with_sinabs() -> None:
    real, _ = network(6, STEPS)
    chip = quantize(real, SPECK)
    with required_in_ci():
        verdict = compare_with_sinabs(chip, events(6, real, samples=3))
    assert (verdict.samples, verdict.differences) == (3, 0)
    assert verdict.spikes > 100
    # A judge that sees nothing would say the same of anything.
    last = chip.populations[-1]
    assert isinstance(last.neuron, IAF)
    other = replace(last, neuron=replace(last.neuron, v_threshold=last.neuron.v_threshold + 7))
    changed = replace(chip, populations=(*chip.populations[:-1], other))
    assert compare_with_sinabs(changed, events(6, real)).differences == 0, "both run the changed integers"
    assert not np.array_equal(emulate(changed, events(6, real)).output, emulate(chip, events(6, real)).output)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(-400, 400), min_size=1, max_size=12), st.integers(1, 300), st.integers(-300, 0), st.booleans()
)
def test_a_step_is_one_spike_after_the_other(
    currents: list[int], v_threshold: int, v_min: int, subtracts: bool
) -> None:
    """Twin: one spike at a time, each taking the threshold off, as many as the potential holds."""
    v, potential = 0, torch.zeros(1, dtype=torch.int32)
    for current in currents:
        v += current
        left, count = v, 0
        while left >= v_threshold:
            left, count = left - v_threshold, count + 1
        v = max(left if subtracts or not count else 0, v_min)
        sent, potential = step(
            potential, torch.tensor([current]), v_threshold=v_threshold, v_min=v_min, subtracts=subtracts
        )
        assert (int(sent), int(potential)) == (count, v)


def small(**changes: Any) -> Network:
    """One layer of one neuron on one input."""
    neuron: dict[str, Any] = {"reset": "subtract", "max_spikes": MANY, "v_min": -1.0} | changes
    populations = (Population("in", (1, 1, 1), SpikeInput()), Population("n", (1, 1, 1), LIF(1.0, **neuron)))
    return Network(populations, (Synapses("in", "n", Conv2d(np.ones((1, 1, 1, 1)))),), time_steps=3)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"v_decay": 0.5}, "n leaks"),
        ({"max_spikes": 1}, "a spike for every multiple of the threshold"),
        ({"reset": "none"}, "never resets"),
        ({"strict": True}, "above its threshold alone"),
    ],
)
def test_other_neurons_are_refused_by_name(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UnsupportedModel, match=said):
        quantize(small(**changes), SPECK)


def test_what_a_core_cannot_hold_is_refused_by_name() -> None:
    one = small()
    wide = Conv2d(np.ones((1, 1, 1, 3)), padding=(0, 1))
    with pytest.raises(UnsupportedModel, match="n has no square kernel"):
        quantize(replace(one, synapses=(Synapses("in", "n", wide),)), SPECK)
    grouped = Conv2d(np.ones((2, 1, 1, 1)), groups=2)
    populations = (Population("in", (2, 1, 1), SpikeInput()), replace(one.populations[1], shape=(2, 1, 1)))
    with pytest.raises(UnsupportedModel, match="n has 2 groups"):
        quantize(replace(one, populations=populations, synapses=(Synapses("in", "n", grouped),)), SPECK)
    loud = Conv2d(np.full((1, 1, 1, 1), 1e6))
    with pytest.raises(QuantizationError, match="rounds to 0"):
        quantize(replace(one, synapses=(Synapses("in", "n", loud),)), SPECK)


def test_more_spikes_than_are_counted_are_an_error() -> None:
    chip = quantize(small(), SPECK)
    n = chip.populations[1]
    quiet = replace(chip, populations=(chip.populations[0], replace(n, neuron=IAF(1))))
    many = replace(quiet, synapses=(replace(chip.synapses[0], op=Conv2d(np.full((1, 1, 1, 1), 300, np.int32))),))
    with pytest.raises(InvalidNetwork, match="300 spikes in step 0"):
        emulate(many, np.ones((1, 1, 1, 1), np.uint8))


def test_potentials_that_16_bits_do_not_hold_are_noted() -> None:
    chip = quantize(small(v_min=None), SPECK)
    falling = replace(chip, synapses=(replace(chip.synapses[0], op=Conv2d(np.full((1, 1, 1, 1), -128, np.int32))),))
    falling = replace(falling, time_steps=300)
    activity = emulate(falling, np.ones((1, 1, 1, 1), np.uint8))
    assert activity.overflows["n"] == 300 - 256


def sinabs_of(held: Any, name: str, shown: Tensor) -> Tensor:
    """What sinabs' layer with a file's integers sends."""
    layers, activation, dynapcnn_layer = backend()
    kernel, numbers = held[f"{name}.weight"], {k: int(held[f"{name}.{k}"]) for k in ("stride", "padding", "pool")}
    conv = torch.nn.Conv2d(kernel.shape[1], len(kernel), kernel.shape[2], numbers["stride"], numbers["padding"])
    assert conv.bias is not None
    conv.weight.data = torch.from_numpy(kernel.astype(np.float32))
    conv.bias.data = torch.from_numpy(held[f"{name}.bias"].astype(np.float32))
    spiking = layers.IAFSqueeze(
        spike_threshold=torch.tensor(float(held[f"{name}.threshold_high"])),
        min_v_mem=float(held[f"{name}.threshold_low"]),
        reset_fn=activation.MembraneReset() if held[f"{name}.return_to_zero"] else activation.MembraneSubtract(),
        batch_size=1,
    )
    pooled = torch.nn.functional.lp_pool2d(shown, 1, numbers["pool"])
    judge = dynapcnn_layer.DynapcnnLayer(conv, spiking, pooled.shape[1:], [(1, 1)], discretize=False)
    with torch.no_grad():
        sent: Tensor = judge(pooled)
    return sent


def test_from_a_network_to_cores_and_a_file(tmp_path: Path) -> None:
    real, layers = network(6, STEPS)
    shown = events(6, real)
    found = quantize(real, SPECK)
    assert place(found, SPECK).core_count == len(layers)
    smaller = remove_dead_neurons(found)
    assert np.array_equal(emulate(smaller, shown).output, emulate(found, shown).output)
    assert place(smaller, SPECK).core_count <= len(layers)
    DYNAPCNN.exporters["npz"](found, tmp_path / "model.npz")
    with required_in_ci(), np.load(tmp_path / "model.npz") as held:
        assert list(held["layers"]) == [f"n{i}" for i in range(len(layers))]
        sent = shown[:, 0]
        for name in held["layers"]:
            sent = sinabs_of(held, name, sent)
    assert np.array_equal(sent.sum(0).flatten().numpy(), emulate(found, shown).output[0])


def real_of(model: nn.Sequential) -> Network:
    """A network of convolutions with sinabs' neurons behind them, on 16 channels of 6×6, each map 4×4 and so on."""
    populations, synapses = [Population("in", (16, 6, 6), SpikeInput())], []
    for index, conv in enumerate(model):
        assert isinstance(conv, nn.Conv2d)
        source = populations[-1]
        side = source.shape[1] - conv.kernel_size[0] + 1
        neuron = LIF(1.0, reset="subtract", max_spikes=MANY, v_min=-1.0)
        assert conv.bias is not None
        populations.append(Population(f"n{index}", (conv.out_channels, side, side), neuron, conv.bias.detach().numpy()))
        synapses.append(Synapses(source.name, f"n{index}", Conv2d(conv.weight.detach().double().numpy())))
    return Network(tuple(populations), tuple(synapses), time_steps=STEPS)


def sinabs_words(network: ChipNetwork) -> dict[str, dict[str, int]]:
    """Each layer's memory as sinabs itself sums it up."""
    shapes = {core.name: (core.kernel.weight.shape[1], *core.source_shape[1:]) for core in cores_of(network)}
    layers = {core.name: sinabs_layer(core, shapes[core.name]) for core in cores_of(network)}
    return {name: {key: int(n) for key, n in layer.memory_summary().items()} for name, layer in layers.items()}


#: Of nir 1.0.4, the fields that each node's class takes, and no others (nir/ir/*.py; it refuses what it does not know).
FIELDS_OF_1_0_4 = {
    "Input": {"shape"},
    "Output": {"shape"},
    "Conv2d": {"input_shape", "weight", "stride", "padding", "dilation", "groups", "bias"},
    "IF": {"r", "v_threshold"},
    "SumPool2d": {"kernel_size", "stride", "padding"},
}


def as_sinabs_loads(network: Network) -> Network:
    """The same with neurons that subtract, and a bound of −threshold."""
    populations = [
        p if p.lif is None else replace(p, neuron=replace(p.lif, reset="subtract", v_min=-p.lif.v_threshold))
        for p in network.populations
    ]
    return replace(network, populations=tuple(populations))


@pytest.mark.parametrize("seed", range(8))
def test_sinabs_loads_the_nir_file_and_sends_the_same_spikes(seed: int, tmp_path: Path) -> None:
    nir = pytest.importorskip("nir")
    real = as_sinabs_loads(network(seed, STEPS)[0])
    chip, shown = quantize(real, SPECK), events(seed, real)
    DYNAPCNN.exporters["nir"](chip, tmp_path / "model.nir")
    with required_in_ci():
        backend()
        from sinabs.nir import from_nir

        model = from_nir(nir.read(tmp_path / "model.nir"), batch_size=1)
    with torch.no_grad():
        found = model(shown[:, 0])
    theirs = found[0] if isinstance(found, tuple) else found
    assert np.array_equal(theirs.sum(0).flatten().numpy(), emulate(chip, shown).output[0].flatten())
    spikes = emulate(chip, shown).spikes[chip.outputs[0].name][:, 0]
    assert np.array_equal(theirs.reshape(STEPS, -1).numpy(), spikes.reshape(STEPS, -1))


def test_the_nir_file_holds_what_nir_1_0_4_takes(tmp_path: Path) -> None:
    """It was read by nir 1.0.4 and sinabs beside nirtorch 1.0, too, which cannot stand beside the newer ones here."""
    h5py = pytest.importorskip("h5py")
    chip = quantize(as_sinabs_loads(network(6, STEPS)[0]), SPECK)
    DYNAPCNN.exporters["nir"](chip, tmp_path / "model.nir")
    with h5py.File(tmp_path / "model.nir") as file:
        assert file["version"][()] == b"1.0.4"
        assert set(file["node"]) == {"type", "nodes", "edges"}
        kinds = {name: node["type"][()].decode() for name, node in file["node/nodes"].items()}
        for name, kind in kinds.items():
            assert set(file["node/nodes"][name]) == FIELDS_OF_1_0_4[kind] | {"type"}
        joined = [tuple(part.decode() for part in edge) for edge in file["node/edges"][()]]
    assert {name for edge in joined for name in edge} == set(kinds)
    assert len(joined) == len(kinds) - 1
    assert set(kinds.values()) == set(FIELDS_OF_1_0_4)


def test_neurons_that_sinabs_has_no_place_for_in_nir_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match="n's neurons reset to zero, but sinabs reads NIR's as subtracting"):
        DYNAPCNN.exporters["nir"](quantize(small(reset="zero"), SPECK), tmp_path / "model.nir")
    with pytest.raises(UnsupportedModel, match=r"n's neurons are cut off at -\d+, but .* or export npz"):
        DYNAPCNN.exporters["nir"](quantize(small(v_min=-0.5), SPECK), tmp_path / "model.nir")
    assert not (tmp_path / "model.nir").exists()


def test_channels_that_training_leaves_out_are_words_saved() -> None:
    """33 outputs of 3×3 on 16 channels cost 16·2^(4 + 6) words, and 32 half of that; the next layer hears one less."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(16, 33, 3), nn.Conv2d(33, 4, 4))
    whole = quantize(real_of(model), SPECK)
    kept = keep_channels(model[0])
    pruned = quantize(real_of(model), SPECK)
    small = remove_dead_neurons(pruned)
    with required_in_ci():
        before, masked, after = (sinabs_words(chip) for chip in (whole, pruned, small))
    assert before["n0"]["kernel"] == masked["n0"]["kernel"] == 16384, "zeros alone save nothing"
    assert after["n0"] == {"kernel": 8192, "neuron": 32 * 16, "bias": 32}
    assert (before["n1"]["kernel"], after["n1"]["kernel"]) == (33 * 2 ** (4 + 2), 32 * 2 ** (4 + 2))
    for chip, theirs in ((whole, before), (pruned, masked), (small, after)):
        mine = {core.name: memory.words(core, chip[core.name].shape)._asdict() for core in cores_of(chip)}
        assert mine == theirs
    shown = events(0, real_of(model))
    sent = emulate(pruned, shown).spikes["n0"]
    assert not sent[:, :, ~kept.numpy()].any()
    assert sent.any()
    assert np.array_equal(emulate(small, shown).output, emulate(pruned, shown).output)


def test_fit_says_what_fewer_channels_save() -> None:
    found = check_fit(real_of(nn.Sequential(nn.Conv2d(16, 33, 3), nn.Conv2d(33, 4, 4))), SPECK)
    assert [row.excess for row in found] == [0, 0]
    (said,) = found.savings
    assert said.startswith("n0: 33 outputs cost as 64; at 32 you save 8,192 words of kernel memory")
    exact = real_of(nn.Sequential(nn.Conv2d(16, 32, 3), nn.Conv2d(32, 5, 4)))
    assert check_fit(exact, SPECK).savings == (), "five outputs are five classes"
    assert check_fit(real_of(nn.Sequential(nn.Conv2d(16, 33, 3))), load_chip("loihi1")).savings == ()
    chip = quantize(real_of(nn.Sequential(nn.Conv2d(16, 33, 3), nn.Conv2d(33, 4, 4))), SPECK)
    activity = emulate(chip, events(0, exact))
    assert DYNAPCNN.remarks(chip, activity, SPECK) == (said,)
