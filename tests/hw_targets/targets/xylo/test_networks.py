"""Networks on Xylo, from integers to cores, cycles and xylosim's verdict."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from hw_targets import (
    compare_with_xylosim,
    dequantize,
    emulate,
    estimate,
    load_chip,
    place,
    quantize,
    remove_dead_neurons,
)
from hw_targets.errors import DoesNotFit, InvalidNetwork, QuantizationError, UnsupportedModel
from hw_targets.ir.network import (
    LIF,
    Accumulator,
    ChipNetwork,
    Conv2d,
    Dense,
    GradedInput,
    Network,
    Population,
    SpikeInput,
    Synapses,
)
from hw_targets.placement.fit import check_fit
from hw_targets.targets.xylo.cycles import Activities, cycles_per_step
from hw_targets.targets.xylo.layout import laid_out, specification
from hw_targets.targets.xylo.neuron import XyloNeuron
from hw_targets.targets.xylo.xylosim.runner import Layer
from tests.builders.xylo import random_inputs, random_network, weights
from tests.builders.xylosim import required_in_ci

AUDIO2 = load_chip("xylo-audio2")
HIDDEN, OUTPUT = XyloNeuron(200, 3, 2, 2), XyloNeuron(300, 3, 2, 2, most=1)


def chain(*populations: Population, matrices: list[Any]) -> Network:
    names = [p.name for p in populations]
    pairs = zip(names, names[1:], matrices, strict=False)
    synapses = tuple(Synapses(a, b, Dense(np.asarray(w, np.float64))) for a, b, w in pairs)
    return Network(populations, synapses, time_steps=6)


def small(hidden: XyloNeuron = HIDDEN, output: XyloNeuron = OUTPUT, weight: float = 50.0) -> Network:
    ends = Population("in", (3,), SpikeInput(15)), Population("out", (2,), output)
    middle = Population("h", (4,), hidden)
    return chain(ends[0], middle, ends[1], matrices=[np.full((4, 3), weight), np.full((2, 4), weight)])


@pytest.mark.parametrize("seed", range(12))
def test_emulate_equals_xylosim(seed: int) -> None:
    """Every integer of random networks, biases that charge ahead and saturation included."""
    rng = np.random.default_rng(seed)
    real = random_network(rng)
    network = quantize(real, AUDIO2, approximate=True)
    inputs = random_inputs(rng, real, 3)
    with required_in_ci():
        result = compare_with_xylosim(network, inputs)
    assert result.differences == 0
    assert result.spikes > 0
    assert compare_with_xylosim(remove_dead_neurons(network), inputs).differences == 0


def test_a_wrong_integer_would_be_seen() -> None:
    network = quantize(small(), AUDIO2)
    inputs = np.ones((6, 1, 3), np.int64)
    with required_in_ci(), pytest.MonkeyPatch.context() as patch:
        assert compare_with_xylosim(network, inputs).differences == 0
        changed = replace(specification(network), threshold=np.array([200, 201, 200, 200]))
        patch.setattr("hw_targets.targets.xylo.xylosim.check.Layer", lambda _: Layer(changed))
        assert compare_with_xylosim(network, inputs).differences > 0


def test_a_network_in_integers_is_emulated_as_such() -> None:
    rng = np.random.default_rng(4)
    real = random_network(rng, biases=False)
    inputs, network = random_inputs(rng, real, 4), quantize(real, AUDIO2)
    a, b, c = (emulate(n, inputs) for n in (real, network, dequantize(network)))
    assert all(np.array_equal(a.spikes[name], b.spikes[name]) for name in a.spikes)
    assert np.array_equal(b.output, c.output)
    assert b.output.any()


def test_aligned_time_of_deeper_layers() -> None:
    """Without biases a layer that hears later answers as if it heard at once: one hop by hand, the other not."""
    rng = np.random.default_rng(5)
    sizes, neuron = (4, 6, 5, 3), XyloNeuron(300, 3, 2, 2)
    names = [Population("in", (4,), SpikeInput()), Population("a", (6,), neuron), Population("b", (5,), neuron)]
    pairs = pairwise(sizes)
    real = chain(*names, Population("out", (3,), OUTPUT), matrices=[weights(rng, b, a) for a, b in pairs])
    inputs = rng.integers(0, 2, (6, 2, 4))
    whole = emulate(quantize(real, AUDIO2), inputs).spikes
    alone = chain(
        Population("a", (6,), SpikeInput(15)), Population("b", (5,), neuron), Population("out", (3,), OUTPUT),
        matrices=[real.synapses[1].op.weight, real.synapses[2].op.weight],
    )  # fmt: skip
    assert whole["a"].max() <= 15
    assert np.array_equal(emulate(quantize(alone, AUDIO2), whole["a"]).spikes["b"], whole["b"])
    assert whole["b"].any()


def test_convolutions_are_held_as_the_synapses_they_are() -> None:
    rng = np.random.default_rng(6)
    kernel = rng.integers(-20, 100, (2, 1, 3, 3)).astype(np.float64)
    grid = Population("grid", (2, 3, 3), HIDDEN)
    populations = (Population("in", (1, 3, 3), SpikeInput()), grid, Population("out", (3,), OUTPUT))
    ops = (Conv2d(kernel, padding=(1, 1)), Dense(weights(rng, 3, 18)))
    real = Network(populations, (Synapses("in", "grid", ops[0]), Synapses("grid", "out", ops[1])), time_steps=5)
    network = quantize(real, AUDIO2)
    assert np.count_nonzero(specification(network).weights_in) == np.count_nonzero(kernel[:, :, 1, 1]) * 9 + 2 * (
        4 * 6 + 4 * 4
    )
    with required_in_ci():
        assert compare_with_xylosim(network, rng.integers(0, 2, (5, 2, 1, 3, 3))).differences == 0


def refused(network: Network, *, approximate: bool = False) -> str:
    with pytest.raises((UnsupportedModel, QuantizationError, InvalidNetwork)) as error:
        quantize(network, AUDIO2, approximate=approximate)
    return str(error.value)


def test_refusals_say_what_to_do() -> None:
    middle, out = Population("h", (4,), HIDDEN), Population("out", (2,), OUTPUT)
    ones = [np.full((4, 3), 50), np.full((2, 4), 50)]
    entry = Population("in", (3,), SpikeInput())

    def with_(*populations: Population) -> Network:
        return chain(*populations, matrices=ones)

    assert "takes spikes, up to 15 a step; encode" in refused(with_(Population("in", (3,), GradedInput()), middle, out))
    readout = Population("out", (2,), Accumulator())
    assert "end in XyloLayer(..., output=True)" in refused(with_(entry, middle, readout), approximate=True)
    lif = Population("h", (4,), LIF(1.0, reset="subtract"))
    assert "h resets by subtraction in real numbers" in refused(with_(entry, lif, out))
    assert "train with hw_targets.XyloLayer" in refused(with_(entry, lif, out))
    assert "sends up to 31 spikes a step, but the chip's outputs send 1" in refused(
        with_(entry, middle, replace(out, neuron=HIDDEN))
    )
    biased = replace(out, bias=np.array([5.0, 0.0]))
    assert "out has biases and hears its input 1 steps late" in refused(with_(entry, middle, biased))
    assert quantize(with_(entry, middle, biased), AUDIO2, approximate=True).notes
    assert "weights of in→h span 200 … 200, but Xylo holds -128 … 127" in refused(small(weight=200.0))
    assert "lies up to 0.5 from whole numbers" in refused(small(weight=50.5))
    direct = Network((entry, out), (Synapses("in", "out", Dense(np.full((2, 3), 50.0))),))
    assert "hear inputs, but the chip's outputs hear hidden neurons alone" in refused(direct)


def test_connections_that_skip_a_layer_and_delays_are_refused() -> None:
    rng = np.random.default_rng(0)
    entry, out = Population("in", (3,), SpikeInput()), Population("out", (2,), OUTPUT)
    a, b = Population("a", (4,), HIDDEN), Population("b", (4,), HIDDEN)
    straight = chain(entry, a, b, out, matrices=[weights(rng, 4, 3), weights(rng, 4, 4), weights(rng, 2, 4)])
    skip = replace(straight, synapses=(*straight.synapses, Synapses("in", "b", Dense(weights(rng, 4, 3)))))
    assert "b hears {'a': 1, 'in': 0} steps late" in refused(skip)
    late = replace(straight.synapses[1], delay=np.ones((1, 1), np.int64))
    delayed = replace(straight, synapses=(straight.synapses[0], late, straight.synapses[2]))
    assert "synapses a→b have delays" in refused(delayed)
    assert laid_out(straight).late == {"a": 0, "b": 1, "out": 2}


def test_hidden_layers_share_a_weight_shift() -> None:
    """A coarser one is brought to the finer where its weights stay in 8 bits."""
    rng = np.random.default_rng(0)
    entry, out = Population("in", (3,), SpikeInput()), Population("out", (2,), OUTPUT)
    a, b, c = (Population(n, (4,), replace(HIDDEN, shift=s)) for n, s in (("a", 2), ("b", 3), ("c", 2)))
    small_weights = np.clip(weights(rng, 4, 4), -60, 60)
    matrices = [weights(rng, 4, 3), small_weights, weights(rng, 4, 4), weights(rng, 2, 4)]
    spec = specification(quantize(chain(entry, a, b, c, out, matrices=matrices), AUDIO2))
    assert spec.weight_shift_rec == 2
    assert np.array_equal(spec.weights_rec[:4, 4:8, 0].T, 2 * small_weights)
    matrices[1] = np.full((4, 4), 100)
    assert "share one weight shift" in refused(chain(entry, a, b, c, out, matrices=matrices))


def test_a_network_of_another_family_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedModel, match="h was trained in the integers of xylo, and the chip is of the family"):
        quantize(small(), load_chip("loihi1"))


def test_the_nearest_integers_of_real_neurons_are_near() -> None:
    """CUBA neurons whose decays are powers of two: what is left to differ is rounding."""
    rng = np.random.default_rng(1)
    lif = LIF(1.0, 2.0**-4, 2.0**-3, reset="subtract", max_spikes=31)
    populations = (Population("in", (8,), SpikeInput()), Population("h", (20,), lif))
    end = Population("out", (4,), replace(lif, max_spikes=1))
    real = chain(*populations, end, matrices=[rng.normal(0.05, 0.3, (20, 8)), rng.normal(0.02, 0.1, (4, 20))])
    real = replace(real, time_steps=40)
    network = quantize(real, AUDIO2, approximate=True)
    inputs = (rng.random((40, 20, 8)) < 0.3).astype(np.int64)
    a, b = emulate(real, inputs).spikes["h"], emulate(network, inputs).spikes["h"]
    assert 0 < (a != b).sum() / a.sum() < 0.25, "mostly spikes that come a step early or late"
    assert abs(a.sum(0, dtype=int) - b.sum(0, dtype=int)).sum() / a.sum() < 0.03
    assert (
        "h resets by subtraction and sends up to 31 spikes a step, its potential decays by 0.0625" in network.notes[0]
    )
    assert "shifts of 4 and 3 bits" in network.notes[0]


def test_fan_out_is_what_keeps_a_dense_layer_off_the_chip() -> None:
    """1 + 65 synapses a neuron: 66 of at most 64; a cap of 60 within the layer fits."""
    rng = np.random.default_rng(0)
    entry, out = Population("in", (4,), SpikeInput()), Population("out", (1,), OUTPUT)
    layer = Population("h", (65,), HIDDEN)
    full = rng.integers(1, 20, (65, 65)).astype(np.float64)

    def network(loop: Any) -> Network:
        plain = chain(entry, layer, out, matrices=[np.full((65, 4), 9), np.full((1, 65), 9)])
        return replace(plain, synapses=(*plain.synapses, Synapses("h", "h", Dense(loop))))

    fit = {row.name: row for row in check_fit(network(full), AUDIO2)}
    assert (fit["h"].key, fit["h"].used, fit["h"].limit) == ("synapses_out_per_neuron", 66, 64)
    with pytest.raises(DoesNotFit, match=r"neuron 0 has 66 synapses, 2 more than the 64 .*synapses_out_per_neuron"):
        place(quantize(network(full), AUDIO2), AUDIO2)
    capped = np.where(np.arange(65)[:, None] < 60, full, 0)
    placement = place(quantize(network(capped), AUDIO2), AUDIO2)
    assert placement.core_count == 1


def test_average_fan_out_and_projections() -> None:
    network = quantize(small(), AUDIO2)
    with pytest.raises(DoesNotFit, match=r"send to 8 others, 4 more than the 4 .*average_fan_out"):
        place(network, replace(AUDIO2, average_fan_out=1, hidden_neurons=4))
    for key, what in (("input_projection_neurons", "hear inputs"), ("output_projection_neurons", "heard by outputs")):
        limit: dict[str, Any] = {key: 3}
        with pytest.raises(DoesNotFit, match=rf"4 hidden neurons .*{what}, 1 more than the 3 .*{key}"):
            place(network, replace(AUDIO2, **limit))


def test_cycles_are_those_of_the_vendors_model() -> None:
    """500 hidden neurons, 16 inputs, 8 outputs, all active in a tenth of the steps: 28,512, 18,712 and 17,312."""
    for fan_out, cycles in ((32, 28_512), (4, 18_712), (0, 17_312)):
        loop = (np.arange(500)[:, None] - np.arange(500)) % 500 < fan_out
        spec = specification(replace_loop(quantize(wide(500), AUDIO2), loop.astype(np.int32)))
        assert cycles_per_step(spec, Activities(0.1, 0.1)).total == pytest.approx(cycles)


def wide(hidden: int) -> Network:
    populations = (Population("in", (16,), SpikeInput()), Population("h", (hidden,), HIDDEN))
    end = Population("out", (8,), OUTPUT)
    return chain(*populations, end, matrices=[np.ones((hidden, 16)), np.ones((8, hidden))])


def replace_loop(network: ChipNetwork, loop: Any) -> ChipNetwork:
    return replace(network, synapses=(*network.synapses, Synapses("h", "h", Dense(loop))))


def test_remarks_say_where_pruning_saves_nothing() -> None:
    assert AUDIO2.target is not None
    network = quantize(small(), AUDIO2)
    activity = emulate(network, np.ones((6, 1, 3), np.int64))
    cycles, states = AUDIO2.target.remarks(network, activity, AUDIO2)
    assert "none of them for synapses between hidden neurons, so that zeros save none here" in cycles
    assert states == "no sum left its 16 bits"
    looped = replace_loop(network, np.eye(4, dtype=np.int32))
    activity = emulate(looped, np.ones((6, 1, 3), np.int64))
    assert (
        "synapses between hidden neurons, the only ones that zeros save"
        in AUDIO2.target.remarks(looped, activity, AUDIO2)[0]
    )
    assert estimate(place(looped, AUDIO2), activity, AUDIO2).energy is None


def test_saturation_is_counted() -> None:
    network = quantize(small(weight=127.0, hidden=replace(HIDDEN, shift=8)), AUDIO2)
    activity = emulate(network, np.full((6, 1, 3), 15))
    assert activity.overflows["h"] > 0
    assert activity.out_of_range["h"].neurons == 4


def test_dead_neurons_go() -> None:
    real = small()
    real.synapses[0].op.weight[2] = 0
    pruned = remove_dead_neurons(quantize(real, AUDIO2))
    assert pruned["h"].size == 3


def test_widths_of_another_chip_are_refused() -> None:
    with pytest.raises(QuantizationError, match="does not state weight_bits"):
        quantize(small(), replace(AUDIO2, weight_bits=None))
    with pytest.raises(QuantizationError, match="known with"):
        quantize(small(), replace(AUDIO2, weight_bits=4))
