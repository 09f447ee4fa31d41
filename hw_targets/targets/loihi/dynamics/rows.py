"""Spikes of rows of neurons that share their weights, counted where they differ: what a search over integers asks."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hw_targets.ir.dynamics import Ints, Mask
from hw_targets.targets.loihi.arithmetic import DECAY_BITS, FRACTION_BITS, UNITY, Cuba


def differing_spikes(neuron: Cuba, current: Ints, real: Mask) -> npt.NDArray[np.int64]:
    """Of each row the spikes that differ from the real ones, for currents (rows, T, …) that last one step.

    v ← rz(v·(4096 − v_decay)) + a;  s = [v > v_threshold];  v ← 0 where s;  rz(x) = sign(x)·(|x| >> 12), v in 1/64:
    `step` for currents that never leave its states, with no more done than that takes.
    """
    plain = neuron.v_decay == 0
    shift = 0 if plain else FRACTION_BITS
    level, keep = neuron.v_threshold << shift, UNITY - neuron.v_decay
    steps = current.shape[1]
    total: npt.NDArray[Any] = np.zeros((len(current), *current.shape[2:]), np.min_scalar_type(steps))
    v: npt.NDArray[Any] = np.zeros(total.shape, np.int32 if plain else np.int64)
    fired, differs = np.empty(v.shape, np.bool_), np.empty(v.shape, np.bool_)
    for t in range(steps):
        if plain:
            v += current[:, t]
        else:
            v *= keep
            v += (v >> 63) & (UNITY - 1)  # so that the shift rounds towards zero
            v >>= DECAY_BITS
            v += current[:, t].astype(np.int64) << shift
        np.greater(v, level, out=fired)
        total += np.not_equal(fired, real[:, t], out=differs)
        v *= np.logical_not(fired, out=fired)  # a product, since choosing takes ten times as long
    counts: npt.NDArray[np.int64] = total.reshape(len(total), -1).sum(1, dtype=np.int64)
    return counts
