"""Many samples through a Xylo core at once: in compiled loops where numba is installed, else step by step in NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

from hw_targets.targets.xylo.arithmetic import MOST_HIDDEN, MOST_INPUT, MOST_OUTPUT
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
    core = _Core(spec, inputs.shape[1])
    steps, samples = inputs.shape[:2]
    spikes = np.zeros((steps, spec.hidden, samples), np.uint8)
    sent = np.zeros((steps, spec.outputs, samples), np.uint8)
    held = np.zeros((steps, spec.hidden + spec.outputs), np.int64)
    states = list[State]()
    arriving = np.ascontiguousarray(np.minimum(inputs, MOST_INPUT).transpose(0, 2, 1), dtype=np.int32)
    for t in range(steps):
        core.step(arriving[t], held[t, : spec.hidden], held[t, spec.hidden :])
        spikes[t], sent[t] = core.spikes, core.sent
        if record:
            states.append(core.state())
    return Run(spikes.transpose(0, 2, 1), sent.transpose(0, 2, 1), held, _stacked(states) if states else None)


@dataclass(frozen=True, eq=False)
class _Synapses:
    """Non-zero weights by source, and within one by target."""

    begins: Ints
    targets: Ints
    weights: Ints

    @classmethod
    def of(cls, weights: Ints, shift: int) -> _Synapses:
        sources, targets = np.nonzero(weights)
        begins = np.searchsorted(sources, np.arange(len(weights) + 1)).astype(np.int64)
        shifted = (weights[sources, targets].astype(np.int64) << shift).astype(np.int32)
        return cls(begins, targets.astype(np.int32), shifted)


class _Core:
    """A core's states, (neurons, N) int32, and its parameters as the loops take them."""

    def __init__(self, spec: Specification, samples: int) -> None:
        self._loops = compiled()
        self._inputs = [_Synapses.of(spec.weights_in[:, :, k], spec.weight_shift_in) for k in range(spec.states)]
        self._loop = [_Synapses.of(spec.weights_rec[:, :, k], spec.weight_shift_rec) for k in range(spec.states)]
        self._outgoing = _Synapses.of(spec.weights_out, spec.weight_shift_out)
        self._dashes = [_int32(spec.dash_syn), _int32(spec.dash_syn_2)][: spec.states]
        self._dash_out = _int32(spec.dash_syn_out)
        self._hidden = [_int32(part) for part in (spec.bias_hidden, spec.dash_mem, spec.threshold)]
        self._outputs = [_int32(part) for part in (spec.bias_out, spec.dash_mem_out, spec.threshold_out)]
        self._aliases = _aliases(spec.aliases or [()] * spec.hidden)
        self._no_aliases = _aliases([()] * spec.outputs)
        self._isyn = [np.zeros((spec.hidden, samples), np.int32) for _ in range(spec.states)]
        self._vmem, self.spikes = (np.zeros((spec.hidden, samples), np.int32) for _ in range(2))
        self._isyn_out, self._vmem_out, self.sent = (np.zeros((spec.outputs, samples), np.int32) for _ in range(3))

    def step(self, arriving: Ints, held: Ints, held_out: Ints) -> None:
        """One step, for inputs (inputs, N)."""
        loops = self._loops
        for isyn, inputs, loop, dash in zip(self._isyn, self._inputs, self._loop, self._dashes, strict=True):
            loops.receive(isyn, arriving, inputs.begins, inputs.targets, inputs.weights, held)
            loops.receive(isyn, self.spikes, loop.begins, loop.targets, loop.weights, held)
            loops.decay(isyn, dash)
        out = self._outgoing
        loops.receive(self._isyn_out, self.spikes, out.begins, out.targets, out.weights, held_out)
        loops.decay(self._isyn_out, self._dash_out)
        current = self._isyn[0] if len(self._isyn) == 1 else self._isyn[0] + self._isyn[1]
        bias, dash, threshold = self._hidden
        loops.charge(self._vmem, current, bias, dash, held)
        self.spikes[:] = 0
        loops.fire(self._vmem, threshold, MOST_HIDDEN, *self._aliases, self.spikes)
        bias, dash, threshold = self._outputs
        loops.charge(self._vmem_out, self._isyn_out, bias, dash, held_out)
        self.sent[:] = 0
        loops.fire(self._vmem_out, threshold, MOST_OUTPUT, *self._no_aliases, self.sent)

    def state(self) -> State:
        """A copy of it."""
        isyn = np.stack(self._isyn, axis=1).transpose(2, 0, 1)
        rest = (self._vmem, self.spikes, self._isyn_out, self._vmem_out)
        return State(isyn.copy(), *(part.T.copy() for part in rest))


def _aliases(aliases: Sequence[tuple[int, ...]]) -> tuple[Ints, Ints]:
    """Where each neuron's begin, and all of them."""
    begins = np.cumsum([0, *(len(targets) for targets in aliases)]).astype(np.int64)
    return begins, np.array([target for targets in aliases for target in targets], np.int32)


def _int32(values: Ints) -> Ints:
    return np.ascontiguousarray(values, dtype=np.int32)


def _stacked(states: Sequence[State]) -> State:
    return State(*(np.stack(parts) for parts in zip(*states, strict=True)))


def _joined(states: Sequence[State], axis: int) -> State:
    return State(*(np.concatenate(parts, axis) for parts in zip(*states, strict=True)))
