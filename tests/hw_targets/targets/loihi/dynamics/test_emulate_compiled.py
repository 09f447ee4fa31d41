"""The emulator's compiled loop against the slow twin and the loops of NumPy, and what happens without it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hw_targets import emulate
from hw_targets.emulation import emulate as emulate_module
from hw_targets.emulation.emulate import respond
from hw_targets.emulation.losses import Losses
from hw_targets.ir.activity import Activity
from hw_targets.ir.network import Accumulator, ChipNetwork, Dense, GradedInput, Population, Synapses
from hw_targets.targets.loihi.dynamics import compiled as emulate_compiled
from hw_targets.targets.loihi.dynamics.compiled import CompiledNeurons, is_suited
from hw_targets.targets.loihi.dynamics.engine import run_neurons
from hw_targets.targets.loihi.neuron import CubaLIF
from tests.builders.chip_networks import assert_same, random_inputs, random_network
from tests.twins.chip import loihi_step, run_slowly

Array = NDArray[Any]
EDGE = 1 << 17
pytest.importorskip("numba", reason="the compiled loop needs numba: pip install 'neuroprune[fast]'")


def compiled(population: Population, losses: Losses) -> CompiledNeurons:
    loop = emulate_compiled._compiled()
    assert loop is not None
    return CompiledNeurons(loop, population, losses)


def always(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(emulate_compiled, "WORTH", 0)
    patch.setattr(emulate_compiled, "WORTH_LOADING", 0)


# --- one population ---------------------------------------------------------------------------------------------------


def by_hand(population: Population, current: Array, resets: frozenset[int]) -> tuple[Array, int]:
    """(spikes (T, N, neurons), losses) of the slow twin, for current (T, N, neurons)."""
    neuron, (steps, samples, size) = population.neuron, current.shape
    assert isinstance(neuron, CubaLIF)
    bias = np.zeros(1, np.int64) if population.bias is None else population.bias
    each = np.repeat(bias, size // len(bias))
    spikes, lost = np.zeros(current.shape, np.uint8), 0
    for n in range(samples):
        for i in range(size):
            u = v = 0
            for t in range(steps):
                u, v = (0, 0) if t in resets else (u, v)
                u, v, spikes[t, n, i], one = loihi_step(u, v, int(current[t, n, i]), int(each[i]), neuron)
                lost += one
    return spikes, lost


@settings(max_examples=120, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    largest=st.sampled_from([3, 5_000, 60_000, EDGE + 2, 2 * EDGE - 1]),
    shape=st.sampled_from([(4,), (3, 2, 1), (1, 2, 2), (2, 3, 2)]),
    order=st.sampled_from(["rows", "channels last", "every other", "samples first"]),
    static=st.booleans(),
    v_decay=st.sampled_from([0, 1, 410, 2048, 4095, 4096]),
    i_decay=st.sampled_from([4096, 4096, 0, 1, 2048]),
)
def test_the_loop_is_the_slow_twin_and_reports_what_numpy_does(
    seed: int, largest: int, shape: tuple[int, ...], order: str, static: bool, v_decay: int, i_decay: int
) -> None:
    rng = np.random.default_rng(seed)
    steps, samples, size = int(rng.integers(1, 7)), int(rng.integers(0, 4)), int(np.prod(shape))
    biases = None if rng.random() < 0.3 else int(rng.choice([shape[0], size]))
    most, held_in = largest // 4, rng.choice(["int16", "int32", "int64"] if largest < EDGE else ["int32", "int64"])
    bias = None if biases is None else rng.integers(-most, most + 1, biases).astype(str(held_in))
    threshold = int(rng.choice([int(rng.integers(-3, largest)), -EDGE, EDGE, -(1 << 30), 1 << 30]))
    population = Population("n", shape, CubaLIF(threshold, v_decay, i_decay), bias)
    a = rng.integers(-largest, largest + 1, (1 if static else steps, samples, *shape))
    edge = rng.choice([EDGE, -EDGE, EDGE - 1, 1 - EDGE, largest, -largest], a.shape)
    a = np.where((rng.random(a.shape) < 0.3) & (np.abs(edge) <= largest), edge, a).astype(np.float32)
    if order == "channels last" and len(shape) == 3:
        a = np.ascontiguousarray(a.transpose(0, 1, 3, 4, 2)).transpose(0, 1, 4, 2, 3)
    elif order == "every other":
        a = np.repeat(a, 2, -1)[..., ::2]
    elif order == "samples first":
        a = np.ascontiguousarray(a.swapaxes(0, 1)).swapaxes(0, 1)
    current = np.broadcast_to(a, (steps, *a.shape[1:]))
    resets, ours, theirs = frozenset({3, 99}) if seed % 2 else frozenset[int](), Losses(), Losses()
    spikes = compiled(population, ours).run(current, resets)
    assert spikes is not None
    assert spikes.shape == current.shape
    assert spikes.dtype == np.uint8
    by_numpy = run_neurons(population, torch.from_numpy(current.copy()), theirs, resets=resets, largest=largest)
    np.testing.assert_array_equal(spikes, by_numpy.numpy())
    slow, lost = by_hand(population, current.reshape(steps, samples, size), resets)
    np.testing.assert_array_equal(spikes.reshape(slow.shape), slow)
    assert ours.overflow() == theirs.overflow()
    assert ours.overflow().wraps + ours.overflow().clips == lost


def test_states_that_leave_their_range_in_one_of_many_blocks() -> None:
    """5,000 neurons make several blocks: each loss is counted once, in its own neuron and step."""
    rng = np.random.default_rng(0)
    population = Population("n", (5_000,), CubaLIF(EDGE - 5, v_decay=100, i_decay=4_000))
    current = rng.integers(-500, 501, (6, 3, 5_000)).astype(np.float32)
    current[2, 1, 4_321] = EDGE + 900
    block = importlib.import_module("hw_targets.targets.loihi.dynamics.numba_loops").BLOCK
    current[3:5, 2, [1, 1 + block]] = -(EDGE + 900)
    ours, theirs = Losses(), Losses()
    spikes = compiled(population, ours).run(current, ())
    by_numpy = run_neurons(population, torch.from_numpy(current), theirs, largest=EDGE + 900)
    assert spikes is not None
    np.testing.assert_array_equal(spikes, by_numpy.numpy())
    assert ours.overflow() == theirs.overflow()
    assert ours.overflow().neurons == 3


def test_neurons_are_the_same_ones_in_every_order_in_memory() -> None:
    """A block of samples in NumPy's loops, because its currents are too wide, adds to what the compiled one found."""
    rng, population, losses = np.random.default_rng(0), Population("n", (4, 3, 5), CubaLIF(99, 9)), Losses()
    current = rng.integers(-9, 10, (2, 3, 4, 3, 5)).astype(np.float32)
    current[1, 1][rng.random((4, 3, 5)) < 0.4] = EDGE + 5
    last = np.ascontiguousarray(current.transpose(0, 1, 3, 4, 2)).transpose(0, 1, 4, 2, 3)
    compiled(population, losses).run(last, ())
    found = losses.overflow().neurons
    assert 10 < found < 40
    run_neurons(population, torch.from_numpy(current), losses)
    assert losses.overflow().neurons == found


def test_currents_that_wrap_by_themselves_are_left_to_others() -> None:
    population, losses = Population("n", (3,), CubaLIF(99, v_decay=5)), Losses()
    current = np.full((4, 2, 3), EDGE - 9, np.float32)
    for wide in (2 * EDGE, -2 * EDGE, (1 << 24) - 1):
        current[2, 1, 1] = wide
        assert compiled(population, losses).run(current, ()) is None
        assert losses.overflow() == Losses().overflow(), "nothing is counted twice"
    current[2, 1, 1] = 2 * EDGE - 1
    assert compiled(population, losses).run(current, ()) is not None
    assert losses.overflow().wraps == 1


def test_which_populations_the_loop_can_run() -> None:
    narrow, wide = np.zeros(2, np.int32), np.array([0, -(1 << 22)], np.int32)
    assert is_suited(Population("n", (2,), CubaLIF(1), narrow), (1 << 24) - 1)
    assert not is_suited(Population("n", (2,), CubaLIF(1), narrow), 1 << 24)
    assert not is_suited(Population("n", (2,), CubaLIF(1), wide), 1)
    assert not is_suited(Population("n", (2,), Accumulator()), 1)


# --- whole networks ---------------------------------------------------------------------------------------------------


def same_activity(ours: Activity, theirs: Activity) -> None:
    for name, spikes in theirs.spikes.items():
        np.testing.assert_array_equal(ours.spikes[name], spikes, err_msg=name)
    for name, lead in theirs.lead_in.items():
        np.testing.assert_array_equal(ours.lead_in[name], lead, err_msg=name)
    np.testing.assert_array_equal(ours.output, theirs.output)
    assert dict(ours.overflows) == dict(theirs.overflows)
    assert dict(ours.out_of_range) == dict(theirs.out_of_range)


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    budget=st.sampled_from([12, 400, 30_000, 150_000, 1_000_000]),
    per_step=st.booleans(),
    samples=st.sampled_from([0, 1, 3]),
)
def test_networks_spike_as_the_slow_twins(seed: int, budget: int, per_step: bool, samples: int) -> None:
    network = random_network(seed, budget=budget, graded=seed % 2 == 0)
    inputs = random_inputs(network, samples, seed + 1, per_step=per_step)
    usual = emulate(network, inputs)
    with pytest.MonkeyPatch.context() as patch:
        always(patch)
        patch.setattr(emulate_module, "_samples_at_once", lambda *_: 2)
        ours = emulate(network, inputs)
        name = next(p.name for p in network.populations if isinstance(p.neuron, CubaLIF))
        sent = {source.name: ours.spikes[source.name] for source in network.populations if source.is_input}
        answer = respond(network, name, sent) if {s.source for s in network.incoming(name)} == set(sent) else None
    same_activity(ours, usual)
    if answer is not None:
        np.testing.assert_array_equal(answer, usual.spikes[name])
    if samples and budget < 1_000_000:  # the twin sums without end, a chip in 24 bits
        assert_same(ours, run_slowly(network, inputs))


@pytest.mark.parametrize("reset", [True, False])
def test_chip_time_and_recurrence(reset: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Biases that charge ahead, resets within one long run, and a layer with loops among others."""
    rng = np.random.default_rng(1)
    populations = (
        Population("in", (6,), GradedInput()),
        Population("a", (5,), CubaLIF(700, 300), rng.integers(-90, 300, 5).astype(np.int32)),
        Population("b", (4,), CubaLIF(90, 500, 3_000)),
        Population("c", (3,), CubaLIF(60), rng.integers(-9, 30, 3).astype(np.int32)),
    )
    sizes = (("in", "a", 5, 6), ("a", "b", 4, 5), ("b", "b", 4, 4), ("b", "c", 3, 4))
    synapses = tuple(
        Synapses(source, target, Dense(rng.integers(-40, 60, (rows, columns)).astype(np.int32)))
        for source, target, rows, columns in sizes
    )
    network, images = ChipNetwork(populations, synapses, time_steps=5), rng.integers(0, 9, (4, 6))
    usual = emulate(network, images, timing="netx", reset=reset)
    assert 0.05 < usual.spikes["c"].mean() < 0.95
    always(monkeypatch)
    same_activity(emulate(network, images, timing="netx", reset=reset), usual)


# --- with and without numba -------------------------------------------------------------------------------------------


def test_small_runs_load_nothing_and_large_ones_only_with_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    loader = emulate_compiled.Loader()
    half = emulate_compiled.WORTH_LOADING // 2
    assert [loader.loop_for(n) is None for n in (half, half - 1, 1, half)] == [True, True, True, False]
    assert loader.loop_for(emulate_compiled.WORTH - 1) is None
    fresh: Callable[[], Any] = emulate_compiled._compiled.__wrapped__
    assert fresh() is not None
    numba = importlib.import_module("numba")
    monkeypatch.setattr(numba.config, "DISABLE_JIT", 1)
    assert fresh() is None, "uncompiled the loop would take hours"
    monkeypatch.undo()
    monkeypatch.delitem(sys.modules, "hw_targets.targets.loihi.dynamics.numba_loops")
    monkeypatch.setitem(sys.modules, "numba", None)
    assert fresh() is None


@pytest.mark.parametrize("error", [None, RuntimeError("cannot cache function: no locator available"), OSError("full")])
def test_where_nothing_can_be_written_it_is_compiled_each_time(
    error: Exception | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    loops = importlib.import_module("hw_targets.targets.loihi.dynamics.numba_loops")
    tried = []

    def njit(*_: Any, cache: bool = False, **__: Any) -> Callable[..., Any]:
        tried.append(cache)
        if cache and error is not None:
            raise error
        return lambda loop: loop

    monkeypatch.setattr(loops.numba, "njit", njit)
    assert loops._kept_if_possible(len) is len
    assert tried == ([True] if error is None else [True, False])
