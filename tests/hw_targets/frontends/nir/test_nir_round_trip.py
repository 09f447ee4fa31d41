"""What `to_nir` writes is what `from_nir` reads, and what other readers make of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from spikingjelly.activation_based.nir_exchange import import_from_nir as import_spikingjelly

from hw_targets import emulate, from_nir, to_nir
from hw_targets.frontends.nir.writer import write_nir
from hw_targets.ir.network import (
    LIF,
    Accumulator,
    Conv2d,
    Dense,
    GradedInput,
    Network,
    Neuron,
    Population,
    SpikeInput,
    Synapses,
)
from tests.twins.nir import T, assert_equal, assert_spikes, bits

NEURONS = st.builds(
    LIF,
    v_threshold=st.floats(0.1, 2),
    v_decay=st.sampled_from([0.0, 0.25, 0.3, 1.0]),
    strict=st.booleans(),
    unit=st.sampled_from([None, 64]),
    reset=st.sampled_from(["zero", "subtract", "none"]),
    reset_delay=st.booleans(),
    max_spikes=st.sampled_from([1, 31]),
) | st.builds(LIF, st.floats(0.1, 2), reset=st.just("subtract"), withholds=st.just(True))
READOUTS = st.one_of(
    st.just(Accumulator()),
    st.builds(Accumulator, v_decay=st.sampled_from([0.25, 1.0]), i_decay=st.sampled_from([0.5, 1.0])),
)


@st.composite
def networks(draw: st.DrawFn) -> Network:
    """An image or spikes, a convolution, its sum with another, dense layers, perhaps recurrent, perhaps a readout."""
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    groups, stride = draw(st.sampled_from([(1, 1), (2, 2), (1, 2)]))
    entries: list[Neuron] = [SpikeInput(), GradedInput(), GradedInput(4, 15.0)]
    entry = draw(st.sampled_from(entries))
    first = Conv2d(rng.normal(size=(4, 2 // groups, 3, 3)), (stride, stride), (1, 1), groups=groups)
    grid = first.output_shape((2, 5, 5))
    size = 4 * grid[1] * grid[2]
    last: Neuron = draw(st.one_of(READOUTS, NEURONS))
    cuba = LIF(0.5, v_decay=0.3, i_decay=draw(st.sampled_from([0.25, 0.6])), bias_lasts=draw(st.booleans()))
    flat = draw(st.one_of(st.just(cuba), NEURONS))
    populations = (
        Population("in.put", (2, 5, 5), entry),
        Population("a", grid, draw(NEURONS), draw(st.sampled_from([None, rng.normal(size=4)]))),
        Population("b.n", grid, draw(NEURONS)),
        Population("c", (6,), flat, rng.normal(size=6)),
        Population("d", (3,), last, draw(st.sampled_from([None, rng.normal(size=3)]))),
    )
    shared, back = Conv2d(rng.normal(size=(4, 4, 1, 1))), Synapses("c", "c", Dense(rng.normal(size=(6, 6))))
    dense = Dense(rng.normal(size=(6, size)))
    synapses = [
        Synapses("in.put", "a", first),
        Synapses("a", "b.n", shared),
        Synapses("a", "c", dense),
        Synapses("b.n", "c", dense),
        *([back] if draw(st.booleans()) else []),
        Synapses("c", "d", Dense(rng.normal(size=(3, 6)))),
    ]
    return Network(populations, tuple(synapses), time_steps=5)


@settings(max_examples=12, deadline=None)
@given(network=networks(), seed=st.integers(0, 100))
def test_there_and_back(network: Network, seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("nir") / "model.nir"
    write_nir(network, path)
    again = from_nir(path)
    assert_equal(again, network, neurons=1e-12)
    assert_equal(from_nir(to_nir(network)), network, neurons=1e-12)
    inputs = np.random.default_rng(seed).integers(0, 2, (5, 2, 2, 5, 5))
    for name, spikes in emulate(network, inputs).spikes.items():
        np.testing.assert_array_equal(emulate(again, inputs).spikes[name], spikes, err_msg=name)


def test_spikingjelly_and_nirtorch_read_what_is_written(tmp_path: Path) -> None:
    """SpikingJelly's importer runs the graph with nirtorch's loader and interpreter."""
    rng = np.random.default_rng(3)
    populations = (
        Population("input", (2, 6, 6), SpikeInput()),
        Population("a", (3, 6, 6), LIF(0.7), rng.normal(size=3) / 8),
        Population("b", (4,), LIF(0.8, v_decay=0.4)),
    )
    synapses = (
        Synapses("input", "a", Conv2d(rng.normal(size=(3, 2, 3, 3)), padding=(1, 1))),
        Synapses("a", "b", Dense(rng.normal(size=(4, 108)) / 4)),
    )
    network = Network(populations, synapses, time_steps=T)
    write_nir(network, tmp_path / "model.nir")
    model = import_spikingjelly(tmp_path / "model.nir", dt=1.0, dtype=torch.float64)
    inputs, state, out = bits(2, 6, 6), None, []
    with torch.no_grad():
        for x in inputs:
            y, state = model(x, state)
            out.append(y)
    assert_spikes(network, inputs, {"b": torch.stack(out).numpy()})
