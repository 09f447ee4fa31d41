"""Removing dead neurons: the emulated output and every spike that stays are unchanged."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw_targets.emulation.emulate import emulate
from hw_targets.errors import InvalidNetwork
from hw_targets.ir.network import (
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
from hw_targets.passes.dead_neurons import remove_dead_neurons
from hw_targets.placement import place
from hw_targets.targets.loihi.neuron import CubaLIF
from hw_targets.targets.registry import load_chip


@st.composite
def networks(draw: st.DrawFn) -> ChipNetwork:
    """in → a → {b, c} → d → out: convolutions (one depthwise), a SEW sum, dense layers; weights mostly zero."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    density = draw(st.sampled_from([0.1, 0.3, 0.7]))
    graded = draw(st.booleans())
    decay = draw(st.sampled_from([(0, 4096), (300, 4096), (2000, 1500)]))

    def weight(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int32]]:
        return np.where(rng.random(shape) < density, rng.integers(-40, 60, shape), 0).astype(np.int32)

    def neuron(scale: int) -> CubaLIF:
        return CubaLIF(int(rng.integers(5, 60)) * scale, *decay)

    def bias(size: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int32]] | None:
        return rng.integers(-10, 6, size).astype(np.int32) if draw(st.booleans()) else None

    entry = Population("in", (2, 5, 4), GradedInput(4, 15.0) if graded else SpikeInput())
    populations = (
        entry,
        Population("a", (4, 5, 4), neuron(15 if graded else 1), bias(4)),
        Population("b", (4, 5, 4), neuron(1), bias(4)),
        Population("c", (4, 5, 4), neuron(1)),
        Population("d", (6,), neuron(1), bias(6)),
        Population("out", (3,), Accumulator() if draw(st.booleans()) else neuron(1)),
    )
    shared = Dense(weight(6, 80))
    synapses = (
        Synapses("in", "a", Conv2d(weight(4, 2, 3, 3), padding=(1, 1))),
        Synapses("a", "b", Conv2d(weight(4, 4, 3, 3), padding=(1, 1))),
        Synapses("a", "c", Conv2d(weight(4, 1, 1, 1), groups=4)),
        Synapses("b", "d", shared),
        Synapses("c", "d", shared),
        Synapses("d", "out", Dense(weight(3, 6))),
    )
    return ChipNetwork(populations, synapses, time_steps=draw(st.integers(1, 5)))


@settings(max_examples=80, deadline=None)
@given(networks(), st.integers(0, 2**32 - 1))
def test_output_and_remaining_spikes_are_unchanged(network: ChipNetwork, seed: int) -> None:
    smaller = remove_dead_neurons(network)
    top = 15 if isinstance(network["in"].neuron, GradedInput) else 1
    images = np.random.default_rng(seed).integers(0, top + 1, (3, 2, 5, 4))
    before, after = emulate(network, images), emulate(smaller, images)
    np.testing.assert_array_equal(before.output, after.output)
    for name, spikes in after.spikes.items():
        total, left = before.spikes[name].sum(), spikes.sum()
        assert left <= total
        if network[name].shape == smaller[name].shape:
            np.testing.assert_array_equal(spikes, before.spikes[name])
    assert remove_dead_neurons(smaller) is smaller, "one call removes all"


def chain(*, threshold: int = 10, hears: int = 12, sends: int = 3, steps: int = 4, decay: int = 0) -> ChipNetwork:
    """in (1) → h (2) → out (1); the second hidden neuron always works, the first as told."""
    populations = (
        Population("in", (1,), SpikeInput()),
        Population("h", (2,), CubaLIF(threshold, decay)),
        Population("out", (1,), Accumulator()),
    )
    first, second = np.array([[hears], [threshold + 1]], np.int32), np.array([[sends, 5]], np.int32)
    synapses = (Synapses("in", "h", Dense(first)), Synapses("h", "out", Dense(second)))
    return ChipNetwork(populations, synapses, time_steps=steps)


def test_a_network_of_which_nobody_said_how_long_a_sample_lasts_is_refused() -> None:
    """What cannot fire in one step may well fire in the second."""
    h = Population("h", (1,), CubaLIF(3))
    populations = (Population("in", (1,), SpikeInput()), h, Population("out", (1,), CubaLIF(0)))
    one = np.ones((1, 1), np.int32)
    synapses = (Synapses("in", "h", Dense(2 * one)), Synapses("h", "out", Dense(one)))
    unknown = ChipNetwork(populations, synapses, steps_assumed=True)
    with pytest.raises(InvalidNetwork, match="pass time_steps to read_netx"):
        remove_dead_neurons(unknown)
    with pytest.raises(InvalidNetwork, match=r"inputs of shape \(4, 1\) do not say it; pass inputs"):
        emulate(unknown, np.ones((4, 1), np.uint8))
    assert emulate(unknown, np.ones((4, 1, 1), np.uint8)).spikes["out"].sum() == 2


@pytest.mark.parametrize(
    ("network", "left"),
    [
        (chain(), 2),
        (chain(sends=0), 1),  # nobody hears it
        (chain(hears=2, steps=5), 1),  # reaches 10 in 5 steps, and fires above 10
        (chain(hears=2, steps=6), 2),
        (chain(hears=3, steps=1000, decay=1500), 1),  # leaks as fast as it fills: at most 3·4096/1500 = 8.2
        (chain(hears=4, steps=1000, decay=1500), 2),  # 10.9
        (chain(hears=-50), 1),
    ],
)
def test_which_neurons_go(network: ChipNetwork, left: int) -> None:
    smaller = remove_dead_neurons(network)
    assert smaller["h"].size == left
    image = np.ones((1, 1), np.int64)
    np.testing.assert_array_equal(emulate(network, image).output, emulate(smaller, image).output)


def test_a_wrapping_current_keeps_its_neuron() -> None:
    """Inhibition that wraps around 24 bits excites: the bound says nothing there."""
    network = chain(hears=-(1 << 17) - 5, steps=2)
    assert remove_dead_neurons(network)["h"].size == 2


def test_dead_channels_save_cores() -> None:
    rng = np.random.default_rng(0)
    populations = (
        Population("in", (2, 32, 32), SpikeInput()),
        Population("a", (16, 32, 32), CubaLIF(20)),
        Population("out", (10,), Accumulator()),
    )
    read = rng.integers(1, 9, (10, 16, 32, 32)).astype(np.int32)
    read[:, 8:] = 0
    synapses = (
        Synapses("in", "a", Conv2d(rng.integers(1, 9, (16, 2, 3, 3)).astype(np.int32), padding=(1, 1))),
        Synapses("a", "out", Dense(read.reshape(10, -1) * (rng.random((10, 16 * 1024)) < 0.1))),
    )
    network = ChipNetwork(populations, synapses, time_steps=4)
    smaller = remove_dead_neurons(network)
    assert smaller["a"].shape == (8, 32, 32)
    chip = load_chip("loihi1")
    assert place(smaller, chip).core_count <= place(network, chip).core_count - 8


def test_networks_without_integers_are_refused() -> None:
    network = Network((Population("in", (1,), SpikeInput()),), ())
    with pytest.raises(InvalidNetwork, match="remove_dead_neurons: got a Network, expected a ChipNetwork"):
        remove_dead_neurons(network)  # type: ignore[arg-type]
