"""Huge weights and biases of nearly silent channels: bounded with every spike kept, clipped, or refused by name."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from spikingjelly.activation_based import layer, neuron
from torch import nn

from hw_targets import emulate, from_torch
from hw_targets.errors import QuantizationError
from hw_targets.ir.network import LIF, Accumulator, Dense, GradedInput, Network, Population, SpikeInput, Synapses
from hw_targets.passes.saturation import saturated
from hw_targets.quantization.quantize import quantize
from hw_targets.targets.registry import load_chip
from tests.builders.quantized import assert_inside_the_chip, pixels, sew

Array = NDArray[Any]
LOIHI = load_chip("loihi1")
SIZES = st.sampled_from([0.01, 0.3, 1.0, 4.0, 40.0, 3000.0])
#: No weights below 1e-9, the least of which a product rounds to zero.
REALS = st.floats(-1, 1).map(lambda value: round(value, 9))


def largest(network: Network, name: str) -> float:
    """Largest weight or bias of a population."""
    bias = network[name].bias
    weights = [float(np.abs(s.op.weight).max()) for s in network.incoming(name)]
    return max(*weights, 0.0 if bias is None else float(np.abs(bias).max()))


def single(weight: Array, bias: Array, decay: float, steps: int, **synapses: Any) -> Network:
    """Spikes into one layer of neurons."""
    return Network(
        (Population("in", (weight.shape[1],), SpikeInput()), Population("n", (len(weight),), LIF(1.0, decay), bias)),
        (Synapses("in", "n", Dense(weight), **synapses),),
        time_steps=steps,
    )


def every_input(inputs: int, steps: int) -> Array:
    """All there are, (T, 2^(T·inputs), inputs)."""
    all_of_them = np.array(list(product((0, 1), repeat=inputs * steps)))
    return all_of_them.reshape(-1, steps, inputs).transpose(1, 0, 2)


def spikes_of_the_equation(weight: Array, bias: Array, decay: float, shown: Array) -> Array:
    """(T, N, neurons) in plain loops: v ← (1 − decay)·v + w·x + b, a spike and a reset where v ≥ 1."""
    result = np.zeros((*shown.shape[:2], len(weight)), bool)
    for n, row in product(range(shown.shape[1]), range(len(weight))):
        v = 0.0
        for t in range(len(shown)):
            v = (1 - decay) * v + sum(w for w, x in zip(weight[row], shown[t, n], strict=True) if x) + bias[row]
            result[t, n, row] = v >= 1.0
            v = 0.0 if v >= 1.0 else v
    return result


@settings(max_examples=60, deadline=None)
@given(
    weight=st.lists(st.tuples(SIZES, REALS), min_size=6, max_size=6),
    bias=st.lists(st.tuples(SIZES, REALS), min_size=2, max_size=2),
    decay=st.sampled_from([0.0, 0.25, 0.5, 1.0]),
)
def test_no_spike_differs_for_any_input_there_is(
    weight: list[tuple[float, float]], bias: list[tuple[float, float]], decay: float
) -> None:
    """Two neurons, three inputs, three steps: 512 inputs each, in loops."""
    network = single(
        np.array([a * b for a, b in weight]).reshape(2, 3), np.array([a * b for a, b in bias]), decay, steps=3
    )
    bounded, shown = saturated(network), every_input(3, 3)
    (before,), (after,) = network.synapses, bounded.synapses
    assert (np.abs(after.op.weight) <= np.abs(before.op.weight)).all()
    assert (np.sign(after.op.weight) == np.sign(before.op.weight)).all()
    first, second = network["n"].bias, bounded["n"].bias
    assert first is not None
    assert second is not None
    assert (np.abs(second) <= np.abs(first)).all()
    np.testing.assert_array_equal(
        spikes_of_the_equation(after.op.weight, second, decay, shown),
        spikes_of_the_equation(before.op.weight, first, decay, shown),
    )


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    decay=st.sampled_from([0.0, 0.5]),
    gains=st.lists(SIZES, min_size=4, max_size=4),
    graded=st.booleans(),
)
def test_residual_networks_spike_as_before(seed: int, decay: float, gains: list[float], graded: bool) -> None:
    """Convolutions, shared kernels of a SEW ADD, images and spikes; some channels of each population far off."""
    network, rng = sew(seed, decay=decay, graded=graded), np.random.default_rng(seed)
    scaled: dict[int, Any] = {}
    for s in network.synapses:
        factor = np.array(gains)[: len(s.op.weight)].reshape(-1, *[1] * (s.op.weight.ndim - 1))
        scaled.setdefault(id(s.op), replace(s.op, weight=s.op.weight * factor))
    odd = replace(
        network,
        populations=tuple(
            p if p.bias is None else replace(p, bias=p.bias * rng.choice(gains, len(p.bias)))
            for p in network.populations
        ),
        synapses=tuple(replace(s, op=scaled[id(s.op)]) for s in network.synapses),
    )
    bounded, shown = saturated(odd), pixels(odd, 6, seed)
    before, after = emulate(odd, shown), emulate(bounded, shown)
    for name, spikes in before.spikes.items():
        np.testing.assert_array_equal(after.spikes[name], spikes, err_msg=name)
    np.testing.assert_allclose(after.output, before.output)
    for name in ("b1", "cut"):
        assert len(bounded.shared_synapses(name)) == 1
        assert len({id(s.op) for s in bounded.incoming(name)}) == 1


@pytest.mark.parametrize("decay", [0.0, 0.5])
@pytest.mark.parametrize("kind", ["recurrent", "delayed", "lasting currents", "endless currents", "bias per neuron"])
def test_what_else_feeds_a_neuron_is_reckoned_with(kind: str, decay: float) -> None:
    rng = np.random.default_rng(7)
    for seed in range(8):
        size = 10.0 ** rng.uniform(-2, 3, (4, 1))
        network = single(
            rng.standard_normal((4, 3)) * size, rng.standard_normal(4) * 10.0 ** rng.uniform(-1, 3, 4), decay, 5
        )
        if kind == "recurrent":
            loop = Synapses("n", "n", Dense(rng.standard_normal((4, 4)) * 10.0 ** rng.uniform(-2, 3, (4, 4))))
            network = replace(network, synapses=(*network.synapses, loop))
        elif kind == "delayed":
            late = replace(network.synapses[0], delay=rng.integers(0, 3, (4, 3)))
            network = replace(network, synapses=(late,))
        elif kind.endswith("currents"):
            slow = replace(network["n"], neuron=LIF(1.0, decay, i_decay=0.25 if kind == "lasting currents" else 0.0))
            network = replace(network, populations=(network["in"], slow))
        else:
            each = Population("n", (2, 1, 2), LIF(1.0, decay), network["n"].bias)
            network = replace(network, populations=(network["in"], each))
        shown = np.random.default_rng(seed).integers(0, 2, (5, 200, 3))
        np.testing.assert_array_equal(
            emulate(saturated(network), shown).spikes["n"], emulate(network, shown).spikes["n"]
        )


def test_what_is_bounded_and_what_is_left_alone() -> None:
    """By hand: θ = 1, three steps, no leak."""
    weight = np.array([[300.0, 0.2, -0.1], [0.3, 0.2, -300.0], [0.4, 0.5, -0.3], [0.0, 0.0, 0.0], [0.1, 0.1, -0.1]])
    bias = np.array([0.0, 0.0, 0.1, 250.0, -400.0])
    bounded = saturated(single(weight, bias, 0.0, steps=3))
    after, biases = bounded.synapses[0].op.weight, bounded["n"].bias
    assert biases is not None
    # The lowest potential before a spike is −0.2, and inhibition may come with it: 1.3 fires, and 1 more for rounding.
    assert after[0, 0] == pytest.approx(2.3, abs=0.01)
    # The largest drive is 0.5 a step, so that 1 + 0.5 − (1 − 3·0.5 + 0.5) = 1.5 keeps it silent, and 1 more.
    assert after[1, 2] == pytest.approx(-2.5, abs=0.01)
    np.testing.assert_array_equal(after[2], weight[2])
    assert biases[:3].tolist() == [0.0, 0.0, 0.1]
    assert biases[3] == 2.0
    assert biases[4] == -2.0
    np.testing.assert_allclose(after[4], weight[4] / 200)
    with_units = single(weight, bias, 0.0, steps=3)
    trained = replace(with_units["n"], neuron=LIF(1.0, unit=64))
    kept = saturated(replace(with_units, populations=(with_units["in"], trained)))
    np.testing.assert_array_equal(kept.synapses[0].op.weight, weight)
    readout = Population("n", (5,), Accumulator(), bias)
    kept = saturated(replace(with_units, populations=(with_units["in"], readout)))
    np.testing.assert_array_equal(kept.synapses[0].op.weight, weight)


def pruned_model(mean: float) -> nn.Sequential:
    """Two convolutions with batch-norm and LIF neurons; channel 3 of the second was silenced while it trained."""
    lif: dict[str, Any] = {"tau": 2.0, "decay_input": False, "v_reset": 0.0, "step_mode": "m"}
    convolutions = [layer.Conv2d(n, 8, 3, padding=1, bias=False, step_mode="m") for n in (2, 8)]
    norms = [layer.BatchNorm2d(8, step_mode="m") for _ in range(2)]
    with torch.no_grad():
        for norm in norms:
            norm.running_var.uniform_(0.02, 0.1)
            norm.running_mean.normal_(0, 0.1)
            norm.bias.normal_(0.1, 0.3)
        convolutions[1].weight[3] = 0
        norms[1].running_var[3], norms[1].running_mean[3] = 1e-8, mean
    model = nn.Sequential(
        convolutions[0], norms[0], neuron.LIFNode(**lif), convolutions[1], norms[1], neuron.LIFNode(**lif),
        layer.Flatten(step_mode="m"), layer.Linear(8 * 36, 4, step_mode="m"),
    )  # fmt: skip
    return model.double().eval()


@pytest.mark.parametrize("channel", ["never", "always"])
def test_a_silenced_channel_no_longer_sets_the_scale(channel: str) -> None:
    """Weights of zero and a bias of 60,000: in integers the channel does what it did in torch."""
    model = pruned_model(200.0 if channel == "never" else -200.0)
    shown = torch.rand(6, 2, 6, 6).mul(255).round().div(255)
    network = from_torch(model, shown.double().expand(4, *shown.shape))
    name = network.order[2]
    assert largest(network, name) > 50_000
    chip = quantize(network, LOIHI)
    assert_inside_the_chip(chip)
    with torch.no_grad():
        real = model[:6](shown.double().expand(4, *shown.shape)).numpy()
    np.testing.assert_array_equal(emulate(saturated(network), shown.numpy()).spikes[name], real)
    own = emulate(chip, shown.numpy()).spikes[name]
    np.testing.assert_array_equal(own[:, :, 3], np.full_like(own[:, :, 3], channel == "always"))
    np.testing.assert_array_equal(own[:, :, 3], real[:, :, 3])
    bias = network[name].bias
    assert bias is not None
    alone = replace(network[name], bias=np.where(np.arange(8) == 3, 0.0, bias))
    others = replace(network, populations=tuple(alone if p.name == name else p for p in network.populations))
    assert chip.scales[name] == quantize(others, LOIHI).scales[name]
    assert not chip.notes


def test_calibration_clips_what_may_be_clipped_and_says_so() -> None:
    """Weights of ±5,000: only their signs matter, which samples show and bounds cannot."""
    rng = np.random.default_rng(0)
    weight = rng.normal(0, 0.3, (4, 12))
    weight[2] = 5000 * np.sign(weight[2])
    network = single(weight, np.zeros(4), 0.5, steps=4)
    shown = rng.integers(0, 2, (4, 100, 12))
    with pytest.raises(
        QuantizationError, match=r"quantize: n's .*channel 2 has a weight of -?5000, .*calibration images"
    ):
        quantize(network, LOIHI)
    chip = quantize(network, LOIHI, shown)
    assert_inside_the_chip(chip)
    (note,) = chip.notes
    assert "output channel 2" in note
    own, real = emulate(chip, shown).spikes["n"], emulate(network, shown).spikes["n"]
    assert f"{int((own != real).sum())} of {int(real.sum())} calibration spikes differ" in note
    assert (own != real).mean() < 0.01


def test_clipping_that_changes_too_much_is_refused_with_the_count() -> None:
    """Weights far above the threshold, of which some are worth ten others."""
    rng = np.random.default_rng(0)
    weight = np.where(rng.random((4, 12)) < 0.2, -5000.0, 500.0)
    shown = rng.integers(0, 2, (4, 100, 12))
    with pytest.raises(QuantizationError, match=r"clipped, \d+ of \d+ calibration spikes would differ") as caught:
        quantize(single(weight, np.zeros(4), 0.5, steps=4), LOIHI, shown)
    assert "\n" not in str(caught.value)


def test_a_coarse_threshold_is_noted() -> None:
    weight = np.array([[30.0, -30.0], [0.2, 0.6]])
    chip = quantize(single(weight, np.zeros(2), 0.0, steps=8), LOIHI)
    (note,) = chip.notes
    assert "n: the integer threshold is only 4, since output channel 0 has a weight of" in note


def test_images_are_bounded_by_their_darkest_grey() -> None:
    """A weight on grey values must be enough at 1/255; half of that is left alone."""
    network = Network(
        (Population("in", (1,), GradedInput()), Population("n", (2,), LIF(1.0))),
        (Synapses("in", "n", Dense(np.array([[1e6], [300.0]]))),),
        time_steps=2,
    )
    after = saturated(network).synapses[0].op.weight
    assert after[0, 0] == pytest.approx(510, rel=1e-2)
    assert after[1, 0] == 300.0
    shown = np.arange(256)[:, None]
    np.testing.assert_array_equal(emulate(saturated(network), shown).spikes["n"], emulate(network, shown).spikes["n"])


def test_a_current_that_lasts_may_fire_what_one_step_does_not() -> None:
    """u reaches 3, 5.25, 6.94 against a bias of −4: not silent, however far the other channel's values lie below."""
    network = single(np.array([[3.0], [0.1]]), np.array([-4.0, 0.0]), 1.0, steps=4)
    slow = replace(network["n"], neuron=LIF(1.0, 1.0, i_decay=0.25))
    network, shown = replace(network, populations=(network["in"], slow)), every_input(1, 4)
    spikes = emulate(network, shown).spikes["n"]
    assert spikes[:, :, 0].any()
    np.testing.assert_array_equal(emulate(saturated(network), shown).spikes["n"], spikes)
