"""Loihi's integer neurons in compiled loops, where numba is installed (`pip install 'neuroprune[fast]'`).

NumPy reads and writes all states several times a step; a compiled loop does so once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import cache
from importlib import import_module
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hw_targets.ir.dynamics import Losses
from hw_targets.ir.network import Population
from hw_targets.targets.loihi.arithmetic import UNITY, cuba_of

Array: TypeAlias = npt.NDArray[Any]
Loop: TypeAlias = Callable[..., bool]

#: Neurons times steps times samples of a run below which NumPy takes some milliseconds at most, and of all runs of a
#: process until NumPy has taken about as long as loading the loop does.
WORTH, WORTH_LOADING = 1 << 18, 1 << 25


class Loader:
    """Loads the compiled loop when it begins to pay, knowing how many neuron-steps the process has run."""

    def __init__(self) -> None:
        self._run = 0

    def loop_for(self, neuron_steps: int) -> Loop | None:
        """The loop for a run of so many neuron-steps; None if they, and all before, are too few, or without numba.

        Loading it takes half a second and 150 MB, once a process. Compiling it takes two seconds, once an installation:
        numba keeps the result in `__pycache__` or, where that cannot be written, in the user's cache.
        """
        self._run += neuron_steps
        return _compiled() if neuron_steps >= WORTH and self._run >= WORTH_LOADING else None


loop_for = Loader().loop_for


@cache
def _compiled() -> Loop | None:
    try:
        loops = import_module("hw_targets.targets.loihi.dynamics.numba_loops")
    except ImportError:
        return None
    loop: Loop = loops.run_all_steps
    return None if loops.numba.config.DISABLE_JIT else loop


def is_suited(population: Population, largest: float) -> bool:
    """Whether the loop can run these neurons, no |current| of which exceeds `largest`: its integers have 32 bits."""
    bias = 0 if population.bias is None else int(np.abs(population.bias).max(initial=0))
    return cuba_of(population) is not None and largest < 1 << 24 and bias < 1 << 22


class CompiledNeurons:
    """A population's integer neurons, all alike."""

    def __init__(self, loop: Loop, population: Population, losses: Losses) -> None:
        """`losses` takes note of states that left their 24 bits."""
        neuron, shape = cuba_of(population), population.shape
        assert neuron is not None
        self._loop, self._losses = loop, losses
        self._kept = ((UNITY - neuron.i_decay) / UNITY, (UNITY - neuron.v_decay) / UNITY)
        # No potential is beyond ±2^17 in the weights' unit.
        self._threshold = 64 * min(max(neuron.v_threshold, -(1 << 17)), 1 << 17)
        self._bias = self._bias_channels_last = np.zeros(population.size, np.int32)
        if population.bias is not None:
            each = population.bias.reshape(shape if population.has_neuron_biases else (-1, *[1] * (len(shape) - 1)))
            bias = np.broadcast_to(each, shape).astype(np.int32) * 64
            self._bias, self._bias_channels_last = bias.reshape(-1), np.moveaxis(bias, 0, -1).reshape(-1)

    def run(self, current: Array, resets: Collection[int]) -> Array | None:
        """Spikes (T, N, *shape) in uint8, in the current's order in memory; None where a current is ±2^18 or beyond.

        Args:
            current: (T, N, *shape) whole numbers in float32; a stride of 0 over T says that all steps have the same.
            resets: steps that begin with cleared states.
        """
        rows, last = current if current.strides[0] else current[:1], False
        if current.ndim == 5 and current.strides[2] < current.strides[4]:
            rows, last = rows.transpose(0, 1, 3, 4, 2), True
        shape, bias = rows.shape[2:], self._bias_channels_last if last else self._bias
        steps, samples = current.shape[:2]
        rows = np.ascontiguousarray(rows).reshape(len(rows), samples, len(bias))
        clears = np.zeros(steps, np.uint8)
        clears[[step for step in resets if step < steps]] = 1
        spikes = np.empty((steps, samples, len(bias)), np.uint8)
        lost, where, when = np.zeros(2, np.int64), np.zeros(len(bias), np.uint8), np.zeros(steps, np.uint8)
        if not self._loop(rows, bias, clears, *self._kept, self._threshold, spikes, lost, where, when):
            return None
        if lost.any():
            neurons = where.reshape(shape)
            self._losses.add(lost, np.moveaxis(neurons, -1, 0) if last else neurons, when)
        fired = spikes.reshape(steps, samples, *shape)
        return fired.transpose(0, 1, 4, 2, 3) if last else fired
