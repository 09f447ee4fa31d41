"""Xylo's step against xylosim, integer by integer; and the fast engine against the step."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from examples.benchmarks.xylo_cores import random_core, random_spikes
from hw_targets.errors import InvalidNetwork
from hw_targets.targets.xylo.dynamics.engine import Run, compiled, run, run_reference
from hw_targets.targets.xylo.specification import Specification
from hw_targets.targets.xylo.xylosim.runner import Trace, run_xylosim
from tests.builders.xylosim import required_in_ci


def as_trace(found: Run) -> Trace:
    assert found.states is not None
    isyn, vmem, spikes, isyn_out, vmem_out = found.states
    return Trace(isyn, vmem, spikes, isyn_out, vmem_out, found.spikes_out)


def differing(spec: Specification, steps: int, samples: int, rng: np.random.Generator) -> Counter[str]:
    """Integers that differ between xylosim, the step and the engine, and how many there are."""
    inputs = random_spikes(rng, spec, steps, samples)
    with required_in_ci():
        theirs = run_xylosim(spec, inputs)
    slow, found = run_reference(spec, inputs, record=True), run(spec, inputs, record=True)
    counts = Counter(
        compared=sum(part.size for part in theirs),
        spikes=int(theirs.spikes.sum() + theirs.spikes_out.sum()),
        recurrent=int(spec.weights_rec.any()),
        aliased=int(any(spec.aliases)),
        saturating=int(found.held.any()),
    )
    for mine in (slow, found):
        counts["differing"] += sum(int((a != b).sum()) for a, b in zip(as_trace(mine), theirs, strict=True))
        counts["differing"] += int((mine.spikes != theirs.spikes).sum())
    return counts


def test_step_and_engine_equal_xylosim_on_small_random_cores() -> None:
    rng = np.random.default_rng(0)
    total = sum((differing(random_core(rng, 10), 40, 2, rng) for _ in range(40)), Counter[str]())
    assert total["differing"] == 0
    assert min(total["recurrent"], total["aliased"], total["saturating"]) >= 5
    assert total["spikes"] > 10_000


@pytest.mark.slow
def test_step_and_engine_equal_xylosim_on_1000_random_cores() -> None:
    rng = np.random.default_rng(1)
    total = sum((differing(random_core(rng), 100, 1, rng) for _ in range(1000)), Counter[str]())
    print(dict(total))
    assert total["differing"] == 0


def test_blocks_of_samples_are_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    spec = random_core(rng, 10)
    inputs = random_spikes(rng, spec, 20, 7)
    whole = run(spec, inputs, record=True)
    monkeypatch.setattr("hw_targets.targets.xylo.dynamics.engine.BLOCK", 3)
    parts = run(spec, inputs, record=True)
    assert all(np.array_equal(a, b) for a, b in zip(as_trace(whole), as_trace(parts), strict=True))
    assert np.array_equal(whole.held, parts.held)


def test_without_numba_the_step_itself_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    assert compiled() is not None
    rng = np.random.default_rng(2)
    spec = random_core(rng, 10)
    inputs = random_spikes(rng, spec, 20, 3)
    found = run(spec, inputs).spikes
    monkeypatch.setattr("hw_targets.targets.xylo.dynamics.engine.compiled", lambda: None)
    assert np.array_equal(run(spec, inputs).spikes, found)
    assert found.any()


def one_neuron(**changes: object) -> Specification:
    zero = np.zeros(1, np.int64)
    spec = Specification(
        weights_in=np.full((1, 1, 1), 100),
        weights_rec=np.zeros((1, 1, 1), np.int64),
        weights_out=np.full((1, 1), 1),
        **dict.fromkeys(("dash_mem", "dash_mem_out", "dash_syn", "dash_syn_2", "dash_syn_out"), zero + 1),  # type: ignore[arg-type]
        **dict.fromkeys(("threshold", "threshold_out"), zero + 10),  # type: ignore[arg-type]
        **dict.fromkeys(("bias_hidden", "bias_out"), zero),  # type: ignore[arg-type]
    )
    return replace(spec, **changes)  # type: ignore[arg-type]


def test_a_spike_by_hand() -> None:
    """One input of weight 100: the current keeps 50, 5 spikes of 10; then 25 and 2, 12 + 5 − 2 and 1."""
    inputs = np.array([1, 0, 0, 0]).reshape(4, 1, 1)
    assert run_reference(one_neuron(), inputs).spikes[:, 0, 0].tolist() == [5, 2, 1, 1]


def test_a_dash_of_0_swallows_the_input_and_31_spikes_are_the_most() -> None:
    inputs = np.full((3, 1, 1), 20)
    assert not run(one_neuron(dash_syn=np.array([0])), inputs).spikes.any()
    assert run(one_neuron(), inputs).spikes[:, 0, 0].tolist() == [31, 31, 31]


def test_more_than_15_input_spikes_count_as_15() -> None:
    spec = one_neuron(threshold=np.array([720]))
    assert np.array_equal(run(spec, np.full((5, 1, 1), 16)).spikes, run(spec, np.full((5, 1, 1), 15)).spikes)
    assert not np.array_equal(run(spec, np.full((5, 1, 1), 15)).spikes, run(spec, np.full((5, 1, 1), 14)).spikes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights_in": np.full((1, 1, 1), 128)}, "weights_in spans 128 … 128, but Xylo holds -128 … 127"),
        ({"threshold": np.array([32768])}, "threshold spans 32768 … 32768, but Xylo holds 1 … 32767"),
        ({"weights_out": np.ones((2, 1), int)}, r"weights_out is int64 \(2, 1\), expected integers \(1, 1\)"),
        ({"bias_out": np.zeros(1)}, "bias_out is float64"),
        ({"weight_shift_in": 9}, "weight_shift_in spans 9 … 9, but Xylo holds 0 … 8"),
        ({"aliases": ((1,),)}, r"aliases lead to \[1\], hidden are 0 … 0"),
        ({"aliases": ((), ())}, "aliases of 2 neurons, expected 1"),
        ({"weights_in": np.ones((1, 1), int)}, "have 2, 3 and 2 axes"),
        ({"weights_in": np.ones((1, 1, 3), int), "weights_rec": np.ones((1, 1, 3), int)}, "3 synaptic states"),
    ],
)
def test_what_the_chip_does_not_hold_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidNetwork, match=message):
        one_neuron(**changes)
