"""The reference step against the slow twin, and every faster engine against the reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hw_targets.emulation.losses import Losses
from hw_targets.ir.network import Population
from hw_targets.targets.loihi.dynamics import compiled
from hw_targets.targets.loihi.dynamics.engine import run_neurons
from hw_targets.targets.loihi.dynamics.rows import differing_spikes
from hw_targets.targets.loihi.dynamics.step import State, step
from hw_targets.targets.loihi.dynamics.stepping import Stepping, run_steps
from hw_targets.targets.loihi.neuron import DYNAMICS, CubaLIF
from tests.twins.chip import loihi_step

Array = NDArray[Any]
EDGE = 1 << 17
NEURONS = st.builds(
    CubaLIF,
    v_threshold=st.sampled_from([0, 1, 100, 5000, EDGE - 1]),
    v_decay=st.sampled_from([0, 1, 409, 2048, 4095, 4096]),
    i_decay=st.sampled_from([0, 1, 819, 4095, 4096]),
)


def drawn(seed: int, largest: int, steps: int = 7, neurons: int = 23) -> tuple[Array, Array]:
    """Currents (T, neurons), many of them at the edges, and biases."""
    rng = np.random.default_rng(seed)
    current = rng.integers(-largest, largest + 1, (steps, neurons))
    edges = rng.choice([largest, -largest, EDGE - 1, -EDGE, 0], current.shape)
    return np.where(rng.random(current.shape) < 0.3, np.clip(edges, -largest, largest), current), rng.integers(
        -4095, 4096, neurons
    )


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), neuron=NEURONS, largest=st.sampled_from([5, 3000, EDGE - 1, 4 * EDGE]))
@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_the_reference_is_the_twin(kind: str, seed: int, neuron: CubaLIF, largest: int) -> None:
    """In NumPy and in torch, which compute the same expressions."""
    current, bias = drawn(seed, largest)
    zero = np.zeros(len(bias), np.int64)
    as_kind: Any = (lambda a: a) if kind == "numpy" else torch.from_numpy
    state, twin = State(as_kind(zero), as_kind(zero)), [(0, 0)] * len(bias)
    for a in current:
        found = step(neuron, state, as_kind(a), as_kind(bias), word=32)
        state = found.state
        wanted = [loihi_step(u, v, int(x), int(b), neuron) for (u, v), x, b in zip(twin, a, bias, strict=True)]
        twin = [(u, v) for u, v, _, _ in wanted]
        assert np.asarray(state.u).tolist() == [u for u, _ in twin]
        assert np.asarray(state.v).tolist() == [v for _, v in twin]
        assert np.asarray(found.spikes).tolist() == [bool(s) for _, _, s, _ in wanted]
        lost = np.asarray(found.wrapped).astype(int) + np.asarray(found.clipped)
        assert lost.tolist() == [n for _, _, _, n in wanted]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), neuron=NEURONS, largest=st.sampled_from([5, 3000, EDGE - 1]))
def test_every_engine_is_the_reference(seed: int, neuron: CubaLIF, largest: int) -> None:
    """Spikes, and what states lost: floats, plain sums, the compiled loop, and the counter of rows."""
    current, bias = drawn(seed, largest)
    population = Population("n", (len(bias),), neuron, bias)
    shown = torch.from_numpy(current.astype(np.float32))[:, None]
    wanted = Losses()
    reference = run_steps(Stepping(neuron, torch.from_numpy(bias), 32, wanted), shown, frozenset({3}), None)
    fast = Losses()
    found = run_neurons(population, shown, fast, resets=frozenset({3}), largest=float(largest))
    np.testing.assert_array_equal(found, reference)
    assert fast.overflow() == wanted.overflow()
    if (loop := compiled._compiled()) is not None:
        looped = Losses()
        by_loop = compiled.CompiledNeurons(loop, population, looped).run(shown.numpy(), {3})
        if by_loop is not None:
            np.testing.assert_array_equal(by_loop, reference)
            assert looped.overflow() == wanted.overflow()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), neuron=NEURONS)
def test_the_counter_of_rows_is_the_reference(seed: int, neuron: CubaLIF) -> None:
    counter = DYNAMICS.row_counter(neuron)
    if neuron.i_decay != 4096:
        assert counter is None
        return
    current, _ = drawn(seed, 3000)
    real = np.random.default_rng(seed).random((1, *current.shape)) < 0.5
    zero = torch.zeros((), dtype=torch.int64)
    shown = torch.from_numpy(current)[:, None]
    spikes = run_steps(Stepping(neuron, zero, None, Losses()), shown, frozenset(), None)[:, 0].numpy()
    assert counter is not None
    assert counter(current[None], real).tolist() == [int((spikes != real[0]).sum())]
    assert differing_spikes(neuron, current[None], spikes[None].astype(bool)).tolist() == [0]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), neuron=NEURONS, largest=st.sampled_from([3, 200, EDGE]))
def test_what_may_not_fire_never_does(seed: int, neuron: CubaLIF, largest: int) -> None:
    """Whatever currents between the bounds arrive."""
    rng = np.random.default_rng(seed)
    high, low = rng.integers(-largest, largest + 1, (2, 30))
    high, low = np.maximum(high, low), np.minimum(high, low)
    bias = rng.integers(-200, 200, 30)
    may = DYNAMICS.may_fire(neuron, high, low, bias, 6)
    assert may.shape == (30,)
    zero = np.zeros(30, np.int64)
    for _ in range(4):
        state = State(zero, zero)
        for _ in range(6):
            found = step(neuron, state, rng.integers(low, high + 1), bias)
            state = found.state
            assert not (found.spikes & ~may).any()
