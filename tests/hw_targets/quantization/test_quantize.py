"""Real weights to integers: zeros, limits, shared thresholds, and what the integers compute."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw_targets import emulate
from hw_targets.chips.chip import Chip
from hw_targets.errors import InvalidNetwork, QuantizationError
from hw_targets.ir.network import LIF, Accumulator, Dense, GradedInput, Network, Population, SpikeInput, Synapses
from hw_targets.quantization.quantize import dequantize, quantize
from hw_targets.targets.loihi.netx.layers import assign_layers
from hw_targets.targets.loihi.netx.relays import insert_relays
from hw_targets.targets.loihi.neuron import CubaLIF
from hw_targets.targets.registry import load_chip
from tests.builders.quantized import assert_inside_the_chip, pixels, sew
from tests.twins.chip import current_bounds, run_slowly

LOIHI = load_chip("loihi1")


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    size=st.sampled_from([1e-4, 0.1, 1.0, 8.0]),
    decay=st.sampled_from([0.0, 0.5, 0.1]),
    steps=st.integers(1, 8),
    graded=st.booleans(),
)
def test_integers_stay_inside_the_chip_and_zeros_stay_zero(
    seed: int, size: float, decay: float, steps: int, graded: bool
) -> None:
    network = sew(seed, decay=decay, size=size, steps=steps, graded=graded)
    chip = quantize(network, LOIHI)
    assert_inside_the_chip(chip)
    for real, integer in zip(network.synapses, chip.synapses, strict=True):
        assert not integer.op.weight[real.op.weight == 0].any()
        assert (np.sign(integer.op.weight) * np.sign(real.op.weight) >= 0).all()
    for p, q in zip(network.populations, chip.populations, strict=True):
        assert (p.name, p.shape) == (q.name, q.shape)
        if p.bias is not None:
            assert q.bias is not None
            assert not q.bias[p.bias == 0].any()
    assert (chip.chip, chip.time_steps) == ("loihi1", steps)
    assert set(chip.scales) == {p.name for p in chip.populations}


@pytest.mark.parametrize("width", [60, 200, 1000])
@pytest.mark.parametrize("weight", [0.4, 0.5, 0.6])
def test_full_currents_of_wide_layers_stay_below_2_to_the_17(width: int, weight: float) -> None:
    """Bright pixels with equal weights: the current binds, and rounding moves all weights the same way."""
    wide = Network(
        (
            Population("in", (width,), GradedInput()),
            Population("n", (2,), LIF(40.0)),
            Population("out", (2,), Accumulator(), np.array([3.0, -3.0])),
        ),
        (
            Synapses("in", "n", Dense(np.stack([np.full(width, weight), np.full(width, -weight)]))),
            Synapses("n", "out", Dense(np.eye(2))),
        ),
        time_steps=8,
    )
    if 255 * width >= 1 << 17:
        # Not even weights of 1 fit: to say so is right, to round all weights to zero is not.
        with pytest.raises(QuantizationError, match=r"\bn\b"):
            quantize(wide, LOIHI)
        return
    chip = quantize(wide, LOIHI)
    assert_inside_the_chip(chip)
    assert chip.synapses[0].op.weight.any(), "all weights were rounded to zero without a word"


@pytest.mark.parametrize("steps", [1, 8, 64])
def test_a_readout_holds_the_sum_of_all_steps(steps: int) -> None:
    """An accumulator's 24 bits hold the whole sample: 300 spikes of weight 1 and a bias in every step."""
    readout = Network(
        (Population("in", (300,), SpikeInput()), Population("out", (2,), Accumulator(), np.array([20.0, -20.0]))),
        (Synapses("in", "out", Dense(np.stack([np.ones(300), -np.ones(300)]))),),
        time_steps=steps,
    )
    chip = quantize(readout, LOIHI)
    assert_inside_the_chip(chip)
    activity = emulate(chip, np.ones((1, 300), np.int64))
    assert activity.overflows == {"out": 0}
    assert activity.output.tolist() == [[current_bounds(chip, chip["out"])[1] * steps] * 1 + [-activity.output[0, 0]]]


def test_the_largest_weight_or_bias_uses_the_chips_range() -> None:
    narrow = Network(
        (Population("in", (2,), SpikeInput()), Population("n", (2,), LIF(1.0))),
        (Synapses("in", "n", Dense(np.array([[0.5, -0.25], [0.1, 0.0]]))),),
    )
    chip = quantize(narrow, LOIHI)
    assert np.abs(chip.synapses[0].op.weight).max() == 127
    scale = chip.scales["n"]
    np.testing.assert_array_equal(chip.synapses[0].op.weight, np.rint(narrow.synapses[0].op.weight * scale))
    many = Network(
        (Population("in", (200,), SpikeInput()), Population("n", (1,), LIF(1.0), np.array([0.9]))),
        (Synapses("in", "n", Dense(np.tile([0.005, -0.005], (1, 100)))),),
    )
    bias = quantize(many, LOIHI)["n"].bias
    assert bias is not None
    assert 3900 < bias[0] <= 4095


def test_thresholds_of_layer_mates_are_one() -> None:
    for seed in range(5):
        network = sew(seed)
        chip = quantize(network, LOIHI, for_format="netx")
        layers = assign_layers(chip)
        for number in set(layers.values()):
            mates = {p.neuron for p in chip.populations if layers[p.name] == number and isinstance(p.neuron, CubaLIF)}
            assert len(mates) <= 1
        assert layers["cut"] in (layers["b1"], layers["b2"])
        assert layers == assign_layers(network), "quantizing does not move populations"


@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_layers_with_relays_fire_at_or_below_the_largest_weight(decay: float) -> None:
    chip = quantize(sew(1, decay=decay, size=0.05), LOIHI, for_format="netx")
    relayed = insert_relays(chip)
    added = [p for p in relayed.populations if "@" in p.name]
    assert added
    for p in added:
        (synapse,) = relayed.incoming(p.name)
        weight = int(np.abs(synapse.op.weight).max())
        assert isinstance(p.neuron, CubaLIF)
        assert p.neuron.v_threshold < weight <= 127
        assert p.bias is None
    assert_inside_the_chip(relayed)


@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_a_threshold_is_reached_by_exactly_its_value(decay: float) -> None:
    """v ≥ θ for IF neurons, also where the sum of integers equals θ."""
    network = Network(
        (Population("in", (1,), SpikeInput()), Population("n", (1,), LIF(1.0, decay))),
        (Synapses("in", "n", Dense(np.array([[0.5]]))),),
        time_steps=4,
    )
    chip = quantize(network, LOIHI)
    real = emulate(network, np.ones((1, 1), np.int64)).spikes["n"].ravel()
    if decay == 0.0:
        assert real.tolist() == [0, 1, 0, 1]
        assert emulate(chip, np.ones((1, 1), np.int64)).spikes["n"].ravel().tolist() == [0, 1, 0, 1]
    else:
        # 0.5, 0.75, 0.875 … never reaches 1, in reals or in integers.
        assert emulate(chip, np.ones((1, 1), np.int64)).spikes["n"].sum() == real.sum() == 0


@pytest.mark.parametrize("tau", [2.0, 3.0, 100.0, 1.0])
def test_decays_are_counted_in_4096ths(tau: float) -> None:
    network = sew(0, decay=1 / tau)
    neuron = quantize(network, LOIHI)["stem"].neuron
    assert isinstance(neuron, CubaLIF)
    assert neuron.v_decay == round(4096 / tau)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), graded=st.booleans())
def test_dequantized_if_networks_spike_as_their_integers(seed: int, graded: bool) -> None:
    chip = quantize(sew(seed, graded=graded), LOIHI)
    real = dequantize(chip)
    images = pixels(chip, seed=seed)
    integers, reals = emulate(chip, images), emulate(real, images)
    for name, spikes in integers.spikes.items():
        np.testing.assert_array_equal(reals.spikes[name], spikes, err_msg=name)
    np.testing.assert_allclose(reals.output * chip.scales["out"], integers.output, rtol=1e-9, atol=1e-6)


def test_integers_compute_nearly_what_the_reals_do() -> None:
    """Eight bits keep most spikes; the twin agrees on the integers."""
    network = sew(8)
    chip = quantize(network, LOIHI)
    images = pixels(network)
    real, integer, slow = emulate(network, images), emulate(chip, images), run_slowly(chip, images)
    for name in ("stem", "a1", "a2", "b1", "b2", "cut"):
        assert 0 < real.spikes[name].mean() < 1
        assert (real.spikes[name] != integer.spikes[name]).mean() < 0.05
        np.testing.assert_array_equal(integer.spikes[name], slow.spikes[name])
    np.testing.assert_array_equal(integer.output, slow.output)


def test_all_zero_weights_are_no_error() -> None:
    network = sew(0)
    zero = replace(
        network,
        populations=tuple(replace(p, bias=None) for p in network.populations),
        synapses=tuple(replace(s, op=replace(s.op, weight=s.op.weight * 0)) for s in network.synapses),
    )
    chip = quantize(zero, LOIHI)
    assert_inside_the_chip(chip)
    assert not any(s.op.weight.any() for s in chip.synapses)
    activity = emulate(chip, pixels(zero))
    assert all(not s.any() for name, s in activity.spikes.items() if name != "in")
    assert not activity.output.any()


def test_values_far_above_the_threshold_are_refused_by_name() -> None:
    network = sew(0)
    synapses = tuple(
        replace(s, op=replace(s.op, weight=s.op.weight * 1e6)) if s.target == "a1" else s for s in network.synapses
    )
    with pytest.raises(
        QuantizationError, match=r"quantize: a1's threshold.*output channel \d has a weight of"
    ) as caught:
        quantize(replace(network, synapses=synapses), LOIHI)
    assert "\n" not in str(caught.value)


def test_a_chip_without_weight_bits_is_refused() -> None:
    with pytest.raises(QuantizationError, match=r"bare does not state weight_bits, bias_mantissa_bits"):
        quantize(sew(0), Chip("bare", cores_per_chip=1, neurons_per_core=1, target=LOIHI.target))


@pytest.mark.parametrize("bits", [4, 6])
def test_narrower_weights(bits: int) -> None:
    chip = quantize(sew(0), replace(LOIHI, weight_bits=bits), for_format="netx")
    largest = max(int(np.abs(s.op.weight).max()) for s in chip.synapses)
    assert largest == 2 ** (bits - 1) - 1
    assert not chip.notes
    assert any("@" in p.name for p in insert_relays(chip).populations)
    for s in insert_relays(chip).synapses:
        assert np.abs(s.op.weight).max() <= 2 ** (bits - 1) - 1


def test_quantize_leaves_the_network_alone() -> None:
    network = sew(0)
    before = [s.op.weight.copy() for s in network.synapses]
    quantize(network, LOIHI)
    for weight, s in zip(before, network.synapses, strict=True):
        np.testing.assert_array_equal(weight, s.op.weight)


def test_a_wrong_kind_of_argument_is_named() -> None:
    network = sew(0)
    with pytest.raises(InvalidNetwork, match=r"quantize: got a str, expected a Chip: what load_chip"):
        quantize(network, "loihi1")  # type: ignore[arg-type]  # the mistake under test
    with pytest.raises(InvalidNetwork, match=r"quantize: got a ChipNetwork, expected a Network"):
        quantize(quantize(network, LOIHI), LOIHI)  # type: ignore[arg-type]  # as above
    assert "populations" in repr(network)
    assert len(repr(network)) < 200
