"""Quantization on calibration data: against brute force, the limits, zeros, repeatability, and Lava's own rules."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hw_targets import emulate, export_netx, read_netx
from hw_targets.errors import InvalidNetwork, QuantizationError
from hw_targets.ir.network import (
    LIF,
    Accumulator,
    ChipNetwork,
    Conv2d,
    Dense,
    Network,
    Population,
    SpikeInput,
    Synapses,
)
from hw_targets.passes.saturation import saturated
from hw_targets.quantization.calibration import Calibration
from hw_targets.quantization.quantize import quantize
from hw_targets.quantization.rounder import SWEEPS, Rounder
from hw_targets.quantization.rounding import rows_of
from hw_targets.quantization.scales import FACTORS
from hw_targets.targets.loihi.formats import number_formats
from hw_targets.targets.loihi.netx.relays import insert_relays
from hw_targets.targets.loihi.neuron import DYNAMICS, CubaLIF
from hw_targets.targets.registry import load_chip
from tests.builders.quantized import assert_inside_the_chip, pixels, sew
from tests.twins.chip import current_bounds, run_slowly
from tests.twins.quantize import best_rounding, descend, differing_spikes, error_of, gram_of, inputs_of

Array = NDArray[Any]
LOIHI = load_chip("loihi1")


def dense(rng: np.random.Generator, *, inputs: int = 6, neurons: int = 3, readout: int = 2, steps: int = 3) -> Network:
    """Spikes into one layer of neurons and a readout, half of the weights zero."""
    first = rng.standard_normal((neurons, inputs)) * (rng.random((neurons, inputs)) < 0.7)
    return Network(
        (
            Population("in", (inputs,), SpikeInput()),
            Population("n", (neurons,), LIF(1.0), 0.1 * rng.standard_normal(neurons)),
            Population("out", (readout,), Accumulator()),
        ),
        (
            Synapses("in", "n", Dense(first)),
            Synapses("n", "out", Dense(rng.standard_normal((readout, neurons)))),
        ),
        time_steps=steps,
    )


def spikes(rng: np.random.Generator, network: Network, samples: int = 12) -> Array:
    return rng.integers(0, 2, (network.time_steps, samples, *network.inputs[0].shape))


def image_of_8x8(seed: int = 0) -> Network:
    """Stride, padding and dilation in one convolution, then a readout."""
    rng = np.random.default_rng(seed)
    op = Conv2d(rng.standard_normal((3, 2, 3, 3)), (2, 1), (1, 2), (1, 2))
    shape = op.output_shape((2, 8, 8))
    size = int(np.prod(shape))
    return Network(
        (
            Population("in", (2, 8, 8), SpikeInput()),
            Population("n", shape, LIF(1.0), rng.standard_normal(3)),
            Population("out", (2,), Accumulator()),
        ),
        (Synapses("in", "n", op), Synapses("n", "out", Dense(rng.standard_normal((2, size))))),
        time_steps=2,
    )


@pytest.mark.parametrize("network", [image_of_8x8(), dense(np.random.default_rng(1))], ids=["conv", "dense"])
def test_statistics_are_those_of_the_twin(network: Network) -> None:
    images = spikes(np.random.default_rng(0), network, samples=3)
    calibration = Calibration(network, images)
    shown = emulate(network, images).spikes
    for name in ("n", "out"):
        rows = rows_of(network, network[name], number_formats(LOIHI))
        assert rows is not None
        (synapses,) = network.incoming(name)
        sent = shown[synapses.source].astype(np.int64)
        frames = sent.sum(0) if name == "out" else sent.reshape(-1, *sent.shape[2:])
        bias = [] if network[name].bias is None else [1.0]
        vectors = [[*v, *bias] for frame in frames for v in inputs_of(synapses.op, frame)]
        gram = calibration.gram(network[name], rows)
        assert gram is not None
        np.testing.assert_allclose(gram, gram_of(vectors), rtol=1e-12)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.sampled_from([1.3, 4.0, 17.0, 90.0]))
def test_rounding_lies_between_the_best_of_all_and_the_nearest(seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    network = dense(rng)
    rows = rows_of(network, network["n"], number_formats(LOIHI))
    assert rows is not None
    gram = Calibration(network, spikes(rng, network)).gram(network["n"], rows)
    assert gram is not None
    q, nearest, target = rows.compensated(scale, gram), rows.nearest(scale), rows.real * scale
    assert (np.abs(q - np.clip(target, -rows.limit, rows.limit)) < 1).all()
    assert not q[rows.real == 0].any()
    for row in range(len(q)):
        _, least = best_rounding(target[row], float(rows.limit[0]), gram)
        error = error_of(q[row], target[row], gram)
        assert least - 1e-9 <= error <= error_of(nearest[row], target[row], gram) + 1e-9
    # Descent ends where no single weight can do better.
    for row, column in np.ndindex(*q.shape):
        for other in (np.floor(target[row, column]), np.ceil(target[row, column])):
            moved = q[row].copy()
            moved[column] = np.clip(other, -rows.limit[column], rows.limit[column])
            if rows.real[row, column]:
                assert error_of(moved, target[row], gram) >= error_of(q[row], target[row], gram) - 1e-9


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_the_level_is_the_best_of_all_that_were_tried(seed: int) -> None:
    """By brute force: every candidate's integers in the slow emulation of the layer by itself."""
    rng = np.random.default_rng(seed)
    network = dense(rng)
    images = spikes(rng, network)
    chip, plain = quantize(network, LOIHI, images), quantize(network, LOIHI)
    calibration = Calibration(network, images)
    rounder = Rounder(network, number_formats(LOIHI), DYNAMICS, calibration)
    real = emulate(network, images).spikes["n"]
    top = round(plain.scales["n"])
    most = 127 if (network.synapses[0].op.weight >= 1.0).any() else 1 << 17
    errors = {}
    for level in {int(top * f) for f in FACTORS} | {top}:
        if 1 <= level <= max(top, most):
            integers = rounder.fitted(network["n"], float(level), only_biases=True).integers
            here = rounder.population(network["n"], float(level), integers)
            readout = replace(network["out"], bias=None)
            whole = ChipNetwork(
                (network["in"], here, readout),
                (
                    replace(network.synapses[0], op=Dense(integers.weights[id(network.synapses[0])])),
                    replace(network.synapses[1], op=Dense(np.ones((2, 3), np.int32))),
                ),
                time_steps=network.time_steps,
            )
            errors[level] = int((run_slowly(whole, images).spikes["n"] != real).sum())
    chosen = round(chip.scales["n"])
    assert errors[chosen] == min(errors.values())
    assert chosen == max(level for level, error in errors.items() if error == errors[chosen])


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    decay=st.sampled_from([0.0, 0.3]),
    scale=st.sampled_from([3.0, 11.0, 40.0]),
    only_biases=st.booleans(),
)
def test_descent_takes_the_steps_of_the_twin(seed: int, decay: float, scale: float, only_biases: bool) -> None:
    """The same integers and the same count, step by step in plain loops; never more differing spikes than before."""
    rng = np.random.default_rng(seed)
    network = dense(rng, inputs=5, neurons=2)
    leaky = replace(network["n"], neuron=LIF(1.0, decay))
    network = replace(network, populations=(network["in"], leaky, network["out"]))
    images = spikes(rng, network)
    rounder = Rounder(network, number_formats(LOIHI), DYNAMICS, Calibration(network, images))
    start, rows = rounder.integers(leaky, scale), rounder.rows["n"]
    neuron = rounder.population(leaky, scale, start).neuron
    assert isinstance(neuron, CubaLIF)
    first = rows.joined(start.weights, start.bias)
    real = emulate(network, images).spikes["n"]
    fitted = rounder.fitted(leaky, scale, only_biases=only_biases)
    found = rows.joined(fitted.integers.weights, fitted.integers.bias)
    total = 0
    for row in range(len(first)):
        inputs = [[[*map(int, x), 1] for x in step] for step in images]
        wanted = [[bool(x) for x in step] for step in real[:, :, row]]
        sweeps = 0 if only_biases else SWEEPS
        q, differing = descend(first[row], rows.real[row] * scale, rows.limit, inputs, wanted, neuron, sweeps)
        np.testing.assert_array_equal(found[row], q)
        assert differing <= differing_spikes(first[row], inputs, wanted, neuron)
        total += differing
    assert fitted.differing == total


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 10**6), decay=st.sampled_from([0.0, 0.5]), graded=st.booleans())
def test_fitted_integers_change_no_more_spikes_keep_zeros_and_stay_next_to_the_weights(
    seed: int, decay: float, graded: bool
) -> None:
    """Population by population on what those before send in integers; counts are those of the emulator."""
    network = saturated(sew(seed, decay=decay, graded=graded))
    images = pixels(network, 5, seed)
    chip = quantize(network, LOIHI, images)
    calibration = Calibration(network, images)
    rounder = Rounder(network, number_formats(LOIHI), DYNAMICS, calibration)
    own, real = emulate(chip, images).spikes, emulate(network, images).spikes
    for name in network.order:
        population = network[name]
        if not isinstance(population.neuron, LIF):
            continue
        scale = chip.scales[name]
        plain, fitted = rounder.integers(population, scale), rounder.fitted(population, scale, only_biases=False)
        before = calibration.differing(rounder.alone(population, scale, plain), name, len(images))
        after = calibration.differing(rounder.alone(population, scale, fitted.integers), name, len(images))
        assert fitted.differing == after <= before
        assert after == int((own[name] != real[name]).sum())
        for mine, s in zip(network.incoming(name), chip.incoming(name), strict=True):
            q = fitted.integers.weights[id(mine)]
            np.testing.assert_array_equal(q, s.op.weight)
            unit = scale / 255 if graded and mine.source == "in" else scale
            assert (np.abs(q - np.clip(mine.op.weight * unit, -127, 127)) < 1).all()
            assert not q[mine.op.weight == 0].any()
        assert fitted.integers.bias is not None
        assert population.bias is not None
        assert np.abs(fitted.integers.bias).max() <= 4095
        assert not fitted.integers.bias[population.bias == 0].any()
        rounder.settle(population, scale, fitted.integers)


def neuron_biases(network: Network) -> Network:
    """The same with a bias for each neuron of `n`."""
    n = network["n"]
    one_each = replace(n, bias=np.random.default_rng(2).standard_normal(n.size))
    return replace(network, populations=(network["in"], one_each, network["out"]))


@pytest.mark.parametrize("only_biases", [True, False])
@pytest.mark.parametrize(
    "network",
    [image_of_8x8(), neuron_biases(image_of_8x8()), dense(np.random.default_rng(3), inputs=9, neurons=8)],
    ids=["conv", "bias per neuron", "dense"],
)
def test_a_descent_counts_what_the_emulator_does(network: Network, only_biases: bool) -> None:
    images = spikes(np.random.default_rng(1), network, samples=6)
    calibration = Calibration(network, images)
    rounder = Rounder(network, number_formats(LOIHI), DYNAMICS, calibration)
    plain, fitted = rounder.integers(network["n"], 9.0), rounder.fitted(network["n"], 9.0, only_biases=only_biases)
    before, after = (
        calibration.differing(rounder.alone(network["n"], 9.0, found), "n", len(images[0]))
        for found in (plain, fitted.integers)
    )
    assert fitted.differing == after <= before
    assert only_biases or after < before or not before


def test_where_weights_are_too_many_to_try_the_biases_are_and_a_note_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """6 inputs and a bias × 3 neurons × 3 steps: 63 trials a sample, of which none, or those of two, are affordable."""
    network = dense(np.random.default_rng(3))
    images = spikes(np.random.default_rng(1), network, samples=40)
    calibration = Calibration(network, images)
    rounder = Rounder(network, number_formats(LOIHI), DYNAMICS, calibration)
    assert not quantize(network, LOIHI, images).notes
    for trials, samples in ((62, 0), (2 * 63 + 1, 2), (1 << 40, 40)):
        monkeypatch.setattr("hw_targets.quantization.calibration.TRIALS", trials)
        assert calibration.samples_to_sweep(network["n"], 7) == samples
    monkeypatch.setattr("hw_targets.quantization.calibration.TRIALS", 62)
    fitted = rounder.fitted(network["n"], 9.0, only_biases=False)
    biases = rounder.fitted(network["n"], 9.0, only_biases=True)
    for one, other in zip(fitted.integers.weights.values(), biases.integers.weights.values(), strict=True):
        np.testing.assert_array_equal(one, other)
    chip = quantize(network, LOIHI, images)
    assert [note for note in chip.notes if note.startswith("n: 21 weights and 3 neurons are too many")]
    assert_inside_the_chip(chip)


@pytest.mark.parametrize(("name", "value"), [("descent.BLOCK", 1), ("receptive.KEPT_BYTES", 0)])
def test_how_much_is_held_in_memory_changes_nothing(name: str, value: int, monkeypatch: pytest.MonkeyPatch) -> None:
    network = image_of_8x8()
    calibration = Calibration(network, spikes(np.random.default_rng(1), network, samples=6))
    rounder = Rounder(network, number_formats(LOIHI), DYNAMICS, calibration)
    before = rounder.fitted(network["n"], 9.0, only_biases=False)
    assert 0 < before.differing < rounder.fitted(network["n"], 9.0, only_biases=True).differing
    monkeypatch.setattr(f"hw_targets.quantization.{name}", value)
    calibration = Calibration(network, spikes(np.random.default_rng(1), network, samples=6))
    rounder = Rounder(network, number_formats(LOIHI), DYNAMICS, calibration)
    after = rounder.fitted(network["n"], 9.0, only_biases=False)
    assert after.differing == before.differing
    np.testing.assert_array_equal(np.asarray(after.integers.bias), np.asarray(before.integers.bias))
    for key, weight in before.integers.weights.items():
        np.testing.assert_array_equal(after.integers.weights[key], weight)


def test_a_bias_next_to_a_tie_is_moved_over_it() -> None:
    """With nothing to see, 0.5 + 0.5 fires; rounding the bias down delays every spike of the channel."""
    network = Network(
        (Population("in", (2,), SpikeInput()), Population("n", (1,), LIF(1.0), np.array([0.5]))),
        (Synapses("in", "n", Dense(np.array([[0.31, -0.9]]))),),
        time_steps=4,
    )
    nothing = np.zeros((3, 2), np.int64)
    rounder = Rounder(network, number_formats(LOIHI), DYNAMICS, Calibration(network, nothing))
    fitted = rounder.fitted(network["n"], 87.0, only_biases=True)  # 43.5 would be half of 87
    assert fitted.differing == 0
    assert fitted.integers.bias is not None
    assert fitted.integers.bias[0] == 44


@settings(max_examples=8, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    size=st.sampled_from([0.1, 1.0, 8.0]),
    decay=st.sampled_from([0.0, 0.5]),
    graded=st.booleans(),
    samples=st.integers(1, 5),
    relayed=st.booleans(),
)
def test_calibrated_integers_stay_inside_the_chip_and_zeros_stay_zero(
    seed: int, size: float, decay: float, graded: bool, samples: int, relayed: bool
) -> None:
    network = sew(seed, decay=decay, size=size, graded=graded)
    images = pixels(network, samples, seed)
    chip = quantize(network, LOIHI, images, for_format="netx" if relayed else None)
    assert_inside_the_chip(chip)
    if relayed:
        assert_inside_the_chip(insert_relays(chip))
    for real, integer in zip(network.synapses, chip.synapses, strict=True):
        assert not integer.op.weight[real.op.weight == 0].any()
        assert (np.sign(integer.op.weight) * np.sign(real.op.weight) >= 0).all()
    again = quantize(network, LOIHI, torch.from_numpy(images), for_format="netx" if relayed else None)
    assert again.scales == chip.scales
    for one, two in zip(chip.synapses, again.synapses, strict=True):
        np.testing.assert_array_equal(one.op.weight, two.op.weight)
    for p, q in zip(chip.populations, again.populations, strict=True):
        assert p.neuron == q.neuron
        np.testing.assert_array_equal(np.asarray(p.bias), np.asarray(q.bias))


def test_terms_of_a_sum_keep_one_kernel() -> None:
    """What a SEW ADD feeds reads all its terms through one kernel, in integers too."""
    network = sew(3)
    chip = quantize(network, LOIHI, pixels(network, 6))
    for name in ("b1", "cut", "a1"):
        assert len(chip.shared_synapses(name)) == len(network.shared_synapses(name)) == 1


def test_calibration_changes_fewer_spikes() -> None:
    """Summed over some networks, on samples that were not calibrated on."""
    differing = {"plain": 0, "calibrated": 0}
    for seed in range(6):
        network = sew(seed, size=0.4)
        shown = pixels(network, 24, seed + 100)
        real = emulate(network, shown).spikes
        chips = {"plain": quantize(network, LOIHI), "calibrated": quantize(network, LOIHI, pixels(network, 48, seed))}
        for key, chip in chips.items():
            own = emulate(chip, shown).spikes
            differing[key] += sum(int((own[name] != real[name]).sum()) for name in real)
    assert differing["calibrated"] < 0.6 * differing["plain"], differing


def test_a_weight_that_alone_makes_a_neuron_fire_still_does() -> None:
    """Two spikes in four fire the first neuron, any one the second, however the scale is chosen."""
    weight = np.array([[0.5, 0.5, 0.0], [5.0, 1.0, 2.0]])
    network = Network(
        (Population("in", (3,), SpikeInput()), Population("n", (2,), LIF(1.0))),
        (Synapses("in", "n", Dense(weight)),),
    )
    images = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]])
    chip = quantize(network, LOIHI, images)
    np.testing.assert_array_equal(emulate(chip, images).spikes["n"], emulate(network, images).spikes["n"])
    neuron = chip["n"].neuron
    assert isinstance(neuron, CubaLIF)
    assert neuron.v_threshold < 127


def test_recurrent_delayed_and_grouped_synapses() -> None:
    rng = np.random.default_rng(5)
    network = dense(rng, steps=6)
    loop = Synapses("n", "n", Dense(0.5 * rng.standard_normal((3, 3))))
    images = spikes(rng, network)
    recurrent = replace(network, synapses=(*network.synapses, loop))
    late = replace(network.synapses[0], delay=np.array([[1]]))
    delayed = replace(network, synapses=(late, network.synapses[1]))
    for changed in (recurrent, delayed):
        chip = quantize(changed, LOIHI, images)
        for real, integer in zip(changed.synapses, chip.synapses, strict=True):
            exact = np.clip(real.op.weight * chip.scales[real.target], -127, 127)
            assert (np.abs(integer.op.weight - exact) < 1).all()
        own, real_spikes = emulate(chip, images).spikes["n"], emulate(changed, images).spikes["n"]
        assert (own != real_spikes).mean() < 0.05
    kernel = Conv2d(rng.standard_normal((4, 1, 3, 3)), padding=(1, 1), groups=4)
    grouped = Network(
        (Population("in", (4, 5, 5), SpikeInput()), Population("n", (4, 5, 5), LIF(1.0))),
        (Synapses("in", "n", kernel),),
        time_steps=2,
    )
    shown = spikes(rng, grouped)
    chip = quantize(grouped, LOIHI, shown)
    unit = chip.scales["n"]
    np.testing.assert_array_equal(chip.synapses[0].op.weight, np.clip(np.rint(kernel.weight * unit), -127, 127))


def test_silent_inputs_change_nothing_that_could_go_wrong() -> None:
    network = sew(0)
    chip = quantize(network, LOIHI, np.zeros((2, 2, 6, 6), np.int64))
    assert_inside_the_chip(chip)


@pytest.mark.parametrize(
    ("calibration", "message"),
    [
        (np.zeros((0, 2, 6, 6)), r"calibration has the shape \(0, 2, 6, 6\), no samples"),
        (np.zeros((2, 3, 6, 6)), r"do not fit in \(2, 6, 6\)"),
        (np.full((2, 2, 6, 6), 300), r"300"),
        (np.full((2, 2, 6, 6), np.nan), r"nan"),
    ],
)
def test_unfit_calibration_data_are_refused(calibration: Array, message: str) -> None:
    with pytest.raises(InvalidNetwork, match=message):
        quantize(sew(0), LOIHI, calibration)


def test_two_kernels_from_one_source_share_a_synapses_range() -> None:
    """netx adds them up in one kernel: together within 8 bits, also where both end in one half."""
    same = Dense(np.array([[0.5, -0.5]]))
    network = Network(
        (Population("in", (2,), SpikeInput()), Population("n", (1,), LIF(1.0))),
        (Synapses("in", "n", same), Synapses("in", "n", same)),
    )
    for calibration in (None, np.eye(2, dtype=np.int64)):
        chip = quantize(network, LOIHI, calibration, for_format="netx")
        assert np.abs(sum(s.op.weight for s in chip.synapses)).max() <= 127
        apart = quantize(network, LOIHI, calibration)
        assert [int(np.abs(s.op.weight).max()) for s in apart.synapses] == [127, 127], "a chip keeps the two apart"


@pytest.mark.parametrize(
    ("change", "bound"),
    [({"bias_mantissa_bits": 6}, 31), ({"threshold_mantissa_bits": 5}, 31), ({"state_bits": 15}, 255)],
)
def test_widths_come_from_the_chip(change: dict[str, int], bound: int) -> None:
    network = sew(2, size=0.2, graded=False)
    chip = quantize(network, replace(LOIHI, **change))  # type: ignore[arg-type]  # widths are integers
    key = next(iter(change))
    for p in chip.populations:
        if p.is_input:
            continue
        if key == "bias_mantissa_bits":
            assert p.bias is None or np.abs(p.bias).max() <= bound
        elif key == "threshold_mantissa_bits":
            assert not isinstance(p.neuron, CubaLIF) or p.neuron.v_threshold <= bound
        else:
            low, high = current_bounds(chip, replace(p, bias=None))
            assert -bound <= low <= high <= bound


def test_decays_and_absent_widths() -> None:
    coarse = quantize(sew(0, decay=1 / 3), replace(LOIHI, decay_bits=4))["stem"].neuron
    assert isinstance(coarse, CubaLIF)
    assert coarse.v_decay == round(16 / 3) * 256
    assert number_formats(LOIHI) == number_formats(replace(LOIHI, state_bits=60)), "Lava's neuron has 24"
    with pytest.raises(QuantizationError, match="loihi1 does not state bias_mantissa_bits, state_bits, without which"):
        quantize(sew(0), replace(LOIHI, bias_mantissa_bits=None, state_bits=None))
    with pytest.raises(QuantizationError, match=r"loihi1 has state_bits 7; integers need at least 8"):
        quantize(sew(0), replace(LOIHI, state_bits=7))


@pytest.mark.parametrize("seed", [0, 1])
def test_lava_keeps_calibrated_weights_as_they_are(seed: int, tmp_path: Any) -> None:
    """Written, read back with the loader's shifts and cuts (`netx_weights`), and run: the same spikes."""
    network = sew(seed)
    chip = quantize(network, LOIHI, pixels(network, 8), for_format="netx")
    export_netx(chip, tmp_path / "model.net")
    back = read_netx(tmp_path / "model.net")
    shown = pixels(chip, 3, 9)
    own = emulate(chip, shown)
    assert sum(int(s.sum()) for s in own.spikes.values())
    np.testing.assert_array_equal(emulate(back, shown).output[:, : own.output.shape[1]], own.output)
