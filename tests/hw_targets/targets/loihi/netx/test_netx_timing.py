"""Recurrence, delays and the chip's own timing: Lava step by step, and a twin that runs event by event."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hw_targets import emulate, insert_relays, to_nir
from hw_targets.errors import InvalidNetwork, UnsupportedModel
from hw_targets.ir.activity import Activity, Overflow
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
from hw_targets.targets.loihi.lava.check import LavaJob, compare_with_lava
from hw_targets.targets.loihi.netx.clock import arrival_steps
from hw_targets.targets.loihi.netx.writer import export_netx
from hw_targets.targets.loihi.neuron import CubaLIF
from tests.builders.chains import Array, frames_of, ints, random_chain
from tests.builders.lava import LavaProcess
from tests.twins.netx import run_events


def output_of(network: ChipNetwork, spikes: Array, potentials: Array) -> Array:
    """Per sample, from (T, neurons): what `Activity.output` says."""
    reads_out = isinstance(network.outputs[0].neuron, Accumulator)
    result: Array = potentials[-1] >> 6 if reads_out else spikes.sum(0)
    return result


def assert_aligned(ours: Activity, network: ChipNetwork, inputs: Array) -> None:
    """Every sample by itself, from cleared states."""
    lost = dict.fromkeys(ours.overflows, 0)
    for n in range(inputs.shape[1]):
        slow = run_events(network, inputs[:, n], transport=0)
        for name, spikes in ours.spikes.items():
            mine = spikes[:, n].reshape(len(inputs), -1)
            np.testing.assert_array_equal(mine, slow.spikes[name], err_msg=name)
        end = network.outputs[0].name
        np.testing.assert_array_equal(ours.output[n], output_of(network, slow.spikes[end], slow.potentials[end]))
        lost = {name: count + slow.lost[name] for name, count in lost.items()}
    assert dict(ours.overflows) == lost


def assert_netx(ours: Activity, network: ChipNetwork, inputs: Array, *, offset: int | None, reset: bool = True) -> None:
    """All samples in a row, chip step by chip step."""
    steps, samples = inputs.shape[:2]
    arrivals = arrival_steps(network)
    total = steps * samples + max(arrivals.values())
    frames = np.zeros((total, *inputs.shape[2:]), np.int64)
    frames[: steps * samples] = inputs.swapaxes(0, 1).reshape(-1, *inputs.shape[2:])
    own = any(s.immediate for s in network.synapses)
    # lava-dl: layer i resets when t mod T = offset + 1 + i, t from 1; layers count from the input's neurons, if any.
    shift = {name: arrival if own else arrival - 1 for name, arrival in arrivals.items()}
    o = (0 if own else 1) if offset is None else offset
    phases = {name: (o + i) % steps for name, i in shift.items()}
    slow = run_events(network, frames, transport=1, resets=phases, interval=steps if reset else 0)
    for name in ours.spikes:
        mine = ours.chip_steps(name)
        np.testing.assert_array_equal(mine.reshape(len(mine), -1), slow.spikes[name][: len(mine)], err_msg=name)
        assert len(mine) == arrivals[name] + steps * samples
    end = network.outputs[0].name
    for n in range(samples):
        part = slice(arrivals[end] + n * steps, arrivals[end] + (n + 1) * steps)
        expected = output_of(network, slow.spikes[end][part], slow.potentials[end][part])
        np.testing.assert_array_equal(ours.output[n], expected)
    assert dict(ours.overflows) == slow.lost


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), graded=st.booleans(), wide=st.booleans(), samples=st.integers(1, 3))
def test_aligned_time_equals_the_twin(seed: int, graded: bool, wide: bool, samples: int) -> None:
    network = random_chain(seed, graded=graded, wide=wide and not graded)
    inputs = frames_of(network, samples, seed)
    assert_aligned(emulate(network, inputs), network, inputs)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    graded=st.booleans(),
    wide=st.booleans(),
    samples=st.integers(1, 3),
    offset=st.sampled_from([None, None, 0, 1, 2]),
    reset=st.sampled_from([True, True, False]),
)
# Currents that no reset clears, and that leave 24 bits by more than one wrap a step: u grows until int32 wraps.
@example(seed=2517, graded=False, wide=True, samples=3, offset=None, reset=False)
@example(seed=195, graded=False, wide=True, samples=3, offset=None, reset=False)
def test_netx_time_equals_the_twin(
    seed: int, graded: bool, wide: bool, samples: int, offset: int | None, reset: bool
) -> None:
    network = random_chain(seed, graded=graded, wide=wide and not graded)
    inputs = frames_of(network, samples, seed)
    ours = emulate(network, inputs, timing="netx", reset=reset, reset_offset=offset)
    assert_netx(ours, network, inputs, offset=offset, reset=reset)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), samples=st.integers(1, 4))
def test_without_delays_and_recurrence_both_times_give_the_same_spikes(seed: int, samples: int) -> None:
    network = random_chain(seed, plain=True)
    inputs = frames_of(network, samples, seed)
    aligned, netx = emulate(network, inputs), emulate(network, inputs, timing="netx")
    for name in aligned.spikes:
        np.testing.assert_array_equal(aligned.spikes[name], netx.spikes[name])
    np.testing.assert_array_equal(aligned.output, netx.output)


# --- worked by hand ---------------------------------------------------------------------------------------------------


def loop_network(weight: int, *, steps: int, delay: int | None = None, bias: int | None = None) -> ChipNetwork:
    """One input, one neuron with threshold 9 that hears itself."""
    neuron = Population("n", (1,), CubaLIF(9), None if bias is None else np.array([bias], np.int32))
    loop = None if delay is None else np.array([[delay]])
    synapses = (
        Synapses("in", "n", Dense(np.array([[10]], np.int32))),
        Synapses("n", "n", Dense(np.array([[weight]], np.int32)), loop),
    )
    return ChipNetwork((Population("in", (1,), SpikeInput()), neuron), synapses, time_steps=steps)


def test_a_neuron_that_excites_itself_fires_on() -> None:
    inputs = np.array([1, 0, 0, 0, 0])[:, None, None]
    assert emulate(loop_network(10, steps=5), inputs).spikes["n"].ravel().tolist() == [1, 1, 1, 1, 1]
    assert emulate(loop_network(10, steps=5, delay=1), inputs).spikes["n"].ravel().tolist() == [1, 0, 1, 0, 1]
    # On the chip the spike of the last step is still on its way when the next sample begins.
    two = np.array([[1, 0], [0, 0], [0, 0], [0, 0], [0, 0]])[:, :, None]
    netx = emulate(loop_network(10, steps=5, delay=1), two, timing="netx")
    assert netx.spikes["n"][:, :, 0].T.tolist() == [[1, 0, 1, 0, 1], [0, 1, 0, 1, 0]]
    assert netx.lead_in["n"].ravel().tolist() == [0]


def test_a_bias_charges_a_layer_before_its_input_arrives() -> None:
    """Threshold 9, bias 5: without a reset the chip's neuron fires every second step, counted from its start."""
    network = loop_network(0, steps=3, bias=5)
    nothing = np.zeros((3, 1, 1), np.int64)
    assert emulate(network, nothing).spikes["n"].ravel().tolist() == [0, 1, 0]
    free = emulate(network, nothing, timing="netx", reset=False)
    assert free.chip_steps("n").ravel().tolist() == [0, 1, 0, 1]
    cleared = emulate(network, nothing, timing="netx")
    assert cleared.chip_steps("n").ravel().tolist() == [0, 0, 1, 0]


# --- what is lost -----------------------------------------------------------------------------------------------------


def test_where_and_when_states_left_their_range() -> None:
    """Two of three neurons overflow: one wraps its current in every step, one is held at −(2^23 − 1) from step 2."""
    weights = np.array([[140_000], [1], [-100_000]], np.int32)  # 140 000 << 6 exceeds 2^23
    populations = (Population("in", (1,), SpikeInput()), Population("n", (3,), CubaLIF(1 << 17)))
    network = ChipNetwork(populations, (Synapses("in", "n", Dense(weights)),), time_steps=3)
    activity = emulate(network, np.ones((3, 2, 1), np.int64))
    lost = activity.out_of_range["n"]
    # v of the first: 2·(140 000·64 − 2^24) per step is negative, and is clipped from the second step on, too.
    assert lost == Overflow(wraps=3 * 2, clips=2 * 2 + 2 * 2, neurons=2, steps=3)
    assert activity.overflows["n"] == lost.wraps + lost.clips
    assert not emulate(replace(network, time_steps=1), np.zeros((1, 1, 1), np.int64)).out_of_range


def test_networks_that_skip_layers_have_no_netx_time_without_relays() -> None:
    op = Dense(np.ones((2, 2), np.int32))
    names = ("in", "a", "b")
    populations = tuple(Population(n, (2,), SpikeInput() if n == "in" else CubaLIF(0)) for n in names)
    pairs = (("in", "a"), ("a", "b"), ("in", "b"))
    network = ChipNetwork(populations, tuple(Synapses(s, t, op) for s, t in pairs))
    with pytest.raises(InvalidNetwork, match=r"b after \[1, 2\] steps.*insert_relays"):
        emulate(network, np.zeros((1, 2), np.int64), timing="netx")
    with pytest.raises(InvalidNetwork, match="timing is 'loihi', this network knows aligned and netx"):
        emulate(network, np.zeros((1, 2), np.int64), timing="loihi")  # type: ignore[arg-type]  # what is tested


def test_relays_carry_spikes_past_delayed_and_recurrent_layers() -> None:
    """a → b → c, a → c: what c hears of a comes through a relay beside b, with the delay it had."""
    rng = np.random.default_rng(0)
    populations = tuple(Population(n, (5,), SpikeInput() if n == "in" else CubaLIF(40)) for n in ("in", "a", "b", "c"))
    pairs = (("in", "a"), ("a", "b"), ("b", "b"), ("b", "c"), ("a", "c"))
    synapses = tuple(Synapses(s, t, Dense(ints(rng, 5, 5, largest=90)), rng.integers(0, 4, (5, 5))) for s, t in pairs)
    network = ChipNetwork(populations, synapses, time_steps=9)
    relayed = insert_relays(network)
    assert [p.name for p in relayed.populations] == ["in", "a", "b", "c", "a@2"]
    inputs = frames_of(network, 3, 0)
    before, after = emulate(network, inputs), emulate(relayed, inputs)
    for name, spikes in before.spikes.items():
        np.testing.assert_array_equal(after.spikes[name], spikes, err_msg=name)
    assert_aligned(after, relayed_in_order(relayed), inputs)
    with pytest.raises(UnsupportedModel, match=r"b, a@2 share a netx layer with recurrent or delayed.*b→b"):
        export_netx(network, Path("nowhere.net"))


def relayed_in_order(network: ChipNetwork) -> ChipNetwork:
    """Populations sources first, as the twin wants them."""
    return replace(network, populations=tuple(network[name] for name in network.order))


def test_nir_refuses_what_it_cannot_say() -> None:
    grid = Population("n", (2, 2, 2), LIF(1.0), np.arange(8.0))
    kernel = Synapses("in", "n", Conv2d(np.ones((2, 1, 2, 2))))
    entry = Population("in", (1, 3, 3), SpikeInput())
    with pytest.raises(UnsupportedModel, match="n has a bias per neuron"):
        to_nir(Network((entry, grid), (kernel,)))
    one, two = Population("in", (2,), SpikeInput()), Population("n", (2,), LIF(1.0))
    forward = Dense(np.ones((2, 2)))
    with pytest.raises(UnsupportedModel, match="in→n are delayed"):
        to_nir(Network((one, two), (Synapses("in", "n", forward, np.array([[1]])),)))


@pytest.mark.parametrize(
    ("delay", "says"),
    [
        (np.array([[4097]]), "0 … 4097"),
        (np.array([[-1]]), "-1 … 0"),
        (np.array([[0.5]]), "float64"),
        (np.array([1]), r"\(1,\)"),
        (np.array([[1, 2]]), r"\(1, 2\)"),
    ],
)
def test_delays_a_chip_cannot_hold_are_refused(delay: Array, says: str) -> None:
    network = loop_network(1, steps=1)
    with pytest.raises(InvalidNetwork, match=says):
        replace(network, synapses=(replace(network.synapses[0], delay=delay), network.synapses[1]))


@pytest.mark.gpu
def test_a_gpu_computes_the_same_integers() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    for seed in range(60):
        network = random_chain(seed, graded=seed % 2 == 0, wide=seed % 3 == 0 and seed % 2 == 1)
        inputs = frames_of(network, 3, seed)
        for timing in ("aligned", "netx"):
            here = emulate(network, inputs, timing=timing)
            there = emulate(network, inputs, timing=timing, device="cuda")
            for name in here.spikes:
                np.testing.assert_array_equal(here.spikes[name], there.spikes[name])
            np.testing.assert_array_equal(here.output, there.output)
            assert here.overflows == there.overflows
            assert here.out_of_range == there.out_of_range


# --- Lava -------------------------------------------------------------------------------------------------------------


def busy(*, graded: bool) -> ChipNetwork:
    """Conv with biases, a delayed dense layer, a recurrent one, a recurrent one with delays, leaky ones, a readout."""
    rng = np.random.default_rng(3)
    shape = (2, 5, 4)
    layers = [("conv", (3, 3, 2)), ("late", (6,)), ("loop", (6,)), ("both", (6,)), ("out", (4,))]
    neurons: list[CubaLIF | Accumulator] = [
        CubaLIF(3000 if graded else 30, v_decay=100),
        CubaLIF(50, v_decay=1000, i_decay=2000),
        CubaLIF(80),
        CubaLIF(140, i_decay=3000),
        Accumulator(),
    ]
    late = ints(rng, 6, largest=15)
    late[:2] = 45  # fires before the first sample arrives
    biases = [ints(rng, 3, largest=900 if graded else 12), late, None, ints(rng, 6), ints(rng, 4)]
    populations = [Population("in", shape, GradedInput() if graded else SpikeInput())]
    for (name, size), neuron, bias in zip(layers, neurons, biases, strict=True):
        populations.append(Population(name, size, neuron, bias))
    each = rng.integers(0, 4, (6, 1))
    full = np.where(rng.random((6, 6)) < 0.7, 2 * ints(rng, 6, 6, largest=100), 0).astype(np.int32)
    full[0, 0], full[5, 5] = 254, -254  # fills the 8 bits: Lava does not shift a recurrent layer with delays back
    synapses = (
        Synapses("in", "conv", Conv2d(ints(rng, 3, 2, 3, 3), stride=(2, 2), padding=(1, 1))),
        Synapses("conv", "late", Dense(ints(rng, 6, 18)), rng.integers(0, 6, (6, 1))),
        Synapses("late", "loop", Dense(ints(rng, 6, 6, largest=90))),
        Synapses("loop", "loop", Dense(ints(rng, 6, 6, largest=60))),
        Synapses("loop", "both", Dense(full), each),
        Synapses("both", "both", Dense(ints(rng, 6, 6, largest=60)), each),
        Synapses("both", "out", Dense(ints(rng, 4, 6))),
    )
    return ChipNetwork(tuple(populations), synapses, chip="loihi1", time_steps=7)


def bright() -> ChipNetwork:
    """A bright image through large kernels: currents beyond 24 bits in some neurons, and potentials beyond 24 bits."""
    rng = np.random.default_rng(0)
    shape = (16, 3, 3)
    populations = (
        Population("in", shape, GradedInput()),
        Population("conv", (4, 3, 3), CubaLIF(100_000, v_decay=64, i_decay=1024)),
        Population("dense", (5,), CubaLIF(40, v_decay=5)),
    )
    kernel = 2 * rng.integers(-127, 128, (4, 16, 3, 3))
    kernel[0], kernel[1] = 254, -256  # 144·255·254 > 2^23: the sum of weights itself wraps, before its shift
    synapses = (
        Synapses("in", "conv", Conv2d(kernel.astype(np.int32), padding=(1, 1))),
        Synapses("conv", "dense", Dense(ints(rng, 5, 36))),
    )
    return ChipNetwork(populations, synapses, chip="loihi1", time_steps=6)


def bright_images() -> Array:
    frames = frames_of(bright(), 3, 5)
    frames[:, 1] = 255
    return frames


CASES: dict[str, tuple[ChipNetwork, Array, dict[str, Any]]] = {
    "spikes": (busy(graded=False), frames_of(busy(graded=False), 6, 1), {}),
    "late resets": (busy(graded=False), frames_of(busy(graded=False), 3, 1), {"reset_offset": 4}),
    "no resets": (busy(graded=True), frames_of(busy(graded=True), 3, 2), {"reset": False}),
    "overflow": (bright(), bright_images(), {}),
}


@pytest.fixture(scope="module")
def lavas(tmp_path_factory: pytest.TempPathFactory, lava: LavaProcess) -> dict[str, list[Array]]:
    """Lava's traces of every case."""
    jobs = []
    for index, (network, inputs, options) in enumerate(CASES.values()):
        path = tmp_path_factory.mktemp("netx") / f"{index}.net"
        export_netx(network, path)
        readouts = tuple(isinstance(p.neuron, Accumulator) for p in network.populations if not p.is_input)
        jobs.append(LavaJob(path, inputs, network.time_steps, readouts, per_step=True, **options))
    return dict(zip(CASES, lava.traces(jobs), strict=True))


@pytest.mark.lava
@pytest.mark.parametrize("case", CASES)
def test_every_step_of_every_layer_is_lavas(case: str, lavas: dict[str, list[Array]]) -> None:
    network, inputs, options = CASES[case]
    ours = emulate(network, inputs, timing="netx", **options)
    compared = 0
    layers = [p for p in network.populations if not p.is_input]
    for population, trace in zip(layers, lavas[case], strict=True):
        if isinstance(population.neuron, Accumulator):
            first, steps = arrival_steps(network)[population.name], network.time_steps
            ends = trace[:, first + steps - 1 : first + inputs.shape[1] * steps : steps]
            np.testing.assert_array_equal(ends.T >> 6, ours.output)
            continue
        mine = ours.chip_steps(population.name).reshape(-1, population.size)
        np.testing.assert_array_equal(mine, trace[:, : len(mine)].T, err_msg=population.name)
        assert 0.02 < mine.mean() < 0.98, population.name
        compared += int(mine.sum())
    assert compared > 100


def test_the_cases_show_what_they_are_about() -> None:
    network, inputs, _ = CASES["spikes"]
    netx, aligned = emulate(network, inputs, timing="netx"), emulate(network, inputs)
    assert any((netx.spikes[n] != aligned.spikes[n]).any() for n in netx.spikes), "samples reach into the next"
    assert any(s.any() for s in netx.lead_in.values()), "biases fire before the first sample arrives"
    network, inputs, _ = CASES["overflow"]
    lost = emulate(network, inputs, timing="netx").out_of_range["conv"]
    assert lost.wraps > 50
    assert lost.clips > 50
    assert 0 < lost.neurons <= 36


@pytest.mark.lava
def test_compare_with_lava_counts_in_either_time(tmp_path: Path, lava: LavaProcess) -> None:
    """Recurrent spikes of one sample reach into the next on the chip, and only there."""
    network = loop_network(10, steps=5, delay=1)
    path = tmp_path / "loop.net"
    two = np.array([[1, 0], [0, 0], [0, 0], [0, 0], [0, 0]])[:, :, None]
    weights = (127, 254)  # fill 8 bits, so that Lava's shift is 0
    synapses = tuple(
        replace(s, op=Dense(np.array([[w]], np.int32)), delay=np.array([[1]]))
        for s, w in zip(network.synapses, weights, strict=True)
    )
    network = replace(network, synapses=synapses)
    export_netx(network, path)
    with lava.running():
        verdict = compare_with_lava(network, path, two, timing="netx")
    assert (verdict.samples, verdict.positions, verdict.differences) == (2, 11, 0)
    assert verdict.compared == emulate(network, two, timing="netx").chip_steps("n").sum() > 2
