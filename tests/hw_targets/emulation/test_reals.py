"""Real-valued neurons: every reset, late or not, several spikes a step, leaky readouts, against the slow twin."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw_targets import emulate
from hw_targets.errors import InvalidNetwork
from hw_targets.ir.network import LIF, Accumulator, Conv2d, Dense, Network, Population, SpikeInput, Synapses
from tests.twins.chip import run_slowly

# Powers of two, so that sums are exact and a comparison with a threshold has one answer.
NEURONS = st.builds(
    LIF,
    v_threshold=st.sampled_from([0.5, 1.0, 3.0]),
    v_decay=st.sampled_from([0.0, 0.25, 0.5, 1.0]),
    i_decay=st.sampled_from([0.25, 1.0, 1.0]),
    strict=st.booleans(),
    reset=st.sampled_from(["zero", "subtract", "none"]),
    reset_delay=st.booleans(),
    max_spikes=st.sampled_from([1, 1, 2, 31, 1000]),
) | st.builds(
    LIF, st.sampled_from([0.5, 1.0]), strict=st.booleans(), reset=st.just("subtract"), withholds=st.just(True)
)
DECAYS = st.sampled_from([0.0, 0.25, 0.5, 1.0])
SEVERAL = {
    "v_decays": st.tuples(DECAYS, DECAYS, DECAYS) | st.just(()),
    "i_decays": st.tuples(DECAYS, DECAYS, DECAYS) | st.just(()),
    "bias_lasts": st.booleans(),
}
EACH = st.builds(
    LIF,
    v_threshold=st.sampled_from([0.5, 1.0]),
    i_decay=st.sampled_from([0.25, 1.0]),
    strict=st.booleans(),
    reset=st.sampled_from(["zero", "subtract", "none"]),
    reset_delay=st.booleans(),
    **SEVERAL,
)
DIFFERENCES = st.builds(
    LIF,
    v_threshold=st.sampled_from([0.25, 0.5]),
    v_decay=st.sampled_from([0.5, 1.0]),
    i_decay=st.sampled_from([0.25, 0.5]),
    strict=st.booleans(),
    reset=st.sampled_from(["zero", "none"]),
    reset_delay=st.booleans(),
    difference=st.just(True),
)
READOUTS = st.builds(Accumulator, v_decay=st.sampled_from([0.0, 0.5, 1.0]), i_decay=st.sampled_from([0.0, 0.25, 1.0]))
READOUTS |= st.builds(Accumulator, **SEVERAL)


def chain(neuron: LIF, readout: Accumulator | LIF, seed: int, steps: int = 6) -> Network:
    rng = np.random.default_rng(seed)
    first, second = (rng.integers(-8, 24, shape) / 8 for shape in ((5, 4), (3, 5)))
    return Network(
        (
            Population("in", (4,), SpikeInput()),
            Population("n", (5,), neuron, rng.integers(-4, 5, 5) / 8),
            Population("out", (3,), readout, rng.integers(-4, 5, 3) / 8),
        ),
        (Synapses("in", "n", Dense(first)), Synapses("n", "out", Dense(second))),
        time_steps=steps,
    )


@settings(max_examples=150, deadline=None)
@given(
    neuron=NEURONS | DIFFERENCES, readout=st.one_of(READOUTS, NEURONS, EACH, DIFFERENCES), seed=st.integers(0, 10**6)
)
def test_every_neuron_is_the_twins(neuron: LIF, readout: Accumulator | LIF, seed: int) -> None:
    network = chain(neuron, readout, seed)
    shown = np.random.default_rng(seed).integers(0, 2, (network.time_steps, 3, 4))
    ours, twin = emulate(network, shown), run_slowly(network, shown)
    np.testing.assert_array_equal(ours.spikes["n"], twin.spikes["n"])
    np.testing.assert_allclose(ours.output, twin.output, rtol=1e-12, atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), per_neuron=st.booleans(), values=st.lists(DECAYS, min_size=12, max_size=12))
def test_decays_on_a_grid_are_per_channel_or_per_neuron(seed: int, per_neuron: bool, values: list[float]) -> None:
    decays = tuple(values if per_neuron else values[:2])
    kernel = np.random.default_rng(seed).integers(-8, 24, (2, 1, 1, 1)) / 8
    neuron = LIF(1.0, v_decays=decays, i_decays=decays[::-1], bias_lasts=True, reset="subtract")
    network = Network(
        (Population("in", (1, 2, 3), SpikeInput()), Population("n", (2, 2, 3), neuron, np.array([0.25, -0.125]))),
        (Synapses("in", "n", Conv2d(kernel)),),
        time_steps=5,
    )
    shown = np.random.default_rng(seed).integers(0, 2, (5, 2, 1, 2, 3))
    np.testing.assert_array_equal(emulate(network, shown).spikes["n"], run_slowly(network, shown).spikes["n"])


def test_decays_of_another_number_of_neurons_are_refused() -> None:
    with pytest.raises(InvalidNetwork, match=r"population n: 3 v_decays for \(5,\)"):
        chain(LIF(1.0, v_decays=(0.1, 0.2, 0.3)), Accumulator(), 0)


def test_spikes_that_a_byte_does_not_hold() -> None:
    neuron = LIF(0.5, reset="subtract", max_spikes=1000)
    network = Network(
        (Population("in", (1,), SpikeInput()), Population("n", (1,), neuron)),
        (Synapses("in", "n", Dense(np.array([[300.0]]))),),
        time_steps=2,
    )
    assert emulate(network, np.ones((2, 1, 1), np.int64)).spikes["n"].reshape(-1).tolist() == [600, 600]


def test_a_real_network_has_no_chips_time() -> None:
    with pytest.raises(InvalidNetwork, match="timing is 'netx', this network knows aligned"):
        emulate(chain(LIF(1.0), Accumulator(), 0), np.zeros((6, 1, 4), np.int64), timing="netx")


@pytest.mark.parametrize(
    "odd",
    [
        {"reset": "soft"},
        {"max_spikes": 0},
        {"withholds": True},
        {"withholds": True, "reset": "subtract", "max_spikes": 2},
        {"difference": True, "reset": "subtract"},
        {"v_decays": (0.5, float("nan"))},
    ],
)
def test_neurons_that_contradict_themselves_are_refused(odd: dict[str, Any]) -> None:
    with pytest.raises(InvalidNetwork, match="a neuron"):
        LIF(1.0, **odd)
