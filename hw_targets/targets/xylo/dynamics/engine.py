"""Many samples through a Xylo core at once: in compiled loops where numba is installed, else step by step in NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

from hw_targets.targets.xylo.arithmetic import MOST_HIDDEN, MOST_INPUT, MOST_OUTPUT
from hw_targets.targets.xylo.dynamics.rows import Group, hidden_of, outputs_of
from hw_targets.targets.xylo.dynamics.step import State, cleared, step
from hw_targets.targets.xylo.specification import Ints, Specification

#: Samples taken together, so that the states of a core stay in a second-level cache.
BLOCK = 256


class Run(NamedTuple):
    """What a core did from cleared states on.

    Attributes:
        spikes: (T, N, hidden), uint8; `spikes_out` (T, N, outputs).
        held: (T, hidden + outputs), how often a current or a potential was held at the end of its 16 bits.
        states: where recorded, the `State` after each step, its arrays (T, N, …).
    """

    spikes: Ints
    spikes_out: Ints
    held: Ints
    states: State | None = None


def run(spec: Specification, inputs: Ints, *, record: bool = False) -> Run:
    """All steps of samples (T, N, inputs), each from cleared states."""
    one = _run_compiled if compiled() is not None else run_reference
    blocks = [
        one(spec, inputs[:, first : first + BLOCK], record=record) for first in range(0, inputs.shape[1], BLOCK)
    ] or [run_reference(spec, inputs, record=record)]
    if len(blocks) == 1:
        return blocks[0]
    states = [block.states for block in blocks if block.states is not None]
    return Run(
        np.concatenate([block.spikes for block in blocks], 1),
        np.concatenate([block.spikes_out for block in blocks], 1),
        np.sum([block.held for block in blocks], axis=0),
        _joined(states, 1) if states else None,
    )


def run_reference(spec: Specification, inputs: Ints, *, record: bool = False) -> Run:
    """As `run`, by `step` itself; it does not count what is held (all 0)."""
    steps, samples = inputs.shape[:2]
    spikes = np.zeros((steps, samples, spec.hidden), np.uint8)
    sent = np.zeros((steps, samples, spec.outputs), np.uint8)
    state, states = cleared(spec, samples), list[State]()
    for t, arriving in enumerate(inputs.astype(np.int64)):
        state, sent[t] = step(spec, state, arriving)
        spikes[t] = state.spikes
        if record:
            states.append(state)
    held = np.zeros((steps, spec.hidden + spec.outputs), np.int64)
    return Run(spikes, sent, held, _stacked(states) if states else None)


@cache
def compiled() -> Any:
    """The compiled loops; None without numba, or where it is told not to compile."""
    try:
        loops = import_module("hw_targets.targets.xylo.dynamics.numba_loops")
    except ImportError:
        return None
    return None if loops.numba.config.DISABLE_JIT else loops


def _run_compiled(spec: Specification, inputs: Ints, *, record: bool = False) -> Run:
    steps, samples = inputs.shape[:2]
    hidden, outputs = hidden_of(spec, samples), outputs_of(spec, samples)
    spikes = np.zeros((steps, spec.hidden, samples), np.uint8)
    sent = np.zeros((steps, spec.outputs, samples), np.uint8)
    held, held_out = (np.zeros((steps, neurons), np.int64) for neurons in (spec.hidden, spec.outputs))
    arriving = np.ascontiguousarray(np.minimum(inputs, MOST_INPUT).astype(np.uint8).transpose(0, 2, 1))
    advance, states = compiled().advance, list[State]()
    at_once = 1 if record else max(steps, 1)
    for first in range(0, steps, at_once):
        ends = first, min(first + at_once, steps)
        advance(*hidden, arriving, spikes, spikes, held, MOST_HIDDEN, *ends)
        advance(*outputs, arriving, spikes, sent, held_out, MOST_OUTPUT, *ends)
        if record:
            states.append(_state(hidden, spikes[first], outputs))
    every = np.concatenate([held, held_out], axis=1)
    return Run(spikes.transpose(0, 2, 1), sent.transpose(0, 2, 1), every, _stacked(states) if states else None)


def _state(hidden: Group, spikes: Ints, outputs: Group) -> State:
    """A copy of it."""
    isyn = hidden.isyn.reshape(-1, *hidden.vmem.shape)
    return State(*(part.T.astype(np.int64) for part in (isyn, hidden.vmem, spikes, outputs.isyn, outputs.vmem)))


def _stacked(states: Sequence[State]) -> State:
    return State(*(np.stack(parts) for parts in zip(*states, strict=True)))


def _joined(states: Sequence[State], axis: int) -> State:
    return State(*(np.concatenate(parts, axis) for parts in zip(*states, strict=True)))
